"""Curves as small SVG figures: crisp in any size, in the page's colours, and light for the browser."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

from gpg_vl.report.plots import smooth

from ..service.curves import Curve, Curves, Line
from .markup import note
from .words import figures

Values = npt.NDArray[np.float64]
_WIDTH, _HEIGHT = 320.0, 180.0
FRAME = _LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 306.0, 8.0, 156.0
"""The frame of the plot within the figure, in units of the figure."""
_BUCKETS = 250
"""Of a line with more than twice as many values, the least and the greatest in each are drawn."""
_WAITING = "No step is written to metrics.jsonl yet; the curves appear here as soon as one is."
_COLORS = 2
"""Runs that have a colour."""


def decimated(line: Line, buckets: int = _BUCKETS) -> Line:
    """A line of at most `2 * buckets` values that looks the same: the extremes of each stretch, in order."""
    count = len(line.values)
    if count <= 2 * buckets:
        return line
    kept: list[int] = []
    for stretch in np.array_split(np.arange(count), buckets):
        values = line.values[stretch]
        kept += sorted({int(stretch[values.argmin()]), int(stretch[values.argmax()])})
    return Line(line.run, line.steps[kept], line.values[kept])


def panels(read: Curves, *, smoothed: bool) -> str:
    """All panels side by side, or nothing without any."""
    runs = list(read.steps)
    return f'<div class="gpg curves">{"".join(_panel(one, runs, smoothed) for one in read.curves)}</div>'


def legend(read: Curves, *, smoothed: bool) -> str:
    """How far each run is, what the strokes mean, and which files could not be read."""
    told = "".join(map(note, read.problems))
    if not any(read.steps.values()) and not read.curves:
        return told + note(_WAITING)
    runs = "".join(
        f'<span><i class="swatch {_color(place)}"></i>{escape(name)}: {_far(step)}</span>'
        for place, (name, step) in enumerate(read.steps.items())
    )
    strokes = "<span>pale: each step; strong: average over a tenth of the steps</span>" if smoothed else ""
    evaluated = any(curve.evaluated for curve in read.curves)
    rings = '<span><i class="ring"></i>evaluation</span>' if evaluated else ""
    return f'{told}<p class="gpg hint legend">{runs}{strokes}{rings}</p>'


def _far(step: int) -> str:
    return f"step {step:,}" if step else "no step yet"


def _color(place: int) -> str:
    return f"run-{place % _COLORS}"


class _Frame:
    """Takes steps and values to units of the figure."""

    def __init__(self, curve: Curve) -> None:
        lines = [*curve.trained, *curve.evaluated]
        steps = np.concatenate([line.steps for line in lines])
        values = np.concatenate([line.values for line in lines])
        self.steps = _spread(float(steps.min()), float(steps.max()))
        low, high = float(values.min()), float(values.max())
        if curve.panel.is_share:
            low, high = min(0.0, low), max(1.0, high)
        self.values = _spread(low, high)

    def x(self, steps: Values) -> Values:
        return _scaled(steps, self.steps, (_LEFT, _RIGHT))

    def y(self, values: Values) -> Values:
        return _scaled(values, self.values, (_BOTTOM, _TOP))


def _spread(low: float, high: float) -> tuple[float, float]:
    """Ends that are apart, for a division by their distance."""
    return (low, high) if high > low else (low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2)


def _scaled(numbers: Values, span: tuple[float, float], onto: tuple[float, float]) -> Values:
    shares = (numbers - span[0]) / (span[1] - span[0])
    return np.asarray(onto[0] + shares * (onto[1] - onto[0]), dtype=np.float64)


def _panel(curve: Curve, runs: Sequence[str], smoothed: bool) -> str:
    """One figure: title, last values, grid, lines and rings."""
    frame = _Frame(curve)
    colors = {name: _color(place) for place, name in enumerate(runs)}
    drawn = "".join(_line(line, frame, colors, smoothed=smoothed) for line in curve.trained)
    if not curve.trained:
        drawn = "".join(_path(line, frame, f"line {colors[line.run]}") for line in curve.evaluated)
    rings = "".join(_rings(line, frame, colors, curve) for line in curve.evaluated)
    title = escape(curve.panel.title)
    ends = (*frame.steps, *frame.values)
    data = f'data-frame="{" ".join(f"{end:.9g}" for end in ends)}" data-share="{int(curve.panel.is_share)}"'
    label = escape(f"{curve.panel.title}. {_in_words(curve)}")
    return (
        f"<figure><figcaption><b>{title}</b>{_last(curve, colors, smoothed)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{label}" {data}>'
        f"{_grid(curve, frame)}{drawn}{rings}</svg></figure>"
    )


def _last(curve: Curve, colors: Mapping[str, str], smoothed: bool) -> str:
    """Where each run's line ends."""
    averaged = smoothed and curve.trained
    lines = curve.trained or curve.evaluated
    values = [(line.run, (smooth(line.values) if averaged else line.values)[-1]) for line in lines]
    inner = "".join(f'<span class="{colors[run]}">{_number(curve, value)}</span>' for run, value in values)
    return f'<span class="last">{inner}</span>'


