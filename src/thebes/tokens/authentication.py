"""Who is asking? Found out once for each request, from the session cookie or a bearer token.

A bad cookie is nobody: browsers send what they have, and an expired cookie is no attack. A bad bearer token
of ours is an error, since its sender said that it should count. Every other token belongs to the app.

Renewal in place: where the access token is missing, expired or broken and the refresh cookie is genuine,
the request is served as signed in, and both cookies are renewed when the answer begins. On arrival the
session is only read. To rotate then would sign people out: a slow answer would come after the grace, and a
late one would overwrite the cookies of whoever signed in meanwhile.

What is costly about strangers, a bearer signature not seen before, comes after a look at their budget.

Does not protect: whoever holds a copy of both cookies, until the refresh token is presented a second time.

Sources: RFC 6750, 2 and 3; RFC 9068, 4; RFC 9700, 4.14; TOK-18 to TOK-40.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Literal, Protocol

from thebes.errors import StoreUnavailable
from thebes.facts import Denial, Field, Reply, RequestFacts
from thebes.stores.sessions import Owner, Session
from thebes.tokens.bearer_tokens import BearerTokens
from thebes.tokens.claims import Claims, InvalidToken, SessionClaims
from thebes.tokens.cookie_jar import CookieJar
from thebes.tokens.cookie_tokens import CookieTokens
from thebes.tokens.jws import HEADER_START
from thebes.tokens.refresh import Circumstances, Presented, RefreshTokens, Renewed, max_age
from thebes.tokens.revocations import Revocations
from thebes.tokens.sockets import OpenSockets, SocketClaims

# A rotation that hasn't begun by then is withdrawn; the next request renews. No answer waits for a busy disk.
RENEW_WITHIN_SECONDS = 0.05
CLIENT_ID = "self"  # RFC 9068, 2.2: first-party sessions have no registered client
# What a request with a bad bearer token of ours costs its sender's address; any other costs 1.
FORGED_COST = 10
EXPIRED_COST = 1

# RFC 6750, 3.1. The reason stays in the log.
INVALID = Denial(
    401,
    "invalid-token",
    "The access token is not valid",
    "Sign in again, or refresh the token.",
    headers=((b"www-authenticate", b'Bearer error="invalid_token"'),),
)
IN_QUERY = Denial(
    400,
    "token-in-query",
    "A token stands in the address",
    "Send it in the Authorization field: addresses are logged, kept and passed on.",
)
UNAVAILABLE = Denial(
    503,
    "store-unavailable",
    "The service can't check sign-ins right now",
    "Try again in a few seconds.",
    headers=((b"retry-after", b"2"),),
)


def _tell_nobody(facts: RequestFacts, reason: str) -> None:
    """Stand for a listener."""


class AddressBudget(Protocol):
    """What is left to a client's address; the limits have it."""

    def is_spent(self, facts: RequestFacts) -> Denial | None:
        """Return the denial that the address has earned already, without charging it."""
        ...

    def charge(self, facts: RequestFacts, cost: int) -> None:
        """Charge the address."""
        ...


