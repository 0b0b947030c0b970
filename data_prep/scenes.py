"""Synthetic scenes in CV-Bench's shape: count, relation, depth and distance, without end.

A picture is a 3×3 grid of cells, each as large as one merged vision token of Qwen2-VL, and an
object never leaves its cell. Questions name objects by their colour only, and choices keep their
order, so that a model trained from scratch gets somewhere within a minute.
"""

import math
import random
from collections.abc import Iterator, Mapping, Set
from itertools import permutations, product

from gpg_vl.registry import converter
from gpg_vl.types import Sample

from ._scene_drawing import COLOURS, Cell, Thing
from ._scene_stream import CELLS, SHAPES, Scene, Task, scene_stream

NAMED = ("red", "blue", "green")
"""Colours that questions name."""
UNNAMED = ("yellow", "purple")
"""Colours of the objects that only distract."""


@converter("scenes", version="1", endless=True)
def scenes(source: str, *, split: str = "train", seed: int = 0) -> Iterator[Sample]:
    """Scenes without end, the four tasks in turn, every choice gold equally often in each.

    source: ignored; nothing is read. Splits share no configuration, and `validation` and `test`
    hold none twice. Equal (split, seed) give equal streams. Raises ConfigurationError for an
    unknown split, DataError once a split has no new configuration left.
    """
    return scene_stream("scenes", TASKS, split, seed)


# The four tasks: each draws a configuration for a variant, which holds the answer.


def _count(rng: random.Random, variant: int) -> Scene:
    """One to four objects of the colour asked for, among none to two of other colours."""
    target = rng.choice(NAMED)
    others = [colour for colour in COLOURS if colour != target]
    colours = [target] * (variant + 1) + rng.choices(others, k=rng.randint(0, 2))
    cells = rng.sample(CELLS, len(colours))
    things = tuple(map(Thing, cells, colours, rng.choices(SHAPES, k=len(colours))))
    question = f"How many {target} objects are in the image?"
    return Scene("scenes/Count", question, ("1", "2", "3", "4"), variant, things)


def _relation(rng: random.Random, variant: int) -> Scene:
    """Red lies beside, above or below blue; a variant is an axis and an answer.

    Every second pair is two cells apart, because neighbours are what a small model learns last.
    """
    vertical, answer = divmod(variant, 2)
    axis = 0 if vertical else 1
    first, second = rng.choice(_PAIRS[axis, rng.choice((1, 2))])
    red, blue = (first, second) if answer == 0 else (second, first)
    things = _coloured(rng, {"red": red, "blue": blue})
    choices = ("above", "below") if vertical else ("left", "right")
    question = "Where is the red object located with respect to the blue object?"
    return Scene("scenes/Relation", question, choices, answer, things)


def _depth(rng: random.Random, variant: int) -> Scene:
    """Red and blue stand on a floor, often only one level apart: then they may share a row."""
    gap = rng.choice((1, 1, 2, 3, 4))
    far = rng.randrange(6 - gap)
    columns = rng.sample(range(3), 2)
    near_cell, far_cell = ((far + gap) // 2, columns[0]), (far // 2, columns[1])
    near = Thing(near_cell, ("red", "blue")[variant], rng.choice(SHAPES), far + gap)
    other = Thing(far_cell, ("blue", "red")[variant], rng.choice(SHAPES), far)
    things = (near, other, *_distractors(rng, {near_cell, far_cell}, standing=True))
    question = "Which object is closer to the camera?"
    return Scene("scenes/Depth", question, ("red", "blue"), variant, things)


def _distance(rng: random.Random, variant: int) -> Scene:
    """One candidate is next to the star, the other in the opposite column: a human never doubts.

    Three of four stars stand on the left. If both sides were as frequent, the answer would be the exclusive
    or of the star's side and the candidates' order, of which a small model learns nothing for minutes.
    """
    star, near, far = rng.choice(_TRIPLES[0 if rng.random() < 0.75 else 2])
    red, blue = (near, far) if variant == 0 else (far, near)
    things = (Thing(star, "green", "star"), *_coloured(rng, {"red": red, "blue": blue}, {star}))
    question = "Which object is closer to the green star?"
    return Scene("scenes/Distance", question, ("red", "blue"), variant, things)


def _coloured(
    rng: random.Random, cells: Mapping[str, Cell], taken: Set[Cell] = frozenset()
) -> tuple[Thing, ...]:
    """Objects of the given colours in their cells, of any shape, and perhaps one that distracts."""
    named = [Thing(cell, colour, rng.choice(SHAPES)) for colour, cell in cells.items()]
    return (*named, *_distractors(rng, taken | set(cells.values())))


def _distractors(rng: random.Random, taken: Set[Cell], standing: bool = False) -> tuple[Thing, ...]:
    """No object or one, of a colour that no question names, in a free cell."""
    if rng.random() < 0.5:
        return ()
    cell = rng.choice([cell for cell in CELLS if cell not in taken])
    level = 2 * cell[0] + rng.randrange(2) if standing else None
    return (Thing(cell, rng.choice(UNNAMED), rng.choice(SHAPES), level),)


_PAIRS = {
    (axis, gap): [(a, b) for a, b in permutations(CELLS, 2) if b[axis] - a[axis] == gap]
    for axis, gap in product((0, 1), (1, 2))
}
_TRIPLES = {
    side: [
        (star, near, far)
        for star, near, far in permutations(CELLS, 3)
        if star[1] == side and far[1] == 2 - side and math.dist(star, near) == 1 and math.dist(star, far) > 2
    ]
    for side in (0, 2)
}


TASKS = {
    "scenes/Count": Task(_count, 4),
    "scenes/Relation": Task(_relation, 4),
    "scenes/Depth": Task(_depth, 2),
    "scenes/Distance": Task(_distance, 2),
}
