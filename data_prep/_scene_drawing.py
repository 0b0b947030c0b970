"""Pictures of the synthetic scenes.

Sprites and backgrounds are drawn once, four times too large; a picture only pastes them.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

CELL = 28
"""Side of a cell in pixels: patch 14 × merge 2 of Qwen2-VL."""
SIDE = 3 * CELL
"""Side of an image in pixels."""

COLOURS = {
    "red": (222, 60, 62),
    "blue": (52, 104, 226),
    "green": (38, 166, 91),
    "yellow": (245, 196, 40),
    "purple": (150, 82, 200),
}

Cell = tuple[int, int]
"""Row from the top and column from the left, both 0 to 2."""


@dataclass(frozen=True, order=True)
class Thing:
    """One object, up to the jitter of its drawing."""

    cell: Cell
    colour: str
    shape: str
    level: int | None = None
    """Depth from 0 (far) to 5 (near), two levels to a row; None in scenes seen from above."""
    large: bool | None = None
    """Whether it is a large or a small one; None where sizes say nothing."""

    def __str__(self) -> str:
        depth = "" if self.level is None else f" level {self.level}"
        size = "large " if self.large else ""
        return f"{size}{self.colour} {self.shape} at {self.cell[0]},{self.cell[1]}{depth}"


SCALE = 4
MARGIN = 2
"""Pixels around an object that its shadow may take."""
SIZES: Mapping[bool | None, tuple[int, int]] = {None: (16, 20), False: (11, 13), True: (22, 24)}
"""The least and the largest side in pixels of an object seen from above: ordinary, small, large."""
LEVEL_SIZES = (7, 9, 12, 15, 18, 23)
"""Side of an object in pixels by depth level; its jitter is one pixel, so levels stay apart."""
LEVEL_BOTTOMS = (17, 25, 17, 25, 21, 25)
"""Where it stands, in pixels from the top of its cell."""
INK = (28, 30, 52)
TINTS = ((232, 238, 247), (240, 236, 247), (247, 240, 232), (233, 243, 238))


def render(things: Sequence[Thing], rng: random.Random) -> tuple[Image.Image, dict[Thing, list[int]]]:
    """The picture, and each object's box x1, y1, x2, y2 in pixels."""
    standing = things[0].level is not None
    image = _background(rng.choice(TINTS), standing).copy()
    boxes = {thing: _place(thing, rng) for thing in things}
    for thing, (left, top, right, _) in boxes.items():
        sprite = _sprite(thing.shape, thing.colour, right - left, standing)
        image.paste(sprite, (left - MARGIN, top - MARGIN), sprite)
    return image, boxes


def _place(thing: Thing, rng: random.Random) -> list[int]:
    """A box of jittered size and position within the thing's cell."""
    if thing.level is None:
        size = rng.randint(*SIZES[thing.large])
        top = (CELL - size) // 2 + rng.randint(-2, 2)
    else:
        size = LEVEL_SIZES[thing.level] + rng.randint(0, 1)
        top = LEVEL_BOTTOMS[thing.level] - size + rng.randint(0, 1)
    room = (CELL - size) // 2 - MARGIN
    sway = min(2, room)
    left = MARGIN + room + rng.randint(-sway, sway)
    row, column = thing.cell
    left, top = left + column * CELL, top + row * CELL
    return [left, top, left + size, top + size]


@cache
def _sprite(shape: str, colour: str, size: int, standing: bool) -> Image.Image:
    side, low, high = ((size + 2 * MARGIN) * SCALE, MARGIN * SCALE, (MARGIN + size) * SCALE - 1)
    mask = Image.new("L", (side, side))
    _draw_shape(ImageDraw.Draw(mask), shape, low, high)
    sprite = Image.new("RGBA", (side, side), INK)
    sprite.putalpha(_shadow(mask, low, high, standing))
    body = _body(COLOURS[colour], mask, side)
    sprite.alpha_composite(body)
    return sprite.reduce(SCALE)


