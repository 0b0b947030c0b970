"""Areas and overlaps of bounding boxes. Pixels of the stored image; (n, 4) means rows of x1, y1, x2, y2."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpg_vl.types import Box

Boxes = NDArray[np.float64]


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
