"""Which keys an address counts under: its own, and its network's.

IPv4 counts by the address, an IPv4-mapped one (`::ffff:192.0.2.1`) as IPv4. IPv6 counts by /64, since
every subscriber has at least that many addresses, and by /48 with a budget 16 times as large, since one
subscriber often holds that too (RFC 6177). What is no address, such as the peer of a Unix socket, counts
by its text.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import NamedTuple

from thebes.forwarding import parse_address

WIDE_SHARE = 16


class Key(NamedTuple):
    """One key of an address.

    Attributes:
        exact: What it counts under.
        coarse: What it shares with its neighbours when the table has no room for it; None is its hash.
        share: How many times as large its budget is.
    """

    exact: bytes
    coarse: bytes | None
    share: int


def address_keys(text: str) -> tuple[Key, ...]:
    """Return the keys of an address as a server or a proxy spells it.

    >>> [key.share for key in address_keys("2001:db8::1")]
    [1, 16]
    >>> address_keys("2001:DB8:0:0:ffff::1") == address_keys("2001:db8::2")
    True
    >>> address_keys("::ffff:192.0.2.1") == address_keys("192.0.2.1")
    True
    """
    address = parse_address(text.partition("%")[0])  # a link-local peer's zone is no part of its network
    if address is None:
        return (Key(b"=" + text.encode("utf-8", "surrogatepass"), None, 1),)
    packed = address.packed
    if isinstance(address, IPv4Address):
        return (Key(b"4/32" + packed, b"4/24" + packed[:3], 1),)
    return (
        Key(b"6/64" + packed[:8], b"6/48" + packed[:6], 1),
        Key(b"6/48" + packed[:6], b"6/32" + packed[:4], WIDE_SHARE),
    )
