"""Replies of a server on disk, so that no question is paid for twice: SQLite, shared by processes."""

import asyncio
import os
import sqlite3
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

from gpg_vl.runtime.threads import SerialThread

Result = TypeVar("Result")
_PATIENCE = 1.0
"""Seconds that a process waits for another one that writes."""
_TABLE = "CREATE TABLE IF NOT EXISTS replies (request TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID"


def default_path() -> Path:
    """The file in the user's cache folder."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "gpg_vl" / "judge.sqlite"


class Asked:
    """A question that is being asked, and what came of it for those who had the same one meanwhile."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        """Held by who asks."""
        self.done = False
        self.reply: str | None = None
        """None where there was none in spite of the retries."""


class ReplyCache:
    """Texts by the hash of what was asked, in one file.

    A file that cannot be used is told of once, and nothing is looked up from then on: what was asked is
    asked again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = SerialThread("reply cache")
        self._connection: sqlite3.Connection | None = None
        self._usable = True
        self._asking: WeakValueDictionary[str, Asked] = WeakValueDictionary()

    def asking(self, request: str) -> Asked:
        """Shared by equal questions at one time, each of which would be paid for by itself."""
        return self._asking.setdefault(request, Asked())

    async def get(self, request: str) -> str | None:
        """The reply to a request with this hash; None if there is none."""
        rows = await self._run(
            lambda connection: connection.execute(
                "SELECT reply FROM replies WHERE request = ?", (request,)
            ).fetchall()
        )
        return rows[0][0] if rows else None

    async def put(self, request: str, reply: str) -> None:
        """Keep a reply."""
        await self._run(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO replies VALUES (?, ?)", (request, reply)
            )
        )

    async def _run(self, work: Callable[[sqlite3.Connection], Result]) -> Result | None:
        return await asyncio.wrap_future(self._thread.submit(self._tried, work))

    def _tried(self, work: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """In the thread: the result of `work`; None where the file is not to be had."""
        if not self._usable:
            return None
        try:
            return work(self._opened())
        except (sqlite3.DatabaseError, OSError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:  # else the next may go
                self._give_up(error)
            return None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None)
            try:
                # A machine that loses power may lose the file, which is told then; waiting for the disk would
                # hold up every reply.
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute(_TABLE)
            except sqlite3.DatabaseError:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _give_up(self, error: Exception) -> None:
        self._usable = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        print(
            f"warning: the judge's cache {str(self._path)!r} cannot be used: {error}. Going on without it; "
            "remove the file, or name another one with `cache`",
            file=sys.stderr,
            flush=True,
        )


@cache
def reply_cache(path: Path) -> ReplyCache:
    """The one of this process for a file."""
    return ReplyCache(path)
