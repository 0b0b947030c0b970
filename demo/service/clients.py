"""Who asks: what limits and turns are counted by."""

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address, IPv6Network

_HOUSEHOLD = 64
"""Leading bits of an IPv6 address that one customer has for itself, and chooses the others of."""


@dataclass(frozen=True)
class Client:
    """A page, or a program that uses the API."""

    address: str
    """Where it comes from; colleagues behind one gateway share it."""
    session: str
    """Of one page or one API client: chosen by the client, so it bounds nobody who means ill."""


def network(host: str) -> str:
    """What to count an address by: itself, or an IPv6 address's network, within which one chooses any."""
    try:
        address = IPv6Address(host)
    except AddressValueError:
        return host
    mapped = address.ipv4_mapped
    return str(mapped or IPv6Network((address, _HOUSEHOLD), strict=False))
