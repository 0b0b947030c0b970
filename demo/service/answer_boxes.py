"""The boxes of recorded answers, in pixels of the question's image."""

from collections.abc import Sequence

from gpg_vl.prompting.boxes import read_boxes
from gpg_vl.types import Box, Sample

from .layers import best_iou
from .records import Record
from .run_questions import RunQuestions


def answer_boxes(questions: RunQuestions, sample: Sample, answers: Sequence[Record]) -> list[Sequence[Box]]:
    """Each answer's boxes, whatever space the model wrote them in; empty for a question without boxes.

    Raises ModelError if the processor, which says how the model saw the image, is not here.
    """
    if sample.answer_type != "boxes" or not sample.images:
        return []
    return [questions.completion(record, sample).boxes for record in answers]


def best_overlap(boxes: Sequence[Box], sample: Sample) -> float | None:
    """The largest IoU of a box with a gold one, in [0, 1]; None where there is nothing to compare."""
    gold = read_boxes(sample.answer)
    overlaps = [overlap for box in boxes if (overlap := best_iou(box, gold)) is not None]
    return max(overlaps, default=None)
