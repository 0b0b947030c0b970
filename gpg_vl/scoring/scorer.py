"""Scores completions with the configured rewards."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gpg_vl.errors import ConfigurationError, RewardError, UserError
from gpg_vl.registry import Reward, rewards
from gpg_vl.scoring import workers
from gpg_vl.types import Completion, Sample

Score = float | None
Answers = tuple[Sample, Sequence[Completion]]
"""One question with its G answers."""


@dataclass(frozen=True)
class Weighted:
    """A reward with its weight and the options from the configuration."""

    reward: Reward
    weight: float
    options: Mapping[str, Any]
    name: str
    """As the configuration calls it."""
    deadline: float | None
    """Seconds for one answer in a worker process; None calls the function here."""
    conversational: bool
    """Whether a batch function gets chat messages instead of texts."""

    def tasks(self, sample: Sample, completions: Sequence[Completion]) -> list[workers.Task]:
        """One task per answer for the workers; none without a deadline."""
        if self.deadline is None:
            return []
        bare = replace(sample, images=())
        return [
            workers.Task(self.name, self.options, bare, completion, self.deadline)
            for completion in completions
        ]


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
    timeouts: Mapping[str, int] = field(default_factory=dict)
    """Answers that exceeded a reward's deadline, by reward name."""


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

    def covers(self, task: str) -> bool:
        """Whether a task has rewards."""
        return self.default is not None or not {task, task.split("/")[0]}.isdisjoint(self.by_task)

    def score(self, sample: Sample, completions: Sequence[Completion]) -> GroupScores:
        """Score one group; see `score_groups`."""
        return self.score_groups([(sample, completions)])[0]

    def score_groups(self, groups: Sequence[Answers]) -> list[GroupScores]:
        """Score groups; the workers score while the other rewards run here.

        A reward that gives any answer None, NaN or an infinity, or whose worker dies, is dropped for the
        whole group, and named in `dropped`: a hole would bias the group's mean. An answer that exceeds a
        deadline by itself gets the reward's `timeout_score`. Raises RewardError if a reward raises.
        """
        return self.begin(groups).finish()

    def begin(self, groups: Sequence[Answers]) -> "Begun":
        """Hand the workers their part, and run the other rewards here."""
        jobs = [
            (number, weighted)
            for number, (sample, _) in enumerate(groups)
            for weighted in self.route(sample.task)
        ]
        tasks = [task for number, weighted in jobs for task in weighted.tasks(*groups[number])]
        running = workers.start(tasks)
        try:
            here = [
                None if weighted.deadline else _call(weighted, *groups[number]) for number, weighted in jobs
            ]
        except BaseException:
            workers.cancel(running)
            raise
        return Begun(groups, jobs, here, tasks, running)


@dataclass(frozen=True)
class Begun:
    """Groups of which the workers' part is still to come."""

    groups: Sequence[Answers]
    jobs: Sequence[tuple[int, Weighted]]
    """Every reward with its group's number."""
    here: Sequence[list[Score] | None]
    """Scores by job; None where workers score."""
    tasks: Sequence[workers.Task]
    running: Sequence[workers.Running]

    def cancel(self) -> None:
        """Give up what nobody waits for any more."""
        workers.cancel(self.running)

    def finish(self) -> list[GroupScores]:
        """Wait for the workers, and weigh the scores; see `Scorer.score_groups`."""
        outcomes = iter(workers.finish(self.tasks, self.running))
        scored: list[list[tuple[Weighted, list[Score], int]]] = [[] for _ in self.groups]
        for (number, weighted), scores in zip(self.jobs, self.here, strict=True):
            sample, completions = self.groups[number]
            late = 0
            if scores is None:
                own = [next(outcomes) for _ in completions]
                scores, late = _worked(weighted, sample, own), sum(outcome.timed_out for outcome in own)
            scored[number].append((weighted, scores, late))
        return [_sum(parts, len(self.groups[number][1])) for number, parts in enumerate(scored)]


def _sum(parts: Sequence[tuple[Weighted, list[Score], int]], count: int) -> GroupScores:
    """Weigh and add up the rewards of a group of `count` answers; each part has its timeouts at the end."""
    by_reward: dict[str, tuple[float, ...]] = {}
    total = [0.0] * count
    correctness = None
    dropped = []
    for weighted, raw, _ in parts:
        scores = _finite(raw)
        if scores is None:
            dropped.append(weighted.name)
            continue
        by_reward[weighted.name] = scores
        total = [t + weighted.weight * s for t, s in zip(total, scores, strict=True)]
        if correctness is None and weighted.reward.kind == "correctness":
            correctness = scores
    timeouts = {weighted.name: late for weighted, _, late in parts if late}
    return GroupScores(by_reward, tuple(total), correctness, tuple(dropped), timeouts)


