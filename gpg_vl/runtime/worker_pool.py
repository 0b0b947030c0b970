"""Worker processes: a pool that lost its workers is replaced, and no task waits for one for ever."""

import threading
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


class Running(Generic[Result]):
    """A task that was given to workers."""

    def __init__(self, pool: ProcessPool, future: "Future[Result]") -> None:
        self._pool, self._future = pool, future

    def done(self) -> bool:
        """Whether `result` gives something, or raises, at once.

        The pool forgets what it had not begun when it ended or its workers died, and tells nobody.
        """
        return self._future.done() or not self._pool.active

    def running(self) -> bool:
        """Whether a worker is at it."""
        return self._future.running()

    def wait(self, seconds: float) -> bool:
        """Whether it is done within so many seconds."""
        return bool(wait([self._future], seconds).done) or self.done()

    def result(self) -> Result:
        """What the function returned, once it has; raises what it raised.

        TimeoutError beyond the task's own limit, pebble.ProcessExpired where the worker died of it,
        BrokenProcessPool where the workers died without it, or cannot start.
        """
        while not self.wait(_LOOK):
            pass
        if not self._future.done():
            raise BrokenProcessPool("the workers are gone")
        return self._future.result()

    def cancel(self) -> None:
        """Give it up; a worker that is at it is replaced."""
        self._future.cancel()


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

        Raises BrokenProcessPool if workers cannot start.
        """
        with self._lock:
            for _ in range(2):
                pool = self._active()
                try:
                    return Running(pool, pool.schedule(function, args=arguments, timeout=timeout))
                except RuntimeError:  # it broke just now
                    continue
        raise BrokenProcessPool("no worker can start")

    def end(self) -> None:
        """End the workers, whatever they are at; the next task gets new ones."""
        with self._lock:
            self._end()

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
