"""Which Host a request may name, and in development: that it never left this machine.

An attacker who chooses the Host chooses the links in mails, the target of redirects and, by DNS
rebinding, whose page may read a development server. Names are compared whole and exactly, never as
a pattern (CVE-2026-25479: a list compiled as a regex let `exampleXcom` through).

Sources: RFC 9110, 7.4 (421); ASVS 4.1.3, 13.4.2; OWASP Forgot Password (poisoned links).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from thebes.errors import ConfigurationError
from thebes.facts import Denial, RequestFacts
from thebes.forwarding import Arrival, parse_address, shows_proxy

MALFORMED = Denial(
    400, "host-malformed", "The Host field is not usable", "Send exactly one valid Host field."
)
UNKNOWN = Denial(
    421,
    "host-unknown",
    "This server does not answer for that host",
    "The host is not one of those that the service is configured for.",
    hint="add it to hosts=[...] or THEBES_HOSTS if it is yours",
)
# RFC 3986, 3.2.2 without what no DNS name or address holds; the port is digits.
_HOST = re.compile(rb"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?\Z")
_DEFAULT_PORTS = (b":443", b":80")


class HostCheck:
    """Refuse a missing, doubled or malformed Host with 400 and one that isn't configured with 421.

    Args:
        hosts: Names with an optional port. A name without one stands for the default ports.

    Raises:
        ConfigurationError: A pattern, a URL or something else that is no host.
    """

    name = "hosts"

    def __init__(self, hosts: Iterable[str]) -> None:
        self._known = frozenset(known.encode() for host in hosts for known in _spellings(normal_host(host)))

    def passes(self, arrival: Arrival) -> bool:
        """Say whether the Host is a configured one, in the usual spelling."""
        return arrival.host in self._known

    def __call__(self, facts: RequestFacts) -> Denial | None:
        """Compare the Host with the configured ones; the health path accepts any that is well formed."""
        host = facts.arrival.host
        if host in self._known or facts.is_health:
            return None
        if not _HOST.match(host):
            return MALFORMED
        return None if host.lower() in self._known else UNKNOWN


def _not_local(found: str) -> Denial:
    return Denial(
        421,
        "not-local",
        "Development answers this machine only",
        f"{found}. Use https://localhost, directly; to serve others, use production mode.",
    )


FOREIGN_PEER = _not_local("The connection does not come from this machine")
OLD_HTTP = _not_local("HTTP/1.0 is how proxies ask")
PROXIED = _not_local("A forwarding field shows a proxy in between")
FOREIGN_HOST = _not_local("The Host is not a local name")
REBOUND = _not_local("A page of this origin runs under another host")


class LoopbackOnly:
    """Development and test: loopback peers, local names, and no trace of a proxy (TLS-28).

    Args:
        names: Further host names that count as local, such as `testserver` in test mode.
        in_process: Whether a peer without an address, as in-process clients have, counts as local.
    """

    name = "hosts"

    def __init__(self, names: Iterable[str] = (), *, in_process: bool = False) -> None:
        self._names = frozenset(names)
        self._in_process = in_process

    def __call__(self, facts: RequestFacts) -> Denial | None:
        """Refuse what could have come from elsewhere."""
        headers = facts.headers
        host = headers.get(b"host", b"")
        if not _HOST.match(host) and not facts.is_health:
            return MALFORMED
        if not self._is_local_peer(facts.scope):
            return FOREIGN_PEER
        if facts.scope.get("http_version") == "1.0":
            return OLD_HTTP
        if any(shows_proxy(name) for name in headers):
            return PROXIED
        if not self._is_local_name(host) and not facts.is_health:
            return FOREIGN_HOST
        return REBOUND if _is_rebound(headers, host) else None

    def _is_local_peer(self, scope: Mapping[str, Any]) -> bool:
        peer = scope.get("client")
        address = parse_address(peer[0]) if peer else None
        return self._in_process if address is None else address.is_loopback

    def _is_local_name(self, host: bytes) -> bool:
        name = re.sub(rb":[0-9]+\Z", b"", host).decode("latin-1").lower()
        if name == "localhost" or name.endswith(".localhost") or name in self._names:
            return True
        address = parse_address(name)
        return address is not None and address.is_loopback


def normal_host(host: str) -> str:
    """Return a configured host in lower case.

    Raises:
        ConfigurationError: It is empty, a pattern, or a URL.
    """
    if not _HOST.match(host.encode("ascii", "replace")):
        raise ConfigurationError(
            f"hosts has {host!r}: write each name whole, such as 'example.com' or 'example.com:8443', "
            "without scheme, path or wildcard"
        )
    return host.lower()


def _spellings(host: str) -> tuple[str, ...]:
    if re.search(r":[0-9]+\Z", host) and not host.endswith("]"):
        return (host,)
    return (host, *(host + port.decode() for port in _DEFAULT_PORTS))


def _is_rebound(headers: Mapping[bytes, bytes], host: bytes) -> bool:
    """Say whether a page of this very origin seems to run under another host: a proxy in between."""
    if headers.get(b"sec-fetch-site") != b"same-origin":
        return False
    for name in (b"origin", b"referer"):
        # "null" names no host: a page with Referrer-Policy: no-referrer sends it to its own origin.
        value = headers.get(name, b"null")
        if value != b"null" and _netloc(value) != host:
            return True
    return False


def _netloc(url: bytes) -> bytes:
    """Return host and port of an absolute URL as they stand there; `null` has none."""
    return url.partition(b"://")[2].partition(b"/")[0]
