"""Headers of every response: cookies for this site alone, and what browsers must not do with it."""

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OURS = ("samesite", "secure", "httponly")
_FIXED = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}


class SafeHeaders:
    """Adds security headers, and keeps cookies from other web sites, scripts and open networks.

    frames: origins of web sites that may show the page in a frame, besides its own.
    """

    def __init__(self, app: ASGIApp, frames: Sequence[str]) -> None:
        self._app = app
        self._headers = {**_FIXED, "Content-Security-Policy": " ".join(["frame-ancestors 'self'", *frames])}
        if not frames:
            self._headers["X-Frame-Options"] = "SAMEORIGIN"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
                message["headers"] = [_tidy(pair, scope["scheme"] == "https") for pair in headers.raw]
            await send(message)

        await self._app(scope, receive, safe if scope["type"] == "http" else send)


def _tidy(pair: tuple[bytes, bytes], https: bool) -> tuple[bytes, bytes]:
    return (
        (pair[0], safe_cookie(pair[1].decode("latin-1"), https).encode("latin-1"))
        if (pair[0].lower() == b"set-cookie")
        else pair
    )


def safe_cookie(cookie: str, https: bool) -> str:
    """A Set-Cookie header's value with SameSite=Lax, HttpOnly, and Secure if the request came by https.

    Gradio's has SameSite=None, with which any web site would use a visitor's login.
    """
    first, *rest = (part.strip() for part in cookie.split(";"))
    kept = [part for part in rest if part.partition("=")[0].lower() not in _OURS]
    return "; ".join([first, *kept, "HttpOnly", "SameSite=Lax", *(["Secure"] if https else [])])
