"""Gold boxes: from what data sets publish to a JSON list of [x1, y1, x2, y2] in pixels."""

import json
import math
from collections.abc import Sequence

from gpg_vl.errors import RowError
from gpg_vl.types import Box

_SLACK = 2.0
"""Pixels by which a box may stick out of its image because somebody rounded."""


def numbers(values: object, count: int, where: str) -> tuple[float, ...]:
    """`values` as `count` finite numbers. Raises RowError if they are not."""
    listed = values if isinstance(values, Sequence) else ()
    finite = [float(v) for v in listed if isinstance(v, int | float) and math.isfinite(v)]
    if not len(listed) == len(finite) == count:
        raise RowError("malformed box", f"{where}: expected {count} numbers, got {values!r}")
    return tuple(finite)


def from_size(x: float, y: float, width: float, height: float) -> Box:
    """COCO's box, left and top edge with width and height, as corners."""
    return x, y, x + width, y + height


def clipped(box: Box, size: tuple[int, int], slack: float = _SLACK) -> Box:
    """The box cut at the edges of an image of `size` (width, height), where it sticks out by `slack` pixels
    at most; an edge further out stays where it is, for the check of the data set's writer."""
    limits = (*size, *size)
    x1, y1, x2, y2 = (_cut(value, limit, slack) for value, limit in zip(box, limits, strict=True))
    return x1, y1, x2, y2


def _cut(value: float, limit: float, slack: float) -> float:
    nearest = min(max(value, 0.0), limit)
    return nearest if abs(value - nearest) <= slack else value


def gold(box: Box) -> str:
    """The gold answer for one box, to a hundredth of a pixel."""
    return json.dumps([[round(value, 2) for value in box]])
