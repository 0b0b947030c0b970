import pytest
from PIL import Image

from gpg_vl.report.drawing import COLORS, draw_boxes

RGB = {name: tuple(bytes.fromhex(color[1:])) for name, color in COLORS.items()}


def test_boxes_are_drawn_in_their_own_colours():
    image = Image.new("RGB", (128, 64), "black")
    boxes = {"gold": [(10, 10, 50, 50)], "base": [(120, 60, 60, 20)], "trained": [(100, -5, 900, 30)]}
    drawing = draw_boxes(image, boxes)
    assert drawing.size == (1024, 512)
    colors = {color for _, color in drawing.getcolors(1 << 20)}
    assert set(RGB.values()) <= colors
    assert drawing.getpixel((10 * 8, 30 * 8)) == RGB["gold"]
    assert drawing.getpixel((30 * 8, 30 * 8)) == (0, 0, 0)


@pytest.mark.parametrize("paper", ["black", "white"])
@pytest.mark.parametrize("box", [(10, 10, 90, 50), (0, 0, 128, 64), (60, 30, 63, 33)])
def test_boxes_that_coincide_are_all_visible(paper, box):
    """On each side of the frame, also along the image's edge, and of one as small as a few pixels."""
    image = Image.new("RGB", (128, 64), paper)
    drawing = draw_boxes(image, {name: [box] for name in ("gold", "base", "trained")}, longest=640)
    left, top, right, bottom = (5 * value for value in box)
    middle = (left + right) // 2, (top + bottom) // 2
    sides = [(left - 9, top, left + 9, bottom), (right - 9, top, right + 9, bottom)]
    sides += [(left, top - 9, right, top + 9), (left, bottom - 9, right, bottom + 9)]
    for side in sides:
        colors = {color for _, color in drawing.crop(side).getcolors(1 << 20)}
        assert set(RGB.values()) <= colors
    if right - left > 100:
        assert drawing.getpixel(middle) == image.getpixel((0, 0))


def test_no_box_breaks_the_drawing():
    boxes = [(0, 0, 0, 0), (1e6, 1e6, -1e6, -1e6), (3, 3, 3, 9), (-9, -9, -8, -8)]
    draw_boxes(Image.new("L", (5, 300)), {"base": boxes})
