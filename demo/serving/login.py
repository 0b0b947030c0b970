"""The login: before everything else, compared in constant time, slower with every wrong one, then closed."""

import asyncio
import hmac
import math
import time
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .limits import Visitors
from .proxies import visitor
from .refusals import Refusal
from .routes import API, is_login, is_of_login_page

TRIES = 5
"""Wrong logins of one visitor before more are refused."""
FORGOTTEN = 900.0
"""Seconds after the last wrong one until they are forgotten."""
_DELAY, _LONGEST = 0.25, 4.0
"""Seconds before the answer to the first wrong one, doubled with each, and at most."""


def checker(user: str, password: str) -> Callable[[str, str], Awaitable[bool]]:
    """Whether what was typed is right, in a time that says nothing of how much of it is."""

    async def right(typed_user: str, typed_password: str) -> bool:
        users, passwords = (typed_user, user), (typed_password, password)
        same = [hmac.compare_digest(*(text.encode() for text in pair)) for pair in (users, passwords)]
        return all(same)

    return right


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


class _Wrong:
    def __init__(self) -> None:
        self.times: int = 0
        self.last: float = -math.inf
        self.turn = asyncio.Lock()


class LoginGuard:
    """Has a visitor log in before anything but the login page is served, if the app has a password.

    Counts wrong logins per visitor; nobody is kept out by what others type.
    """

    def __init__(
        self,
        app: ASGIApp,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._app, self._clock, self._sleep = app, clock, sleep
        self._wrong = Visitors(_Wrong)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if not is_login(scope):
            return await self._for_those_inside(scope, receive, send)
        wrong = self._wrong[visitor(scope)]
        async with wrong.turn:  # one after the other: many at once would all be checked before one counts
            if wait := self._closed(wrong):
                line = f"{TRIES} wrong logins; try again in {math.ceil(wait / 60)} minutes"
                await Refusal(429, line, wait).answer(scope, receive, send)
            else:
                await self._app(scope, receive, self._counted(wrong, send))

    async def _for_those_inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Gradio guards most of its routes, but also serves descriptions, and cancels, for anybody."""
        if refusal := [] if is_of_login_page(scope) else await self._refusal(scope):
            for message in refusal:
                await send(message)
        else:
            await self._app(scope, receive, send)

    async def _refusal(self, scope: Scope) -> list[Message]:
        """The app's own answer to a visitor who is not logged in; empty for one who may pass."""
        path = f"{scope.get('root_path', '')}{API}login_check"
        asked = {**scope, "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        await self._app(asked, _no_body, keep)
        return answer if answer[0]["status"] >= 400 else []

    def _closed(self, wrong: _Wrong) -> float:
        """Seconds until a visitor may try again."""
        left = FORGOTTEN - (self._clock() - wrong.last)
        if left <= 0:
            wrong.times = 0
        return left if wrong.times >= TRIES else 0.0

    def _counted(self, wrong: _Wrong, send: Send) -> Send:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                right = message["status"] < 400
                wrong.times, wrong.last = 0 if right else wrong.times + 1, self._clock()
                if not right:
                    await self._sleep(min(_LONGEST, _DELAY * 2 ** (wrong.times - 1)))
            await send(message)

        return counted
