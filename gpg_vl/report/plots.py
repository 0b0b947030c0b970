"""Figures of a run: training curves, and accuracy per task.

Figures are built as objects, not through pyplot: no global state, no window, safe in threads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from gpg_vl.errors import DataError
from gpg_vl.evaluation.figures import EVALUATED, evaluation_metrics
from gpg_vl.evaluation.own_rewards import PREFIX, SUM, reward_title
from gpg_vl.runs.files import Evaluation
from gpg_vl.runtime.files import replacing
from gpg_vl.stats import Interval
from gpg_vl.theme import LIGHT, Theme

_DPI = 200
"""Twice the 100 dots per inch at which a page shows the figure."""

Rows = Sequence[Mapping[str, Any]]
"""The metrics of a run, one mapping a step."""


@dataclass(frozen=True)
class Panel:
    """One small plot of the curves."""

    key: str
    """Name in metrics.jsonl."""
    title: str
    """What the values are, with their unit."""
    is_share: bool = False
    """Values lie in [0, 1] and are shown as per cent."""


PANELS = (
    Panel("reward/mean", "Reward"),
    Panel("loss", "Loss (nats per token)"),
    Panel("accuracy", "Accuracy", is_share=True),
    Panel("groups/valid_fraction", "Groups with a signal", is_share=True),
    Panel("alpha", "Gradient rescaling α"),
    Panel("answer_tokens", "Answer length (tokens)"),
    Panel("entropy", "Entropy (nats per token)"),
    Panel("grad_norm", "Gradient norm"),
    Panel("tokens_per_second", "Answer tokens a second"),
)
"""Beside these, every part of the reward has a panel of its own, and every figure of evaluations."""
_SHARES = (f"{EVALUATED}accuracy", f"{EVALUATED}format")


def panels_with_values(runs: Mapping[str, Rows]) -> list[Panel]:
    """The panels that at least one run has a finite value for.

    The loss is that of supervised runs: the value of a policy-gradient loss says nothing.
    """
    keys = {key for rows in runs.values() for row in rows for key in row}
    parts = [Panel(key, f"Reward: {key[7:]}") for key in sorted(keys) if key.startswith("reward/")]
    evaluated = [
        Panel(key, _evaluated_title(key.removeprefix(EVALUATED)), is_share=key in _SHARES)
        for key in dict.fromkeys(key for rows in runs.values() for row in rows for key in row)
        if key.startswith(EVALUATED)
    ]
    known = [PANELS[0], *(part for part in parts if part.key != "reward/mean"), *PANELS[1:], *evaluated]
    found = [panel for panel in known if any(series(rows, panel.key) for rows in runs.values())]
    rewarded = any(panel.key == "reward/mean" for panel in found)
    return [panel for panel in found if not (rewarded and panel.key == "loss")]


def _evaluated_title(figure: str) -> str:
    """`format` is a figure of the benchmark, and may be a reward too."""
    if figure.startswith(PREFIX):
        return f"Validation reward: {reward_title(figure)}"
    return "Validation reward" if figure == SUM else f"Validation {figure}"


def training_curves(runs: Mapping[str, Rows], path: Path, *, theme: Theme = LIGHT) -> Path:
    """Write a PNG of the metrics over the steps, one small panel each, and return its path.

    runs: the rows of metrics.jsonl by the run's name; with several runs there is a legend. The
    faint line is each step, the strong one `smooth` of it. Panels without values are left out;
    raises DataError if that leaves none.
    """
    panels = panels_with_values(runs)
    if not panels:
        raise DataError("no metrics to plot: none of the runs has a known metric")
    columns = 4 if len(panels) > 6 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(width=3.0 * columns, height=2.4 * rows + 0.3 * (len(runs) > 1), theme=theme)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(axes, panel, runs, theme)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    if len(runs) > 1:
        colors = [_color(theme, place) for place in range(len(runs))]
        handles = [Line2D([], [], color=color, linewidth=2.5) for color in colors]
        _legend(figure, handles, list(runs), theme)
    return _save(figure, path)


def task_bars(
    models: Mapping[str, Mapping[str, Interval]],
    path: Path,
    *,
    chance: Mapping[str, float] | None = None,
    baseline: str = "Base",
    theme: Theme = LIGHT,
    width: float = 10.0,
) -> Path:
    """Write a PNG of the accuracy per task with 95 % intervals, and return its path.

    models: intervals of shares by task, by the model's name. chance: share that guessing gets
    right by task, drawn as a dashed line across the task's bars.
    baseline: the model that is drawn in grey. width: of the figure, in inches of a hundred pixels.
    Raises DataError without tasks.
    """
    tasks = list(dict.fromkeys(task for scores in models.values() for task in scores))
    if not tasks:
        raise DataError("no accuracies to plot: none of the models has a task")
    rows = len(tasks) * len(models)
    figure = _figure(width=width, height=0.9 + 0.21 * rows + 0.15 * len(tasks), theme=theme)
    axes = figure.subplots()
    colors = iter(theme.series * len(models))
    handles = []
    for place, (name, scores) in enumerate(models.items()):
        color = theme.base if name == baseline else next(colors)
        handles.append(_draw_bars(axes, tasks, scores, (place, len(models)), color, theme))
    _style(axes, theme, grid_axis="x")
    axes.set_yticks(range(len(tasks)), [_plain(task) for task in tasks], color=theme.ink)
    axes.set_ylim(len(tasks) - 0.5, -0.5)
    axes.set_xlim(0, 1.09)  # room for the number behind a full bar
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    names = list(models)
    if chance:
        style: dict[str, Any] = {"color": theme.ink, "linestyle": (0, (4, 3)), "linewidth": 1.1}
        for place, task in enumerate(tasks):
            if task in chance:
                axes.vlines(chance[task], place - 0.48, place + 0.48, **style)
        handles.append(Line2D([], [], **style))
        names.append("Chance")
    _legend(figure, handles, names, theme)
    return _save(figure, path)


def evaluation_rows(evaluations: Sequence[Evaluation]) -> Rows:
    """Accuracy, format and the run's own rewards by step, named as trackers have them; nothing of a single
    evaluation, which makes no curve."""
    if len(evaluations) < 2:
        return []
    return [{"step": one["step"], **evaluation_metrics(one)} for one in evaluations]


def series(rows: Rows, key: str) -> list[tuple[int, float]]:
    """Steps and values of one metric; skipped steps lack it."""
    pairs = [(row["step"], row.get(key)) for row in rows]
    return [(step, value) for step, value in pairs if value is not None and np.isfinite(value)]


def smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Centred moving average over a tenth of the values, (n,) to (n,); shorter at both ends."""
    reach = len(values) // 20
    window = np.ones(2 * reach + 1)
    sums = np.convolve(values, window)[reach : reach + len(values)]
    counts = np.convolve(np.ones(len(values)), window)[reach : reach + len(values)]
    return np.asarray(sums / counts, dtype=np.float64)


