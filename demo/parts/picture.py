"""An image with boxes over it, as HTML that needs no script: each layer can be switched off. No Gradio here.

The boxes are lines of an SVG whose units are pixels of the stored image; their widths and the labels are the
screen's, so that they stay readable on an image of any size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image

from gpg_vl.report.samples import image_source
from gpg_vl.types import Box

from ..service.layers import Layer, best_iou
from .titles import TITLES

_LONGEST_SIDE = 1024
"""Pixels: the picture is shown at up to 600, and screens have up to two dots each."""
_MARGIN = 0.1
"""Of the height: labels of boxes that begin nearer to the top stand below the line, not above it."""


@dataclass(frozen=True)
class _Drawn:
    """One box as it is drawn; answers that agree to the pixel share one."""

    box: Box
    """Left, top, right and bottom, within the image."""
    said: Box
    """As it was answered."""
    answers: Sequence[int]
    """From 0 on."""
    strong: bool
    iou: float | None
    """With the best gold box; None without one."""

    @property
    def outside(self) -> bool:
        """Whether some of it lies outside the image, where it cannot be seen."""
        return self.box != _ordered(self.said)


def picture_with_boxes(
    image: Image.Image,
    layers: Mapping[str, Layer],
    about: str,
    *,
    titles: Mapping[str, str] = TITLES,
    replaceable: bool = False,
) -> str:
    """A figure: the image, boxes by layer, their IoU with gold, and a checkbox for each layer.

    layers: by a name of TITLES, the lowest first, with boxes in pixels of `image`. about: the question, for
    readers who do not see the image. titles: what each layer is called. replaceable: offers the plain image
    of the page, whose component must stand in the same `.imagery`.
    """
    gold = [box for boxes in layers["gold"].answers for box in boxes] if "gold" in layers else []
    drawn = {
        name: _drawn(layer, gold if name != "gold" else (), image.size) for name, layer in layers.items()
    }
    lines = "".join(_group(name, boxes, titles[name], layers[name]) for name, boxes in drawn.items())
    labels = "".join(_label(name, one, image.size) for name, boxes in drawn.items() for one in boxes)
    switches = "".join(_switch(name, boxes, titles[name], layers[name]) for name, boxes in drawn.items())
    plain = _PLAIN if replaceable else ""
    width, height = image.size
    return (
        f'<figure class="gpg boxed"><div class="stage" style="--ratio:{width / height:.5f}">'
        f'<img src="{image_source(image, _LONGEST_SIDE)}" alt="Image of the question: {_line(about)}">'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">{lines}</svg>{labels}</div>'
        f"<figcaption>{switches}{plain}</figcaption></figure>"
    )


_PLAIN = '<label class="back"><input type="checkbox" class="plain">Plain image</label>'


def _drawn(layer: Layer, gold: Sequence[Box], size: tuple[int, int]) -> list[_Drawn]:
    """The boxes of a layer, the strong ones last and so on top."""
    found: dict[Box, list[int]] = {}
    for number, boxes in enumerate(layer.answers):
        for box in boxes:
            found.setdefault(box, []).append(number)
    drawn = [
        _Drawn(_within(box, size), box, answers, layer.strong in answers, best_iou(box, gold))
        for box, answers in found.items()
    ]
    return sorted(drawn, key=lambda one: one.strong)


def _ordered(box: Box) -> Box:
    """Corners may be answered in any order."""
    x1, y1, x2, y2 = box
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _within(box: Box, size: tuple[int, int]) -> Box:
    x1, y1, x2, y2 = _ordered(box)
    width, height = size
    return min(max(x1, 0), width), min(max(y1, 0), height), min(max(x2, 0), width), min(max(y2, 0), height)


def _group(name: str, boxes: Sequence[_Drawn], title: str, layer: Layer) -> str:
    inner = "".join(_frame(one, title, len(layer.answers)) for one in boxes)
    return f'<g class="layer {name}">{inner}</g>'


def _frame(one: _Drawn, title: str, answers: int) -> str:
    """White below the colour, for lines are drawn on dark pictures too."""
    x1, y1, x2, y2 = one.box
    place = f'x="{x1:g}" y="{y1:g}" width="{x2 - x1:g}" height="{y2 - y1:g}"'
    rects = "".join(f'<rect class="{kind}" {place}/>' for kind in ("case", "line"))
    kind = "strong" if one.strong else "pale"
    return f'<g class="{kind}"><title>{_line(_described(one, title, answers))}</title>{rects}</g>'


def _described(one: _Drawn, title: str, answers: int) -> str:
    """Whose box, its corners in pixels of the image, its IoU, and whether it stands out."""
    numbers = ", ".join(str(number + 1) for number in one.answers)
    whose = f"{title}, answer {numbers} of {answers}" if answers > 1 else title
    parts = [", ".join(f"{value:g}" for value in one.said)]
    parts += [] if one.iou is None else [f"IoU {one.iou:.2f}"]
    parts += ["reaches outside the image"] if one.outside else []
    return f"{whose}: {' · '.join(parts)}"


def _label(name: str, one: _Drawn, size: tuple[int, int]) -> str:
    """The IoU beside a strong box; each model's has a corner of its own, so that none covers another."""
    if one.iou is None or not one.strong:
        return ""
    x1, y1, x2, y2 = one.box
    x, y = (x1, y2) if name == "base" else (x2, y1)
    left, top = x / size[0], y / size[1]
    inner = " inner" if (top > 1 - _MARGIN if name == "base" else top < _MARGIN) else ""
    edge = f"min({100 * left:.2f}%, 100% - 2.6rem)" if name == "base" else f"max({100 * left:.2f}%, 2.6rem)"
    place = f"left:{edge};top:{100 * top:.2f}%"  # as wide as the label: it stays over the image
    return f'<span class="iou {name}{inner}" style="{place}">{one.iou:.2f}</span>'


def _switch(name: str, boxes: Sequence[_Drawn], title: str, layer: Layer) -> str:
    """A checkbox that shows or hides a layer, with its colour and what it holds."""
    text = _line(f"{title}: {' · '.join(_summary(name, boxes, layer))}")
    return f'<label><input type="checkbox" class="{name}" checked><i class="{name}"></i>{text}</label>'


def _summary(name: str, boxes: Sequence[_Drawn], layer: Layer) -> Iterator[str]:
    strong = [one for one in boxes if one.strong]
    count = sum(map(len, layer.answers))
    if name != "gold" and len(strong) == 1 and strong[0].iou is not None:
        yield f"IoU {strong[0].iou:.2f}"
    elif len(layer.answers) == 1:
        yield "no box" if not count else "1 box" if count == 1 else f"{count} boxes"
    if len(layer.answers) > 1:
        yield f"{len(layer.answers)} answers, {sum(map(bool, layer.answers))} with boxes"
    if any(one.outside for one in boxes):
        yield "reaches outside"


def _line(text: str) -> str:
    """Escaped, without line breaks: a Markdown component takes the figure for one block of HTML."""
    return escape(" ".join(text.split()))
