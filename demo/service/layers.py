"""Whose boxes to draw on a question's image: the gold ones, and those of every answer. No Gradio here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gpg_vl.prompting.box_geometry import area, as_array, pairwise_iou
from gpg_vl.prompting.boxes import read_boxes
from gpg_vl.runs.files import Item, answers_of
from gpg_vl.types import Box, Sample

from .models import Kind
from .verdicts import Verdict, vote


@dataclass(frozen=True)
class Layer:
    """Boxes of the gold answer or of one model's answers, in pixels of the stored image."""

    answers: Sequence[Sequence[Box]]
    """Of each answer; one may hold several boxes, or none."""
    strong: int | None = 0
    """The answer that is drawn strong, such as the voted one; None draws all alike, and pale."""


def voted(answers: Sequence[Sequence[Box]], verdicts: Sequence[Verdict]) -> Layer:
    """One model's answers; the one that the vote chose is strong, and none before there are verdicts."""
    if len(answers) == 1:
        return Layer(answers)
    if not verdicts:
        return Layer(answers, None)
    winner = vote(verdicts).answer
    return Layer(answers, [verdict.said for verdict in verdicts].index(winner))


def stored_layer(item: Item) -> Layer:
    """One model's answers to a question of an evaluation."""
    samples = answers_of(item)
    answers = [[(x1, y1, x2, y2) for x1, y1, x2, y2 in one.get("boxes", ())] for one in samples]
    return voted(answers, [Verdict(one["answer"]) for one in samples])


def with_gold(sample: Sample, answered: Mapping[Kind, Layer]) -> dict[str, Layer]:
    """What to draw by whose it is, gold lowest; empty where no boxes are asked for, or nobody answered."""
    if sample.answer_type != "boxes" or not sample.images or not answered:
        return {}
    gold = read_boxes(sample.answer)
    layers = {"gold": Layer([gold])} if gold else {}
    return layers | {str(kind): layer for kind, layer in answered.items()}


def best_iou(box: Box, gold: Sequence[Box]) -> float | None:
    """The largest IoU of a box with a gold one, in [0, 1]; None if no gold box has an area."""
    boxes = as_array(gold)
    boxes = boxes[area(boxes) > 0]
    return float(np.max(pairwise_iou(boxes, as_array([box])))) if len(boxes) else None
