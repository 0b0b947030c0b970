"""Rewards in worker processes: a hung answer costs its deadline, a dead worker its answer, never the run."""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pebble import ProcessExpired

from gpg_vl.errors import ConfigurationError, RewardError
from gpg_vl.registry import rewards
from gpg_vl.runtime.guard import GUARD, leave_if_imported_by_a_worker
from gpg_vl.runtime.shutdown import ignore_stop_signals
from gpg_vl.runtime.threads import in_thread
from gpg_vl.runtime.worker_pool import Running, WorkerPool
from gpg_vl.scoring.calls import Call, Outcome, score
from gpg_vl.scoring.counters import count, summed, taken
from gpg_vl.scoring.pixels import SharedImages, read_once

_MOST = 16
"""Workers at most: each holds the reward's imports, about 100 MB for symbolic mathematics."""
_SPARE = 10
"""Seconds beyond its deadline after which a worker ends itself."""
_LOOK = 5
"""Seconds between a worker's looks at whether the trainer is still there."""
_CANNOT_START = f"no worker process for rewards can start: they import the program's main file, so {GUARD}"


@dataclass(frozen=True)
class Task:
    """One call of a reward, for a worker."""

    call: Call
    """Its sample without pixels: they would be copied for every answer."""
    deadline: float | None
    """Seconds; None waits for ever."""
    workers: int | None = None
    """Processes that the reward has for itself; None is its share of the common ones."""
    images: SharedImages | None = None
    """The sample's images; None for a reward that does not look at them."""

    def whole(self) -> Call:
        """The call with the images, if there are some."""
        if self.images is None:
            return self.call
        return replace(self.call, sample=replace(self.call.sample, images=read_once(self.images)))


_is_worker = threading.Event()
"""Set in the workers."""
_starting = threading.Lock()
"""Held while tasks are given out: a pool that is replaced meanwhile would start again, and never end."""


def start(tasks: Sequence[Task]) -> list[Running[Outcome]]:
    """Hand tasks to the workers, which begin at once; `finish` collects.

    Raises ConfigurationError if no worker can start.
    """
    if not tasks:
        return []
    leave_if_imported_by_a_worker()
    shared = {task.call.name for task in tasks if task.workers is None}
    with _starting:
        pools = {
            (name, count): _pools.own(name, count) if count else _pools.shared(shared)
            for name, count in {(task.call.name, task.workers) for task in tasks}
        }
        try:
            return [
                pools[task.call.name, task.workers].schedule(_score, task, timeout=task.deadline)
                for task in tasks
            ]
        except BrokenProcessPool as error:
            raise ConfigurationError(_CANNOT_START) from error


def finish(tasks: Sequence[Task], running: Sequence[Running[Outcome]]) -> list[Outcome]:
    """The outcomes in order.

    A task that exceeded its deadline, or whose worker died, runs once more: a machine that stood still for
    a moment, or a kill that was meant for another, costs no score. Exceeding it twice is `timed_out`; dying
    twice a score of None. Raises ConfigurationError if no worker can start.
    """
    outcomes = [_wait(task, one) for task, one in zip(tasks, running, strict=True)]
    lost = [index for index, outcome in enumerate(outcomes) if outcome is None]
    again = start([tasks[index] for index in lost])
    for index, one in zip(lost, again, strict=True):
        outcomes[index] = _wait(tasks[index], one, last=True)
    found = [
        _alone(task) if outcome is None else outcome for task, outcome in zip(tasks, outcomes, strict=True)
    ]
    for name, n in summed(outcome.counts for outcome in found).items():
        count(name, n)
    return found


def cancel(running: Sequence[Running[Outcome] | Future[Outcome]]) -> None:
    """Give up tasks whose outcome nobody waits for."""
    for one in running:
        one.cancel()


def remove_images(tasks: Sequence[Task]) -> None:
    """Delete the images of tasks whose outcomes are there, or not waited for."""
    for shared in {task.images for task in tasks if task.images is not None}:
        shared.remove()


