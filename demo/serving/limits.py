"""Limits per visitor: what one of them sends never costs the others their turn."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .proxies import visitor
from .refusals import Refusal
from .routes import closed, is_rendered, is_upload

OPEN = 256
"""Requests of one visitor at the same time: a page holds two, and a class may share one address."""
_BURST, _RATE = 256, 32.0
"""Requests that start work: at once, and then in a second."""
_PAGES, _PAGE_RATE = 64, 2.0
"""Pages opened at once, as by a class behind one address, and then in a second: each stops the others for
some hundredths of a second while it is written."""
_UPLOADS = 4
"""Uploads at the same time; further ones wait."""
_FILES, _HOUR = 50, 3600.0
"""Files of the largest size that a visitor can upload in an hour, after which they are deleted."""
_REMEMBERED = 10_000
"""Visitors whose counts are kept."""
Kept = TypeVar("Kept")


class Visitors(Generic[Kept]):
    """What is kept of each visitor, of those seen last: memory stays bounded whoever comes."""

    def __init__(self, new: Callable[[], Kept], most: int = _REMEMBERED) -> None:
        self._new, self._most = new, most
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def __getitem__(self, name: str) -> Kept:
        if name not in self._kept:
            self._kept[name] = self._new()
        self._kept.move_to_end(name)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return self._kept[name]

    def __len__(self) -> int:
        return len(self._kept)


class Bucket:
    """A token bucket: `size` at once, refilled at `rate` a second."""

    def __init__(self, size: float, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._rate, self._clock = size, rate, clock
        self._left, self._seen = size, clock()

    def take(self, amount: float = 1.0) -> float:
        """Take an amount and return 0, or take nothing and return the seconds until it is there."""
        now = self._clock()
        self._left = min(self._size, self._left + (now - self._seen) * self._rate)
        self._seen = now
        if amount > self._left:
            return (amount - self._left) / self._rate
        self._left -= amount
        return 0.0


class _Counts:
    def __init__(self, upload_bytes: int) -> None:
        self.open = 0
        self.work = Bucket(_BURST, _RATE)
        self.pages = Bucket(_PAGES, _PAGE_RATE)
        self.uploaded = Bucket(_FILES * upload_bytes, _FILES * upload_bytes / _HOUR)
        self.uploads = asyncio.Semaphore(_UPLOADS)


class ClientLimits:
    """Counts each visitor's requests and uploads, and refuses what is too much; closed routes stay closed.

    unfinished: events of a visitor that wait or run. most: how many there may be.
    """

    def __init__(self, app: ASGIApp, upload_bytes: int, unfinished: Callable[[str], int], most: int = OPEN):
        self._app, self._unfinished, self._most = app, unfinished, most
        self._largest = upload_bytes
        self._visitors = Visitors(lambda: _Counts(upload_bytes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        counts = self._visitors[visitor(scope)]
        try:
            self._check(scope, counts)
        except Refusal as refusal:
            return await refusal.answer(scope, receive, send)
        counts.open += 1
        try:
            if is_upload(scope):
                async with counts.uploads:
                    await self._app(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        finally:
            counts.open -= 1

    def _check(self, scope: Scope, counts: _Counts) -> None:
        if reason := closed(scope):
            raise Refusal(404, reason)
        if counts.open >= self._most:
            raise Refusal(429, f"{counts.open} requests of yours are open; close some", 1)
        if is_rendered(scope) and (wait := counts.pages.take()):
            raise Refusal(429, "you have opened very many pages; go slower", wait)
        if scope["method"] != "POST":
            return
        if (waiting := self._unfinished(visitor(scope))) >= self._most:
            raise Refusal(429, f"{waiting} requests of yours wait or run; let some end", 1)
        if wait := counts.work.take():
            raise Refusal(429, f"more than {_RATE:g} requests a second; go slower", wait)
        if is_upload(scope) and (wait := counts.uploaded.take(min(self._largest, _length(scope)))):
            raise Refusal(429, "you have uploaded very much within an hour; come back later", wait)


def _length(scope: Scope) -> int:
    """Bytes of a body as its sender says; what is no number, `BoundedBodies` refuses."""
    said = Headers(scope=scope).get("content-length", "")
    return int(said[:15]) if said.isascii() and said.isdecimal() else 0
