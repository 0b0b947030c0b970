"""The overlap of one box with one gold box (RefCOCO, LISA)."""

from gpg_vl.errors import ConfigurationError
from gpg_vl.prompting.box_geometry import pairwise_iou
from gpg_vl.registry import reward
from gpg_vl.types import Completion, Sample

from ._boxes import single_box_score, unreadable_box


@reward("iou", bounds=(0, 1), unreadable=unreadable_box, images=False)
def iou(completion: Completion, sample: Sample, *, threshold: float | None = None) -> float | None:
    """|P ∩ G| / |P ∪ G| of the one predicted box P and the gold box G, in [0, 1].

    With `threshold` in (0, 1] it is 1 where the overlap reaches it, else 0; 0.5 is RefCOCO's Acc@0.5. An
    answer with no box or several scores 0, and so does a box with corners in the wrong order or no area.
    Boxes are not clipped to the image: what lies beyond it counts in the union. None if the gold answer is
    not one box with an area. Raises ConfigurationError for another threshold.
    Source: Everingham et al. 2010, The PASCAL Visual Object Classes Challenge.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise ConfigurationError(f"iou: threshold must be in (0, 1], such as 0.5; got {threshold}")
    value = single_box_score(completion, sample, lambda gold, box: float(pairwise_iou(gold, box).item()))
    return value if value is None or threshold is None else float(value >= threshold)
