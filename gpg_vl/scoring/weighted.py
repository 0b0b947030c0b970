"""A reward as a configuration names it: its weight, its options, and where it runs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpg_vl.errors import ConfigurationError
from gpg_vl.registry import CONCURRENCY, SESSION, Reward, rewards
from gpg_vl.scoring.calls import Call, Outcome, Score, score
from gpg_vl.scoring.event_loop import Lane
from gpg_vl.scoring.pixels import share, without_pixels
from gpg_vl.scoring.workers import Task, inside
from gpg_vl.types import Completion, Sample

SETTINGS = ("weight", "deadline", "workers", "concurrency", "conversational", "allow_ungraded")
"""Keys of an entry that are the configuration's, never the function's."""

WEIGHTED_SUM = "weighted sum"
"""What the sum of all rewards is called in tables."""


@dataclass(frozen=True)
class Weighted:
    """A reward with its weight and the options from the configuration."""

    reward: Reward
    weight: float
    options: Mapping[str, Any]
    name: str
    """As the configuration calls it."""
    deadline: float | None = None
    """Seconds for one call."""
    workers: int | None = None
    """Worker processes that it has for itself."""
    lane: Lane | None = None
    """Where calls wait side by side in this process; None where they run one by one, or in workers."""
    conversational: bool = False
    """Whether a batch function gets chat messages instead of texts."""
    allow_ungraded: bool = False
    """Whether it may grade no answer of a run's first step."""
    is_batch: bool = False

    @property
    def in_workers(self) -> bool:
        """Whether worker processes call it; one of them calls it itself."""
        return self.lane is None and bool(self.deadline or self.workers) and not inside()

    def calls(self, sample: Sample, completions: Sequence[Completion]) -> Iterator[Call]:
        """One call per answer, or one for all of them; `scores` takes the outcomes."""
        parts = [tuple(completions)] if self.is_batch else [(completion,) for completion in completions]
        for part in parts:
            yield Call(self.name, self.options, sample, part, self.is_batch, self.conversational)

    def tasks(self, sample: Sample, completions: Sequence[Completion]) -> list[Task]:
        """The calls for worker processes; images are written once for all of them, if they are looked at."""
        images = share(sample.images) if self.reward.images and sample.images else None
        bare = without_pixels(sample)
        return [Task(call, self.deadline, self.workers, images) for call in self.calls(bare, completions)]

    def call(self, sample: Sample, completions: Sequence[Completion]) -> list[Outcome]:
        """Call the function here and now. Raises as `calls.score` does."""
        function = self.reward.function
        return [Outcome(score(function, call)) for call in self.calls(sample, completions)]

    def scores(self, outcomes: Sequence[Outcome], count: int) -> tuple[list[Score], int]:
        """Scores of `count` answers, and how many exceeded the deadline. Raises what the function raised.

        Of a group that is too late nobody knows whose fault it is: no answer gets a score.
        """
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
        late = sum(outcome.timed_out for outcome in outcomes)
        if self.is_batch:
            return ([None] * count, count) if late else (list(outcomes[0].scores), 0)
        missed = self.reward.timeout_score
        return [missed if outcome.timed_out else outcome.scores[0] for outcome in outcomes], late


def weighted(name: str, entry: Any) -> Weighted:
    """A reward from an entry of the configuration's table: a weight, or `{weight: …, option: …}`.

    Raises UnknownNameError or ConfigurationError for a name, an option or a value that cannot be.
    """
    options = dict(entry) if isinstance(entry, Mapping) else {"weight": entry}
    weight = options.pop("weight", 1.0)
    if not _is_number(weight):
        raise ConfigurationError(f"rewards.{name}: the weight must be a number, got {weight!r}")
    reward = rewards.get(name)
    if taken := sorted(reward.options.keys() & set(SETTINGS)):
        raise ConfigurationError(
            f"rewards.{name}: an option of the function cannot be called {', '.join(taken)}: that is the "
            "configuration's own; rename it"
        )
    deadline = _deadline(name, options.pop("deadline", reward.deadline))
    workers = _count(name, "workers", options.pop("workers", reward.workers))
    concurrency = _count(name, "concurrency", options.pop("concurrency", reward.concurrency))
    lane = _lane(name, reward, deadline, workers, concurrency)
    conversational = options.pop("conversational", False)
    is_batch = reward.is_batch
    if not isinstance(conversational, bool) or (conversational and not is_batch):
        raise ConfigurationError(f"rewards.{name}: `conversational: true` is for batch functions (TRL's)")
    allowed = options.pop("allow_ungraded", False)
    if not isinstance(allowed, bool):
        raise ConfigurationError(f"rewards.{name}: allow_ungraded is true or false, got {allowed!r}")
    reward.check_options(options)
    return Weighted(
        reward, float(weight), options, name, deadline, workers, lane, conversational, allowed, is_batch
    )


def _lane(
    name: str, reward: Reward, deadline: float | None, workers: int | None, concurrency: int | None
) -> Lane | None:
    """Where calls wait side by side. Raises ConfigurationError for settings that exclude each other."""
    if reward.is_async:
        if workers is not None:
            raise ConfigurationError(
                f"rewards.{name}: workers are for functions that compute; this one is `async`: set "
                "concurrency"
            )
        return Lane(reward.function, concurrency or CONCURRENCY, deadline, threads=False)
    if concurrency is None:
        if name.startswith(f"{SESSION}:") and (workers or deadline):
            raise ConfigurationError(
                f"rewards.{name}: a deadline and workers need worker processes, which cannot have a function "
                "of this Python session: put it into a file and import it from there, leave both out, or "
                "write it `async`"
            )
        return None
    if workers is not None or deadline is not None:
        raise ConfigurationError(
            f"rewards.{name}: concurrency calls the function in threads, which nothing can end; for a "
            "deadline take workers instead, or write the function `async`"
        )
    return Lane(reward.function, concurrency, None, threads=True)


def _deadline(name: str, seconds: Any) -> float | None:
    if seconds is not None and not (_is_number(seconds) and seconds > 0):
        raise ConfigurationError(f"rewards.{name}: the deadline is seconds above 0, got {seconds!r}")
    return None if seconds is None else float(seconds)


def _count(name: str, setting: str, value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ConfigurationError(f"rewards.{name}: {setting} is a whole number from 1, got {value!r}")
    return value


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)
