"""Events that begin once they are read, and end when nobody reads, on the queue of a real page."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest

from gpg_vl.demo.reading import last_of, while_read

REQUEST = gr.Request(session_hash="visitor")
PATIENCE = 0.2


class Counting:
    """An event that counts for ever, and remembers whether it began and was closed."""

    def __init__(self, most: int = 10**9) -> None:
        self.most = most
        self.begun, self.closed = threading.Event(), threading.Event()

    def count(self, request: gr.Request) -> Generator[int, None, None]:
        self.begun.set()
        try:
            yield from range(self.most)
        finally:
            self.closed.set()


def told(page: gr.Blocks) -> asyncio.Queue:
    """What Gradio has told the visitor, once it told anything."""
    messages: asyncio.Queue = asyncio.Queue()
    page._queue.pending_messages_per_session["visitor"] = messages
    return messages


def run(work: Callable[[gr.Blocks], Awaitable[object]]) -> None:
    """With a page, which is built where a loop runs: elsewhere Gradio makes one that nobody closes."""

    async def in_time() -> None:
        with gr.Blocks() as page:
            pass
        await asyncio.wait_for(work(page), 30)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, in_time()).result()


def test_an_answer_that_nobody_fetches_is_never_begun():
    counting = Counting()

    async def work(page: gr.Blocks) -> None:
        told(page).put_nowait("it starts")
        with pytest.raises(gr.Error, match="nobody reads the answer"):
            await anext(while_read(page, counting.count, PATIENCE)(REQUEST))

    run(work)
    assert not counting.begun.is_set()


def test_an_answer_begins_once_it_is_fetched():
    counting = Counting()

    async def work(page: gr.Blocks) -> None:
        messages = told(page)
        messages.put_nowait("it starts")
        first = asyncio.ensure_future(anext(while_read(page, counting.count)(REQUEST)))
        await asyncio.sleep(0.1)
        assert not counting.begun.is_set()
        messages.get_nowait()
        assert await first == 0

    run(work)


def test_an_answer_ends_when_nobody_fetches_it_any_more():
    counting = Counting()

    async def work(page: gr.Blocks) -> None:
        messages = told(page)
        with pytest.raises(gr.Error, match="nobody reads the answer"):
            async for step in while_read(page, counting.count, PATIENCE)(REQUEST):
                messages.put_nowait(step)

    run(work)
    assert counting.closed.wait(30)


def test_an_answer_is_closed_when_its_event_is_cancelled():
    counting = Counting()

    async def count(page: gr.Blocks) -> None:
        async for _ in while_read(page, counting.count)(REQUEST):
            pass

    async def work(page: gr.Blocks) -> None:
        told(page)
        event = asyncio.ensure_future(count(page))
        while not counting.begun.is_set():
            await asyncio.sleep(0.01)
        event.cancel()
        with pytest.raises(asyncio.CancelledError):
            await event

    run(work)
    assert counting.closed.wait(30)


def test_programs_are_told_the_last_step():
    counting = Counting(3)

    async def work(page: gr.Blocks) -> None:
        told(page)
        assert await last_of(while_read(page, counting.count), str)(REQUEST) == "2"

    run(work)
    assert counting.closed.is_set()