def _wait(task: Task, running: Running[Outcome], *, last: bool = False) -> Outcome | None:
    """The outcome; None if the task is to run again, also if `last` where its pool broke."""
    try:
        return running.result()
    except TimeoutError:
        return Outcome(timed_out=True) if last else None
    except ProcessExpired:
        return _died(task) if last else None
    except BrokenProcessPool:
        return None


def _died(task: Task) -> Outcome:
    return Outcome((None,) * len(task.call.completions))


def _alone(task: Task) -> Outcome:
    """The outcome of a task whose pools broke, in a worker that no other task can break.

    A worker that dies at once breaks its pool: with nothing at work that it was told of, the pool takes it
    for one that cannot start. Raises ConfigurationError if none can.
    """
    pool = new_pool({task.call.name}, 1)
    try:
        outcome = _wait(task, pool.schedule(_score, task, timeout=task.deadline), last=True)
        if outcome is None:
            pool.schedule(inside).result()  # a worker does start, so it was the task
        return outcome or _died(task)
    except BrokenProcessPool as error:
        raise ConfigurationError(_CANNOT_START) from error
    finally:
        pool.end()


def new_pool(references: Iterable[str], count: int, *functions: Callable[..., Any]) -> WorkerPool:
    """`count` workers that have loaded these rewards and the modules of `functions`, to be given to them.

    Rewards that are called in one of them run there, whatever deadline they have: whoever started the worker
    ends it.
    """
    return WorkerPool(count, _prepare, sorted(references), os.getpid(), *functions)


def inside() -> bool:
    """Whether this process is such a worker."""
    return _is_worker.is_set()


class _Pools:
    """The process's workers: some for all rewards with a deadline, and those that a reward has for itself."""

    def __init__(self) -> None:
        self._shared: WorkerPool | None = None
        self._references: set[str] = set()
        self._count = 0
        self._own: dict[tuple[str, int], WorkerPool] = {}

    def shared(self, references: set[str]) -> WorkerPool:
        """As many as CPUs: more would not compute faster. They have loaded all rewards that were asked for so
        far: imports are no part of an answer's deadline."""
        count = _worker_count()
        if self._shared is None or count != self._count or not references <= self._references:
            if self._shared is not None:
                self._shared.retire()  # it may be at somebody else's answers
            self._references |= references
            self._count = count
            self._shared = new_pool(self._references, count)
        return self._shared

    def own(self, reference: str, count: int) -> WorkerPool:
        """As many as the configuration says, for a reward that rather waits than computes."""
        if (reference, count) not in self._own:
            self._own[reference, count] = new_pool({reference}, count)
        return self._own[reference, count]


_pools = _Pools()


def _worker_count() -> int:
    """This process's share of the CPUs it may use."""
    share = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(max(1, share), _MOST)


def _prepare(references: Sequence[str], trainer: int, *_: Callable[..., Any]) -> None:
    """In the worker, once: keep out of signals that are meant for the trainer, and load the rewards."""
    _is_worker.set()
    ignore_stop_signals()
    in_thread("trainer's end", _end_with, trainer)
    for reference in references:
        _function(reference)


def _end_with(trainer: int) -> None:
    """Should the trainer be killed, a call without a deadline would go on for ever."""
    while os.getppid() == trainer:
        time.sleep(_LOOK)
    os._exit(1)


@cache
def _function(reference: str) -> Callable[..., Any]:
    """The reward's function; looking a name up reads all installed packages."""
    return rewards.get(reference).function


def _score(task: Task) -> Outcome:
    """In the worker: call the reward."""
    if task.deadline is not None:
        # Should the trainer be killed meanwhile: also ends what lets no thread of this process run.
        signal.alarm(math.ceil(task.deadline) + _SPARE)
    try:
        scores = score(_function(task.call.name), task.whole())
        return Outcome(scores, counts=taken())
    except (RewardError, ConfigurationError) as error:
        return Outcome(error=error)
    finally:
        signal.alarm(0)
