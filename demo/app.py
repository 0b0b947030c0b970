"""The app: its tabs, how they work together, and how it is served."""

import os
from typing import Any

import gradio as gr
import torch
from rich.console import Console

from .api import add_endpoint
from .asking import Asking
from .generate import Generations
from .models import Models
from .samples import PreparedSets
from .settings import DemoSettings
from .style import CSS, theme
from .tab_compare import compare_tab
from .tab_math import math_tab

_KEEP = 3600
"""Seconds that uploads are kept."""
_LOOKING = 8
"""Events of one kind at the same time that ask no model."""
_LOCAL = ("127.0.0.1", "localhost", "::1")


def build_app(settings: DemoSettings) -> gr.Blocks:
    """The page with its events. Raises a UserError for folders that are not what they should be."""
    sets = PreparedSets(settings.data)
    asking = Asking(settings, sets, Generations(Models(), settings.concurrency))
    with gr.Blocks(analytics_enabled=False, title="gpg-vl", delete_cache=(_KEEP, _KEEP)) as app:
        gr.Markdown(_headline(settings), elem_id="title")
        with gr.Tabs():
            with gr.Tab("Compare"):
                compare_tab(asking)
            with gr.Tab("Text math"):
                math_tab(asking)
        add_endpoint(asking)

        def left(request: gr.Request) -> None:
            asking.generations.stop(str(request.session_hash))

        app.unload(left)
    app.queue(max_size=settings.max_waiting, default_concurrency_limit=_LOOKING)
    return app


def _headline(settings: DemoSettings) -> str:
    return "# gpg-vl\nWhat training changed: both models answer the same question, side by side."


def launch_options(settings: DemoSettings) -> dict[str, Any]:
    """What `launch` is given: no share link, no files but uploads, no telemetry."""
    return {
        "server_name": settings.host,
        "server_port": settings.port or None,
        "auth": settings.auth(),
        "max_file_size": settings.upload_bytes,
        "share": False,
        "allowed_paths": [],
        "footer_links": ["api"],
        "run_history": False,
        "enable_monitoring": False,
        "mcp_server": False,
        "ssr_mode": False,
        "pwa": False,
        "theme": theme(),
        "css": CSS,
        "quiet": True,
    }


def serve(settings: DemoSettings) -> None:
    """Serve the app until it is interrupted."""
    options = launch_options(settings)  # a wrong password file is told before models are
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // settings.concurrency))
    app = build_app(settings)
    _, address, _ = app.launch(**options, prevent_thread_lock=True)
    console = Console(stderr=True)
    console.print(f"gpg-vl demo: {address} (Ctrl-C ends it)")
    if settings.host not in _LOCAL and options["auth"] is None:
        console.print("others can reach it, and no password is asked for: see --auth_env and --auth_file")
    app.block_thread()
