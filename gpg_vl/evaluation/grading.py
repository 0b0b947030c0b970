"""Answers to items: what was asked, what came back, what it scored."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from gpg_vl.evaluation.benchmarks import Benchmark, Measure
from gpg_vl.evaluation.own_rewards import SUM, reward_scores
from gpg_vl.prompting.prompts import TemplateName, answer_part, boxed, formulas
from gpg_vl.runs.files import Item
from gpg_vl.scoring.scorer import Scorer
from gpg_vl.types import AnswerType, Completion, Sample

if TYPE_CHECKING:
    from gpg_vl.rollout.answering import Answered  # imports torch

FORMAT = Measure("format")
LENIENT = "lenient"
"""The score of an answer that may stand outside the tags: in the last box, else in the last statement."""
Pair = tuple[Sample, Completion]

_TAGS = re.compile(r"</?(?:answer|think)>")
_SAID = re.compile(r"(?:\banswer\b(?: is| are| would be|:| =)+|答案(?:是|为|：|:)+)\s*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s)|[。！？]")


def check_rewards(benchmark: Benchmark, answer_types: Iterable[AnswerType]) -> None:
    """Raise UnknownNameError or ConfigurationError for a reward or an option that does not exist: better
    before the first answer than after it."""
    graders = [benchmark.grader(answer_type) for answer_type in sorted(set(answer_types))]
    for measure in (*graders, *benchmark.measures.values(), FORMAT):
        _scorer(measure)


def _scorer(measure: Measure) -> Scorer:
    return Scorer({measure.reward: {"weight": 1.0, **measure.options}})


def grade(
    answered: "Sequence[Answered]",
    benchmark: Benchmark,
    *,
    template: TemplateName = "instruct",
    scorer: Scorer | None = None,
) -> list[Item]:
    """One item a question: its answers, their scores, and whether they are right.

    An answer that the grader of its type cannot grade is wrong and not `graded`; other scores that cannot
    be had are None. Where the `template` of the prompt asks for a box, that is the format that counts.
    `rewards` and `reward` are by the run's own `scorer`, if there is one. With several answers, `samples`
    holds them, and the item's own scores are their means.
    """
    pairs = [(one.sample, completion) for one in answered for completion in one.completions]
    graded = grade_answers(pairs, benchmark, template=template)
    own = reward_scores(answered, scorer)
    answers = iter(values | rewards for values, rewards in zip(graded, own, strict=True))
    return [_item(one, [next(answers) for _ in one.completions]) for one in answered]


def grade_answers(
    pairs: Sequence[Pair], benchmark: Benchmark, *, template: TemplateName = "instruct"
) -> list[dict[str, Any]]:
    """The part of each answer in its item; see `grade`."""
    right = right_scores(
        [(sample, to_grade(completion, benchmark)) for sample, completion in pairs], benchmark
    )
    scores = {measure.reward: _score(measure, pairs) for measure in (*benchmark.measures.values(), FORMAT)}
    if template == "boxed":
        scores[FORMAT.reward] = [_is_boxed(completion) for _, completion in pairs]
    if benchmark.lenient:
        scores[LENIENT] = right_scores(
            [(sample, with_last_statement(one)) for sample, one in pairs], benchmark
        )
    return [
        _answer(pair, benchmark, right[place], {name: values[place] for name, values in scores.items()})
        for place, pair in enumerate(pairs)
    ]


def to_grade(completion: Completion, benchmark: Benchmark) -> Completion:
    """The completion with all that follows its reasoning for an answer, where the protocol looks there."""
    if benchmark.whole_output and completion.answer is None:
        return replace(completion, answer=answer_part(completion.text, think_opened=completion.think_opened))
    return completion


def with_last_statement(completion: Completion) -> Completion:
    """The completion with its last box, or else its last statement, for an answer, where no tags hold one.

    What is said of the answer ("The answer is 65°.") comes first; then the last sentence. A thought that was
    never closed states nothing.
    """
    if completion.answer is not None:
        return completion
    behind = answer_part(completion.text, think_opened=completion.think_opened)
    text = _TAGS.sub("\n", behind).strip()
    if boxes := boxed(text):
        stated = boxes[-1]
    elif said := list(_SAID.finditer(text)):
        stated = text[said[-1].end() :].partition("\n")[0]
    else:
        stated = _SENTENCE_END.split(text.rpartition("\n")[2].rstrip(" .。"))[-1]
    return replace(completion, answer=stated.strip() or None)


def _is_boxed(completion: Completion) -> float:
    r"""1 if an answer stands in `\boxed{…}` behind the reasoning; else 0."""
    behind = answer_part(completion.text, think_opened=completion.think_opened)
    return float(bool(boxed(behind) and formulas(completion)))


def right_scores(pairs: Sequence[Pair], benchmark: Benchmark) -> list[float | None]:
    """Each answer's score by the grader of its type; None where it cannot grade."""
    right: list[float | None] = [None] * len(pairs)
    types: set[AnswerType] = {sample.answer_type for sample, _ in pairs}
    for answer_type in sorted(types):
        places = [place for place, (sample, _) in enumerate(pairs) if sample.answer_type == answer_type]
        scores = _score(benchmark.grader(answer_type), [pairs[place] for place in places])
        for place, score in zip(places, scores, strict=True):
            right[place] = score
    return right


