"""Bodies of requests: bounded in bytes, and in the time that they take to come."""

import asyncio
import re

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .refusals import Refusal
from .routes import is_upload

BODY = 2**20
"""Bytes of a body that is no upload: questions and settings are small, images go to /upload."""
_FORM = 2**16
"""Bytes that a form puts around an uploaded file."""
_PATIENCE = 20.0
"""Seconds to wait for the next piece of a body."""
_NUMBER = re.compile(r"\d{1,15}", re.ASCII)


class BoundedBodies:
    """Refuses bodies that are too large before they are read, and those that stop coming."""

    def __init__(self, app: ASGIApp, upload_bytes: int, patience: float = _PATIENCE) -> None:
        self._app, self._upload, self._patience = app, upload_bytes + _FORM, patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            self._check(scope)
            if is_upload(scope):
                await self._pass(scope, receive, send)
            else:
                await self._app(scope, await self._whole(receive), send)
        except Refusal as refusal:
            await refusal.answer(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Raise Refusal by what the headers say; an upload must say its length, for it is not held here."""
        length, upload = Headers(scope=scope).get("content-length"), is_upload(scope)
        if length is None and upload:
            raise Refusal(411, "an upload must say its length (Content-Length)")
        most = self._upload if upload else BODY
        if length is not None and (not _NUMBER.fullmatch(length) or int(length) > most):
            what = "an upload" if upload else "a request"
            raise Refusal(413, f"{what} has at most {most} bytes here, got {length[:20]}")

    async def _whole(self, receive: Receive) -> Receive:
        """Read a body, which may come without its length, and give it to the app as one piece."""
        body, more = b"", True
        while more:
            message = await self._next(receive)
            body, more = body + message.get("body", b""), message.get("more_body", False)
            if len(body) > BODY:
                raise Refusal(413, f"a request has at most {BODY} bytes here")
        if message["type"] != "http.request":
            return _first(message, receive)
        return _first({"type": "http.request", "body": body, "more_body": False}, receive)

    async def _next(self, receive: Receive) -> Message:
        try:
            return await asyncio.wait_for(receive(), self._patience)
        except TimeoutError:
            raise Refusal(408, f"the body stopped for {self._patience:g} seconds") from None

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give an upload on piece by piece; one that stops ends, for the app, as if the client had left."""
        late: list[Refusal] = []
        complete = False

        async def timed() -> Message:
            nonlocal complete
            if complete:
                return await receive()
            try:
                message = await self._next(receive)
            except Refusal as refusal:
                late.append(refusal)
                return {"type": "http.disconnect"}
            complete = not message.get("more_body", False)
            return message

        async def unless_late(message: Message) -> None:
            if not late:
                await send(message)

        try:
            await self._app(scope, timed, unless_late)
        except ClientDisconnect:
            if not late:
                raise
        if late:
            raise late[0]


def _first(message: Message, receive: Receive) -> Receive:
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return message

    return again