def _draw_panel(axes: Axes, panel: Panel, runs: Mapping[str, Rows], theme: Theme) -> None:
    for place, rows in enumerate(runs.values()):
        points = series(rows, panel.key)
        if points:
            steps, values = (np.asarray(column, dtype=np.float64) for column in zip(*points, strict=True))
            color = _color(theme, place)
            marker = "o" if len(values) == 1 else ""
            axes.plot(steps, values, color=color, linewidth=0.8, alpha=0.3, marker=marker)
            axes.plot(steps, smooth(values), color=color, linewidth=2.0, zorder=3)
    _style(axes, theme, grid_axis="y")
    axes.set_title(panel.title, loc="left", fontsize=10.5, color=theme.ink, weight="bold")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    if panel.is_share:
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))


def _draw_bars(
    axes: Axes,
    tasks: Sequence[str],
    scores: Mapping[str, Interval],
    place: tuple[int, int],
    color: str,
    theme: Theme,
) -> Any:
    """Draw one model's bar in every task's slot; place: which bar of how many. Returns a handle."""
    height = 0.8 / place[1]
    offset = (place[0] - (place[1] - 1) / 2) * height
    known = [(row + offset, scores[task]) for row, task in enumerate(tasks) if task in scores]
    rows = [row for row, _ in known]
    means = [interval.mean for _, interval in known]
    below = [max(0.0, interval.mean - interval.low) for _, interval in known]
    above = [max(0.0, interval.high - interval.mean) for _, interval in known]
    bars = axes.barh(rows, means, height=0.86 * height, color=color)
    axes.errorbar(means, rows, xerr=[below, above], fmt="none", ecolor=theme.ink, elinewidth=1.0, capsize=2.0)
    for row, interval in known:
        at = max(interval.high, interval.mean) + 0.012
        text = f"{100 * interval.mean:.0f}"
        axes.text(at, row, text, va="center", fontsize=8.5, color=theme.ink)
    return bars


def _figure(width: float, height: float, theme: Theme) -> Figure:
    figure = Figure(figsize=(width, height), facecolor=theme.background)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)  # inches
    return figure


def _style(axes: Axes, theme: Theme, grid_axis: Any) -> None:
    axes.set_facecolor(theme.background)
    axes.spines[:].set_visible(False)
    axes.grid(axis=grid_axis, color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, labelcolor=theme.muted)


def _legend(figure: Figure, handles: Sequence[Any], names: Sequence[str], theme: Theme) -> None:
    figure.legend(
        handles,
        [_plain(name) for name in names],
        loc="outside upper left",
        ncols=min(4, len(names)),
        frameon=False,
        fontsize=10,
        labelcolor=theme.ink,
    )


def _plain(name: str) -> str:
    """A name as matplotlib shows it literally: dollars start formulas, leading underscores hide."""
    return name.lstrip("_").replace("$", r"\$")


def _color(theme: Theme, place: int) -> str:
    return theme.series[place % len(theme.series)]


def _save(figure: Figure, path: Path) -> Path:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, format="png")
    return path
