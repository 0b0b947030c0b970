"""The overlap of a set of boxes with the set of gold boxes (ViRFT detection)."""

from scipy.optimize import linear_sum_assignment

from gpg_vl.prompting.box_geometry import as_array, pairwise_iou
from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample

from ._boxes import MAX_BOXES, gold_boxes, unreadable_boxes


@reward("detection", bounds=(0, 1), unreadable=unreadable_boxes, images=False)
def detection(completion: Completion, sample: Sample) -> float | None:
    """Σ IoU of matched boxes / max(#gold, #predicted), in [0, 1].

    Each predicted box is matched with at most one gold box, such that Σ IoU is greatest. So a missing and a
    superfluous box cost the same; a box with corners in the wrong order or no area is superfluous. Boxes
    are not clipped to the image. An answer without a box scores 0, and so does one with more than 1,000.
    None if the gold answer is not boxes that all have an area.
    Source: detection reward of GPG (arXiv 2504.02546); the matching is ours.
    """
    gold = gold_boxes(sample)
    if gold is None:
        return None
    if len(completion.boxes) > MAX_BOXES:
        return 0.0
    overlaps = pairwise_iou(gold, as_array(completion.boxes))
    matched = overlaps[linear_sum_assignment(overlaps, maximize=True)].sum()
    return float(matched / max(overlaps.shape))
