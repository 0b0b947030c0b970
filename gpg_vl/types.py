"""The nouns of the package, and the legend of tensor shapes.

Shape letters used in comments and docstrings everywhere:

    B  groups (questions) in a step          R  packed rows in a micro-batch
    G  answers per group                     S  tokens in a packed row, padding included
    N  answers, N = B·G                      M  selected (answer) positions of a micro-batch
    P  prompt tokens                         V  vocabulary
    T  answer tokens                         H  hidden size

`B` and `M` in formulas of the paper are the groups of a step and the invalid ones among them;
where a module speaks of those it says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image

FinishReason = Literal["eos", "stop", "length"]
AnswerType = Literal["choice", "number", "math", "boxes", "label"]
Normalize = Literal["group", "batch", "sequence", "constant"]
Baseline = Literal["mean", "leave_one_out"]
Ratio = Literal["token", "sequence"]
PerReward = Literal["sum", "normalised"]
Packing = Literal["auto", "group", "none"]
Box = tuple[float, float, float, float]
"""x1, y1, x2, y2: left, top, right and bottom edge."""
Metrics = dict[str, float | int]
"""Figures of one step by name; see docs/metrics.md."""


@dataclass(frozen=True)
class Sample:
    """One question about no, one or several images, with its gold answer."""

    id: str
    """Unique in its data set."""
    task: str
    """Such as `cv_bench/Count`; routes rewards and groups the rows of a report."""
    question: str
    """The bare question, without choices or instructions about tags."""
    answer: str
    """The gold answer; for `choice` a letter in brackets, "(B)"; for `boxes` a JSON list of [x1, y1, x2, y2]
    in pixels of the (first) image as it is stored."""
    answer_type: AnswerType
    choices: tuple[str, ...] = ()
    """Texts of the choices in order; empty if the answer is free-form."""
    images: tuple[Image.Image, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the source had."""
    reasoning: str = ""
    """The steps to the answer in words, which supervised training writes as the model's thinking; empty where
    the source has none. No prompt holds it."""


@dataclass(frozen=True)
class Completion:
    """One answer of the model as rewards see it."""

    text: str
    """The generated text, cut after the stop string; without the end-of-text token."""
    answer: str | None
    """What stands in `<answer>…</answer>`, stripped; None without exactly one such pair, or where it stands
    inside the reasoning."""
    think: str | None
    """What stands before `</think>`; None if the reasoning was not closed."""
    token_count: int
    """Sampled tokens, end-of-text included."""
    finish_reason: FinishReason
    think_opened: bool = False
    """Whether the prompt already ended inside `<think>`."""
    boxes: tuple[Box, ...] = ()
    """Boxes in `answer`, in pixels of the stored image; none where the sample's answer is no boxes, or where
    a coordinate is not finite. Corners stay in the order given."""
    token_ids: tuple[int, ...] = ()
    """The sampled tokens, where a model made the text."""
    logprobs: tuple[float, ...] = ()
    """Their log-probabilities (nats) under the sampler's distribution."""
