"""Gold boxes: from what data sets publish to a JSON list of [x1, y1, x2, y2] in pixels."""

import json
import math
import struct
from collections.abc import Sequence
from typing import Any

from PIL import Image

from gpg_vl.errors import RowError
from gpg_vl.types import Box

_ORIENTATION = 0x0112
"""EXIF's tag; 5 to 8 lie on their side."""
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


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height once turned as its EXIF says, which is how annotators saw it; decodes nothing."""
    width, height = image.size
    return (height, width) if _orientation(image) in (5, 6, 7, 8) else (width, height)


def _orientation(image: Image.Image) -> Any:
    """EXIF's orientation; 1 where it is absent or broken, as viewers do."""
    if "exif" not in image.info:  # PNG's getexif would read all pixels to look behind them
        return 1
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except (SyntaxError, ValueError, LookupError, struct.error):
        return 1
