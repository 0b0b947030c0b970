"""Small images of stored questions, made once each."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from gpg_vl.prompting.boxes import read_boxes
from gpg_vl.report.drawing import draw_boxes
from gpg_vl.report.samples import image_source
from gpg_vl.runs.files import Item, answers_of
from gpg_vl.types import Box

from .layers import stored_layer
from .samples import PreparedSets

_KEPT = 1024
"""Small images in memory, some kilobytes each."""


class Thumbnails:
    """Data URLs of the first image of questions that stand in the prepared sets."""

    def __init__(self, sets: PreparedSets) -> None:
        self._sets = sets
        self._small = lru_cache(_KEPT)(self._made)

    def of(self, item: Item, side: int) -> str:
        """At most `side` pixels long and wide; empty without an image, or if no set has this question."""
        return self._small(item["id"], item["question"], side, ())

    def with_boxes(self, item: Item, stored: Mapping[str, Item], side: int) -> str:
        """The same with the gold boxes and those of the stored answers, by the names that colours have."""
        if "boxes" not in answers_of(item)[0]:
            return self.of(item, side)
        boxes = [("gold", read_boxes(item["gold"])), *((name, _boxes(one)) for name, one in stored.items())]
        return self._small(item["id"], item["question"], side, tuple(boxes))

    def _made(self, id: str, question: str, side: int, boxes: Sequence[tuple[str, Sequence[Box]]]) -> str:
        place = self._sets.find_stored(id, question)
        images = self._sets.sample(place).images if place else ()
        if not images:
            return ""
        image = images[0]
        return image_source(draw_boxes(image, dict(boxes), side) if boxes else image, side)


def _boxes(item: Item) -> tuple[Box, ...]:
    return tuple(box for boxes in stored_layer(item).answers for box in boxes)
