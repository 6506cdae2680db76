"""Who holds how many connections: counted from accept, before TLS, until the socket is closed.

The count hangs on the socket object, so it ends with it, whatever protocol owned it then: a handshake
that failed, HTTP, a WebSocket. Whoever already holds as many as allowed gets a reset, which costs us
next to nothing; other addresses are served.

Does not protect: against an attacker with many addresses. Total / share of them fill every seat.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import IPv4Network, IPv6Network

from thebes.forwarding import parse_address
from thebes.serve.guards import Guards

Network = IPv4Network | IPv6Network
# One subscriber often holds a /48 (RFC 6177); its networks share a larger budget.
SHARES_OF_A_SITE = 16

TOO_MANY = "connections-total"
TOO_MANY_OF_ADDRESS = "connections-address"


class CountedSocket(socket.socket):
    """A socket that tells once when it is over; asyncio closes it, uvloop detaches it."""

    __slots__ = ("on_close",)

    on_close: Callable[[], None] | None

    def close(self) -> None:
        """Close it, and tell."""
        super().close()
        self._tell()

    def detach(self) -> int:
        """Give the descriptor away, and tell."""
        descriptor = super().detach()
        self._tell()
        return descriptor

    def _tell(self) -> None:
        callback, self.on_close = getattr(self, "on_close", None), None
        if callback is not None:
            callback()

    # When nobody got to close it: an exception between accept and the protocol.
    __del__ = _tell


class Connections:
    """The connections of one process, in total and by address.

    Args:
        guards: The caps.
        unlimited: Networks of declared proxies, which speak for many clients.

    Attributes:
        total: Open now.
        by_address: Open now, by IPv4 address, IPv6 /64 and IPv6 /48; those of proxies are not in it.
    """

    def __init__(self, guards: Guards, unlimited: Iterable[Network] = ()) -> None:
        self._guards = guards
        self._unlimited = tuple(unlimited)
        self.total = 0
        self.by_address: dict[str | bytes, int] = {}

    def admit(self, host: str | None) -> Callable[[], None] | str:
        """Count a new connection, and return what takes it off the count; or the reason to refuse it.

        Args:
            host: The peer's address; None on a Unix socket.
        """
        if self.total >= self._guards.connections:
            return TOO_MANY
        keys = self._keys(host)
        counts = self.by_address
        most = self._guards.connections_per_address
        for key in keys:
            if counts.get(key, 0) >= most:
                return TOO_MANY_OF_ADDRESS
            most *= SHARES_OF_A_SITE  # the second key is that of the /48
        self.total += 1
        for key in keys:
            counts[key] = counts.get(key, 0) + 1
        return partial(self._release, keys)

    def _release(self, keys: tuple[str | bytes, ...]) -> None:
        self.total -= 1
        for key in keys:
            left = self.by_address[key] - 1
            if left:
                self.by_address[key] = left
            else:
                del self.by_address[key]

    def _keys(self, host: str | None) -> tuple[str | bytes, ...]:
        """Return what a peer is counted under: an IPv4 address, or its /64 and then its /48."""
        if host is None:
            return ()
        if self._unlimited:
            address = parse_address(host)
            if address is not None and any(address in network for network in self._unlimited):
                return ()
        if ":" not in host:
            return (host,)
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
        if packed.startswith(_MAPPED):
            return (socket.inet_ntoa(packed[12:]),)
        return (packed[:8], packed[:6])


_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291, 2.5.5.2
