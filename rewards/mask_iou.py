"""The overlap of boxes with a gold mask (LISA's ReasonSeg)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpg_vl.errors import DataError
from gpg_vl.registry import reward
from gpg_vl.types import Box, Completion, Sample

from ._boxes import MAX_BOXES

Mask = NDArray[np.bool_]  # (height, width)


@reward("mask_iou", bounds=(0, 1), images=False)
def mask_iou(completion: Completion, sample: Sample) -> float | None:
    """|P ∩ G| / |P ∪ G| in pixels, in [0, 1]; P is the union of the predicted boxes, G the gold mask.

    G is the union of `meta["polygons"]`, each a list of [x, y] in pixels with even-odd filling, and of
    `meta["masks"]`, each {"size": [height, width], "counts": [...]} in COCO's uncompressed run lengths.
    Pixels in `meta["ignore_polygons"]` count in neither. A pixel is inside if its centre is. The image's
    size is `meta["size"]`, [width, height], or else that of the first image; what a box covers beyond it
    is dropped, since a mask has no pixels there. Boxes with corners in the wrong order or no area cover
    nothing; no box, or more than 1,000, score 0. None if there is no gold mask, its size is not the
    image's, or no pixel of it is left. Raises DataError for compressed run lengths.
    A box reaches 1 only where the mask is a rectangle.
    Source: gIoU's per-image term in LISA, arXiv 2308.00692.
    """
    size = _image_size(sample)
    gold = None if size is None else _gold_mask(sample, *size)
    if size is None or gold is None:
        return None
    counted = ~_polygons_mask(sample.meta.get("ignore_polygons") or (), *size)
    gold &= counted
    if not gold.any():
        return None
    if len(completion.boxes) > MAX_BOXES:
        return 0.0
    predicted = _boxes_mask(completion.boxes, *size) & counted
    return float((predicted & gold).sum() / (predicted | gold).sum())


def _image_size(sample: Sample) -> tuple[int, int] | None:
    """Width and height in pixels; None if neither `meta` nor an image tells."""
    if sample.answer_type != "boxes":
        return None
    if size := sample.meta.get("size"):
        width, height = size
        return width, height
    return sample.images[0].size if sample.images else None


def _gold_mask(sample: Sample, width: int, height: int) -> Mask | None:
    """None if there are neither polygons nor masks, or a mask does not fit the image."""
    mask = _polygons_mask(sample.meta.get("polygons") or (), width, height)
    for run_lengths in sample.meta.get("masks") or ():
        decoded = _decoded(run_lengths)
        if decoded is None or decoded.shape != mask.shape:
            return None
        mask |= decoded
    return mask


def _decoded(run_lengths: Mapping[str, Any]) -> Mask | None:
    """A mask from COCO's run lengths, column by column, zeros first; None if they do not fill it."""
    counts = run_lengths["counts"]
    if isinstance(counts, str | bytes):
        raise DataError("meta['masks'] holds compressed run lengths; write counts as a list of numbers")
    height, width = run_lengths["size"]
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        return None
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape((height, width), order="F")


def _boxes_mask(boxes: Sequence[Box], width: int, height: int) -> Mask:
    mask = np.zeros((height, width), dtype=np.bool_)
    for x1, y1, x2, y2 in boxes:
        rows = slice(_first(y1, height), _first(y2, height))
        mask[rows, _first(x1, width) : _first(x2, width)] = True
    return mask


def _first(edge: float, limit: int) -> int:
    """Index of the first pixel whose centre is at or beyond `edge`, between 0 and `limit`."""
    return math.ceil(min(max(edge - 0.5, 0), limit))


def _polygons_mask(polygons: Sequence[Sequence[Sequence[float]]], width: int, height: int) -> Mask:
    mask = np.zeros((height, width), dtype=np.bool_)
    for polygon in polygons:
        mask |= _polygon_mask(np.asarray(polygon, dtype=np.float64).reshape(-1, 2), width, height)
    return mask


def _polygon_mask(corners: NDArray[np.float64], width: int, height: int) -> Mask:
    """Even-odd filling at pixel centres; Pillow's own polygons would cover half a pixel more all round."""
    crossings = np.zeros((height, width + 1), dtype=np.uint8)  # the last column is right of the image
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        rows = np.arange(_first(min(y1, y2), height), _first(max(y1, y2), height))
        x = x1 + (rows + 0.5 - y1) * (x2 - x1) / (y2 - y1)
        crossings[rows, np.ceil(np.clip(x - 0.5, 0, width)).astype(np.int64)] ^= 1
    return np.logical_xor.accumulate(crossings[:, :-1], axis=1)
