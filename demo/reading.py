"""Answers only while somebody reads them: Gradio asks for the next step of an event either way."""

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from functools import wraps
from typing import Any, Generic, TypeVar

import gradio as gr
from anyio import CapacityLimiter, to_thread

Shown = TypeVar("Shown")
Answer = Callable[..., Generator[Shown, None, None]]

PATIENCE = 10.0
"""Seconds without anybody reading after which an event ends: a slow line recovers within them."""
_LOOK, _SLOWEST, _SLOWER = 0.02, 0.25, 1.2
"""Seconds between two looks at whether somebody has begun to read, at first and at most; from one to the next
they grow so many times: hundreds of events may wait for a reader who never comes."""
_threads = CapacityLimiter(math.inf)
"""Apart from Gradio's, which the page's other events need; `Generations` bounds the open questions."""


def while_read(
    page: gr.Blocks, answer: Answer[Shown], patience: float = PATIENCE
) -> Callable[..., AsyncIterator[Shown]]:
    """An event of `page` that begins when the client reads, and is closed when it no longer does.

    answer: the event, a generator whose first argument is Gradio's request. patience: seconds.
    """

    @wraps(answer)
    async def event(request: gr.Request, *values: Any) -> AsyncIterator[Shown]:
        reader = Reader(page, str(request.session_hash), patience)
        await reader.begin()
        steps = _Steps(answer(request, *values))
        try:
            while step := await steps.next():
                reader.check()
                yield step[0]
        finally:
            steps.close()

    return event


def last_of(
    events: Callable[..., AsyncIterator[Shown]], plain: Callable[[Shown], Any]
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The same event, which tells only its last step, made `plain`."""

    @wraps(events)
    async def event(*values: Any) -> Any:
        async for step in events(*values):
            last = step
        return plain(last)

    return event


class Reader:
    """Whoever reads what the events of a session tell."""

    def __init__(self, page: gr.Blocks, session: str, patience: float) -> None:
        self._page, self._session, self._patience = page, session, patience
        self._seen = time.monotonic()

    async def begin(self) -> None:
        """Wait until somebody reads. Raises gradio.Error if nobody does in time, or the event was dropped."""
        look = _LOOK
        while not self._reads():
            if self._session not in self._page._queue.pending_messages_per_session:
                raise _nobody()
            self.check()
            await asyncio.sleep(look)
            look = min(look * _SLOWER, _SLOWEST)

    def check(self) -> None:
        """Raise gradio.Error, which ends the event, if nobody has read for the time of patience."""
        if self._reads():
            self._seen = time.monotonic()
        if time.monotonic() - self._seen > self._patience:
            raise _nobody()

    def _reads(self) -> bool:
        """Whether everything told so far was fetched; an event that begins tells so."""
        told = self._page._queue.pending_messages_per_session.get(self._session)
        return told is not None and told.empty()


def _nobody() -> gr.Error:
    return gr.Error("nobody reads the answer", print_exception=False)


class _Steps(Generic[Shown]):
    """A generator whose steps run on threads, and that may be closed while one does."""

    def __init__(self, steps: Generator[Shown, None, None]) -> None:
        self._steps = steps
        self._using = threading.Lock()

    async def next(self) -> tuple[Shown] | None:
        """The next step; None at the end."""
        return await to_thread.run_sync(self._next, limiter=_threads)

    def close(self) -> None:
        """Without waiting: a step that runs ends first."""
        threading.Thread(target=self._close, name="closing").start()

    def _next(self) -> tuple[Shown] | None:
        with self._using:
            for step in self._steps:
                return (step,)
        return None

    def _close(self) -> None:
        with self._using:
            self._steps.close()
