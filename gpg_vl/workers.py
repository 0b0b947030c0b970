"""Rewards in worker processes: a hung answer costs its deadline, a dead worker its answer, never the run."""

import os
import signal
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from typing import Any

from pebble import ProcessExpired, ProcessPool

from gpg_vl.errors import RewardError, UserError
from gpg_vl.registry import rewards
from gpg_vl.types import Completion, Sample

_MOST = 16
"""Workers at most: each holds the reward's imports, about 100 MB for symbolic mathematics."""


_CANNOT_START = (
    "no worker process for rewards can start (its error stands above). They import the program's main file: "
    'a script of your own needs `if __name__ == "__main__":` around what it runs'
)


@dataclass(frozen=True)
class Task:
    """One answer to score with one reward."""

    reference: str
    """Name of the reward, as the registry resolves it."""
    options: Mapping[str, Any]
    sample: Sample
    """Without images: they would be copied for every answer."""
    completion: Completion
    deadline: float
    """Seconds."""


@dataclass(frozen=True)
class Outcome:
    """What became of a task: a score, or the reason why there is none."""

    score: float | None = None
    timed_out: bool = False
    error: str | None = None
    """Traceback of an exception in the reward function."""
    mistake: str | None = None
    """What the function says is wrong with its options or its data."""


Running = Future[Outcome]


def start(tasks: Sequence[Task]) -> list[Running]:
    """Hand tasks to the workers, which begin at once; `finish` collects.

    Raises RewardError if no worker can start.
    """
    try:
        return [_pool().schedule(_score, args=(task,), timeout=task.deadline) for task in tasks]
    except (BrokenProcessPool, RuntimeError) as error:
        raise RewardError(_CANNOT_START) from error


def finish(tasks: Sequence[Task], running: Sequence[Running]) -> list[Outcome]:
    """The outcomes in order.

    A task that exceeded its deadline, or whose worker died, runs once more: a machine that stood still for
    a moment, or a kill that was meant for another, costs no score. Exceeding it twice is `timed_out`; dying
    twice a score of None.
    """
    outcomes = [_wait(future) for future in running]
    lost = [index for index, outcome in enumerate(outcomes) if outcome is None]
    again = start([tasks[index] for index in lost])
    for index, future in zip(lost, again, strict=True):
        outcomes[index] = _wait(future, last=True)
    return [outcome for outcome in outcomes if outcome is not None]


def _wait(future: Running, *, last: bool = False) -> Outcome | None:
    """The outcome; None if the task is to run again."""
    try:
        return future.result()
    except TimeoutError:
        return Outcome(timed_out=True) if last else None
    except ProcessExpired:
        return Outcome() if last else None
    except BrokenProcessPool as error:
        raise RewardError(_CANNOT_START) from error


def _score(task: Task) -> Outcome:
    """In the worker: load the reward by its name and call it."""
    try:
        function = rewards.get(task.reference).function
        score = function(task.completion, task.sample, **task.options)
        return Outcome(None if score is None else float(score))
    except UserError as mistake:
        return Outcome(mistake=str(mistake))
    except Exception:
        # Carried to the trainer as text, where it raises: exceptions themselves do not always survive pickle.
        return Outcome(error=traceback.format_exc())


@cache
def _pool() -> ProcessPool:
    """One pool for the whole process, started when first used.

    Spawned, not forked: the trainer has threads and perhaps a GPU. Its workers end with it.
    """
    share = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return ProcessPool(
        max_workers=min(max(1, share), _MOST), initializer=_ignore_interrupts, context=get_context("spawn")
    )


def _ignore_interrupts() -> None:
    """Ctrl-C reaches the whole process group; the trainer alone decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
