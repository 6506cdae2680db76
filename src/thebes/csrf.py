"""Refuse forged cross-origin requests, without tokens.

Browsers say where a request comes from: Sec-Fetch-Site since 2023, Origin before that. An attacker's
page can make a browser send cookies, but it cannot change these fields.

Does not protect: state changed by GET; a page of yours that runs the attacker's script; a page on a
configured origin. Lets through: requests with none of the three fields and no session cookie, since
no browser sent them, and requests whose only credential is a Bearer or DPoP token.

Sources: W3C Fetch Metadata; RFC 6454 (Origin); the scheme of Go 1.25's CrossOriginProtection, made
stricter: `same-site` is refused, and so is the absence of all three fields beside a session cookie.
"""

from __future__ import annotations

from collections.abc import Iterable

from thebes import cookies
from thebes.facts import Denial, Mode, RequestFacts, origin_of

# RFC 9110, 9.2.1, without TRACE, which is never answered.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# A page of this very origin, or the user: a bookmark, the address bar.
OWN_SITE = (b"same-origin", b"none")
# The package's own cookies, known here so that a session of any version of it counts.
OWN_SESSION_COOKIES = ("__Host-thebes-session", "__Host-thebes-refresh")

_HINT = "if the page is yours, add its origin: Security(origins=['https://...'])"
CROSS_ORIGIN = Denial(
    403,
    "cross-origin",
    "The request came from another site",
    "Send it from a page of this service.",
    hint=_HINT,
)
NO_ORIGIN = Denial(
    403,
    "origin-missing",
    "The request does not say where it comes from",
    "Send an Origin or Sec-Fetch-Site field, or no session cookie.",
)


class CrossOriginProtection:
    """The check before all others that touch state: where does the request come from?

    Args:
        mode: In development and test the own origin is the scheme and Host that were just checked.
        origins: The configured origins in normal form: the hosts', the public URL's, and others.
        session_cookies: Names of cookies that sign a user in, the app's own ones too.
    """

    name = "csrf"
    indifferent_to = SAFE_METHODS

    def __init__(self, *, mode: Mode, origins: Iterable[str], session_cookies: Iterable[str] = ()) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._trusts_host = mode is not Mode.PRODUCTION
        names = (*OWN_SESSION_COOKIES, *session_cookies)
        self._session_cookies = frozenset(name.lower().encode() for name in names)

    def __call__(self, facts: RequestFacts) -> Denial | None:
        """Judge an unsafe method or a WebSocket handshake (CSR-02, 03, 05, 06, 10)."""
        if facts.is_websocket:
            return None if "csrf" in facts.route.exempt else self._judge_handshake(facts)
        if facts.headers.get(b"sec-fetch-site") in OWN_SITE or facts.method in SAFE_METHODS:
            return None
        if "csrf" in facts.route.exempt:
            return None
        if b"authorization" in facts.headers and _is_token_only(facts) and not self._has_session(facts):
            return None
        return self._judge_request(facts)

    def _judge_request(self, facts: RequestFacts) -> Denial | None:
        headers = facts.headers
        site = headers.get(b"sec-fetch-site")
        if site is not None:
            if site in OWN_SITE:
                return None
            if not self._is_configured(facts, headers.get(b"origin")):
                return CROSS_ORIGIN
            if site == b"same-site" or (site == b"cross-site" and not self._has_session(facts)):
                return None
            return CROSS_ORIGIN
        if b"origin" in headers:
            return None if self._is_configured(facts, headers[b"origin"]) else CROSS_ORIGIN
        if b"referer" in headers:
            origin = origin_of(headers[b"referer"].decode("latin-1"))
            known = origin is not None and self._is_configured(facts, origin.encode())
            return None if known else CROSS_ORIGIN
        return NO_ORIGIN if self._has_session(facts) else None

    def _judge_handshake(self, facts: RequestFacts) -> Denial | None:
        headers = facts.headers
        origin = headers.get(b"origin")
        if origin is not None:
            return None if self._is_configured(facts, origin) else CROSS_ORIGIN
        if b"sec-fetch-site" in headers or b"referer" in headers:
            return CROSS_ORIGIN
        return NO_ORIGIN if self._has_session(facts) else None

    def _is_configured(self, facts: RequestFacts, origin: bytes | None) -> bool:
        if origin is None:
            return False
        if origin in self._origins:
            return True
        return self._trusts_host and origin == _own_origin(facts)

    def _has_session(self, facts: RequestFacts) -> bool:
        field = facts.headers.get(b"cookie")
        return field is not None and cookies.holds_any(field, self._session_cookies)


def _is_token_only(facts: RequestFacts) -> bool:
    """Say whether the Authorization field holds what a browser never adds by itself."""
    credentials = facts.headers[b"authorization"].lstrip(b" \t").lower()
    # A token has no comma (RFC 9110, 11.2): with one, a second field was joined, perhaps an ambient one.
    return credentials.startswith((b"bearer ", b"dpop ")) and b"," not in credentials


def _own_origin(facts: RequestFacts) -> bytes:
    scheme = (facts.scheme or "http").encode()
    host = facts.headers.get(b"host", b"").lower()
    return scheme + b"://" + host.removesuffix(b":443" if scheme == b"https" else b":80")
