"""A sheet of samples as one picture: images with gold boxes, questions, choices, answers."""

import math
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont, ImageOps

from gpg_vl.data.prepared import PreparedDataset
from gpg_vl.prompting.boxes import read_boxes
from gpg_vl.prompting.prompts import letter
from gpg_vl.runtime.files import replacing
from gpg_vl.theme import LIGHT
from gpg_vl.types import Box, Sample

# Pixels; screens with two dots a point show them at half the size.
_CARD = 600
_PAD = 28
_GAP = 28
_PICTURE = 380
_LINE = 1.35
_TALLEST = 4000
_COLUMNS = 4
_PAPER = "#eef1f5"
_GOLD, _GOLD_FILL = "#0a7d4f", "#dff5ea"
_MAX_LINES = {"question": 6, "choice": 2, "answer": 3, "id": 1}


def draw_sheet(data: PreparedDataset, path: Path, count: int = 12) -> Path:
    """Write a PNG of `count` samples, the tasks in turn, evenly spread over each; returns its path.

    Raises DataError if an image cannot be read.
    """
    cards = [_card(data[index]) for index in choose(data.column("task"), count)]
    columns = min(_COLUMNS, math.ceil(math.sqrt(len(cards))))
    rows = [cards[start : start + columns] for start in range(0, len(cards), columns)]
    heights = [max(card.height for card in row) for row in rows]
    size = (_GAP + columns * (_CARD + _GAP), _GAP + sum(heights) + len(rows) * _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, card in enumerate(row):
            _paste_card(sheet, card, (_GAP + column * (_CARD + _GAP), top), height)
        top += height + _GAP
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG")
    return path


def choose(tasks: Sequence[str], count: int) -> list[int]:
    """Row numbers of up to `count` samples: tasks take turns, and each one's are spread evenly."""
    places: dict[str, list[int]] = {}
    for index, task in enumerate(tasks):
        places.setdefault(task, []).append(index)
    share = -(-count // len(places))
    spread = [
        [rows[k * len(rows) // share] for k in range(share)] if len(rows) > share else rows
        for _, rows in sorted(places.items())
    ]
    turns = [index for turn in zip_longest(*spread) for index in turn if index is not None]
    return turns[:count]


def _paste_card(sheet: Image.Image, card: Image.Image, place: tuple[int, int], height: int) -> None:
    left, top = place
    frame = (left, top, left + _CARD - 1, top + height - 1)
    ImageDraw.Draw(sheet).rounded_rectangle(frame, 18, fill=LIGHT.background, outline=LIGHT.grid, width=2)
    inner = card.crop((_PAD, _PAD, card.width - _PAD, card.height - _PAD))
    sheet.paste(inner, (left + _PAD, top + _PAD))


def _card(sample: Sample) -> Image.Image:
    canvas = Image.new("RGB", (_CARD, _TALLEST), LIGHT.background)
    pen = _Pen(canvas)
    if sample.images:
        pen.picture(gallery(sample))
    pen.text(f"{sample.task} · {sample.id}", _font(18), LIGHT.muted, _MAX_LINES["id"])
    pen.skip(6)
    pen.text(sample.question, _font(25, bold=True), LIGHT.ink, _MAX_LINES["question"])
    pen.skip(8)
    letters = [letter(place) for place in range(len(sample.choices))]
    for name, choice in zip(letters, sample.choices, strict=True):
        gold = name == sample.answer
        pen.text(f"{name} {choice}", _font(23, bold=gold), *_colours(gold), indent=14)
    if sample.answer not in letters:
        pen.text(_answer_words(sample), _font(23, bold=True), *_colours(True), indent=14)
    return canvas.crop((0, 0, _CARD, min(pen.y + _PAD, _TALLEST)))


def _colours(gold: bool) -> tuple[str, int, str | None]:
    """Ink, most lines, and the background of a choice or an answer."""
    return (_GOLD, _MAX_LINES["answer"], _GOLD_FILL) if gold else (LIGHT.ink, _MAX_LINES["choice"], None)


def _answer_words(sample: Sample) -> str:
    boxes = read_boxes(sample.answer) if sample.answer_type == "boxes" else ()
    if not boxes:
        return sample.answer
    return "  ".join(f"[{', '.join(f'{value:.0f}' for value in box)}]" for box in boxes)


class _Pen:
    """Writes downwards on a card."""

    def __init__(self, canvas: Image.Image) -> None:
        self._canvas, self._draw = canvas, ImageDraw.Draw(canvas)
        self.y = _PAD

    def skip(self, pixels: int) -> None:
        self.y += pixels

    def picture(self, image: Image.Image) -> None:
        """Centred, on grey where it is narrower than the card."""
        area = (_PAD, self.y, _CARD - _PAD, self.y + image.height)
        self._draw.rectangle(area, fill=_PAPER)
        self._canvas.paste(image, ((_CARD - image.width) // 2, self.y))
        self.y += image.height + 18

    def text(
        self,
        text: str,
        font: ImageFont.FreeTypeFont,
        colour: str,
        lines: int,
        fill: str | None = None,
        indent: int = 0,
    ) -> None:
        """Wrapped into at most `lines`, on a coloured pill where there is a `fill`."""
        wrapped = wrap(text, font, _CARD - 2 * _PAD - 2 * indent, lines)
        step = round(font.size * _LINE)
        if fill is not None:
            area = (_PAD, self.y, _CARD - _PAD - 1, self.y + step * len(wrapped) + 6)
            self._draw.rounded_rectangle(area, 10, fill=fill)
        for number, line in enumerate(wrapped):
            self._draw.text((_PAD + indent, self.y + 3 + number * step), line, colour, font)
        self.y += step * len(wrapped) + 8


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int, lines: int) -> list[str]:
    """Lines of at most `width` pixels, no more than `lines`; the last ends in … where text is left out."""
    wrapped, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if font.getlength(longer) <= width:
            line = longer
            continue
        wrapped += [line] if line else []
        while font.getlength(word) > width:
            cut = next(n for n in range(len(word), 0, -1) if font.getlength(word[:n]) <= width or n == 1)
            wrapped.append(word[:cut])
            word = word[cut:]
        line = word
    wrapped += [line] if line else []
    if len(wrapped) <= lines:
        return wrapped
    last = wrapped[lines - 1]
    while last and font.getlength(f"{last}…") > width:
        last = last[:-1]
    return [*wrapped[: lines - 1], f"{last.rstrip()}…"]


def gallery(sample: Sample) -> Image.Image:
    """The images side by side, equally wide, the gold boxes on the first."""
    gap = 8
    count = len(sample.images)
    width = (_CARD - 2 * _PAD - gap * (count - 1)) // count
    boxes = read_boxes(sample.answer) if sample.answer_type == "boxes" else ()
    shown = [
        _with_boxes(image, boxes if k == 0 else (), (width, _PICTURE))
        for k, image in enumerate(sample.images)
    ]
    total = sum(image.width for image in shown) + gap * (count - 1)
    strip = Image.new("RGB", (total, max(image.height for image in shown)), _PAPER)
    left = 0
    for image in shown:
        strip.paste(image, (left, (strip.height - image.height) // 2))
        left += image.width + gap
    return strip


def _with_boxes(image: Image.Image, boxes: Sequence[Box], room: tuple[int, int]) -> Image.Image:
    shown = ImageOps.contain(image.convert("RGB"), room, Image.Resampling.LANCZOS)
    x, y = shown.width / image.width, shown.height / image.height
    draw = ImageDraw.Draw(shown)
    for x1, y1, x2, y2 in boxes:
        corners = (x1 * x, y1 * y, max(x2 * x, x1 * x), max(y2 * y, y1 * y))
        draw.rectangle(corners, outline="white", width=9)
        draw.rectangle(
            (corners[0] + 2, corners[1] + 2, corners[2] - 2, corners[3] - 2), outline=_GOLD, width=5
        )
    return shown


def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Matplotlib's own: it is there on every machine, and has more letters than Pillow's."""
    weight = "bold" if bold else "normal"
    return ImageFont.truetype(findfont(FontProperties(family="DejaVu Sans", weight=weight)), size)