def _draw_shape(draw: ImageDraw.ImageDraw, shape: str, low: int, high: int) -> None:
    """Fill `shape` in the square from `low` to `high`."""
    size = high - low
    if shape == "circle":
        draw.ellipse((low, low, high, high), fill=255)
    elif shape == "square":
        inset = size // 20
        box = (low + inset, low + inset, high - inset, high)
        draw.rounded_rectangle(box, radius=size // 9, fill=255)
    elif shape == "triangle":
        draw.polygon([(low, high), (high, high), ((low + high) / 2, low)], fill=255)
    else:
        draw.polygon(_star(low + size / 2, size / 2), fill=255)


def _star(centre: float, radius: float) -> list[tuple[float, float]]:
    """Corners of a five-pointed star, its points pulled a little towards the square's corners."""
    points = []
    for step in range(10):
        reach = radius * (1.08 if step % 2 == 0 else 0.5)
        angle = step * math.pi / 5
        x, y = centre + reach * math.sin(angle), centre - reach * math.cos(angle)
        points.append((x, y + 0.08 * radius))
    return points


def _shadow(mask: Image.Image, low: int, high: int, standing: bool) -> Image.Image:
    """The alpha of a soft shadow: on the floor below the object, or beside it seen from above."""
    if standing:
        shade = Image.new("L", mask.size)
        depth = (high - low) // 7
        box = (low - 3, high - depth, high + 3, high + min(depth, SCALE))
        ImageDraw.Draw(shade).ellipse(box, fill=255)
    else:
        shade = ImageChops.offset(mask, SCALE // 2, SCALE)
    return shade.filter(ImageFilter.GaussianBlur(SCALE * 0.6)).point(lambda alpha: alpha * 0.42)


def _body(colour: tuple[int, int, int], mask: Image.Image, side: int) -> Image.Image:
    """The object itself: light from the upper left, a slightly darker rim."""
    light, dark = _mix(colour, (255, 255, 255), 0.36), _mix(colour, INK, 0.22)
    wide = 2 * side
    glow = Image.radial_gradient("L").resize((wide, wide))
    left = int(wide / 2 - 0.36 * side)
    body = ImageOps.colorize(glow.crop((left, left, left + side, left + side)), light, dark, colour)
    rim = ImageChops.subtract(mask, mask.filter(ImageFilter.MinFilter(5)))
    body.paste(_mix(colour, INK, 0.35), (0, 0), rim)
    body.putalpha(mask)
    return body


@cache
def _background(tint: tuple[int, int, int], standing: bool) -> Image.Image:
    """A gentle gradient; for standing objects a wall and a floor that run to a vanishing point."""
    ramp = Image.linear_gradient("L").resize((SIDE, SIDE))
    if not standing:
        return ImageOps.colorize(ramp, _mix(tint, (255, 255, 255), 0.45), _mix(tint, INK, 0.06))
    image = ImageOps.colorize(ramp, _mix(tint, INK, 0.22), _mix(tint, (255, 255, 255), 0.3))
    big = image.resize((SIDE * SCALE, SIDE * SCALE))
    _draw_room(ImageDraw.Draw(big), tint)
    return big.reduce(SCALE)


def _draw_room(draw: ImageDraw.ImageDraw, tint: tuple[int, int, int]) -> None:
    side, horizon, line = SIDE * SCALE, 10 * SCALE, _mix(tint, INK, 0.16)
    for x in range(-6, 7):
        centre = side / 2
        draw.line((centre + x * 9 * SCALE, horizon, centre + x * 40 * SCALE, side), line, 2)
    for y in (13, 18, 26, 38, 56):
        draw.line((0, y * SCALE, side, y * SCALE), line, 2)
    draw.rectangle((0, 0, side, horizon), _mix(tint, (255, 255, 255), 0.5))
    draw.line((0, horizon, side, horizon), _mix(tint, INK, 0.3), SCALE)


def _mix(first: tuple[int, int, int], second: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    """`first` with `share` of `second` in it."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue
