"""Who the client is and which scheme it used, when proxies stand between.

Whoever can write a forwarding field can pretend to be anybody, so a field counts only as far as
declared proxies wrote it: the walk starts at the socket's peer and goes from the right, while addresses
lie in declared networks, at most `hops` steps. What stands left of the first address outside is the
client's own invention and is never read. `X-Forwarded-Host` is never read at all.

Does not protect: a declared proxy that passes on a client's field without adding to it.

Sources: RFC 7239 (Forwarded); ASVS 15.3.4; the mistakes of CVE-2025-46814 and CVE-2025-59152.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Literal

from thebes.errors import ConfigurationError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
ProxyHeader = Literal["x-forwarded-for", "forwarded"]

MAX_HOPS = 16
MAX_ELEMENT = 1024  # characters of one Forwarded element; honest ones have a hundred
# Peers and arrivals that were worked out. Past the bound all are forgotten and worked out anew, so a flood of
# invented fields costs the time that every request cost without this memory, and no more.
_MAX_REMEMBERED = 1024
_MAX_REMEMBERED_KEY = 512  # characters and bytes of the fields together

# RFC 7239, 4: pairs of token "=" token or quoted string, split at ";".
_PAIR = re.compile(r'[ \t]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^",;\s]*))[ \t]*(;|\Z)')


def parse_address(text: str) -> Address | None:
    """Read an address as forwarding fields spell it, or return None.

    Ports are dropped, brackets too; IPv4-mapped IPv6 is IPv4; zones (`%eth0`) are refused.

    >>> parse_address("[2001:db8::1]:443")
    IPv6Address('2001:db8::1')
    >>> parse_address("::ffff:192.0.2.1")
    IPv4Address('192.0.2.1')
    """
    text = text.strip(" \t")
    if text.startswith("["):
        text, bracket, rest = text[1:].partition("]")
        if not bracket or not _is_port(rest):
            return None
        wanted: type[Address] | None = IPv6Address
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(":" + port):
            return None
        wanted = IPv4Address
    else:
        wanted = None
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if wanted is not None and not isinstance(address, wanted):
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def shows_proxy(name: bytes) -> bool:
    """Say whether a field of this name is one that proxies add."""
    return name in (b"forwarded", b"via") or name.startswith(b"x-forwarded-")


def _is_port(text: str) -> bool:
    """Say whether `text` is empty or a colon with 1 to 5 digits."""
    return not text or re.fullmatch(r":[0-9]{1,5}", text) is not None


@dataclass(frozen=True, slots=True)
class Client:
    """The client's address as canonical text, and whether the walk found it.

    `is_certain` is False when a declared proxy's field held no usable address: then the peer counts.
    """

    address: str
    is_certain: bool = True


class Arrival:
    """How a request came. Those that come alike share one, so what depends on nothing else is judged once.

    Attributes:
        host: The Host field; empty where none came.
        scheme: `http` or `https` as the client used it; None when a declared proxy didn't say it once.
        client: None when a declared proxy's field held no usable address: `Forwarding.client` always says.
        passed: Who has judged it and lets it pass.
    """

    __slots__ = ("client", "host", "passed", "scheme")

    def __init__(self, host: bytes, scheme: str | None, client: Client | None) -> None:
        self.host = host
        self.scheme = scheme
        self.client = client
        self.passed: object = None


_Key = tuple[str | None, str, bytes | None, bytes | None, bytes | None]


class Forwarding:
    """The declared proxies, and what they say of a client.

    Args:
        proxies: Networks such as `10.0.0.0/8`, or `unix` for peers on a Unix socket.
        header: The one field that is read; the other is ignored.
        hops: How many declared proxies may stand in a row.
        report: Called when a declared proxy's field held no usable address, so that the peer counts.

    Raises:
        ConfigurationError: A network that isn't one, or `hops` outside 1 to 16.
    """

    def __init__(
        self,
        proxies: Iterable[str] = (),
        *,
        header: ProxyHeader = "x-forwarded-for",
        hops: int = 1,
        report: Callable[[], None] | None = None,
    ) -> None:
        if header not in ("x-forwarded-for", "forwarded"):
            raise ConfigurationError(
                f"proxy_header is {header!r}; allowed are 'x-forwarded-for' and 'forwarded'"
            )
        if not 1 <= hops <= MAX_HOPS:
            raise ConfigurationError(f"proxy_hops is {hops}; allowed are 1 to {MAX_HOPS}")
        names = list(proxies)
        self._unix = "unix" in names
        self._networks = tuple(_network(name) for name in names if name != "unix")
        self._header = header.encode()
        self._reads_elements = header == "forwarded"
        self._report = report
        self._hops = hops
        self._peers: dict[str | None, bool] = {}
        self._arrivals: dict[_Key, Arrival] = {}
        self.is_declared = bool(names)

    def is_proxy(self, scope: Mapping[str, Any]) -> bool:
        """Say whether the request came straight from a declared proxy."""
        peer = scope.get("client")
        host: str | None = peer[0] if peer else None
        known = self._peers.get(host)
        if known is None:
            if len(self._peers) >= _MAX_REMEMBERED:
                self._peers.clear()
            known = self._peers[host] = self._unix if host is None else self._contains(parse_address(host))
        return known

    def arrival(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> Arrival:
        """Return how a request came; for most it is known already."""
        peer = scope.get("client")
        # All that an arrival depends on.
        key = (
            peer[0] if peer else None,
            scope.get("scheme", "http"),
            headers.get(b"host"),
            headers.get(self._header),
            headers.get(b"x-forwarded-proto"),
        )
        return self._arrivals.get(key) or self._new_arrival(key, scope, headers)

    def client(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> Client:
        """Return the first address outside the declared networks, else the peer."""
        known = self.arrival(scope, headers).client
        if known is not None:
            return known
        if self._report is not None:
            self._report()
        return Client(_peer_of(scope), is_certain=False)

    def _new_arrival(self, key: _Key, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> Arrival:
        host = headers.get(b"host", b"")
        if self.is_proxy(scope):
            arrival = Arrival(host, self._said_scheme(headers), self._said_client(headers))
        else:
            arrival = Arrival(host, _SCHEMES.get(scope.get("scheme", "http")), Client(_peer_of(scope)))
        if sum(len(part or "") for part in key) <= _MAX_REMEMBERED_KEY:
            if len(self._arrivals) >= _MAX_REMEMBERED:
                self._arrivals.clear()
            self._arrivals[key] = arrival
        return arrival

    def _said_scheme(self, headers: Mapping[bytes, bytes]) -> str | None:
        if not self._reads_elements:
            return _SAID.get(headers.get(b"x-forwarded-proto", b""))
        element = self._client_element(headers)
        return _SAID.get(element.get("proto", "").encode("latin-1")) if element else None

    def _said_client(self, headers: Mapping[bytes, bytes]) -> Client | None:
        for address in self._walk(headers.get(self._header, b"").decode("latin-1")):
            if address is None:
                break
            if not self._contains(address):
                return Client(str(address))
        return None

    def _walk(self, text: str) -> Iterator[Address | None]:
        """Yield the addresses from the right, at most one a declared hop; None where one is unreadable."""
        if self._reads_elements:
            texts = [element.get("for", "") for element in last_elements(text, self._hops)]
        else:
            texts = text.split(",")[: -self._hops - 1 : -1]
        yield from map(parse_address, texts)

    def _client_element(self, headers: Mapping[bytes, bytes]) -> Mapping[str, str] | None:
        """Return the Forwarded element in which a declared proxy names the client."""
        text = headers.get(b"forwarded", b"").decode("latin-1")
        for element in last_elements(text, self._hops):
            address = parse_address(element.get("for", ""))
            if address is None or not self._contains(address):
                return element if address is not None else None
        return None

    def _contains(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def last_elements(text: str, count: int) -> Iterator[Mapping[str, str]]:
    """Yield the last elements of a Forwarded field (RFC 7239, 4) from the right; names in lower case.

    Each is the shortest well-formed end of what is left. So what a client wrote in front, an opened quote
    above all, can't reach over the element that a declared proxy added behind it. It ends where nothing
    well formed is left.
    """
    for _ in range(count):
        comma = len(text)
        element = None
        while element is None and comma >= 0:
            comma = text.rfind(",", max(0, len(text) - MAX_ELEMENT), comma)
            element = _element(text[comma + 1 :])
        if element is None:
            return
        yield element
        text = text[:comma] if comma >= 0 else ""


def _element(text: str) -> Mapping[str, str] | None:
    """Return the pairs of one element, or None if it breaks the grammar or names a pair twice."""
    pairs: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _PAIR.match(text, position)
        if match is None or match[1].lower() in pairs:
            return None
        quoted = match[2]
        pairs[match[1].lower()] = match[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        position = match.end()
        if match[4] == ";" and position == len(text):
            return None
    return pairs or None


def _peer_of(scope: Mapping[str, Any]) -> str:
    """Return the peer's address in canonical form, or what stands for it where there is none."""
    peer = scope.get("client")
    host: str = peer[0] if peer else "unix"
    return str(parse_address(host) or host)


def _network(name: str) -> Network:
    try:
        return ip_network(name)
    except ValueError as error:
        raise ConfigurationError(
            f"proxies has {name!r}: write a network such as 10.0.0.0/8, an address, or unix ({error})"
        ) from error


# Traefik names the schemes of WebSockets.
_SAID = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}
_SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}
