"""Scoring recorded answers again, without the model that wrote them: one group, or a whole step."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpg_vl.algorithm.advantages import VALID_SPREAD
from gpg_vl.errors import RewardError, UserError
from gpg_vl.registry import rewards
from gpg_vl.scoring.scorer import Answers, GroupScores, Scorer

from . import records
from .records import Record
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


def offered(own: Sequence[str]) -> list[str]:
    """The rewards to choose from: the operator's own, then the installed ones."""
    return [*own, *sorted(rewards.announced().keys() - set(own))]


def scorer_of(reward: str) -> Scorer:
    """Raises a UserError for a reward that needs an option, RewardError for one that cannot be imported."""
    try:
        return Scorer({reward: 1.0})
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # whatever a plug-in's code raises while it is imported
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise RewardError(f"reward {reward!r} cannot be imported: {reason}") from error


def rescore(questions: RunQuestions, reward: str, answers: Sequence[Record]) -> GroupScores:
    """Score a group's answers with another reward.

    Raises DataError if the question is not here, a UserError if the reward needs an option, and
    RewardError if it fails.
    """
    return scorer_of(reward).score(*_group(questions, answers))


def _group(questions: RunQuestions, answers: Sequence[Record]) -> Answers:
    sample = questions.find(answers[0]["prompt_id"])
    return sample, [questions.completion(record, sample) for record in answers]


def verdict_on(reward: str, scores: GroupScores) -> str:
    """What the other reward makes of the group, in a sentence."""
    if reward in scores.dropped:
        return f"{reward} cannot grade every answer of this question, so training would leave it out."
    values = scores.by_reward[reward]
    end = "the group would be valid" if is_valid(values) else "all equal, so the group would be discarded"
    late = f" ({scores.timeouts[reward]} past the deadline)" if scores.timeouts.get(reward) else ""
    return f"{reward}: mean {sum(values) / len(values):.3g} over {len(values)} answers{late}; {end}."


def is_valid(values: Sequence[float]) -> bool:
    """Whether a group with these scores has a gradient."""
    return max(values) - min(values) > VALID_SPREAD


def rescore_step(questions: RunQuestions, reward: str, path: Path, seconds: float) -> Iterator[StepScores]:
    """Score all groups of a step, and say how far it is after every few; ends after `seconds`.

    Raises what `rescore` does, but for a question that is not in the data: those are counted.
    """
    deadline = time.monotonic() + seconds
    scorer, found = scorer_of(reward), records.groups(path)
    scores = StepScores(reward, len(found))
    for start in range(0, len(found), _AT_ONCE):
        part = found[start : start + _AT_ONCE]
        here = [_group(questions, group) for group in part if _is_here(questions, group)]
        scores.absent += len(part) - len(here)
        for (sample, _), one in zip(here, scorer.score_groups(here), strict=True):
            if reward in one.dropped:
                scores.ungraded += 1
            else:
                scores.scores.append((sample.task, one.by_reward[reward]))
        yield scores
        if time.monotonic() > deadline:
            return


def _is_here(questions: RunQuestions, answers: Sequence[Record]) -> bool:
    return questions.sets.find(answers[0]["prompt_id"]) is not None
