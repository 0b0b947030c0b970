"""Gradio's queue of events: visitors take turns in it, and what nobody reads is dropped."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import gradio as gr
from gradio.queueing import Event, EventQueue, Queue
from starlette.types import ASGIApp, Receive, Scope, Send

from ..reading import PATIENCE
from .proxies import visitor
from .refusals import Refusal, shown
from .routes import read_by

_LOOK = 1.0
"""Seconds between two looks at what is unread."""
_MANY, _SOON = 64, 2.0
"""Unread events of a visitor, of which the newest have all the patience there is, and the others so many
seconds: a visitor has a limit, and those who share its address need room in it."""


def owner(event: Event) -> str:
    """The visitor whose event it is."""
    return visitor(event.request.scope)


class FairQueue(Queue):
    """The next event is one of the visitor who has the fewest running.

    Nobody has more than half of the places, of each kind of events and of all. Gradio's own queue takes
    events in the order they came: one visitor's hundred go before another's first.
    """

    def get_events(self) -> tuple[list[Event], bool, str] | None:
        """The event to run next, as Gradio's does (a list of one: no event here is batched)."""
        running = [event for job in self.active_jobs if job for event in job]
        places = Counter(owner(event) for event in running)
        waiting = [
            (places[name], event.enqueue_time, event, queue)
            for queue in self.event_queue_per_concurrency_id.values()
            for name, event in _startable(queue, running)
            if places[name] < _share(self.max_thread_count)
        ]
        if not waiting:
            return None
        *_, event, queue = min(waiting, key=_fewest_then_first)
        queue.queue.remove(event)
        return [event], False, queue.concurrency_id

    def unfinished(self, name: str) -> int:
        """Events of a visitor that wait or run."""
        return sum(owner(event) == name for event in self.event_ids_to_events.values())


def _startable(queue: EventQueue, running: Sequence[Event]) -> Iterator[tuple[str, Event]]:
    """What may start of one kind of events, with the visitor whose it is."""
    limit = queue.concurrency_limit
    if not queue.queue or (limit is not None and queue.current_concurrency >= limit):
        return
    here = Counter(owner(event) for event in running if event.concurrency_id == queue.concurrency_id)
    for event in queue.queue:
        if limit is None or here[owner(event)] < _share(limit):
            yield owner(event), event


def _share(places: int) -> int:
    """Most of them that one visitor has."""
    return max(1, places // 2)


def _fewest_then_first(entry: tuple[int, float, Event, EventQueue]) -> tuple[int, float]:
    return entry[:2]


class Unread:
    """Knows which sessions somebody reads, and drops the events of those that nobody does.

    A client that asks and goes away would leave its event running to the end.

    left: called with the visitor and the session whose events were dropped.
    """

    def __init__(self, queue: Queue, left: Callable[[str, str], None], patience: float = PATIENCE) -> None:
        self._queue, self._left, self._patience = queue, left, patience
        self._open: Counter[str] = Counter()
        self._since: dict[str, float] = {}  # when a session began to have no reader

    @contextmanager
    def reader(self, session: str, event_id: str) -> Iterator[None]:
        """While it lasts, somebody reads the results of a session, or of the one that an event is in.

        Raises Refusal for a session or an event that there is not: Gradio would break off its answer.
        """
        name = self._asking(session) if session else self._session_of(event_id)
        self._open[name] += 1
        self._since.pop(name, None)
        try:
            yield
        finally:
            self._open[name] -= 1
            self._since[name] = time.monotonic()

    def _asking(self, session: str) -> str:
        """The session, which has asked for something."""
        if session not in self._queue.pending_messages_per_session:
            raise self._none("session", session, "asked for nothing")
        return session

    def _session_of(self, event_id: str) -> str:
        """The session of an event that waits or runs, or is over and has not been read."""
        if event := self._queue.event_ids_to_events.get(event_id):
            return str(event.session_hash)
        for session, events in self._queue.pending_event_ids_session.items():
            if event_id in events:
                return session
        raise self._none("event", event_id, "is over")

    def _none(self, what: str, name: str, why: str) -> Refusal:
        dropped = f"was dropped since nobody read it for {self._patience:g} seconds"
        return Refusal(404, f"no {what} {shown(name)}: it {why}, or {dropped}")

    async def watch(self) -> None:
        """Drop what is unread, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK)
            await self.drop()

    async def drop(self) -> None:
        """Drop events, and forget results, of sessions that nobody has read for too long."""
        queue, now = self._queue, time.monotonic()
        self._open = +self._open
        events = {event.session_hash: event for event in queue.event_ids_to_events.values() if event.alive}
        known = (set(queue.pending_event_ids_session) | set(events)) - set(self._open)
        self._since = {
            session: self._since.get(session, _asked(events.get(session), now)) for session in known
        }
        for session in self._due(now, events):
            await _drop(queue, session)
            if event := events.get(session):
                self._left(owner(event), session)

    def _due(self, now: float, events: Mapping[str, Event]) -> list[str]:
        """Sessions that have been unread for too long; first those that wait, which else would begin in the
        places of the others. events: the newest of each: a session may have been idle long before it."""
        begun = {event.session_hash for job in self._queue.active_jobs if job for event in job}
        unread: Counter[str] = Counter()
        due = []
        for age, session in sorted((self._age(session, now, events), session) for session in self._since):
            patience = self._patience
            if event := events.get(session):
                unread[owner(event)] += 1
                if unread[owner(event)] > _MANY:
                    patience = min(patience, _SOON)
                if session not in begun:
                    patience -= _LOOK  # it goes with what was asked just before it, and runs
            if age >= patience:
                due.append(session)
        return sorted(due, key=lambda session: session in begun)

    def _age(self, session: str, now: float, events: Mapping[str, Event]) -> float:
        """Seconds that a session has been unread."""
        since = self._since[session]
        return now - max(since, _asked(events.get(session), since))


def _asked(event: Event | None, now: float) -> float:
    """When an event was asked for; for none, now."""
    return event.enqueue_time if event else now


async def _drop(queue: Queue, session: str) -> None:
    await queue.clean_events(session_hash=session)
    queue.pending_event_ids_session.pop(session, None)
    queue.pending_messages_per_session.pop(session, None)


class Reading:
    """Tells `Unread` of every stream of results while it is open."""

    def __init__(self, app: ASGIApp, unread: Unread) -> None:
        self._app, self._unread = app, unread

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session, event_id = read_by(scope) if scope["type"] == "http" else ("", "")
        if not (session or event_id):
            return await self._app(scope, receive, send)
        try:
            with self._unread.reader(session, event_id):
                await self._app(scope, receive, send)
        except Refusal as refusal:
            await refusal.answer(scope, receive, send)


def take_turns(blocks: gr.Blocks, default_limit: int) -> None:
    """Give a page a `FairQueue` of unlimited length, which nobody can go around.

    default_limit: events of one kind at the same time.
    """
    blocks.queue(api_open=False, max_size=None, default_concurrency_limit=default_limit)
    blocks._queue = FairQueue(
        live_updates=True,
        concurrency_count=blocks.max_threads,
        update_intervals=1,
        max_size=None,
        blocks=blocks,
        default_concurrency_limit=default_limit,
    )
