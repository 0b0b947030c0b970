"""The Training tab: curves of a run, over those of another, as they grow."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from gpg_vl.errors import DataError
from gpg_vl.theme import DARK, LIGHT

from ..parts.curves import Curve, Stamp, other_runs, read_curves, stamp
from ..parts.markup import hint, note
from ..service.settings import DemoSettings
from ..wiring import PRIVATE

_NONE = "none"
_SLOTS = 20
"""Panels at most: a page cannot grow components later, so there are some to spare for parts of the reward."""
_COLORS = (DARK.series[5], LIGHT.series[4])
"""Blue and vermilion that stand out on white and on dark alike: a plot has one set of colours for both."""
_SECONDS = 5.0
"""Between two looks at the file."""


@dataclass(frozen=True)
class TrainingTab:
    """What other parts of the app may wire."""

    other: gr.Dropdown
    smoothed: gr.Checkbox
    message: gr.HTML
    plots: list[gr.LinePlot]


def training_tab(settings: DemoSettings) -> TrainingTab | None:
    """Build the tab inside the current block; without a run it only says what to pass."""
    if settings.run is None:
        gr.HTML(note("Start the app with --run RUN_DIR to see the curves of a training run."))
        return None
    run = Path(settings.run)
    others = other_runs(run)
    with gr.Row(equal_height=True):
        other = gr.Dropdown([_NONE, *others], value=_NONE, label="Compare with the run", scale=2)
        smoothed = gr.Checkbox(True, label="Smooth", info="Average over a tenth of the steps.", scale=1)
    message = gr.HTML(padding=False)
    with gr.Row(elem_classes="panels"):
        plots = [_plot() for _ in range(_SLOTS)]
    seen = gr.State(())

    def folders(name: str) -> dict[str, Path]:
        chosen = {name: run.resolve().parent / name} if name in others else {}
        return {run.resolve().name: run} | chosen

    def draw(name: str, smooth: bool) -> list[Any]:
        now = stamp(folders(name))
        try:
            curves, steps = read_curves(folders(name), smoothed=smooth)
        except DataError as error:
            return [now, note(str(error)), *[gr.LinePlot(visible=False)] * _SLOTS]
        return [now, status(steps), *map(_shown, _padded(curves))]

    def redraw(name: str, smooth: bool, last: Stamp) -> Any:
        return gr.skip() if stamp(folders(name)) == last else draw(name, smooth)

    outputs = [seen, message, *plots]
    for change in (other.change, smoothed.change):
        change(draw, [other, smoothed], outputs, **PRIVATE)
    gr.Timer(_SECONDS).tick(redraw, [other, smoothed, seen], outputs, **PRIVATE)
    gr.on(None, draw, [other, smoothed], outputs, **PRIVATE)
    return TrainingTab(other, smoothed, message, plots)


def status(steps: dict[str, int]) -> str:
    """How far each run is, or that there is nothing yet."""
    if not steps:
        return note("No step is written to metrics.jsonl yet; the curves appear here as soon as one is.")
    return hint("; ".join(f"{name}: step {step:,}" for name, step in steps.items()))


def _plot() -> gr.LinePlot:
    return gr.LinePlot(
        x="step",
        y="value",
        x_title="Step",
        y_title=" ",
        height=230,
        min_width=300,
        visible=False,
        buttons=["fullscreen"],
    )


def _padded(curves: list[Curve]) -> list[Curve | None]:
    return [*curves[:_SLOTS], *[None] * (_SLOTS - len(curves))]


def _shown(curve: Curve | None) -> gr.LinePlot:
    """The update of one plot; hidden where there is no curve for it."""
    if curve is None:
        return gr.LinePlot(visible=False)
    runs = list(dict.fromkeys(curve.points["run"]))
    share: dict[str, Any] = {"y_lim": [0, 1], "y_axis_format": ".0%"} if curve.panel.is_share else {}
    return gr.LinePlot(
        curve.points,
        title=curve.panel.title,
        color="run",
        color_map=dict(zip(runs, _COLORS, strict=False)),
        colors_in_legend=runs if len(runs) > 1 else [],
        visible=True,
        **share,
    )
