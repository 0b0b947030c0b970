"""Scores completions with the configured rewards."""

import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from gpg_vl.errors import ConfigurationError
from gpg_vl.scoring import workers
from gpg_vl.scoring.calls import Outcome, Score
from gpg_vl.scoring.weighted import Weighted, weighted
from gpg_vl.types import Completion, Sample

Answers = tuple[Sample, Sequence[Completion]]
"""One question with its G answers."""


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
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weight of each of `by_reward`."""
    ungraded: tuple[str, ...] = ()
    """Of the dropped rewards those that graded no answer at all, and may not."""


class Scorer:
    """The rewards of a configuration, routed by task."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        """Resolve every reward named in `table`.

        Raises UnknownNameError or ConfigurationError for names and options that do not exist.
        """
        routes = table.get("by_task")
        if not isinstance(routes, Mapping | None):
            raise ConfigurationError(f"rewards.by_task is a table of tasks, got {routes!r}")
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

    def notes(self, tasks: Iterable[str]) -> list[str]:
        """What is legal and rarely meant, for data of these tasks: unused routes, weights below 0.

        Raises ConfigurationError for a task without a route.
        """
        used = [id(self.route(task)) for task in sorted(set(tasks))]
        idle = [task for task, route in self.by_task.items() if id(route) not in used]
        routes = {"rewards": self.default} if self.default is not None else {}
        routes |= {f"rewards.by_task.{task}": route for task, route in self.by_task.items()}
        return [f"rewards.by_task.{task} is used by no row of the data" for task in idle] + [
            f"{place}.{one.name} has the weight {one.weight:g}: what it scores high is trained away"
            for place, route in routes.items()
            for one in route or ()
            if one.weight < 0
        ]

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
        """Start what runs in workers or waits side by side, and run the other rewards here."""
        jobs = [
            Job(number, one, sample, completions)
            for number, (sample, completions) in enumerate(groups)
            for one in self.route(sample.task)
        ]
        return Begun(groups, jobs)


@dataclass(frozen=True)
class Job:
    """One reward on one group."""

    number: int
    """The group's."""
    weighted: Weighted
    sample: Sample
    completions: Sequence[Completion]


class Begun:
    """Groups of which the part of workers and of slow functions is still to come."""

    def __init__(self, groups: Sequence[Answers], jobs: Sequence[Job]) -> None:
        """Runs the rewards that run here. Raises what they raise."""
        self._groups, self._jobs = groups, jobs
        afar = [job for job in jobs if job.weighted.in_workers]
        self._tasks = [task for job in afar for task in job.weighted.tasks(job.sample, job.completions)]
        self._running = workers.start(self._tasks)
        self._waiting: dict[int, list[Future[Outcome]]] = {}
        self._here: dict[int, list[Outcome]] = {}
        try:
            self._start()
        except BaseException:
            self.cancel()
            raise

    def _start(self) -> None:
        for place, job in enumerate(self._jobs):
            if (lane := job.weighted.lane) is not None:
                calls = job.weighted.calls(job.sample, job.completions)
                self._waiting[place] = [lane.start(call) for call in calls]
        for place, job in enumerate(self._jobs):
            if place not in self._waiting and not job.weighted.in_workers:
                self._here[place] = job.weighted.call(job.sample, job.completions)

    def cancel(self) -> None:
        """Give up what nobody waits for any more; of what has ended, the files of images."""
        workers.cancel(self._running)
        workers.remove_images(self._tasks)
        for futures in self._waiting.values():
            workers.cancel(futures)

    def finish(self) -> list[GroupScores]:
        """Wait for what was started, and weigh the scores; see `Scorer.score_groups`."""
        try:
            return self._weighed()
        finally:
            self.cancel()

    def _weighed(self) -> list[GroupScores]:
        worked = iter(workers.finish(self._tasks, self._running))
        graded: list[list[Graded]] = [[] for _ in self._groups]
        for place, job in enumerate(self._jobs):
            count = len(job.completions)
            if job.weighted.in_workers:
                outcomes = [next(worked) for _ in range(1 if job.weighted.is_batch else count)]
            elif place in self._waiting:
                outcomes = [future.result() for future in self._waiting[place]]
            else:
                outcomes = self._here[place]
            scores, late = job.weighted.scores(outcomes, count)
            if late:
                _tell_late(job.weighted, late, count)
            graded[job.number].append((job.weighted, scores, late))
        return [_sum(parts, len(self._groups[number][1])) for number, parts in enumerate(graded)]


Graded = tuple[Weighted, list[Score], int]
"""A reward, its scores (G) of a group, and how many answers exceeded its deadline."""


_late: set[str] = set()


def _tell_late(one: Weighted, late: int, count: int) -> None:
    """Say on stderr, once a reward, that answers exceed its deadline."""
    if one.name not in _late:
        _late.add(one.name)
        text = f"{late} of {count} answers exceeded the deadline of {one.deadline:g} s"
        print(f"warning: reward {one.name!r}: {text}", file=sys.stderr, flush=True)


def _sum(parts: Sequence[Graded], count: int) -> GroupScores:
    """Weigh and add up the rewards of a group of `count` answers."""
    by_reward: dict[str, tuple[float, ...]] = {}
    total = [0.0] * count
    correctness = None
    dropped = []
    ungraded = []
    for one, raw, _ in parts:
        scores = _finite(raw)
        if scores is None:
            dropped.append(one.name)
            if not one.allow_ungraded and all(map(_is_hole, raw)):
                ungraded.append(one.name)
            continue
        by_reward[one.name] = scores
        total = [t + one.weight * s for t, s in zip(total, scores, strict=True)]
        if correctness is None and one.reward.kind == "correctness":
            correctness = scores
    timeouts = {one.name: late for one, _, late in parts if late}
    weights = {one.name: one.weight for one, *_ in parts if one.name in by_reward}
    return GroupScores(
        by_reward, tuple(total), correctness, tuple(dropped), timeouts, weights, tuple(ungraded)
    )


def _resolve(table: Any) -> list[Weighted]:
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"rewards must be a table such as {{'choice': 1.0}}, got {table!r}")
    resolved = [weighted(name, entry) for name, entry in table.items()]
    if not resolved:
        raise ConfigurationError("rewards is empty: name at least one, such as `choice: 1.0`")
    return resolved


def _finite(scores: Sequence[Score]) -> tuple[float, ...] | None:
    """The scores as floats, or None if any of them is missing or not finite."""
    if any(map(_is_hole, scores)):
        return None
    return tuple(score for score in scores if score is not None)


def _is_hole(score: Score) -> bool:
    return score is None or not math.isfinite(score)


def check_graded(groups: Iterable[GroupScores]) -> None:
    """Raise ConfigurationError for a reward that graded no answer of a step's groups, and may not."""
    silent: set[str] = set()
    graded: set[str] = set()
    late: Counter[str] = Counter()
    for group in groups:
        silent |= set(group.ungraded)
        graded |= {*group.by_reward, *group.dropped} - set(group.ungraded)
        late.update(group.timeouts)
    for name in sorted(silent - graded):
        why = (
            f"{late[name]} exceeded the deadline. Raise its deadline"
            if late[name]
            else "it cannot grade these rows, or reads another answer_type. Route it with rewards.by_task"
        )
        raise ConfigurationError(
            f"reward {name!r} gave no answer of the first step a score: {why}, mend it, or set "
            "allow_ungraded: true in its entry"
        )
