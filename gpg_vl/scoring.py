"""Scores completions with the configured rewards."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpg_vl.errors import ConfigurationError, RewardError
from gpg_vl.registry import Reward, rewards
from gpg_vl.types import Completion, Sample

Score = float | None


@dataclass(frozen=True)
class Weighted:
    """A reward with its weight and the options from the configuration."""

    reward: Reward
    weight: float
    options: Mapping[str, Any]
    name: str


@dataclass(frozen=True)
class GroupScores:
    """What one group's answers scored."""

    by_reward: Mapping[str, tuple[float, ...]]
    """Unweighted scores (G) by reward name, without the dropped ones."""
    total: tuple[float, ...]
    """Weighted sum for each of the G answers."""
    correctness: tuple[float, ...] | None
    """Scores of the first correctness reward; None if none could grade the sample."""
    dropped: tuple[str, ...]
    """Rewards that could not grade every answer of the group."""


class Scorer:
    """The rewards of a configuration, routed by task."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        """Resolve every reward named in `table`.

        Raises UnknownNameError or ConfigurationError for names and options that do not exist.
        """
        routes = table.get("by_task")
        if routes is not None and len(table) > 1:
            raise ConfigurationError("rewards: `by_task` stands alone; move the others under its tasks")
        self.default = _resolve(table) if routes is None else None
        self.by_task = {task: _resolve(part) for task, part in (routes or {}).items()}

    def route(self, task: str) -> Sequence[Weighted]:
        """Rewards of a task: its own entry, or that of the part before the slash."""
        if self.default is not None:
            return self.default
        for name in (task, task.split("/")[0]):
            if name in self.by_task:
                return self.by_task[name]
        tasks = ", ".join(sorted(self.by_task))
        raise ConfigurationError(f"rewards.by_task has no entry for task {task!r}; it has: {tasks}")

    def score(self, sample: Sample, completions: Sequence[Completion]) -> GroupScores:
        """Score one group.

        A reward that gives any answer None, NaN or an infinity is dropped for the whole group, and named
        in `dropped`: a hole would bias the group's mean. Raises RewardError if a reward raises.
        """
        by_reward: dict[str, tuple[float, ...]] = {}
        total = [0.0] * len(completions)
        correctness = None
        dropped = []
        for weighted in self.route(sample.task):
            scores = _finite(_call(weighted, sample, completions))
            if scores is None:
                dropped.append(weighted.name)
                continue
            by_reward[weighted.name] = scores
            total = [t + weighted.weight * s for t, s in zip(total, scores, strict=True)]
            if correctness is None and weighted.reward.kind == "correctness":
                correctness = scores
        return GroupScores(by_reward, tuple(total), correctness, tuple(dropped))


def _resolve(table: Mapping[str, Any]) -> list[Weighted]:
    resolved = []
    for name, entry in table.items():
        options = dict(entry) if isinstance(entry, Mapping) else {"weight": entry}
        weight = options.pop("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight):
            raise ConfigurationError(f"rewards.{name}: the weight must be a number, got {weight!r}")
        reward = rewards.get(name)
        reward.check_options(options)
        resolved.append(Weighted(reward, float(weight), options, name))
    if not resolved:
        raise ConfigurationError("rewards is empty: name at least one, such as `choice: 1.0`")
    return resolved


def _call(weighted: Weighted, sample: Sample, completions: Sequence[Completion]) -> list[Score]:
    """Scores (G) of one reward. Raises RewardError with the reward's name and the sample's id."""
    function = weighted.reward.function
    try:
        if weighted.reward.is_batch:
            raw = list(_call_batch(function, sample, completions, weighted.options))
        else:
            raw = [function(completion, sample, **weighted.options) for completion in completions]
        scores = [None if score is None else float(score) for score in raw]
    except Exception as error:
        raise RewardError(f"reward {weighted.name!r} failed on sample {sample.id!r}: {error!r}") from error
    if len(scores) != len(completions):
        raise RewardError(
            f"reward {weighted.name!r} gave {len(scores)} scores for the {len(completions)} answers of "
            f"sample {sample.id!r}"
        )
    return scores


def _call_batch(
    function: Any, sample: Sample, completions: Sequence[Completion], options: Mapping[str, Any]
) -> Sequence[Score]:
    """Call a function written for TRL: `f(completions, **columns) -> list`, one row per completion."""
    count = len(completions)
    columns = {
        **{key: [value] * count for key, value in sample.meta.items()},
        "prompts": [sample.question] * count,
        "answer": [sample.answer] * count,
        "solution": [sample.answer] * count,
        "choices": [list(sample.choices)] * count,
        "task": [sample.task] * count,
    }
    scores: Sequence[Score] = function(completions=[c.text for c in completions], **columns, **options)
    return scores


def _finite(scores: Sequence[Score]) -> tuple[float, ...] | None:
    """The scores as floats, or None if any of them is missing or not finite."""
    values = [math.nan if score is None else score for score in scores]
    return tuple(values) if all(map(math.isfinite, values)) else None
