"""Worker processes: a pool that lost its workers is replaced, and no task waits for one that is gone."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Generic, TypeVar

from pebble import ProcessPool

from gpg_vl.runtime.threads import in_thread

Result = TypeVar("Result")
_LOOK = 1.0
"""Seconds between two looks at whether a task's pool is still there."""
_LATE = 5.0
"""Seconds after which a task that has not begun is asked after."""


class Running(Generic[Result]):
    """A task that was given to workers."""

    def __init__(self, pool: ProcessPool, future: "Future[Result]") -> None:
        self._pool, self._future = pool, future
        self._since = time.monotonic()
        self._probe: Future[None] | None = None

    def done(self) -> bool:
        """Whether `result` gives something, or raises, at once.

        What had not ended when its pool did, or when all workers died, is forgotten there, and nobody told.
        """
        return self._future.done() or not self._pool.active or self._lost()

    def _lost(self) -> bool:
        """Whether a worker died between taking the task and saying so, which its pool overlooks.

        Workers take tasks in order, and say so before the next is taken: one given later is through by then.
        """
        if self._future.running() or time.monotonic() - self._since < _LATE:
            return False
        try:
            self._probe = self._probe or self._pool.schedule(_nothing)
        except RuntimeError:  # closed: it takes no more, and ends what it has
            return False
        through = self._probe.done()  # looked at before the task itself
        return through and not (self._future.running() or self._future.done())

    def running(self) -> bool:
        """Whether a worker is at it."""
        return self._future.running()

    def wait(self, seconds: float) -> bool:
        """Whether it is done within so many seconds."""
        return bool(wait([self._future], seconds).done) or self.done()

    def result(self) -> Result:
        """What the function returned, once it has; raises what it raised.

        TimeoutError beyond the task's own limit, pebble.ProcessExpired where the worker died of it,
        BrokenProcessPool where the workers died without it, cannot start or were ended, or one died before
        its pool had heard of its task, CancelledError where it was cancelled. Two things nobody can see while
        another worker is busy: a function that ends its process as if all were well (exit code 0), and a
        worker that is killed in the moment in which it reads a task. Both are waited for until the limit, or
        until the others are done.
        """
        while not self.wait(_LOOK):
            pass
        if not self._future.done():
            raise BrokenProcessPool("the workers are gone")
        return self._future.result()

    def cancel(self) -> None:
        """Give it up; a worker that is at it is replaced."""
        self._future.cancel()


def _nothing() -> None:
    """In a worker: a task that comes behind another."""


class WorkerPool:
    """`count` processes, started with the first task, that end with this one.

    Spawned, not forked: who uses them has threads, and perhaps a GPU.
    """

    def __init__(self, count: int, prepare: Callable[..., None], *arguments: Any) -> None:
        """prepare: is called with the arguments in each process, before its first task."""
        self._count, self._prepare, self._arguments = count, prepare, arguments
        self._pool: ProcessPool | None = None
        self._lock = threading.Lock()

    def schedule(
        self, function: Callable[..., Result], *arguments: Any, timeout: float | None = None
    ) -> Running[Result]:
        """Call a function in the next worker that is free; timeout: seconds from its beginning there.

        Raises BrokenProcessPool if workers cannot be started, and while this process ends: it would wait for
        them.
        """
        with self._lock:
            for _ in range(2):
                if not threading.main_thread().is_alive():
                    break
                try:
                    pool = self._active()
                    return Running(pool, pool.schedule(function, args=arguments, timeout=timeout))
                except (RuntimeError, OSError):  # it broke just now, or cannot start
                    self._end()
        raise BrokenProcessPool("no worker can start")

    def end(self) -> None:
        """End the workers, whatever they are at; the next task gets new ones."""
        with self._lock:
            self._end()

    def retire(self) -> None:
        """End the workers as soon as they have done what they were given; the next task gets new ones."""
        with self._lock:
            if self._pool is not None:
                self._pool.close()
                in_thread("end of workers", self._pool.join)
            self._pool = None

    def _active(self) -> ProcessPool:
        if self._pool is None or not self._pool.active:
            self._end()
            self._pool = ProcessPool(
                self._count,
                initializer=self._prepare,
                initargs=self._arguments,
                context=get_context("spawn"),
            )
        return self._pool

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.stop()
            in_thread("end of workers", self._pool.join)  # until they are dead, which may take seconds
        self._pool = None
