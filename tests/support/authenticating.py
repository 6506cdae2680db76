"""An app behind the whole pass, in this process, and people whose sessions are as old as a test wants them."""

import base64
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from account_rows import ADA, BOB
from asking import Answered, ask, request_facts
from attack import in_mode
from recording import Sink
from thebes import Events, Security
from thebes.facts import ASGIApp, facts_of
from thebes.guards import principal_of
from thebes.membership import Membership
from thebes.resources import TEST_ISSUER, TEST_KEY
from thebes.secrets.bound import BoundKeys
from thebes.secrets.keyring import Keyring, Purpose
from thebes.stores.accounts import Account
from thebes.stores.sessions import Session
from thebes.tokens.authentication import session_claims
from thebes.tokens.cookie_tokens import CookieTokens

SESSION, REFRESH = "__Host-thebes-session", "__Host-thebes-refresh"
ORIGIN = {"Origin": "http://localhost"}


class Noting:
    """An app that answers with who asks, and keeps the fields and paths that it saw.

    Attributes:
        cookies: The Cookie fields of each request.
        authorizations: The Authorization fields of each request.
        status: Of its answers.
        headers: Of its answers.
        work: Awaited before it answers.
    """

    def __init__(self) -> None:
        self.cookies: list[list[bytes]] = []
        self.authorizations: list[list[bytes]] = []
        self.facts: list[Any] = []
        self.status = 200
        self.headers: list[tuple[bytes, bytes]] = []
        self.work: Callable[[], Any] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer with the principal's id, or with "nobody"."""
        fields = scope["headers"]
        self.cookies.append([value for name, value in fields if name == b"cookie"])
        self.authorizations.append([value for name, value in fields if name == b"authorization"])
        self.facts.append(facts_of(scope))
        if self.work is not None:
            await self.work()
        principal = principal_of(scope)
        body = b"nobody" if principal is None else principal.id.encode()
        start = {"type": "http.response.start", "status": self.status, "headers": list(self.headers)}
        await send(start)
        await send({"type": "http.response.body", "body": body})


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Somebody's session, with the tokens that their browser or program holds.

    Attributes:
        access: A fresh access token of the session's mode.
        expired: One that has expired.
        refresh: The refresh token.
    """

    account: Account
    session: Session
    access: str
    expired: str
    refresh: str

    def cookie(self, *, access: str | None = "own", refresh: str | None = "own") -> dict[str, str]:
        """Return the Cookie field; other tokens in place of its own, or None to leave one out."""
        tokens = {
            SESSION: self.access if access == "own" else access,
            REFRESH: self.refresh if refresh == "own" else refresh,
        }
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in tokens.items() if value is not None)}

    @property
    def late(self) -> dict[str, str]:
        """The Cookie field when the access token has expired."""
        return self.cookie(access=self.expired)

    @property
    def bearer(self) -> dict[str, str]:
        """The Authorization field."""
        return {"Authorization": f"Bearer {self.access}"}


class Club:
    """A protected app with two members, Ada and Bob.

    Attributes:
        app: What lies behind the pass.
        served: The pass.
        told: Security events, none of them held back.
        security: What protects it.
    """

    def __init__(self, app: Any, served: ASGIApp, told: Sink, security: Security) -> None:
        self.app = app
        self.served = served
        self.told = told
        self.security = security

    @property
    def membership(self) -> Membership:
        """All of the accounts."""
        return self.security.membership

    @property
    def cookie_tokens(self) -> CookieTokens:
        """What makes access tokens for cookies, as the service does."""
        keys = BoundKeys(Keyring((TEST_KEY,)), Purpose.TOKEN_SIGNING)
        return CookieTokens(keys, issuer=TEST_ISSUER)

    def forget(self) -> "Club":
        """Start with empty notes again; accounts and sessions stay."""
        self.told.lines.clear()
        self.told.severities.clear()
        if isinstance(self.app, Noting):
            self.app.__init__()  # type: ignore[misc] # as it was made
        return self

    async def sign_in(
        self, account: Account = ADA, *, mode: Any = "cookie", ago: float = 0.0, **more: Any
    ) -> SignedIn:
        """Open a session, as if it had been so many seconds ago."""
        then = time.time() - ago
        membership = self.membership
        chosen: dict[str, Any] = {"amr": ("pwd",), "circumstances": self.circumstances} | more
        opened = await membership.refresh.open(
            account.id, await self.epoch(account), mode=mode, now=then, **chosen
        )
        assert opened is not None
        session, refresh = opened
        found = await membership.store.sessions.find(session.id)
        assert found is not None
        claims = session_claims(session, found[1])
        tokens = self.cookie_tokens if mode == "cookie" else membership.bearer_tokens
        expired = tokens.issue(claims, now=time.time() - 3600)
        return SignedIn(account, session, tokens.issue(claims), expired, refresh)

    async def epoch(self, account: Account = ADA) -> int:
        """Return an account's epoch."""
        found = await self.membership.store.accounts.by_id(account.id)
        assert found is not None
        return found.epoch

    @property
    def circumstances(self) -> Any:
        """Where the requests of `get` come from."""
        return self.membership.circumstances(request_facts())

    async def get(
        self, headers: Any = None, *, method: str = "GET", path: str = "/", **more: Any
    ) -> Answered:
        """Ask, and return the answer."""
        body = more.pop("body", b"")
        return await ask(self.served, request_facts(method, path, headers, **more), body)

    async def row(self, signed_in: SignedIn) -> Session:
        """Return a session as the store has it."""
        found = await self.membership.store.sessions.find(signed_in.session.id)
        assert found is not None
        return found[0]

    async def who(self, headers: Any = None, **more: Any) -> str:
        """Ask, and return who the app says it was: an account's id, or "nobody"."""
        answered = await self.get(headers, **more)
        assert answered.status == 200, answered
        return answered.body.decode()


