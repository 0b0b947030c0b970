"""Scenes whose questions take two steps or more, each with the steps in words.

The pictures are those of `scenes`, and choices keep their order. A small model that writes the steps down
before it answers needs to see one thing at a time; one that answers at once has to find all in one pass.
"""

import random
from collections.abc import Iterator

from gpg_vl.registry import converter
from gpg_vl.types import Sample

from ._scene_drawing import COLOURS, Thing
from ._scene_stream import CELLS, SHAPES, Scene, Task, scene_stream

COUNTS = range(1, 4)
"""How many objects of each of the two colours that are counted."""

MOVES = 4
"""From row to row."""


@converter("scenes_reasoning", version="1", endless=True)
def scenes_reasoning(source: str, *, split: str = "train", seed: int = 0) -> Iterator[Sample]:
    """Scenes of several steps without end, the tasks in turn, every choice gold equally often in each.

    `reasoning` holds the steps, for supervised training. source: ignored; nothing is read. Splits share no
    configuration, and `validation` and `test` hold none twice. Equal (split, seed) give equal streams. Raises
    ConfigurationError for an unknown split, DataError once a split has no new configuration left.
    """
    return scene_stream("scenes_reasoning", TASKS, split, seed)


# The tasks: each draws a configuration for a variant, which is the answer.


def _compare(rng: random.Random, variant: int) -> Scene:
    """Count two colours, then say of which there are more."""
    pairs = [(red, blue) for red in COUNTS for blue in COUNTS if _verdict(red, blue) == variant]
    red, blue = rng.choice(pairs)
    verdict = ("more red", "more blue", "equal")[variant]
    question = "Are there more red or more blue objects?"
    choices = ("red", "blue", "equal")
    steps = f"red {red}, blue {blue}, {verdict}"
    return Scene("reasoning/Compare", question, choices, variant, _counted(rng, red, blue), steps)


def _verdict(red: int, blue: int) -> int:
    return 0 if red > blue else 1 if blue > red else 2


def _follow(rng: random.Random, variant: int) -> Scene:
    """Go from row to row: each row leads from its left object's colour to that of its right one.

    Four moves pass a row twice, and where they end is no sum over what is in the picture: it takes one look
    a move.
    """
    path, leads = _path(rng, list(COLOURS)[variant])
    rows = enumerate(rng.sample(list(leads.items()), len(leads)))
    cells = [
        ((row, column), colour) for row, pair in rows for column, colour in zip((0, 2), pair, strict=True)
    ]
    things = tuple(Thing(cell, colour, rng.choice(SHAPES)) for cell, colour in cells)
    rule = "Each row leads from its left object to its right one."
    question = f"{rule} Which colour is {MOVES} moves from {path[0]}?"
    return Scene("reasoning/Follow", question, tuple(COLOURS), variant, things, " ".join(path))


def _path(rng: random.Random, end: str) -> tuple[list[str], dict[str, str]]:
    """The colours on a way that ends at `end`, and where each of three colours leads: never to itself."""
    while True:
        colours = rng.sample(list(COLOURS), 3)
        leads = {one: rng.choice([other for other in colours if other != one]) for one in colours}
        path = colours[:1]
        for _ in range(MOVES):
            path.append(leads[path[-1]])
        if path[-1] == end:
            return path, leads


def _neighbour(rng: random.Random, variant: int) -> Scene:
    """Find the largest object, then the one left of it; a third lies anywhere."""
    (centre, beside), colours = rng.choice(_NEIGHBOURS), list(COLOURS)
    answer = colours[variant]
    largest, other = rng.sample([colour for colour in colours if colour != answer], 2)
    free = rng.choice([cell for cell in CELLS if cell not in (centre, beside)])
    things = (
        Thing(centre, largest, rng.choice(SHAPES), large=True),
        Thing(beside, answer, rng.choice(SHAPES), large=False),
        Thing(free, other, rng.choice(SHAPES), large=False),
    )
    question = "Which colour is the object left of the largest one?"
    steps = f"largest {largest}, left of it {answer}"
    return Scene("reasoning/Neighbour", question, tuple(colours), variant, things, steps)


def _counted(rng: random.Random, red: int, blue: int) -> tuple[Thing, ...]:
    """So many red and blue objects, and perhaps one of another colour."""
    other = rng.sample([colour for colour in COLOURS if colour not in ("red", "blue")], rng.randint(0, 1))
    colours = ["red"] * red + ["blue"] * blue + other
    cells = rng.sample(CELLS, len(colours))
    return tuple(map(Thing, cells, colours, rng.choices(SHAPES, k=len(colours))))


_NEIGHBOURS = [((row, column), (row, column - 1)) for row, column in CELLS if column > 0]
"""A cell, and the one on its left."""

TASKS = {
    "reasoning/Compare": Task(_compare, 3),
    "reasoning/Follow": Task(_follow, len(COLOURS)),
    "reasoning/Neighbour": Task(_neighbour, len(COLOURS)),
}
