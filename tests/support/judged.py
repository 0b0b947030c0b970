"""Answers to judge, without a model."""

from gpg_vl.demo.service.verdicts import Question
from gpg_vl.evaluation.benchmarks import PREPARED, Benchmark
from gpg_vl.prompting.prompts import parse_completion
from gpg_vl.types import AnswerType, Completion, Sample

TOWER = "9^{9^{9^{9}}}"
"""A gold answer that symbolic mathematics never ends with."""


def answered(text: str | None, kind: AnswerType = "label") -> Completion:
    """A completion with `text` between its answer tags; None writes none."""
    return parse_completion(
        "<think>so</think>" + ("" if text is None else f"<answer>{text}</answer>"),
        think_opened=False,
        token_count=3,
        finish_reason="eos",
        to_image=(lambda box: box) if kind == "boxes" else None,
    )


def question(
    kind: AnswerType,
    *texts: str | None,
    gold: str = "",
    choices: tuple[str, ...] = (),
    benchmark: Benchmark = PREPARED,
    **of_sample: object,
) -> Question:
    """Answers to one question."""
    sample = Sample("q", "task", "?", gold, kind, choices, **of_sample)  # type: ignore[arg-type]
    return Question(sample, tuple(answered(text, kind) for text in texts), benchmark)
