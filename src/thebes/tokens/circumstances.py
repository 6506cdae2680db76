"""Where a request comes from, as far as a session cares: network, user agent, and names for its owner.

A refresh token that comes from another place than the one it was given to is a hint at a thief, not a proof:
phones change networks, browsers update. So it is one input of the judgement among others. Kept are digests,
keyed, so that the session table tells nobody who reads it which addresses and browsers an account uses; and
two labels in plain words, coarse ones, by which the owner recognises a session.

Does not protect: against a thief on the owner's own network who copies the User-Agent field.

Sources: RFC 6177 (a site's /48); NIST SP 800-63B-4, 5.1 (session monitoring); TOK-34.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network
from typing import Protocol

from thebes.forwarding import parse_address
from thebes.secret import Secret

DIGEST_BYTES = 16  # 128 bits: compared for equality only, and never shown
SITE_PREFIX = {4: 24, 6: 48}  # what one subscriber or one operator's pool usually stays within
UNKNOWN = "unknown"

# The first that occurs names it: Edge, Opera and Samsung's browser call themselves Chrome too, Chrome calls
# itself Safari, Android calls itself Linux, and iPhones claim to be like Mac OS X.
_BROWSERS = (
    (b"edg", "Edge"),
    (b"opr/", "Opera"),
    (b"samsungbrowser", "Samsung Internet"),
    (b"firefox", "Firefox"),
    (b"fxios", "Firefox"),
    (b"crios", "Chrome"),
    (b"chrome", "Chrome"),
    (b"safari", "Safari"),
    (b"curl/", "curl"),
    (b"python", "a Python program"),
)
_SYSTEMS = (
    (b"iphone", "iPhone"),
    (b"ipad", "iPad"),
    (b"android", "Android"),
    (b"cros", "ChromeOS"),
    (b"windows", "Windows"),
    (b"mac os", "macOS"),
    (b"linux", "Linux"),
)
_MAX_AGENT_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """Of one request.

    Attributes:
        network: Digest of the client's /24 or /48.
        agent: Digest of its User-Agent field.
        device: A label for the owner, such as `Firefox on Linux`.
        address: The approximate address, for the owner.
        earlier_networks: The same network under keys that are only accepted still: after a rotation of keys
            nobody seems to have moved.
        earlier_agents: The same user agent under those keys.
    """

    network: bytes
    agent: bytes
    device: str
    address: str
    earlier_networks: frozenset[bytes] = frozenset()
    earlier_agents: frozenset[bytes] = frozenset()

    def are_of(self, network: bytes, agent: bytes) -> bool:
        """Say whether these digests, kept with a session, are of the same network and user agent."""
        return (network == self.network or network in self.earlier_networks) and (
            agent == self.agent or agent in self.earlier_agents
        )


class CircumstanceKeys(Protocol):
    """Keys for these digests alone; the keyring has them."""

    @property
    def ids(self) -> Sequence[str]:
        """The ids of all keys that count, the one in use first."""
        ...

    def derived(self, key_id: str) -> Secret:
        """Return a key."""
        ...


def circumstances_of(address: str, user_agent: bytes | None, keys: CircumstanceKeys) -> Circumstances:
    """Return the circumstances of a request.

    Args:
        address: The client's, as text; what is no address, such as a Unix socket's peer, is a network of
            its own.
        user_agent: The field as it came; None is another one than an empty one's.
        keys: What the digests are made under.
    """
    network = network_of(address)
    place = b"network\0" + network.encode("utf-8", "surrogatepass")
    agent = b"no agent" if user_agent is None else b"agent\0" + user_agent
    every = [keys.derived(key_id).reveal() for key_id in keys.ids]
    networks, agents = ([_digest(key, message) for key in every] for message in (place, agent))
    return Circumstances(
        network=networks[0],
        agent=agents[0],
        device=device_label(user_agent),
        address=network,
        earlier_networks=frozenset(networks[1:]),
        earlier_agents=frozenset(agents[1:]),
    )


def network_of(address: str) -> str:
    """Return the /24 or /48 of an address as text, or `unknown`.

    >>> network_of("203.0.113.77"), network_of("2001:db8:1:2::3"), network_of("::ffff:203.0.113.9")
    ('203.0.113.0/24', '2001:db8:1::/48', '203.0.113.0/24')
    """
    parsed = parse_address(address.partition("%")[0])  # a link-local peer's zone is no part of its network
    if parsed is None:
        return UNKNOWN
    version = 4 if isinstance(parsed, IPv4Address) else 6
    return str(ip_network((parsed.packed, SITE_PREFIX[version]), strict=False))


def device_label(user_agent: bytes | None) -> str:
    """Return a coarse name from a closed set: nothing of what a client wrote is shown to an owner.

    >>> device_label(b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
    'Firefox on Linux'
    """
    text = (user_agent or b"")[:_MAX_AGENT_BYTES].lower()
    browser = next((name for mark, name in _BROWSERS if mark in text), None)
    system = next((name for mark, name in _SYSTEMS if mark in text), None)
    if browser and system:
        return f"{browser} on {system}"
    return browser or system or "Unknown device"


def _digest(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")[:DIGEST_BYTES]
