"""Boxes on images: base, trained and gold in their own colours, each visible where they coincide."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from PIL import Image, ImageDraw

from gpg_vl.theme import LIGHT
from gpg_vl.types import Box

COLORS = {"base": "#8a94a0", "trained": LIGHT.series[0], "gold": LIGHT.series[2]}
"""Those of the cards and figures; base darker, for it is drawn on photographs."""
_LONGEST_SIDE = 1024
"""Pixels of the drawing: small images are enlarged, so that lines stay thin against what they frame."""
_CASE, _LINE, _DASH = 9, 6, 20  # pixels; the case is white, for lines are drawn on dark pictures too
_PHASES = {"base": 0.0, "trained": 0.25}
"""Where a model's dashes begin, in dashes with their gaps; each is half of one. Where they coincide, a
quarter is base's, a half trained's, a quarter what lies below."""


def draw_boxes(
    image: Image.Image, boxes: Mapping[str, Sequence[Box]], longest: int = _LONGEST_SIDE
) -> Image.Image:
    """A copy of `image` with boxes by the name of COLORS, later ones on top.

    Boxes are in pixels of `image`; what stands out of it is cut, and corners may be given in any order.
    longest: pixels of the copy's longest side. Models' boxes are dashed, so that a gold one that they hit
    shows through.
    """
    scale = longest / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    drawing = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(drawing)
    for name, found in boxes.items():
        for box in found:
            frame = _frame(box, image.size, scale)
            lines = list(_dashes(frame, _PHASES[name]) if name in _PHASES else _sides(frame))
            for color, width in (("white", _CASE), (COLORS[name], _LINE)):
                for line in lines:
                    pen.line(_lengthened(line, width / 2 if name not in _PHASES else 0.0), color, width)
    return drawing


Line = tuple[float, float, float, float]
"""From x, y to x, y, in pixels of the drawing."""


def _sides(frame: Box) -> Iterator[Line]:
    x1, y1, x2, y2 = frame
    for start, end in pairwise([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]):
        yield (*start, *end)


def _dashes(frame: Box, phase: float) -> Iterator[Line]:
    """The parts of the sides that are drawn, half of each."""
    for x1, y1, x2, y2 in _sides(frame):
        length = abs(x2 - x1) + abs(y2 - y1)
        count = max(1, round(length / (2 * _DASH)))
        for number in range(count):
            start, end = (number + phase) / count, (number + phase + 0.5) / count
            yield x1 + start * (x2 - x1), y1 + start * (y2 - y1), x1 + end * (x2 - x1), y1 + end * (y2 - y1)


def _lengthened(line: Line, by: float) -> Line:
    """Longer at both ends, so that the lines of a frame close its corners."""
    x1, y1, x2, y2 = line
    right, down = (x2 > x1) - (x2 < x1), (y2 > y1) - (y2 < y1)
    return x1 - by * right, y1 - by * down, x2 + by * right, y2 + by * down


def _frame(box: Box, size: tuple[int, int], scale: float) -> Box:
    """Left, top, right and bottom in pixels of the drawing, so that the line lies within it."""
    (x1, x2), (y1, y2) = sorted((box[0], box[2])), sorted((box[1], box[3]))
    right, bottom = size[0] * scale - 1, size[1] * scale - 1

    def within(value: float, most: float) -> float:
        least = min(_CASE / 2, most / 2)
        return min(max(value * scale, least), most - least)

    return within(x1, right), within(y1, bottom), within(x2, right), within(y2, bottom)
