"""Scoring recorded answers again, without the model that wrote them: one group, or a whole step."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpg_vl.algorithm.advantages import VALID_SPREAD
from gpg_vl.registry import rewards
from gpg_vl.scoring.scorer import Answers, GroupScores

from . import records
from .records import Record
from .rewards import loaded_scorer, operator_rewards
from .run_questions import RunQuestions

_AT_ONCE = 8
"""Groups that are scored between two looks at the clock."""


@dataclass
class StepScores:
    """What another reward makes of a step's groups, so far."""

    reward: str
    total: int
    """Groups of the step."""
    scores: list[tuple[str, tuple[float, ...]]] = field(default_factory=list)
    """Of each group that it could grade: its task and its answers' scores."""
    ungraded: int = 0
    """Groups with an answer that it could not grade; training would leave them out."""
    absent: int = 0
    """Groups whose question is not in the data here."""

    @property
    def done(self) -> int:
        """Groups looked at."""
        return len(self.scores) + self.ungraded + self.absent

    @property
    def graded(self) -> int:
        """Groups that count: B, in the paper's terms."""
        return len(self.scores) + self.ungraded


@dataclass(frozen=True)
class Other:
    """A reward that scores again."""

    title: str
    """As the page shows it."""
    name: str
    """What the registry resolves."""


def offered(given: Sequence[str]) -> dict[str, Other]:
    """The rewards to choose from by title: the operator's own, then the installed ones.

    A page chooses among these alone: the name of another would be a file whose code is then run.
    """
    own = operator_rewards(given)
    installed = {name: name for name in sorted(rewards.announced().keys() - set(own))}
    return {title: Other(title, name) for title, name in (own | installed).items()}


def rescore(questions: RunQuestions, other: Other, answers: Sequence[Record]) -> GroupScores:
    """Score a group's answers with another reward.

    Raises DataError if the question is not here, a UserError for a reward that needs an option or cannot be
    imported, and RewardError if it fails.
    """
    return loaded_scorer({other.name: 1.0}).score(*_group(questions, answers))


def _group(questions: RunQuestions, answers: Sequence[Record]) -> Answers:
    sample = questions.find(answers[0]["prompt_id"])
    return sample, [questions.completion(record, sample) for record in answers]


def verdict_on(other: Other, scores: GroupScores) -> str:
    """What the other reward makes of the group, in a sentence."""
    reward = other.title
    if other.name in scores.dropped:
        return f"{reward} cannot grade every answer of this question, so training would leave it out."
    values = scores.by_reward[other.name]
    end = "the group would be valid" if is_valid(values) else "all equal, so the group would be discarded"
    late = f" ({missed} past the deadline)" if (missed := scores.timeouts.get(other.name)) else ""
    return f"{reward}: mean {sum(values) / len(values):.3g} over {len(values)} answers{late}; {end}."


def is_valid(values: Sequence[float]) -> bool:
    """Whether a group with these scores has a gradient."""
    return max(values) - min(values) > VALID_SPREAD


def rescore_step(questions: RunQuestions, other: Other, path: Path, seconds: float) -> Iterator[StepScores]:
    """Score all groups of a step, and say how far it is after every few; ends after `seconds`.

    Raises what `rescore` does, but for a question that is not in the data: those are counted.
    """
    deadline = time.monotonic() + seconds
    scorer, found = loaded_scorer({other.name: 1.0}), records.groups(path)
    scores = StepScores(other.title, len(found))
    for start in range(0, len(found), _AT_ONCE):
        part = found[start : start + _AT_ONCE]
        here = [_group(questions, group) for group in part if _is_here(questions, group)]
        scores.absent += len(part) - len(here)
        for (sample, _), one in zip(here, scorer.score_groups(here), strict=True):
            if other.name in one.dropped:
                scores.ungraded += 1
            else:
                scores.scores.append((sample.task, one.by_reward[other.name]))
        yield scores
        if time.monotonic() > deadline:
            return


def _is_here(questions: RunQuestions, answers: Sequence[Record]) -> bool:
    return questions.sets.find(answers[0]["prompt_id"]) is not None
