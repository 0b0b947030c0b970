"""Which web sites may use the app: its own, and those that the operator names."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .refusals import Refusal, shown
from .routes import is_page

_PORTS = {"http": 80, "https": 443}
_FOREIGN = ("cross-site", "same-site")
"""What a browser says in Sec-Fetch-Site when another web site sends: a neighbouring port is same-site."""


def origin_of(url: str) -> str:
    """Scheme, host and port as origins are compared; "" for what is none. Source: RFC 6454, section 4."""
    try:
        parts = urlsplit(url.lower())
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        return ""
    return f"{parts.scheme}://{parts.hostname}:{port}" if parts.hostname else ""


class Origins:
    """Refuses what another web site sends in a visitor's name; its links open the page, and no more.

    Requests of programs say nothing about a web site, and pass. `allowed` sites get CORS headers.
    """

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        self._app = app
        self._allowed = {origin_of(one) for one in allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        site = _site(headers)
        own = not site or origin_of(site) == origin_of(f"{scope['scheme']}://{headers.get('host', '')}")
        if not own and origin_of(site) not in self._allowed and not _is_link(scope, headers):
            return await _refusal(scope, headers, site).answer(scope, receive, send)
        if not own and "origin" in headers:
            send = _shared(send, headers["origin"])
            if scope["method"] == "OPTIONS":
                return await _preflight(headers)(scope, receive, send)
        await self._app(_judged(scope), receive, send)


def _site(headers: Headers) -> str:
    """The web site that sends; "" if it is the app's own, or none."""
    foreign = headers.get("sec-fetch-site", "") in _FOREIGN
    return headers.get("origin") or (headers.get("referer", "another web site") if foreign else "")


def _is_link(scope: Scope, headers: Headers) -> bool:
    return "origin" not in headers and headers.get("sec-fetch-mode") == "navigate" and is_page(scope)


def _refusal(scope: Scope, headers: Headers, site: str) -> Refusal:
    own = f"{scope['scheme']}://{headers.get('host', '')}"
    if urlsplit(site).netloc == headers.get("host"):
        cure = "a proxy with TLS must send X-Forwarded-Proto from a --trusted_proxy"
    else:
        cure = "if that site may use the app, start it with --allow_origin"
    return Refusal(403, f"request from {shown(site)}, but the app is {own}: {cure}")


def _judged(scope: Scope) -> Scope:
    """The request as the app sees it: without the Origin, which Gradio would answer with CORS headers."""
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"origin"]}


def _shared(send: Send, origin: str) -> Send:
    async def with_cors(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Allow-Credentials"] = "true"
            headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            headers.add_vary_header("Origin")
        await send(message)

    return with_cors


def _preflight(headers: Headers) -> Response:
    asked = headers.get("access-control-request-headers", "content-type")
    return Response(
        status_code=204,
        headers={"Access-Control-Allow-Methods": "GET, POST", "Access-Control-Allow-Headers": asked},
    )
