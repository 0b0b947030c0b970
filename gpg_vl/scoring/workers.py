"""Rewards in worker processes: a hung answer costs its deadline, a dead worker its answer, never the run."""

import math
import os
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from typing import Any

from pebble import ProcessExpired, ProcessPool

from gpg_vl.errors import ConfigurationError, UserError
from gpg_vl.registry import rewards
from gpg_vl.runtime.guard import GUARD, leave_if_imported_by_a_worker
from gpg_vl.runtime.shutdown import ignore_stop_signals
from gpg_vl.types import Completion, Sample

_MOST = 16
"""Workers at most: each holds the reward's imports, about 100 MB for symbolic mathematics."""


_SPARE = 10
"""Seconds beyond its deadline after which a worker ends itself."""
_BROKEN = (BrokenProcessPool, RuntimeError)
"""What a pool raises once it has lost its workers."""
_CANNOT_START = f"no worker process for rewards can start: they import the program's main file, so {GUARD}"


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

    Raises ConfigurationError if no worker can start.
    """
    if not tasks:
        return []
    leave_if_imported_by_a_worker()
    references = {task.reference for task in tasks}
    try:
        return _schedule(_pool.for_rewards(references), tasks)
    except _BROKEN:  # a worker died while it had nothing to do
        _pool.discard()
    try:
        return _schedule(_pool.for_rewards(references), tasks)
    except _BROKEN as error:
        raise ConfigurationError(_CANNOT_START) from error


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


def cancel(running: Sequence[Running]) -> None:
    """Give up tasks whose outcome nobody waits for."""
    for future in running:
        future.cancel()


def _schedule(pool: ProcessPool, tasks: Sequence[Task]) -> list[Running]:
    return [pool.schedule(_score, args=(task,), timeout=task.deadline) for task in tasks]


def _wait(future: Running, *, last: bool = False) -> Outcome | None:
    """The outcome; None if the task is to run again."""
    try:
        return future.result()
    except TimeoutError:
        return Outcome(timed_out=True) if last else None
    except ProcessExpired:
        return Outcome() if last else None
    except BrokenProcessPool as error:
        _pool.discard()
        if last:
            raise ConfigurationError(_CANNOT_START) from error
        return None


class _Pool:
    """The process's one pool of workers, started when first used; its workers end with it.

    Spawned, not forked: the trainer has threads and perhaps a GPU.
    """

    def __init__(self) -> None:
        self._pool: ProcessPool | None = None
        self._references: set[str] = set()

    def for_rewards(self, references: set[str]) -> ProcessPool:
        """A pool whose workers have loaded these rewards: imports are no part of an answer's deadline."""
        if self._pool is None or not references <= self._references:
            self.discard()
            self._references |= references
            self._pool = ProcessPool(
                max_workers=_worker_count(),
                initializer=_prepare,
                initargs=(sorted(self._references),),
                context=get_context("spawn"),
            )
        return self._pool

    def discard(self) -> None:
        """Start with new workers next time."""
        if self._pool is not None:
            self._pool.stop()
        self._pool = None


_pool = _Pool()


def _worker_count() -> int:
    """This process's share of the CPUs it may use."""
    share = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(max(1, share), _MOST)


def _prepare(references: Sequence[str]) -> None:
    """In the worker, once: keep out of signals that are meant for the trainer, and load the rewards."""
    ignore_stop_signals()
    for reference in references:
        _function(reference)


@cache
def _function(reference: str) -> Callable[..., Any]:
    """The reward's function; looking a name up reads all installed packages."""
    return rewards.get(reference).function


def _score(task: Task) -> Outcome:
    """In the worker: call the reward."""
    # Should the trainer be killed meanwhile, nobody else would end a hung answer.
    signal.alarm(math.ceil(task.deadline) + _SPARE)
    try:
        score = _function(task.reference)(task.completion, task.sample, **task.options)
        return Outcome(None if score is None else float(score))
    except UserError as mistake:
        return Outcome(mistake=str(mistake))
    except (Exception, SystemExit):
        # Carried to the trainer as text, where it raises: exceptions themselves do not always survive pickle.
        return Outcome(error=traceback.format_exc())
    finally:
        signal.alarm(0)
