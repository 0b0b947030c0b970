"""Generalized IoU of one box with one gold box (LISA)."""

import numpy as np

from gpg_vl.prompting.box_geometry import Boxes, area, overlap
from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample

from ._boxes import single_box_score, unreadable_box


@reward("giou", bounds=(0, 2), unreadable=unreadable_box, images=False)
def giou(completion: Completion, sample: Sample) -> float | None:
    """GIoU + 1 of the one predicted box P and the gold box G, in [0, 2].

    GIoU + 1 = |P ∩ G| / |P ∪ G| + |P ∪ G| / |C|, where C is the smallest box around both: 2 where they are
    equal, towards 0 as they part. 0 as well for an answer with no box or several, and for a box with
    corners in the wrong order or no area. Boxes are not clipped to the image. None if the gold answer is
    not one box with an area. Source: Rezatofighi et al. 2019, arXiv 1902.09630; shifted by 1 as in the
    LISA recipe of GPG, arXiv 2504.02546.
    """
    return single_box_score(completion, sample, _shifted_giou)


def _shifted_giou(gold: Boxes, predicted: Boxes) -> float:
    if not area(predicted).all():
        return 0.0
    intersection, union = overlap(gold, predicted)
    corners = [np.minimum(gold[:, :2], predicted[:, :2]), np.maximum(gold[:, 2:], predicted[:, 2:])]
    hull = area(np.hstack(corners))
    return float((intersection / union + union / hull).item())
