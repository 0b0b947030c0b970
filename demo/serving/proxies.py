"""Who a request comes from: behind a trusted proxy, whom the proxy names; else whoever sent it."""

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from ..service.clients import network

_CLAIMS = ("forwarded", "x-real-ip", "x-gradio-server")
"""Headers about where a request came from, besides X-Forwarded-…; Gradio believes some from anyone."""
_SCHEMES = ("http", "https")


class TrustedProxies:
    """Writes what a trusted proxy says into the request, and drops what anybody else claims.

    Later layers and the app find the visitor in `scope["client"]`, and scheme and host as the visitor
    sees them.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[str]) -> None:
        self._app = app
        self._trusted = [ip_network(one, strict=False) for one in trusted]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(self._seen(scope) if scope["type"] == "http" else scope, receive, send)

    def _seen(self, scope: Scope) -> Scope:
        said, client = Headers(scope=scope), scope.get("client") or ("", 0)
        kept = [(name, value) for name, value in scope["headers"] if not _is_claim(name.decode("latin-1"))]
        seen = {**scope, "client": tuple(client), "headers": kept}
        if self._trusts(client[0]):
            self._believe(said, seen)
        return seen

    def _believe(self, said: Headers, seen: Scope) -> None:
        if addresses := _listed(said, "x-forwarded-for"):
            seen["client"] = (self._visitor(addresses, seen["client"][0]), 0)
        schemes, hosts = (_listed(said, f"x-forwarded-{what}") for what in ("proto", "host"))
        if schemes and schemes[-1] in _SCHEMES:  # the nearest proxy's, as below
            seen["scheme"] = schemes[-1]
        if hosts:
            MutableHeaders(scope=seen)["host"] = hosts[-1]

    def _visitor(self, addresses: Sequence[str], nearest: str) -> str:
        """The last address that no trusted proxy has: each adds whom it heard, and visitors write before."""
        for address in reversed(addresses):
            known = _address(address)
            if not known:
                return nearest
            nearest = known
            if not self._trusts(known):
                break
        return nearest

    def _trusts(self, address: str) -> bool:
        return bool(known := _address(address)) and any(ip_address(known) in one for one in self._trusted)


def visitor(scope: Scope) -> str:
    """Whom limits count for; see `network`."""
    return network(scope["client"][0])


def _is_claim(name: str) -> bool:
    return name.startswith("x-forwarded-") or name in _CLAIMS


def _listed(headers: Headers, name: str) -> list[str]:
    return [one for one in (part.strip() for part in ",".join(headers.getlist(name)).split(",")) if one]


def _address(text: str) -> str:
    """An IP address as it is compared, without port or brackets; "" for anything else."""
    bare = text.partition("]")[0].removeprefix("[") if text.startswith("[") else text
    if bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        found = ip_address(bare.partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(found, "ipv4_mapped", None) or found)
