"""Bounding boxes in text: reading what models write, writing what they should."""

import math
import re
from collections.abc import Sequence

from gpg_vl.types import Box

# No two parts that repeat can match the same text: hostile answers would cost quadratic time.
_NUMBER = r"[-+]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?|nan|inf(?:inity)?)"
_POINT = rf"\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)"
_CORNERS = rf"{_POINT}\s*(?:,\s*)?{_POINT}"  # (x1,y1),(x2,y2)
_LIST = rf"[\[(]\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*[\])]"
_BOX = re.compile(f"{_CORNERS}|{_LIST}", re.IGNORECASE | re.ASCII)  # "ı" would match i, which float() refuses
_LARGEST = 1e6
"""Coordinates beyond this are no pixels of any image, and their areas would overflow."""


def read_boxes(text: str) -> tuple[Box, ...]:
    """All boxes in `text`, in order, corners as given.

    Reads `(x1,y1),(x2,y2)`, `[x1, y1, x2, y2]` (also as a value of JSON, such as `bbox_2d`) and both between
    `<|box_start|>` and `<|box_end|>`; digits are ASCII's, as in JSON. One coordinate that is not finite, or
    beyond 1e6, spoils the whole text: a list with a hole is no prediction.
    """
    boxes: list[Box] = []
    for match in _BOX.finditer(text):
        x1, y1, x2, y2 = (float(number) for number in match.groups() if number is not None)
        boxes.append((x1, y1, x2, y2))
    usable = all(math.isfinite(value) and abs(value) <= _LARGEST for box in boxes for value in box)
    return tuple(boxes) if usable else ()


def format_boxes(boxes: Sequence[Box]) -> str:
    """`(x1,y1),(x2,y2)`, one after the other, rounded to whole numbers: the form that prompts ask for."""
    return ", ".join(f"({round(x1)},{round(y1)}),({round(x2)},{round(y2)})" for x1, y1, x2, y2 in boxes)
