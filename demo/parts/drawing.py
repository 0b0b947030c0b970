"""Boxes on images: base, trained and gold in their own colours."""

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from gpg_vl.theme import LIGHT
from gpg_vl.types import Box

COLORS = {"base": "#8a94a0", "trained": LIGHT.series[0], "gold": LIGHT.series[2]}
"""Those of the cards and figures; base darker, for it is drawn on photographs."""
COLORS_IN_WORDS = "base grey, trained blue, gold green"
_LONGEST_SIDE = 1024
"""Pixels of the drawing: small images are enlarged, so that lines stay thin against what they frame."""


def draw_boxes(image: Image.Image, boxes: Mapping[str, Sequence[Box]]) -> Image.Image:
    """A copy of `image` with boxes by the name of COLORS, later ones on top.

    Boxes are in pixels of `image`; what stands out of it is cut, and corners may be given in any order.
    """
    scale = _LONGEST_SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    drawing = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(drawing)
    for name, found in boxes.items():
        for box in found:
            corners = _corners(box, image.size, scale)
            pen.rectangle(corners, outline="white", width=7)
            x1, y1, x2, y2 = corners
            if x2 - x1 > 4 and y2 - y1 > 4:  # a box as thin as its line is the line
                pen.rectangle((x1 + 2, y1 + 2, x2 - 2, y2 - 2), outline=COLORS[name], width=4)
    return drawing


def _corners(box: Box, size: tuple[int, int], scale: float) -> tuple[float, float, float, float]:
    """Left, top, right and bottom in pixels of the drawing, within it."""
    (x1, x2), (y1, y2) = sorted((box[0], box[2])), sorted((box[1], box[3]))
    right, bottom = size[0] * scale - 1, size[1] * scale - 1

    def within(value: float, most: float) -> float:
        return min(max(value * scale, 0.0), most)

    return within(x1, right), within(y1, bottom), within(x2, right), within(y2, bottom)