def _resolve(table: Mapping[str, Any]) -> list[Weighted]:
    resolved = [_weighted(name, entry) for name, entry in table.items()]
    if not resolved:
        raise ConfigurationError("rewards is empty: name at least one, such as `choice: 1.0`")
    return resolved


def _weighted(name: str, entry: Any) -> Weighted:
    options = dict(entry) if isinstance(entry, Mapping) else {"weight": entry}
    weight = options.pop("weight", 1.0)
    if not _is_number(weight):
        raise ConfigurationError(f"rewards.{name}: the weight must be a number, got {weight!r}")
    reward = rewards.get(name)
    deadline = options.pop("deadline", reward.deadline)
    if deadline is not None and not (_is_number(deadline) and deadline > 0):
        raise ConfigurationError(f"rewards.{name}: the deadline is seconds above 0, got {deadline!r}")
    if deadline is not None and reward.is_batch:
        raise ConfigurationError(f"rewards.{name}: a deadline is for one answer, and this takes all at once")
    conversational = options.pop("conversational", False)
    if not isinstance(conversational, bool) or (conversational and not reward.is_batch):
        raise ConfigurationError(f"rewards.{name}: `conversational: true` is for batch functions (TRL's)")
    reward.check_options(options)
    return Weighted(reward, float(weight), options, name, deadline, conversational)


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)


def _worked(weighted: Weighted, sample: Sample, outcomes: Sequence[workers.Outcome]) -> list[Score]:
    """Scores (G) from the workers. Raises as `_call` does."""
    for outcome in outcomes:
        if outcome.mistake is not None:
            raise ConfigurationError(f"reward {weighted.name!r}: {outcome.mistake}")
        if outcome.error is not None:
            raise RewardError(f"reward {weighted.name!r} failed on sample {sample.id!r}:\n{outcome.error}")
    return [weighted.reward.timeout_score if one.timed_out else one.score for one in outcomes]


def _call(weighted: Weighted, sample: Sample, completions: Sequence[Completion]) -> list[Score]:
    """Scores (G) of one reward.

    Raises RewardError with the reward's name and the sample's id; what the function itself calls a mistake
    of the user stays one.
    """
    function = weighted.reward.function
    try:
        if weighted.reward.is_batch:
            raw = list(_call_batch(weighted, sample, completions))
        else:
            raw = [function(completion, sample, **weighted.options) for completion in completions]
        scores = [None if score is None else float(score) for score in raw]
    except UserError as mistake:
        raise ConfigurationError(f"reward {weighted.name!r}: {mistake}") from mistake
    except (Exception, SystemExit) as error:
        raise RewardError(f"reward {weighted.name!r} failed on sample {sample.id!r}: {error!r}") from error
    if len(scores) != len(completions):
        raise RewardError(
            f"reward {weighted.name!r} gave {len(scores)} scores for the {len(completions)} answers of "
            f"sample {sample.id!r}"
        )
    return scores


def _call_batch(weighted: Weighted, sample: Sample, completions: Sequence[Completion]) -> Sequence[Score]:
    """Call a function written for TRL: `f(completions, **columns) -> list`, one row per completion.

    It gets the columns that it names, all of them if it takes `**columns`.
    """
    count = len(completions)
    texts: list[Any] = [completion.text for completion in completions]
    prompt: Any = sample.question
    if weighted.conversational:
        texts = [[{"role": "assistant", "content": text}] for text in texts]
        prompt = [{"role": "user", "content": prompt}]
    columns = {
        **{key: [value] * count for key, value in sample.meta.items()},
        "prompts": [prompt] * count,
        "completion_ids": [list(completion.token_ids) for completion in completions],
        "answer": [sample.answer] * count,
        "solution": [sample.answer] * count,
        "choices": [list(sample.choices)] * count,
        "images": [list(sample.images)] * count,
        "task": [sample.task] * count,
        **weighted.options,
    }
    parameters = inspect.signature(weighted.reward.function).parameters
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        columns = {name: column for name, column in columns.items() if name in parameters}
    scores: Sequence[Score] = weighted.reward.function(completions=texts, **columns)
    return scores


def _finite(scores: Sequence[Score]) -> tuple[float, ...] | None:
    """The scores as floats, or None if any of them is missing or not finite."""
    values = [math.nan if score is None else score for score in scores]
    return tuple(values) if all(map(math.isfinite, values)) else None
