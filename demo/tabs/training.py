"""The Training tab: curves of a run, over those of another, as they grow."""

from pathlib import Path
from typing import Any

import gradio as gr

from ..addresses import address_follows, copy_link, open_by_link
from ..links import Link
from ..parts.curves import legend, panels
from ..parts.markup import note
from ..service.curves import other_runs, read_curves, stamp
from ..service.settings import DemoSettings
from ..wiring import RAW, SECONDS

_NONE = "none"


def training_tab(settings: DemoSettings) -> None:
    """Build the tab inside the current block; without a run it only says what to pass."""
    if settings.run is None:
        gr.HTML(note("Start the app with --run RUN_DIR to see the curves of a training run."))
        return
    run = Path(settings.run).absolute()
    with gr.Row(equal_height=True):
        other = gr.Dropdown([_NONE], value=_NONE, label="Compare with the run", scale=2)
        smoothed = gr.Checkbox(True, label="Smooth", info="Average over a tenth of the steps.", scale=1)
    message = gr.HTML(padding=False)
    curves = gr.HTML(padding=False)
    painted = gr.State(())

    def view(name: str, smooth: bool, last: Any) -> list[Any]:
        return paint(run, name, smooth, last)

    with gr.Row(elem_classes="share"):
        copy_link()
    inputs, outputs = [other, smoothed, painted], [other, message, curves, painted]
    changes = [other.input, smoothed.input, gr.Timer(SECONDS).tick]
    gr.on(changes, view, inputs, outputs, trigger_mode="always_last", **RAW)
    open_by_link(_linked, [other]).then(view, inputs, outputs, **RAW)  # on every page, once it is loaded
    address_follows({"with": other}, {"with": {_NONE: ""}})


def _linked(link: Link) -> list[Any]:
    """The run that a link lays over; `paint` says if there is none of its name."""
    return [gr.skip() if link.other is None else gr.Dropdown([_NONE, link.other], value=link.other)]


def paint(run: Path, name: Any, smoothed: Any, painted: Any) -> list[Any]:
    """The runs to choose from, the legend, the curves, and what they were painted from.

    painted: what the page was painted from before; nothing is painted twice.
    """
    others = other_runs(run)
    chosen = {name: run.resolve().parent / name} if name in others else {}
    folders = {run.resolve().name: run} | chosen
    now = (name, smoothed, tuple(others), stamp(folders))
    if painted == now:
        return [gr.skip()] * 4
    gone = "" if chosen or name == _NONE else note(f"there is no run {name!r} beside this one any more")
    read = read_curves(folders)
    choices = gr.Dropdown(choices=[_NONE, *others])
    drawn = panels(read, smoothed=bool(smoothed))
    return [choices, gone + legend(read, smoothed=bool(smoothed)), drawn, now]
