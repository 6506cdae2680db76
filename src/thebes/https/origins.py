"""CORS for the origins that are configured, and for no other.

Answers name an origin only when it equals a configured one byte for byte: never `*`, never `null`,
never a reflection. A preflight from any other origin goes on to the app, which may have CORS of its own.

Sources: Fetch standard (CORS protocol); ASVS 3.4.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta

from thebes.errors import ConfigurationError
from thebes.facts import USUAL_METHODS, Answer, Field, RequestFacts, in_lower_case, origin_of

ALLOW_ORIGIN = b"access-control-allow-origin"
ALLOWED_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
PREFLIGHT_LIFETIME = timedelta(minutes=10)
VARY_ORIGIN: Field = (b"vary", b"Origin")
_LOCAL = re.compile(r"http://(?:(?:.+\.)?localhost|127\.0\.0\.1|\[::1\])(?::[0-9]+)?\Z")
# RFC 9110, 5.6.2: field names are tokens; a list of them is echoed only if it is nothing else.
_FIELD_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*\Z")


class CrossOrigins:
    """Answer preflights of configured origins, and add the CORS fields to answers for them.

    Args:
        origins: Such as `https://app.example.com`; scheme, host and port must match exactly.
    """

    name = "cors"
    indifferent_to = USUAL_METHODS - {"OPTIONS"}

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(normal_origin(origin).encode() for origin in origins)

    def __call__(self, facts: RequestFacts) -> Answer | None:
        """Answer a preflight of a configured origin with 204, unless the app has CORS of its own."""
        headers = facts.headers
        origin = headers.get(b"origin")
        if (
            origin is None
            or facts.method != "OPTIONS"
            or origin not in self._origins
            or b"access-control-request-method" not in headers
        ):
            return None
        asked = headers.get(b"access-control-request-headers", b"")
        fields: list[Field] = [
            (b"access-control-allow-methods", ALLOWED_METHODS),
            (b"access-control-max-age", b"%d" % PREFLIGHT_LIFETIME.total_seconds()),
        ]
        if asked and _FIELD_NAMES.match(asked):
            fields.append((b"access-control-allow-headers", asked))
        return Answer(204, tuple(fields), unless=ALLOW_ORIGIN)

    def add_fields(self, facts: RequestFacts, headers: list[Field]) -> None:
        """Name the origin if it is configured and the app has not answered for itself."""
        fields = in_lower_case(headers)
        varies_by = {name.strip() for name in fields.get(b"vary", b"").lower().split(b",")}
        if varies_by.isdisjoint((b"origin", b"*")):
            headers.append(VARY_ORIGIN)
        origin = facts.headers.get(b"origin")
        if origin in self._origins and ALLOW_ORIGIN not in fields:
            headers.append((ALLOW_ORIGIN, origin))
            headers.append((b"access-control-allow-credentials", b"true"))


class CrossOriginFields:
    """The response rule that belongs to `CrossOrigins`."""

    name = "cors"

    def __init__(self, origins: CrossOrigins) -> None:
        self._origins = origins

    def __call__(self, facts: RequestFacts, headers: list[Field]) -> None:
        """Add the CORS fields, to denials too: a script may read why it was refused."""
        self._origins.add_fields(facts, headers)


def normal_origin(origin: str) -> str:
    """Return an origin as browsers write it: lower case, no default port, no path.

    Raises:
        ConfigurationError: It isn't scheme, host and optional port, or plain http off this machine.
    """
    found = origin_of(origin)
    if found is None or re.search(r"[/?#]", origin.partition("://")[2].removesuffix("/")):
        raise ConfigurationError(
            f"{origin!r} is no origin: write scheme, host and a port if it isn't the default one, "
            "such as 'https://app.example.com', without path or wildcard"
        )
    if found.startswith("http://") and not _LOCAL.match(found):
        raise ConfigurationError(
            f"{origin!r} is plain http, which anyone on its network could forge: use https"
        )
    return found
