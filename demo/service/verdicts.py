"""What answers are worth: right or wrong, rewards by name, and the vote among several."""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpg_vl.errors import GpgError
from gpg_vl.evaluation.benchmarks import Benchmark
from gpg_vl.evaluation.grading import grade, parsed_answer
from gpg_vl.registry import rewards as registered
from gpg_vl.rollout.answering import Answered
from gpg_vl.runs.files import Item, is_right
from gpg_vl.scoring.scorer import Scorer
from gpg_vl.types import Completion

_SCORING = threading.Lock()
"""The rewards' worker processes belong to one thread at a time."""


@dataclass(frozen=True)
class Verdict:
    """What one answer is worth."""

    answer: str | None
    """The parsed final answer; None if there is none."""
    right: bool | None = None
    """None without a gold answer, or where it could not be graded."""
    rewards: Mapping[str, float] = field(default_factory=dict)
    """Unweighted scores by the reward's name; empty without a gold answer."""
    problem: str = ""
    """Why something could not be scored."""


@dataclass(frozen=True)
class Vote:
    """The answer that most of several gave."""

    answer: str | None
    count: int
    right: bool | None


def judge(answered: Answered, benchmark: Benchmark, rewards: object) -> list[Verdict]:
    """One verdict an answer; without a gold answer they only say what the answer is.

    `rewards` is the table that the model was trained with; None takes the benchmark's own scores.
    """
    sample = answered.sample
    if not sample.answer:
        return [Verdict(_final(answered, one, benchmark)) for one in answered.completions]
    with _SCORING:
        try:
            [item] = grade([answered], benchmark)
        except GpgError as error:
            finals = [_final(answered, one, benchmark) for one in answered.completions]
            return [Verdict(final, problem=str(error)) for final in finals]
        items: list[Item] = item.get("samples", [item])
        scores, problem = _trained_scores(answered, rewards)
    return [
        Verdict(
            _final(answered, completion, benchmark),
            is_right(one) if one["graded"] else None,
            scores[place] if scores else _known(one["scores"]),
            problem,
        )
        for place, (one, completion) in enumerate(zip(items, answered.completions, strict=True))
    ]


def vote(verdicts: Sequence[Verdict]) -> Vote:
    """The commonest answer, the first one of several as common; answers without one vote for none."""
    counts = Counter(verdict.answer for verdict in verdicts)
    answer, count = counts.most_common(1)[0]
    right = next(verdict.right for verdict in verdicts if verdict.answer == answer)
    return Vote(answer, count, right)


def _final(answered: Answered, completion: Completion, benchmark: Benchmark) -> str | None:
    return parsed_answer(answered.sample, completion, benchmark)[0]


def _trained_scores(answered: Answered, rewards: object) -> tuple[list[dict[str, float]], str]:
    """The scores of the rewards that the model was trained with, or why there are none.

    Only installed ones: a checkpoint could bring code of its own under the name of a reward.
    """
    if not isinstance(rewards, Mapping):
        return [], ""
    if foreign := _foreign(rewards):
        return [], f"not scored, since these rewards are not installed: {', '.join(foreign)}"
    try:
        by_reward = Scorer(rewards).score(answered.sample, answered.completions).by_reward
    except GpgError as error:  # a plug-in that is not here, or a task that was not trained
        return [], f"the rewards of the training run cannot be had: {error}"
    places = range(len(answered.completions))
    return [{name: scores[place] for name, scores in by_reward.items()} for place in places], ""


def _foreign(table: Mapping[str, Any]) -> list[str]:
    """Rewards that are named by a file or a module."""
    routes = table.get("by_task")
    parts = routes.values() if isinstance(routes, Mapping) else [table]
    installed = registered.announced()
    return sorted({str(name) for part in parts for name in part if name not in installed})


def _known(scores: Mapping[str, float | None]) -> dict[str, float]:
    return {name: score for name, score in scores.items() if score is not None}
