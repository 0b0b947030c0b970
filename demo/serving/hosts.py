"""Under which names the app is served: a foreign name that resolves to this machine is DNS rebinding."""

import re
import socket
from collections.abc import Sequence
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .refusals import Refusal, shown

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_EVERYWHERE = ("0.0.0.0", "::")
"""Addresses to listen on that stand for all of the machine's."""
_HOST = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<name>[\w.-]+))(?::\d{1,5})?", re.ASCII)


class HostNames:
    """The names that a Host header may have.

    listens: the address that the app listens on. names: further ones; `*.name` stands for all below.
    Without `names`, an app that listens everywhere answers to every IP address and to the machine's own
    names: no other web site can have a page under these.
    """

    def __init__(self, listens: str, names: Sequence[str]) -> None:
        everywhere = listens in _EVERYWHERE
        self._addresses = everywhere and not names
        own = _machine() if self._addresses else () if everywhere else (listens,)
        known = [name.lower().strip("[]").rstrip(".") for name in (*_LOOPBACK, *own, *names)]
        self._names = {name for name in known if not name.startswith("*.")}
        self._below = tuple(name.removeprefix("*") for name in known if name.startswith("*."))

    def __contains__(self, host: str) -> bool:
        """host: a Host header, with or without port."""
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = (match["six"] or match["name"]).lower().rstrip(".")
        return name in self._names or name.endswith(self._below) or (self._addresses and _is_address(name))


class AllowedHosts:
    """Refuses requests for a host name that is not the app's."""

    def __init__(self, app: ASGIApp, names: HostNames) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host", "") if scope["type"] == "http" else None
        if host is None or host in self._names:
            await self._app(scope, receive, send)
        else:
            line = f"no app is served as {shown(host)}; if that is its name, start it with --host_name"
            await Refusal(403, line).answer(scope, receive, send)


def _machine() -> tuple[str, ...]:
    name = socket.gethostname()
    return (name, f"{name.partition('.')[0]}.local")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