@asynccontextmanager
async def a_club(
    app: Any = None,
    *,
    without: tuple[str, ...] = (),
    protect: bool = False,
    prepare: Any = None,
    **settings: Any,
) -> AsyncIterator[Club]:
    """Open the app, in memory unless the settings name a database; wrapped, or protected in place."""
    moments = iter(range(1_700_000_000, 2_000_000_000, 3600))
    told = Sink()
    behind = Noting() if app is None else app
    with in_mode("test") as patch:
        for name in ("THEBES_MAIL_URL", "THEBES_DATABASE_URL", "THEBES_SECRET_KEYS"):
            patch.delenv(name)
        events = Events(told, clock=lambda: float(next(moments)))
        # The key that the tests sign with; in test mode it is the same for all.
        security = Security(events=events, passwords="test", **settings)
        if prepare is not None:
            prepare(security)
        protected = security.without(*without)
        served = protected.protect(behind) if protect else protected.wrap(behind)
        await ask(served, request_facts(path="/.well-known/jwks.json"))  # starts it, and no app is asked
        club = Club(behind, served, told, protected)
        for account in (ADA, BOB):
            member = replace(account, verified_at=account.created_at)
            assert await club.membership.store.accounts.create(member)
        yield club
        await club.membership.close()


def set_cookies(answered: Answered) -> dict[str, str]:
    """Return what an answer sets: name to the rest of the field."""
    fields = [value.decode() for name, value in answered.headers if name.lower() == b"set-cookie"]
    pairs = [field.partition("=")[::2] for field in fields]
    assert len({name for name, _ in pairs}) == len(pairs), "a cookie is set twice"
    return dict(pairs)


def value_of(field: str) -> str:
    """Return the value of a Set-Cookie field without its name."""
    return field.partition(";")[0]


def basic(user: str = "ada", password: str = "x") -> dict[str, str]:
    """Return the Authorization field of Basic."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