def _number(curve: Curve, value: float) -> str:
    return figures(
        f"{value:.1%}" if curve.panel.is_share else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    )


def _in_words(curve: Curve) -> str:
    """The figure for those who do not see it."""
    parts = [
        f"{line.run}: {_number(curve, line.values[0])} at step {line.steps[0]:.0f}, "
        f"{_number(curve, line.values[-1])} at step {line.steps[-1]:.0f}"
        for line in curve.trained
    ]
    parts += [
        f"{line.run}, evaluation at step {step:.0f}: {_number(curve, value)}"
        for line in curve.evaluated
        for step, value in zip(line.steps, line.values, strict=True)
    ]
    return "; ".join(parts)


def _grid(curve: Curve, frame: _Frame) -> str:
    """Lines and labels of the values, and labels of the steps."""
    heights = [tick for tick in _ticks(frame.values, 5) if frame.values[0] <= tick <= frame.values[1]]
    places = [tick for tick in _ticks(frame.steps, 4, whole=True) if frame.steps[0] <= tick <= frame.steps[1]]
    digits = _digits(heights)
    rules, labels = [], []
    for tick, y in zip(heights, frame.y(np.asarray(heights)), strict=True):
        shown = figures(f"{tick:.0%}" if curve.panel.is_share else f"{tick:,.{digits}f}")
        rules.append(f"M{_LEFT:g},{y:.1f}H{_RIGHT:g}")
        labels.append(f'<text x="{_LEFT - 6:g}" y="{y + 3.5:.1f}" text-anchor="end">{shown}</text>')
    for tick, x in zip(places, frame.x(np.asarray(places)), strict=True):
        labels.append(f'<text x="{x:.1f}" y="{_BOTTOM + 17:g}" text-anchor="middle">{tick:,.0f}</text>')
    return f'<path class="rules" d="{"".join(rules)}"/>{"".join(labels)}'


def _ticks(span: tuple[float, float], count: int, *, whole: bool = False) -> list[float]:
    steps = [1, 2, 5, 10] if whole else [1, 2, 2.5, 5, 10]
    return [float(tick) for tick in MaxNLocator(nbins=count, steps=steps, integer=whole).tick_values(*span)]


def _digits(ticks: Sequence[float]) -> int:
    """Decimals that tell ticks apart, 6 at most."""
    for digits in range(6):
        if all(abs(round(tick, digits) - tick) < 1e-9 * max(1.0, abs(tick)) for tick in ticks):
            return digits
    return 6


def _line(line: Line, frame: _Frame, colors: Mapping[str, str], *, smoothed: bool) -> str:
    """Each step, pale behind the moving average if there is one."""
    raw = _path(decimated(line), frame, f"{'raw' if smoothed else 'line'} {colors[line.run]}")
    if not smoothed:
        return raw
    average = Line(line.run, line.steps, smooth(line.values))
    return raw + _path(decimated(average), frame, f"line {colors[line.run]}")


def _path(line: Line, frame: _Frame, kind: str) -> str:
    points = [f"{x:.1f},{y:.1f}" for x, y in _points(line, frame)]
    if len(points) == 1:  # a line of no length is drawn as a dot, for its ends are round
        points *= 2
    return f'<path class="{kind}" data-run="{escape(line.run)}" d="M{" ".join(points)}"/>'


def _points(line: Line, frame: _Frame) -> Iterator[tuple[float, float]]:
    return zip(frame.x(line.steps), frame.y(line.values), strict=True)


def _rings(line: Line, frame: _Frame, colors: Mapping[str, str], curve: Curve) -> str:
    """A ring for each evaluation, with its value for the pointer."""
    told = [
        f"{line.run}, evaluation at step {step:,.0f}: {_number(curve, value)}"
        for step, value in zip(line.steps, line.values, strict=True)
    ]
    return "".join(
        f'<circle class="{colors[line.run]}" cx="{x:.1f}" cy="{y:.1f}" r="4" data-told="{escape(text)}"/>'
        for (x, y), text in zip(_points(line, frame), told, strict=True)
    )
