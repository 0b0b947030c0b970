"""Geometry that the box rewards share. Pixels of the stored image; (n, 4) means rows of x1, y1, x2, y2."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gpg_vl.prompting.boxes import read_boxes
from gpg_vl.types import Box, Completion, Sample

Boxes = NDArray[np.float64]
MAX_BOXES = 1000
"""An answer with more boxes than this is no prediction, and matching them would hold up the run."""


def single_box_score(
    completion: Completion, sample: Sample, measure: Callable[[Boxes, Boxes], float]
) -> float | None:
    """`measure(gold, predicted)`, both (1, 4); 0 unless exactly one box is predicted.

    None if the sample's gold answer is not exactly one box with an area.
    """
    gold = gold_boxes(sample)
    if gold is None or len(gold) != 1:
        return None
    return measure(gold, as_array(completion.boxes)) if len(completion.boxes) == 1 else 0.0


def unreadable_boxes(sample: Sample) -> str:
    """Why the gold answer is no boxes with an area; "" if it is."""
    return "" if gold_boxes(sample) is not None else "gold answer is no boxes with an area"


def unreadable_box(sample: Sample) -> str:
    """Why the gold answer is not one box with an area; "" if it is."""
    gold = gold_boxes(sample)
    return "" if gold is not None and len(gold) == 1 else "gold answer is not one box with an area"


def gold_boxes(sample: Sample) -> Boxes | None:
    """The gold boxes (n, 4); None if there are none, or one of them has no area: no answer could match it."""
    if sample.answer_type != "boxes":
        return None
    boxes = as_array(read_boxes(sample.answer))
    return boxes if len(boxes) and area(boxes).all() else None


def as_array(boxes: Sequence[Box]) -> Boxes:
    """(n, 4); also for no boxes at all."""
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)


def area(boxes: Boxes) -> NDArray[np.float64]:
    """(n,) square pixels; 0 where the corners are in the wrong order."""
    sides: NDArray[np.float64] = (boxes[:, 2:] - boxes[:, :2]).clip(min=0)  # (n, 2)
    return sides[:, 0] * sides[:, 1]


def overlap(gold: Boxes, predicted: Boxes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intersection and union (n, m) in square pixels; a box without area intersects nothing."""
    top_left = np.maximum(gold[:, None, :2], predicted[None, :, :2])
    bottom_right = np.minimum(gold[:, None, 2:], predicted[None, :, 2:])
    intersection = (bottom_right - top_left).clip(min=0).prod(axis=2)
    union = area(gold)[:, None] + area(predicted) - intersection
    return intersection, union


def pairwise_iou(gold: Boxes, predicted: Boxes) -> NDArray[np.float64]:
    """(n, m), in [0, 1]; every gold box must have an area."""
    intersection, union = overlap(gold, predicted)
    return intersection / union
