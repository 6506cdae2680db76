"""Production answers over HTTPS; plain HTTP gets a redirect if a person is there, else a refusal.

Redirecting an API call would hide a client that sends its credentials in clear (ASVS 4.1.2), and a
redirect behind a TLS proxy that doesn't say so would loop: both get 403.

Sources: RFC 6797; ASVS 12.2.1, 4.1.2; NIST 800-63B-4 5.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from thebes.facts import PLAIN_LISTENER, Answer, Denial, Reply, RequestFacts
from thebes.forwarding import Arrival, parse_address, shows_proxy
from thebes.paths import target_of

HTTPS_REQUIRED = Denial(
    403,
    "https-required",
    "HTTPS is required",
    "Send the request over https.",
    hint=(
        "plain HTTP reached the app; behind a TLS proxy, declare it: THEBES_PROXIES=<its network> "
        "(or unix), and let it set exactly one X-Forwarded-Proto"
    ),
)


class HttpsOnly:
    """Let https pass; redirect navigations to a configured host; refuse the rest.

    Args:
        hosts: The configured hosts, normal form; the first is the target where the request names none.
        public_host: Host and port of the public URL, used for requests to the same name.
    """

    name = "https"

    def __init__(self, hosts: Sequence[str], public_host: str | None = None) -> None:
        self._hosts = tuple(hosts)
        self._public_host = public_host

    def passes(self, arrival: Arrival) -> bool:
        """Say whether it came by https."""
        return arrival.scheme == "https"

    def __call__(self, facts: RequestFacts) -> Reply | None:
        """Judge the effective scheme (TLS-08 to TLS-10)."""
        if facts.scheme == "https":
            return None
        if facts.scheme is None or facts.is_websocket or not facts.is_navigation:
            return HTTPS_REQUIRED
        is_proxied = facts.surroundings.forwarding.is_proxy(facts.scope)
        if not (is_proxied or _is_plain_listener(facts) or _is_direct(facts)):
            return HTTPS_REQUIRED
        return Answer(308, ((b"location", self._location(facts)),), event="https_redirect")

    def _location(self, facts: RequestFacts) -> bytes:
        return f"https://{self._host(facts)}{target_of(facts.scope)}".encode()

    def _host(self, facts: RequestFacts) -> str:
        """Take the target from the configuration, never from the request (TLS-10)."""
        named = facts.headers.get(b"host", b"").decode("latin-1").lower()
        name = named.removesuffix(":80").removesuffix(":443")
        known = next((host for host in self._hosts if host == name), None)
        if self._public_host is not None and known in (None, self._public_host.partition(":")[0]):
            return self._public_host
        return known or self._hosts[0]


def _is_plain_listener(facts: RequestFacts) -> bool:
    return PLAIN_LISTENER in (facts.scope.get("extensions") or {})


def _is_direct(facts: RequestFacts) -> bool:
    """Say whether a public peer speaks to us with no sign of a proxy: then a redirect can't loop."""
    peer = facts.scope.get("client")
    address = parse_address(peer[0]) if peer else None
    if address is None or not address.is_global:
        return False
    return not any(shows_proxy(name) for name in facts.headers)
