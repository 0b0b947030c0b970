"""Rewards that wait for others, such as judges behind HTTP: many calls in flight in the trainer's process.

`async` functions run on one event loop in a thread, any other function in threads that the loop counts.
Neither keeps the trainer from ending.
"""

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from gpg_vl.runtime.threads import in_thread
from gpg_vl.scoring.calls import Call, Outcome, Score, named, score, score_async

Result = TypeVar("Result")
_LAST_WORDS = 1.0
"""Seconds that cancelled calls have at the process's end to close their connections."""


class Lane:
    """Calls of one reward function, so many at a time."""

    def __init__(
        self, function: Callable[..., Any], concurrency: int, deadline: float | None, *, threads: bool
    ) -> None:
        """`deadline`: seconds for a call, without its wait for a place; only for `async` functions, for a
        thread cannot be ended. `threads`: the function is none."""
        self._function, self._deadline, self._threads = function, deadline, threads
        self._places = asyncio.Semaphore(concurrency)

    def start(self, call: Call) -> "Future[Outcome]":
        """Begin a call as soon as there is a place for it; cancelling the future gives it up."""
        return _loop.submit(self._bounded(call))

    async def _bounded(self, call: Call) -> Outcome:
        """A call that exceeds its deadline runs once more, as it would in a worker process."""
        async with self._places:
            for _ in range(2):
                with named(self._function, call):
                    scores = await _within(self._deadline, self._begun(call))
                if scores is not None:
                    return Outcome(scores)
        return Outcome(timed_out=True)

    def _begun(self, call: Call) -> "asyncio.Future[tuple[Score, ...]]":
        if self._threads:
            return asyncio.wrap_future(in_thread("reward", score, self._function, call))
        return asyncio.ensure_future(score_async(self._function, call))


async def _within(deadline: float | None, running: "asyncio.Future[Result]") -> Result | None:
    """The result, or None after `deadline` seconds, also of what does not let itself be cancelled."""
    running.add_done_callback(_looked_at)
    try:
        done, _ = await asyncio.wait({running}, timeout=deadline)
        if done and running.cancelled():  # by itself: nobody here has cancelled it yet
            raise RuntimeError("the call cancelled itself")
        return running.result() if done else None
    finally:
        running.cancel()


def _looked_at(future: "asyncio.Future[Any]") -> None:
    """What a cancelled call raises at last is nobody's business; asyncio would print it."""
    if not future.cancelled():
        future.exception()


class _Loop:
    """The process's one event loop for rewards, in a thread from its first use on."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def submit(self, work: Coroutine[Any, Any, Result]) -> "Future[Result]":
        """Run a coroutine there."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="async rewards", daemon=True).start()
                atexit.register(self._end)
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _end(self) -> None:
        """Cancel what still runs, and let it close what it has opened, unless it hangs even then."""
        assert self._loop is not None
        ended = threading.Event()
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).add_done_callback(lambda _: ended.set())
        ended.wait(_LAST_WORDS)


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_LAST_WORDS)


_loop = _Loop()
