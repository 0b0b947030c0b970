"""Grounding samples and answers, for the tests of the box rewards."""

import itertools
import json

from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.types import Sample

EXTREMES = (-1e6, -1.0, -1e-300, 0.0, 1e-9, 1 / 3, 640.0, 1e6)
EXTREME_BOXES = tuple(itertools.product(EXTREMES, repeat=4))
"""Huge, tiny, degenerate and reversed boxes, in every combination."""

WITHOUT_BOX = (
    "",
    "no tags",
    "(10,20),(110,220)",
    "[10, 20, 110, 220]",
    "<think>(10,20),(110,220)</think>",
    "<think>(10,20),(110,220)</think><answer></answer>",
    "<think>a</think><answer>(10,20),(110,220)",
    "<think>a</think>(10,20),(110,220)</answer>",
    "<answer>(10,20),(110,220)</answer><answer>(10,20),(110,220)</answer>",
    "<answer><answer>(10,20),(110,220)</answer></answer>",
    "<answer>nan</answer>",
    "<answer>(nan,20),(110,220)</answer>",
    "<answer>[NaN, NaN, NaN, NaN]</answer>",
    "<answer>[10, 20, Infinity, 220]</answer>",
    "<answer>[-inf, -inf, inf, inf]</answer>",
    "<answer>[10, 20, 110, 1e999]</answer>",
    "<answer>[10, 20, 110, 1000001]</answer>",
    "<answer>[10, 20, 110, 220], [nan, 0, 1, 1]</answer>",
    "<answer>[10, 20, 110]</answer>",
    "<answer>[10, 20, 110, 220, 330]</answer>",  # a fifth number that is no score
    "<answer>10, 20, 110</answer>",
    "<answer>10, 20, 110, 220, 330, 440</answer>",
    "<answer>The box is not 10, 20 or 110, 220</answer>",
    "<answer>{'xmin': 10, 'ymin': 20, 'xmax': 110}</answer>",
    "<answer>{'xmin': 10, 'ymin': 20, 'xmax': 110, 'y2': 220}</answer>",
    "<answer>{'xmin': 10, 'ymin': 20, 'xmax': 110, 'ymax': nan}</answer>",
    "<answer><bbox>10, 20, 110</bbox></answer>",
    "<answer>(10,20)</answer>",
    "<answer>[[], [], [], []]</answer>",
    "<answer>[a, b, c, d]</answer>",
    "<answer>[١٠, ٢٠, ١١٠, ٢٢٠]</answer>",
    "<answer>[ınf, 20, 110, 220]</answer>",  # folds to inf, which float() does not
    "<answer>(A)</answer>",
    "<answer>" + "(" * 10_000 + "</answer>",
    "<answer>" + "9" * 10_000 + "</answer>",
)
"""Texts that predict no box, though most of them are about (10,20),(110,220)."""


def grounding(gold, images=(), **meta):
    """A sample whose gold answer is `gold`: text, or boxes to write as JSON."""
    answer = gold if isinstance(gold, str) else json.dumps(gold)
    return Sample("1", "grounding", "Where is it?", answer, "boxes", images=images, meta=meta)


def completion(text, to_image=lambda box: box):
    """What a model wrote, with its boxes; in pixels of the stored image unless `to_image` says otherwise."""
    return parse_completion(text, think_opened=False, token_count=1, finish_reason="eos", to_image=to_image)


def answered(answer):
    return completion(f"<think>There.</think><answer>{answer}</answer>")


def predicting(*boxes):
    """A completion with exactly these boxes, for those that no text holds to the last bit."""
    return answered(json.dumps(boxes))