class Authentication:
    """The check that finds out who is asking, and sees to it that sessions live on.

    Args:
        cookie_tokens: Verify and make the access tokens of cookie mode.
        bearer_tokens: Those of bearer mode.
        refresh: The sessions.
        revocations: What this process knows of ended sessions.
        jar: Our cookies.
        budget: What strangers may cost; None without limits.
        circumstances: Says where a request comes from, as far as sessions care.
        acts_itself: Paths whose handlers act on the refresh cookie themselves.
        told: Called with each refusal and each renewal that says something about an attack.
        asks_store: Whether every signed-in request asks the store (`revocation="store"`).
        sockets: Watch over signed-in WebSockets; None lets them live on.
        clock: Seconds since the epoch.
    """

    name = "tokens"

    def __init__(
        self,
        *,
        cookie_tokens: CookieTokens,
        bearer_tokens: BearerTokens,
        refresh: RefreshTokens,
        revocations: Revocations,
        jar: CookieJar,
        budget: AddressBudget | None,
        circumstances: Callable[[RequestFacts], Circumstances],
        acts_itself: frozenset[str] = frozenset(),
        told: Callable[[RequestFacts, str], None] = _tell_nobody,
        asks_store: bool = False,
        sockets: OpenSockets | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cookie_tokens = cookie_tokens
        self._bearer_tokens = bearer_tokens
        self._refresh = refresh
        self._revocations = revocations
        self._jar = jar
        self._budget = budget
        self._circumstances = circumstances
        self._acts_itself = acts_itself
        self._told = told
        self._asks_store = asks_store
        self._sockets = sockets
        self._clock = clock

    def __call__(self, facts: RequestFacts) -> Reply | Awaitable[Reply | None] | None:
        """Find out who asks; a coroutine where the store has to be asked first."""
        headers = facts.headers
        query = facts.scope.get("query_string")
        if query and HEADER_START in query and self._is_ours_in(query):
            return IN_QUERY
        field = headers.get(b"cookie")
        brought = None
        if field is not None:
            brought = self._jar.brought(field)
            if brought.others is not None:
                facts.app_headers = _with_cookies(facts.scope["headers"], field, brought.others)
        authorization = headers.get(b"authorization")
        if authorization is not None:
            scheme, _, credentials = authorization.partition(b" ")
            if scheme.lower() == b"bearer":
                return self._by_bearer(facts, credentials.strip(b" \t"))
            if scheme.lower() == b"dpop":
                return None  # bound to a key (RFC 9449), so none of ours; the cookie doesn't count beside it
        if brought is None or (brought.session is None and brought.refresh is None):
            return None
        facts.refresh_token = brought.refresh
        return self._by_cookie(facts, brought.session, brought.refresh)

    # Cookies

    def _by_cookie(
        self, facts: RequestFacts, token: bytes | None, refresh_token: bytes | None
    ) -> Awaitable[Reply | None] | None:
        claims = None
        if token is not None:
            try:
                claims = self._cookie_tokens.verify(token, now=self._clock())
            except InvalidToken as error:
                facts.refused_for = error.reason
                if error.reason != "expired":
                    self._told(facts, error.reason)
        if claims is None:
            return None if refresh_token is None else self._try_to_renew(facts, refresh_token)
        if self._asks_store or self._revocations.is_behind():
            return self._after_catching_up(facts, claims, refresh_token)
        return self._judge_session(facts, claims, refresh_token)

    def _judge_session(
        self, facts: RequestFacts, claims: Claims, refresh_token: bytes | None
    ) -> Awaitable[Reply | None] | None:
        if not self._revocations.concerns(claims.sid, claims.sub, claims.epoch):
            self._sign_in(facts, claims, "cookie")
            return None
        facts.refused_for = "revoked"
        # The session itself may live on, with other roles: then its next access token says so.
        return None if refresh_token is None else self._try_to_renew(facts, refresh_token)

    async def _after_catching_up(
        self, facts: RequestFacts, claims: Claims, refresh_token: bytes | None
    ) -> Reply | None:
        try:
            await self._revocations.catch_up()
        except StoreUnavailable:
            return UNAVAILABLE
        later = self._judge_session(facts, claims, refresh_token)
        return None if later is None else await later

    def _try_to_renew(self, facts: RequestFacts, refresh_token: bytes) -> Awaitable[Reply | None] | None:
        if facts.path in self._acts_itself:
            return None
        presented = self._refresh.read(refresh_token)
        return None if presented is None else self._arrive(facts, presented)

    async def _arrive(self, facts: RequestFacts, presented: Presented) -> Reply | None:
        circumstances = self._circumstances(facts)
        try:
            renewed = await self._refresh.arrive(presented, mode="cookie", circumstances=circumstances)
        except StoreUnavailable:
            return UNAVAILABLE
        if renewed.session is None or renewed.owner is None or renewed.kind in ("refused", "withdrawn"):
            facts.refused_for = renewed.reason
            return None
        self._sign_in(facts, session_claims(renewed.session, renewed.owner), "cookie")
        facts.renewal = partial(self.renewed_fields, presented, circumstances)
        return None

    async def renewed_fields(self, presented: Presented, circumstances: Circumstances) -> Sequence[Field]:
        """Rotate at the start of an answer, and return the fields that set both cookies, or none."""
        try:
            # A client that leaves cancels its answer; the statement is finished all the same.
            renewed = await self._refresh.renew(
                presented,
                mode="cookie",
                circumstances=circumstances,
                begin_within=RENEW_WITHIN_SECONDS,
                after_arrival=True,
            )
        except StoreUnavailable:
            return ()
        return self.fields_of(renewed)

    def fields_of(self, renewed: Renewed) -> Sequence[Field]:
        """Return the fields that set both cookies of a renewed session, or none."""
        session, owner, token = renewed.session, renewed.owner, renewed.token
        if session is None or owner is None or token is None:
            return ()
        now = self._clock()
        access = self._cookie_tokens.issue(session_claims(session, owner), now=now)
        age = max_age(session, now=now)
        return (
            self._jar.set_session(access, max_age=age),
            self._jar.set_refresh(token, max_age=age),
        )

    # Bearer tokens

    def _by_bearer(self, facts: RequestFacts, token: bytes) -> Reply | Awaitable[Reply | None] | None:
        if not self._bearer_tokens.names_our_key(token):
            if self._cookie_tokens.names_our_key(token):
                return self._refuse(facts, "mode", FORGED_COST)
            if not self._bearer_tokens.may_have_newer_keys(token):
                return None  # the app's own, or nobody's
            return self._after_reload(facts, token)
        return self._verify_bearer(facts, token)

    async def _after_reload(self, facts: RequestFacts, token: bytes) -> Reply | None:
        await self._bearer_tokens.reload()
        if not self._bearer_tokens.names_our_key(token):
            return None
        reply = self._verify_bearer(facts, token)
        return await reply if isinstance(reply, Awaitable) else reply

    def _verify_bearer(self, facts: RequestFacts, token: bytes) -> Reply | Awaitable[Reply | None] | None:
        now = self._clock()
        if self._budget is not None and not self._bearer_tokens.has_seen(token):
            spent = self._budget.is_spent(facts)
            if spent is not None:
                return spent
        try:
            claims = self._bearer_tokens.verify(token, now=now)
        except InvalidToken as error:
            cost = EXPIRED_COST if error.reason == "expired" else FORGED_COST
            return self._refuse(facts, error.reason, cost)
        if self._asks_store or self._revocations.is_behind():
            return self._bearer_after_catching_up(facts, claims)
        return self._judge_bearer(facts, claims)

    async def _bearer_after_catching_up(self, facts: RequestFacts, claims: Claims) -> Reply | None:
        try:
            await self._revocations.catch_up()
        except StoreUnavailable:
            return UNAVAILABLE
        return self._judge_bearer(facts, claims)

    def _judge_bearer(self, facts: RequestFacts, claims: Claims) -> Reply | None:
        if self._revocations.concerns(claims.sid, claims.sub, claims.epoch):
            return self._refuse(facts, "revoked", EXPIRED_COST)
        self._sign_in(facts, claims, "bearer")
        return None

    def _refuse(self, facts: RequestFacts, reason: str, cost: int) -> Denial:
        self._told(facts, reason)
        if self._budget is not None and cost > 1:
            self._budget.charge(facts, cost - 1)  # the pass charges the request itself
        return INVALID

    def _sign_in(
        self, facts: RequestFacts, claims: SocketClaims, credential: Literal["cookie", "bearer"]
    ) -> None:
        facts.claims = claims
        facts.credential = credential
        if facts.is_websocket and self._sockets is not None:
            facts.socket = self._sockets.watched(claims)

    def _is_ours_in(self, query: bytes) -> bool:
        values = (pair.rpartition(b"=")[2] for pair in query.split(b"&"))
        return any(
            self._bearer_tokens.names_our_key(value) or self._cookie_tokens.names_our_key(value)
            for value in values
        )


def session_claims(session: Session, owner: Owner) -> SessionClaims:
    """Return what the access tokens of a session say."""
    return SessionClaims(
        sub=session.account_id,
        sid=session.id,
        client_id=CLIENT_ID,
        auth_time=session.auth_time,
        amr=session.amr,
        epoch=owner.epoch,
        scope=frozenset(owner.scopes),
        roles=owner.roles,
    )


def _with_cookies(raw: Sequence[Field], brought: bytes, others: bytes) -> list[Field]:
    """Return a request's fields with another Cookie field, or with none where nothing is left of it.

    Args:
        brought: The Cookie field, or all of them joined.
    """
    kept = list(raw)
    try:
        kept.remove((b"cookie", brought))  # one call; there is one such field, or none as it was joined
    except ValueError:
        kept = [field for field in raw if field[0] != b"cookie"]
    if others:
        kept.append((b"cookie", others))
    return kept
