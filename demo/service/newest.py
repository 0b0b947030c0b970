"""Work of which a visitor wants the newest only: what was begun before gives up at its next look."""

import threading
from collections.abc import Iterator
from typing import TypeVar

Said = TypeVar("Said")


class Newest:
    """The newest work of each session; threads may ask at the same time."""

    def __init__(self) -> None:
        self._newest: dict[str | None, object] = {}
        self._lock = threading.Lock()

    def while_newest(self, session: str | None, work: Iterator[Said]) -> Iterator[Said]:
        """What `work` says, until the session begins another or ends it."""
        turn = object()
        with self._lock:
            self._newest[session] = turn
        try:
            for said in work:
                if self._newest.get(session) is not turn:
                    return
                yield said
        finally:
            with self._lock:
                if self._newest.get(session) is turn:
                    del self._newest[session]

    def goes_on(self, session: str | None) -> bool:
        """Whether the session has work that is not done."""
        return session in self._newest

    def end(self, session: str | None) -> None:
        """Whatever runs there is wanted no more."""
        with self._lock:
            self._newest.pop(session, None)
