"""Who may come in: what a handler, a route or a whole app demands of whoever asks.

A guard refuses with the same answers everywhere, whatever framework carries it: 401 says how to authenticate,
403 names the scope that lacks, and a stale authentication is told how fresh it has to be.

Does not decide who may see which row: that is the app's own query, by `principal.id`.

Sources: RFC 6750, 3; RFC 9470, 3; RFC 9110, 15.5.2; ASVS 5.0.0, 8.2 and 8.3; TOK-37, TOK-38.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import quote

from thebes.answers import SIGN_IN_REQUIRED, render, stale
from thebes.facts import (
    Answer,
    Denial,
    Receive,
    Reply,
    RequestFacts,
    Scope,
    Send,
    SignedInClaims,
    facts_of,
)
from thebes.paths import RoutePattern, RouteTable, target_of

# Octets; RFC 9110, 4.1 wants 8,000 for a whole target, and this one stands in another's query.
MAX_WAY_BACK = 2000
# What may stand in a URL as it is; `%` too, since it is written encoded already (RFC 3986, 2).
_URL_CHARACTERS = "/%:?#[]@!$&'()*+,;=-._~"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is signed in, as the request's own credential says it; made without any I/O.

    Attributes:
        id: The account's id, a UUID: what your own tables refer to.
        session_id: The session's: no secret, but nothing for logs and paths either (LOG-03).
        scopes: What was granted.
        roles: What was granted.
        auth_time: When they really authenticated last, in seconds since the epoch.
        amr: How (RFC 8176).
        credential: What was shown.

    An app that has sessions of its own makes one for `Security.identify`; `id` and `session_id` are enough.
    """

    id: str
    session_id: str
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    auth_time: float = 0.0
    amr: tuple[str, ...] = ()
    credential: Literal["cookie", "bearer"] = "cookie"


class Denied(Exception):
    """A guard inside a framework refuses; `denial` is answered by the handler that `protect` registers."""

    def __init__(self, denial: Denial) -> None:
        super().__init__(denial.kind)
        self.denial = denial


def principal_of(scope: Mapping[str, Any]) -> Principal | None:
    """Return who asks, or None for nobody.

    Raises:
        ConfigurationError: The app isn't protected, so that nothing was checked.
    """
    facts = facts_of(scope)
    claims = facts.claims
    return None if claims is None else _principal(claims, facts.credential or "cookie")


def demand(
    scope: Mapping[str, Any],
    *scopes: str,
    roles: Iterable[str] = (),
    fresh: timedelta | None = None,
    now: float | None = None,
) -> Principal:
    """Return who asks, if they have all that is demanded.

    Args:
        scopes: All of them have to be granted.
        roles: One of them has to be granted, if there are any.
        fresh: How long ago they may have authenticated at most.
        now: Seconds since the epoch; the system clock if None.

    Raises:
        Denied: They haven't, or nobody asks.
        ConfigurationError: The app isn't protected.
    """
    principal = principal_of(scope)
    if principal is None:
        raise Denied(SIGN_IN_REQUIRED)
    lacking = [name for name in scopes if name not in principal.scopes]
    wanted_roles = frozenset(roles)
    if lacking or (wanted_roles and not wanted_roles & principal.roles):
        raise Denied(insufficient(scopes))
    if fresh is not None:
        instant = time.time() if now is None else now
        if instant - principal.auth_time > fresh.total_seconds():
            raise Denied(stale(fresh))
    return principal


def insufficient(scopes: Iterable[str]) -> Denial:
    """Return the answer to somebody who lacks a grant (RFC 6750, 3.1)."""
    wanted = " ".join(scopes)
    challenge = f'Bearer error="insufficient_scope"{f", scope={chr(34)}{wanted}{chr(34)}" if wanted else ""}'
    return Denial(
        403,
        "insufficient-scope",
        "This was not granted to you",
        f"It needs {wanted or 'another role'}.",
        headers=((b"www-authenticate", challenge.encode("ascii", "replace")),),
    )


class AccountDemanded:
    """The check that closes an app but for its public routes.

    Args:
        public: Routes that need nobody; only a plain path can be one of them.
        login_url: Where a browser's navigation is sent, with the path that it asked for as `next`; a path of
            the app, which is public too.
        owns: Says which plain paths are the package's own, which guard themselves.
    """

    name = "accounts"

    def __init__(
        self,
        public: Iterable[RoutePattern],
        *,
        login_url: str | None,
        owns: Callable[[str], bool] | None = None,
    ) -> None:
        self._public = RouteTable()
        for pattern in public:
            self._public.declare(pattern, cost=0)
        self._login_url = login_url
        self._owns = owns

    def __call__(self, facts: RequestFacts) -> Reply | None:
        """Refuse nobody's request to a route that isn't public."""
        if facts.claims is not None or facts.is_health:
            return None
        path, method = facts.path, "GET" if facts.method == "HEAD" else facts.method
        if path is not None:
            if self._public.find(method, path).cost == 0:
                return None
            if self._owns is not None and self._owns(path):
                return None
            if path == self._login_url and method == "GET":
                return None
        if self._login_url is not None and facts.is_navigation:
            return Answer(303, ((b"location", self._way_in(facts, self._login_url).encode()),))
        return SIGN_IN_REQUIRED

    def _way_in(self, facts: RequestFacts, login_url: str) -> str:
        """Return where to sign in, with the way back as `next`, unless that is unclear or very long."""
        # The server's own word for where the app lies, not the client's.
        location = quote(facts.scope.get("root_path", "") + login_url, safe=_URL_CHARACTERS)
        target = target_of(facts.scope)
        if facts.path is None or len(target) > MAX_WAY_BACK or "next=" in login_url:
            return location
        return f"{location}{'&' if '?' in location else '?'}next={quote(target, safe='/')}"


async def answer_denied(request: Any, error: Exception) -> Any:  # noqa: ARG001
    """Answer a guard's refusal: the handler that `protect` registers for `Denied`."""
    return _DeniedResponse(error.denial if isinstance(error, Denied) else SIGN_IN_REQUIRED)


class _DeniedResponse:
    """An ASGI response: Starlette calls what a handler returns with scope, receive and send."""

    def __init__(self, denial: Denial) -> None:
        self._denial = denial

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            # Before the handshake the pass makes an answer of it.
            await send({"type": "websocket.close", "code": 1008, "reason": self._denial.kind})
            return
        rendered = render(self._denial, facts_of(scope))
        start = {"type": "http.response.start", "status": rendered.status, "headers": list(rendered.headers)}
        await send(start)
        await send({"type": "http.response.body", "body": rendered.body})


def _principal(claims: SignedInClaims, credential: Literal["cookie", "bearer"]) -> Principal:
    return Principal(
        id=claims.sub,
        session_id=claims.sid,
        scopes=frozenset(claims.scope),
        roles=frozenset(claims.roles),
        auth_time=claims.auth_time,
        amr=claims.amr,
        credential=credential,
    )
