"""Methods that no application needs and some proxies obey.

TRACE echoes credentials (cross-site tracing), TRACK is its copy, CONNECT asks for a tunnel.

Sources: RFC 9110, 9.3.6 and 9.3.8; ASVS 13.4.4.
"""

from __future__ import annotations

from thebes.facts import USUAL_METHODS, Denial, RequestFacts

REFUSED_METHODS = frozenset({"TRACE", "TRACK", "CONNECT"})
REFUSED = Denial(
    405,
    "method-refused",
    "This method is never answered",
    "TRACE, TRACK and CONNECT are refused on every path.",
    headers=((b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),),
)


class MethodCheck:
    """Refuse TRACE, TRACK and CONNECT, in any case of letters, on every path."""

    name = "methods"
    indifferent_to = USUAL_METHODS

    def __call__(self, facts: RequestFacts) -> Denial | None:
        """Compare the method with the three (HTTP-12)."""
        return REFUSED if facts.method.upper() in REFUSED_METHODS else None
