"""Streams of drawn scenes: answers exactly balanced, splits that share no configuration."""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, product
from typing import Any

from PIL import Image

from gpg_vl.errors import ConfigurationError, DataError, unknown
from gpg_vl.prompting.prompts import letter
from gpg_vl.types import Sample

from ._scene_drawing import Cell, Thing, render

SPLITS = {"train": 70, "validation": 15, "test": 15}
"""Percent of all configurations in each split."""
ATTEMPTS = 20_000
"""Draws without a new configuration after which a split counts as exhausted."""

SHAPES = ("circle", "square", "triangle")
CELLS: tuple[Cell, ...] = tuple(product(range(3), range(3)))


@dataclass(frozen=True)
class Scene:
    """A question and its objects: everything but the jitter."""

    task: str
    question: str
    choices: tuple[str, ...]
    answer: int
    things: tuple[Thing, ...]
    reasoning: str = ""
    """The steps to the answer in words; they follow from the rest."""

    @property
    def configuration(self) -> str:
        """What makes two scenes the same; decides the split."""
        things = "; ".join(str(thing) for thing in sorted(self.things))
        return f"{self.task} | {self.question} | {', '.join(self.choices)} | {things}"


@dataclass(frozen=True)
class Task:
    """How a task draws a configuration, and for how many equally frequent variants."""

    draw: Callable[[random.Random, int], Scene]
    variants: int


def scene_stream(name: str, tasks: Mapping[str, Task], split: str, seed: int) -> Iterator[Sample]:
    """Scenes without end, the tasks in turn, every variant equally often in each.

    name: of the converter, in ids. Raises ConfigurationError for an unknown split, DataError once a split has
    no new configuration left.
    """
    if split not in SPLITS:
        raise ConfigurationError(unknown(f"split of {name}", split, SPLITS))
    return _stream(name, tasks, split, seed)


def split_of(configuration: str) -> str:
    """The split that a configuration belongs to, by its hash: equal everywhere and for ever."""
    percent = int.from_bytes(hashlib.sha256(configuration.encode()).digest()[:8]) % 100
    for name, share in SPLITS.items():
        if percent < share:
            return name
        percent -= share
    raise AssertionError("SPLITS do not add up to 100")


def _stream(name: str, tasks: Mapping[str, Task], split: str, seed: int) -> Iterator[Sample]:
    rng = random.Random(f"{name} {split} {seed}")
    decks: dict[str, list[int]] = {task: [] for task in tasks}
    seen: set[str] | None = None if split == "train" else set()
    for index, (key, task) in enumerate(cycle(tasks.items())):
        scene = _new_scene(rng, key, task, _deal(rng, decks[key], task.variants), split, seen)
        image, boxes = render(scene.things, rng)
        yield _sample(scene, image, boxes, f"{name}-{split}-{seed}-{index}")


def _deal(rng: random.Random, deck: list[int], size: int) -> int:
    """The next card of a deck that is shuffled anew when empty: exact balance, no fixed order."""
    if not deck:
        deck.extend(rng.sample(range(size), size))
    return deck.pop()


def _new_scene(
    rng: random.Random, name: str, task: Task, variant: int, split: str, seen: set[str] | None
) -> Scene:
    """A scene of this split that is not in `seen` (None: may repeat), and is added to it."""
    for _ in range(ATTEMPTS):
        scene = task.draw(rng, variant)
        key = scene.configuration
        if split_of(key) != split or (seen is not None and key in seen):
            continue
        if seen is not None:
            seen.add(key)
        return scene
    raise DataError(f"no new configuration of {name} left in split {split!r}; take fewer samples")


def _sample(scene: Scene, image: Image.Image, boxes: Mapping[Thing, list[int]], sample_id: str) -> Sample:
    things = [_described(thing, boxes[thing]) for thing in scene.things]
    meta: dict[str, Any] = {"configuration": scene.configuration, "objects": things}
    return Sample(
        id=sample_id,
        task=scene.task,
        question=scene.question,
        answer=letter(scene.answer),
        answer_type="choice",
        choices=scene.choices,
        images=(image,),
        reasoning=scene.reasoning,
        meta=meta,
    )


def _described(thing: Thing, box: list[int]) -> dict[str, Any]:
    fields = {"shape": thing.shape, "colour": thing.colour, "cell": list(thing.cell), "level": thing.level}
    size = {} if thing.large is None else {"large": thing.large}
    return {**fields, **size, "box": box}