def _score(measure: Measure, pairs: Sequence[Pair]) -> list[float | None]:
    """One score an answer; each is a group of its own, so that one hole costs no other answer's score."""
    groups = _scorer(measure).score_groups([(sample, [completion]) for sample, completion in pairs])
    return [group.by_reward[measure.reward][0] if group.by_reward else None for group in groups]


def _answer(
    pair: Pair, benchmark: Benchmark, right: float | None, scores: Mapping[str, float | None]
) -> dict[str, Any]:
    sample, completion = pair
    answer, found_in = parsed_answer(sample, completion, benchmark)
    boxes = {"boxes": [list(box) for box in completion.boxes]} if sample.answer_type == "boxes" else {}
    return {
        "output": completion.text,
        "answer": answer,
        "found_in": found_in,
        **boxes,
        "scores": {benchmark.grader(sample.answer_type).reward: right, **scores},
        "correct": right or 0.0,
        "graded": right is not None,
        "finish_reason": completion.finish_reason,
        "token_count": completion.token_count,
    }


def parsed_answer(
    sample: Sample, completion: Completion, benchmark: Benchmark
) -> tuple[str | None, str | None]:
    """The answer and where it stood: `tags`, `boxed`, or `output` for all behind the reasoning, which is
    not repeated here; None twice if there is none."""
    if completion.answer is not None:
        return completion.answer, "tags"
    if sample.answer_type == "math" and (boxes := formulas(completion)):
        return ", ".join(boxes), "boxed"
    return None, "output" if benchmark.whole_output else None


def _item(one: "Answered", answers: Sequence[dict[str, Any]]) -> Item:
    sample = one.sample
    question = {
        "id": sample.id,
        "task": sample.task,
        "cluster": sample.meta.get("cluster"),
        "source": sample.meta.get("source"),
        "question": sample.question,
        "choices": list(sample.choices),
        "images": len(sample.images),
        "gold": sample.answer,
        "prompt_tokens": one.prompt.length,
    }
    if len(answers) == 1:
        return {**question, **answers[0]}
    correct = fmean(answer["correct"] for answer in answers)
    graded = all(answer["graded"] for answer in answers)
    means = {"scores": _means(answers, "scores"), "correct": correct, "graded": graded}
    if SUM in answers[0]:
        means |= {"rewards": _means(answers, "rewards"), SUM: _mean([answer[SUM] for answer in answers])}
    return {**question, **means, "samples": list(answers)}


def _means(answers: Sequence[dict[str, Any]], key: str) -> dict[str, float | None]:
    return {name: _mean([answer[key][name] for answer in answers]) for name in answers[0][key]}


def _mean(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return fmean(known) if known else None
