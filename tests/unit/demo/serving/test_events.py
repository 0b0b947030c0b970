"""Events of Gradio's queue: visitors take turns, and what nobody reads is dropped."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from queue import Queue

import gradio as gr
import httpx
import pytest

from gpg_vl.demo.service.settings import DemoSettings
from gpg_vl.demo.serving import events
from gpg_vl.demo.serving.events import take_turns
from gpg_vl.demo.serving.gate import Gate
from gpg_vl.demo.serving.server import Server, address_of, listen

PATIENCE = 3.0
"""Seconds; more than posting and reading take beside other work."""
ENDLESS = 600.0


class Desk:
    """A page with one slow event, two at the same time, served for real."""

    def __init__(self, patience: float) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.left: list[tuple[str, str]] = []
        self.go = threading.Event()
        with gr.Blocks() as blocks:
            name, button = gr.Textbox(), gr.Button()
            button.click(self._work, name, name, api_name="work")
        take_turns(blocks, 2)
        settings = DemoSettings("base")
        self.gate = Gate(blocks, settings, lambda *who: self.left.append(who), patience=patience)
        self.address = ""

    def _work(self, name: str) -> Iterator[str]:
        self.begun.append(name)
        try:
            while not self.go.wait(0.05):
                yield name
            yield f"{name} done"
        finally:
            self.ended.append(name)

    def ask(self, name: str, address: str) -> str:
        url = f"{self.address}gradio_api/call/work"
        said = {"X-Forwarded-For": address}
        answer = httpx.post(url, json={"data": [name]}, headers=said, timeout=20)
        return str(answer.raise_for_status().json()["event_id"])

    def read(self, event: str) -> str:
        return httpx.get(f"{self.address}gradio_api/call/work/{event}", timeout=20).text


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(params=[PATIENCE])
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    """Built within the server's event loop: elsewhere, Gradio opens loops that it never closes."""
    desks: Queue[tuple[Desk, Server]] = Queue()

    async def serve() -> None:
        desk, listening = Desk(request.param), listen("127.0.0.1", 0)
        desk.address = address_of(listening)
        server = Server(desk.gate, listening, desk.gate.end)
        desks.put((desk, server))
        await server.serve(sockets=[listening])

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    desk, server = desks.get()
    yield desk
    desk.go.set()
    server.end()
    thread.join()


def test_one_visitors_many_wait_for_anothers_first(desk):
    for number in range(6):
        desk.ask(f"many {number}", "9.9.9.9")
    until(lambda: desk.begun)
    reader = threading.Thread(target=desk.read, args=(desk.ask("single", "8.8.8.8"),))
    reader.start()
    until(lambda: "single" in desk.begun)
    assert len(desk.begun) == 2  # of two places, one visitor has one
    desk.go.set()
    reader.join()
    until(lambda: len(desk.ended) == 7)
    assert [name for name in desk.begun if name != "single"] == [f"many {number}" for number in range(6)]


def test_what_nobody_reads_is_dropped(desk):
    running, waiting = desk.ask("running", "9.9.9.9"), desk.ask("waiting", "9.9.9.9")
    until(lambda: "running" in desk.ended)
    until(lambda: len(desk.left) == 2)
    assert set(desk.left) == {("9.9.9.9", running), ("9.9.9.9", waiting)}
    assert desk.begun == ["running"] and not desk.go.is_set()
    desk.go.set()
    for event in (running, waiting):
        assert "was dropped since nobody read it" in desk.read(event)


@pytest.mark.parametrize("desk", [ENDLESS], indirect=True)
def test_of_many_that_nobody_reads_the_oldest_go_early(desk, monkeypatch):
    """Running or waiting: else they would take all that their visitor may have open."""
    monkeypatch.setattr(events, "_MANY", 1)
    oldest, older, newest = (desk.ask(name, "9.9.9.9") for name in ("oldest", "older", "newest"))
    other = desk.ask("other", "8.8.8.8")
    until(lambda: len(desk.left) == 2)
    assert {name for _, name in desk.left} == {oldest, older}
    until(lambda: "newest" in desk.begun)
    assert "older" not in desk.begun and "other" in desk.begun  # it went before its place was free
    assert set(desk.gate._queue.event_ids_to_events) >= {newest, other}


def test_a_reader_who_leaves_ends_it_and_one_who_stays_gets_it(desk):
    leaving, staying = desk.ask("leaving", "9.9.9.9"), desk.ask("staying", "8.8.8.8")
    url = f"{desk.address}gradio_api/call/work/{leaving}"
    answers: list[str] = []
    reader = threading.Thread(target=lambda: answers.append(desk.read(staying)))
    reader.start()
    with httpx.stream("GET", url, timeout=20) as stream:
        lines = stream.iter_lines()
        next(lines)
        time.sleep(PATIENCE + 1.5)
        assert desk.ended == []
    until(lambda: desk.ended == ["leaving"])
    desk.go.set()
    reader.join()
    assert 'event: complete\ndata: ["staying done"]' in answers[0]
    assert {name for _, name in desk.left} <= {leaving}


def test_direct_calls_are_closed_by_name_and_by_number(desk):
    for name, body in (("work", {"data": ["x"]}), ("predict", {"data": ["x"], "fn_index": 0})):
        assert httpx.post(f"{desk.address}gradio_api/run/{name}", json=body).status_code == 404
    assert desk.begun == []


def test_results_of_a_session_that_asked_for_nothing_are_refused(desk):
    answer = httpx.get(f"{desk.address}gradio_api/queue/data", params={"session_hash": "nobody"}, timeout=20)
    assert answer.status_code == 404 and "'nobody': it asked for nothing" in answer.json()["detail"]


def test_results_are_forgotten(desk):
    desk.go.set()
    desk.ask("unread", "9.9.9.9")
    queue = desk.gate._queue
    until(lambda: desk.ended)
    assert len(queue.pending_event_ids_session) == 1
    until(lambda: not queue.pending_event_ids_session and not queue.pending_messages_per_session)
