"""Bounding boxes in text: reading what models write, writing what they should."""

import math
import re
from collections.abc import Sequence

from gpg_vl.types import Box

# No two parts that repeat can match the same text: hostile answers would cost quadratic time.
_NUMBER = r"[-+]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?|nan|inf(?:inity)?)"
_COMMA = r"(?:\s*,\s*|\s+)"
_POINT = rf"[(\[]\s*({_NUMBER})\s*,\s*({_NUMBER})\s*[)\]]"
_CORNERS = rf"{_POINT}\s*(?:(?:,|to|and|->?|→)\s*)?(?:bottom[- ]right:?\s*)?{_POINT}"  # (x1,y1),(x2,y2)
_FOUR = _COMMA.join([f"({_NUMBER})"] * 4)
_SCORE = rf"(?:{_COMMA}(?:0?\.\d+|[01](?:\.0*)?))?"  # a detector's confidence, from 0 to 1
_LIST = rf"[\[({{]\s*{_FOUR}{_SCORE}\s*[\])}}]"
_TAGGED = rf"<(?:b?box|bounding_box)>\s*{_FOUR}{_SCORE}\s*</"
_BOX = re.compile(f"{_CORNERS}|{_LIST}|{_TAGGED}", re.IGNORECASE | re.ASCII)  # "ı" would match i, no float
_BARE = re.compile(
    rf"(?:\{{?[\"']?[A-Za-z_ ]{{0,40}}(?:_2d)?[\"']?[:=]? ?[\"']?)?{_FOUR}{_SCORE} ?\.?[\"']?\}}?",
    re.IGNORECASE | re.ASCII,
)
_CORNER_NAMES = (
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("left", "top", "right", "bottom"),
)
_NAMED = re.compile(
    rf"\b(x_?[12]|y_?[12]|[xy]_?min|[xy]_?max|left|top|right|bottom)[\"']?\s*[:=]\s*[\"']?({_NUMBER})(?![\d.])",
    re.IGNORECASE | re.ASCII,
)
_LARGEST = 1e6
"""Coordinates beyond this are no pixels of any image, and their areas would overflow."""
_WIDE = {ord("【"): "[", ord("】"): "]", ord("、"): ","} | {
    code: code - 0xFEE0 for code in range(ord("！"), ord("～") + 1)
}


def read_boxes(text: str) -> tuple[Box, ...]:
    """All boxes in `text`, in order, corners as given.

    Reads `(x1,y1),(x2,y2)`, `[x1, y1, x2, y2]` (also as a value of JSON, such as `bbox_2d`, or with a score
    from 0 to 1 as fifth), both between `<|box_start|>` and `<|box_end|>` or `<bbox>` tags, points in square
    brackets, corners by name, such as xmin and x1, and four numbers that are all of the text. Digits are
    ASCII's, as in JSON, or their full-width forms. One coordinate that is not finite, or beyond 1e6, spoils
    the whole text: a list with a hole is no prediction.
    """
    text = text.translate(_WIDE)
    found = [match.groups() for match in _BOX.finditer(text)]
    if not found and (bare := _BARE.fullmatch(" ".join(text.split()))):
        found = [bare.groups()]
    boxes = [_box([float(number) for number in numbers if number is not None]) for numbers in found]
    boxes = boxes or _named_boxes(text)
    usable = all(math.isfinite(value) and abs(value) <= _LARGEST for box in boxes for value in box)
    return tuple(boxes) if usable else ()


def _box(numbers: Sequence[float]) -> Box:
    x1, y1, x2, y2 = numbers
    return x1, y1, x2, y2


def _named_boxes(text: str) -> list[Box]:
    """Boxes whose corners are named: {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}; none if one lacks."""
    pairs = [(name.lower().replace("_", ""), float(number)) for name, number in _NAMED.findall(text)]
    boxes = []
    for start in range(0, len(pairs), 4):
        corners = dict(pairs[start : start + 4])
        names = next((names for names in _CORNER_NAMES if corners.keys() == set(names)), None)
        if names is None:
            return []
        boxes.append(_box([corners[name] for name in names]))
    return boxes


def format_boxes(boxes: Sequence[Box]) -> str:
    """`(x1,y1),(x2,y2)`, one after the other, rounded to whole numbers: the form that prompts ask for."""
    return ", ".join(f"({round(x1)},{round(y1)}),({round(x2)},{round(y2)})" for x1, y1, x2, y2 in boxes)
