"""How long a client may take, how much it may send, and how many connections it may hold.

A server without deadlines is held by whoever sends a byte a second. Each value is a setting with its
unit in the name; the defaults serve browsers on slow networks and close what only wants to sit there.

Does not protect: against a flood that fills the line, or that comes from more addresses than
`connections` can seat. That is the work of a network in front; see docs/serving.md.

Sources: HTTP-16, HTTP-17; OWASP Denial of Service; RFC 9110, 15.5 (408, 413, 414); RFC 6585, 5 (431).
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass

from thebes.errors import ConfigurationError

MAX_CONNECTIONS = 10_000
# Fewer than this a browser page with its six connections and a reload would not fit.
MIN_CONNECTIONS_PER_ADDRESS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """The deadlines and caps of a server; all times run on a monotonic clock.

    Attributes:
        handshake_seconds: From accept to the end of the TLS handshake.
        header_seconds: From the first byte of a request, or the start of the connection, to the end of
            its header section (HTTP-17).
        body_seconds: For a body, beside what `min_bytes_per_second` grants for each byte that came. Time
            in which the app doesn't read isn't counted.
        idle_seconds: Between an answer and the next request.
        stalled_seconds: How often a client that leaves its answer unread is asked for progress.
        min_bytes_per_second: The least rate of a body, and of a client that reads a long answer. Apache's
            mod_reqtimeout takes 500; one phone on a bad line has ten times as much.
        linger_seconds: How long is read on after a refusal, so that the client gets to see it.
        linger_bytes: How much is read on.
        header_bytes: Of a header section, without the request line (HTTP-16).
        header_fields: Of a header section (HTTP-16).
        target_bytes: Of a request target (RFC 9112, 3: at least 8,000 should be taken).
        connections: Open at once, of all clients.
        connections_per_address: Open at once from one IPv4 address or one IPv6 /64; 16 times as many
            from one /48. Declared proxies are not counted.
        stop_seconds: How long answers may still take once the server is told to stop.

    Raises:
        ConfigurationError: A value that isn't greater than 0.
    """

    handshake_seconds: float = 10.0
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: float = 15.0
    stalled_seconds: float = 60.0
    min_bytes_per_second: int = 1024
    linger_seconds: float = 2.0
    linger_bytes: int = 1024 * 1024
    header_bytes: int = 16 * 1024
    header_fields: int = 100
    target_bytes: int = 8000
    connections: int = MAX_CONNECTIONS
    connections_per_address: int = 100
    stop_seconds: int = 30

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ConfigurationError(f"{field.name} is {value}; allowed is more than 0")

    def shared_by(self, workers: int) -> Guards:
        """Return the guards of one of several processes that accept from the same sockets.

        The caps are divided, rounded up. The kernel doesn't deal connections out evenly, so the share of
        an address is never less than a browser needs.
        """
        if workers == 1:
            return self
        share = -(-self.connections_per_address // workers)
        least = min(self.connections_per_address, MIN_CONNECTIONS_PER_ADDRESS)
        return dataclasses.replace(
            self,
            connections=-(-self.connections // workers),
            connections_per_address=max(share, least),
        )

    def within_descriptors(self) -> Guards:
        """Return guards whose total fits: half of this process's file descriptors, for the rest is the app's.

        The soft limit is raised to the hard one first.
        """
        most = max(1, _raise_descriptor_limit() // 2)
        return self if self.connections <= most else dataclasses.replace(self, connections=most)


def _raise_descriptor_limit() -> int:
    """Raise the soft limit of open files as far as this user may, and return what holds now."""
    if sys.platform == "win32":
        return 2 * MAX_CONNECTIONS  # sockets there are handles, and not counted with files
    import resource  # noqa: PLC0415 - not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 2 * MAX_CONNECTIONS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return 2 * MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft
    return wanted
