"""The app: its tabs, how they work together, and how it is served."""

import os
import signal
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from rich.console import Console

from gpg_vl.errors import ConfigurationError
from gpg_vl.runtime.shutdown import stop_signals_held

from .addresses import select_by_link, tab
from .api import add_endpoint
from .parts.address import ADDRESS
from .parts.chosen import Chosen, choose_evaluations
from .parts.curves import FRAME
from .parts.saving import SAVING
from .parts.scripts import scripts
from .parts.streams import STREAMS
from .parts.styles import CSS, HEAD, theme
from .service.asking import Asking
from .service.generate import Generations
from .service.judging import Judges
from .service.models import Models
from .service.samples import PreparedSets
from .service.settings import DemoSettings
from .service.thumbnails import Thumbnails
from .service.uploads import ClosedBlocks
from .serving.events import take_turns
from .serving.gate import Gate
from .serving.server import Server, address_of, listen
from .tabs.benchmark import benchmark_tab
from .tabs.compare import CompareTab, compare_tab
from .tabs.math import math_tab
from .tabs.overview import overview_tab
from .tabs.rollouts import rollouts_tab
from .tabs.training import training_tab
from .wiring import PRIVATE, RAW, readable_errors, watch_evaluations

_KEEP = 3600
"""Seconds that uploads are kept."""
_LOOKING = 8
"""Events of one kind at the same time that ask no model."""
_EVENTS = 1000
"""Events of all kinds at the same time; those that wait for an answer have no thread of Gradio's."""
_OVERVIEW, _COMPARE, _BENCHMARK = "overview", "compare", "benchmark"
_TO_BENCHMARK = f"""() => {{
  setTimeout(() => document.getElementById("questions")?.scrollIntoView({{block: "start"}}), 300)
  return {{__type__: "update", selected: "{_BENCHMARK}"}}
}}"""
"""The list is below the figures, and on a phone far below."""
_HEADLINE = "# gpg-vl\nWhat training changed: both models answer the same question, side by side."
_LOCAL = ("127.0.0.1", "localhost", "::1")


def build_app(
    settings: DemoSettings, generations: Generations | None = None, judges: Judges | None = None
) -> gr.Blocks:
    """The page with its events. Raises a UserError for folders that are not what they should be."""
    if settings.run is not None and not Path(settings.run).is_dir():
        raise ConfigurationError(f"--run {settings.run!r}: there is no such folder")
    sets = PreparedSets(settings.data)
    asking = Asking(settings, sets, generations or _generations(settings), judges)
    app: gr.Blocks
    with ClosedBlocks(analytics_enabled=False, title="gpg-vl", delete_cache=(_KEEP, _KEEP)) as app:
        gr.Markdown(_HEADLINE, elem_id="title")
        chosen, thumbnails = choose_evaluations(settings.run), Thumbnails(sets)
        with gr.Tabs(selected=_first_tab(chosen)) as tabs:
            with tab("Overview") as overview:
                from_overview = overview_tab(chosen, overview, thumbnails)
            with tab("Compare"):
                compare = compare_tab(asking, chosen.evaluations)
            with tab("Math"):
                math_tab(asking)
            with tab("Benchmark") as benchmark:
                listed = benchmark_tab(chosen, benchmark, thumbnails)
            with tab("Rollouts"):
                rollouts_tab(settings)
            with tab("Training"):
                training_tab(settings)
        add_endpoint(asking)
        for selection, picked in (from_overview, (listed.selection, listed.opened)):
            _open_items(tabs, compare, selection, picked)
        compare.strip.back.click(None, None, tabs, js=_TO_BENCHMARK, **PRIVATE)
        watch_evaluations(chosen)
        select_by_link(tabs, lambda: _first_tab(chosen))
        _stop_for_those_who_left(app, asking)
    app.max_threads = _EVENTS
    take_turns(app, _LOOKING)
    return app


def _generations(settings: DemoSettings) -> Generations:
    models = Models(settings.servers)
    return Generations(models, settings.concurrency, settings.max_waiting, settings.max_questions)


def _first_tab(chosen: Chosen) -> str:
    """What training changed, where two evaluations tell it; else what one can ask."""
    return _COMPARE if chosen.evaluations.missing() else _OVERVIEW


def _open_items(tabs: gr.Tabs, compare: CompareTab, selection: gr.Textbox, picked: Any) -> None:
    """A question that is clicked opens in Compare. picked: the event after which `selection` names it."""

    def show(sent: str, request: gr.Request) -> list[Any]:
        with readable_errors(compare.asking.settings.roots):
            return [gr.Tabs(selected=_COMPARE), *compare.open(sent, str(request.session_hash))]

    picked.success(show, selection, [tabs, *compare.stored], cancels=[compare.asked], **RAW)


def _stop_for_those_who_left(app: gr.Blocks, asking: Asking) -> None:
    def left(request: gr.Request) -> None:
        asking.stop(str(request.session_hash))

    app.unload(left)


def page_options() -> dict[str, Any]:
    """What the page is mounted with: no files but uploads, no telemetry, no server of another kind."""
    return {
        "allowed_paths": [],
        "footer_links": ["api"],
        "run_history": False,
        "enable_monitoring": False,
        "show_error": False,
        "mcp_server": False,
        "ssr_mode": False,
        "pwa": False,
        "theme": theme(),
        "css": CSS,
        "head": HEAD + STREAMS + ADDRESS + SAVING + scripts(FRAME),
    }


def serve(settings: DemoSettings) -> None:
    """Serve the app until it is interrupted."""
    auth = settings.auth()  # a wrong password file, or a port in use, is told before models are
    listening = listen(settings.host, settings.port)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // settings.concurrency))
    generations = _generations(settings)
    judges = Judges(settings.scoring_seconds)
    app = build_app(settings, generations, judges)

    def left(visitor: str, session: str) -> None:
        generations.stop(session)
        judges.stop(session)

    gate = Gate(app, settings, left, **page_options())
    server = Server(gate, listening, generations.close, gate.end)
    server.take_signals()
    with stop_signals_held([signal.SIGINT]):  # a terminal's Ctrl-C reaches the judges too
        judges.warm()
    console = Console(stderr=True)
    console.print(f"gpg-vl demo: {address_of(listening)} (Ctrl-C ends it)")
    if settings.host not in _LOCAL and auth is None:
        console.print("others can reach it, and no password is asked for: see --auth_env and --auth_file")
    try:
        server.serve_until_interrupted()
    finally:
        judges.close()
