"""What the box rewards share. Pixels of the stored image; (n, 4) means rows of x1, y1, x2, y2."""

from collections.abc import Callable

from gpg_vl.prompting.box_geometry import Boxes, area, as_array
from gpg_vl.prompting.boxes import read_boxes
from gpg_vl.types import Completion, Sample

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
