"""Sign somebody in for a test, without a password and without what hashing one costs.

It does what a sign-in does after the password was found right: it opens a session in the app's own store and
makes genuine tokens of it. So renewal, revocation and guards act on it as on any other. It is refused outside
test mode, since a store of another mode holds the accounts of real people.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from email.message import Message
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, Any, cast
from urllib.request import Request

from thebes.accounts.addresses import parse_address
from thebes.accounts.outbox import Mailbox
from thebes.accounts.results import owner_of as owner_of_session
from thebes.accounts.routes import JWKS_PATH
from thebes.accounts.signing_in import PASSWORD
from thebes.errors import ConfigurationError, ThebesError
from thebes.facts import Field, Mode, RequestFacts, Surroundings
from thebes.protection import owner_of
from thebes.tokens.authentication import session_claims
from thebes.tokens.refresh import Renewed

if TYPE_CHECKING:
    from thebes.membership import Membership
    from thebes.security import Security
    from thebes.stores.accounts import Account
    from thebes.stores.sessions import SessionMode

# A path of the package's own: asking for it starts an app that no lifespan has started, and nothing else.
STARTING_PATH = JWKS_PATH
# The scheme of the page that opens a WebSocket.
_PAGES = {"ws": "http", "wss": "https"}


class SignInRefused(ThebesError):
    """A sign-in would be refused whatever the password; `reason` says why."""

    def __init__(self, email: str, reason: str) -> None:
        super().__init__(f"{email} can't sign in: the account is {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Who is to be signed in, and how.

    Attributes:
        email: The address; an account is made if it has none.
        roles: Granted beside those that the account has.
        scopes: Likewise.
        mode: How the session's tokens travel.
        age: How long ago the password was checked.
    """

    email: str
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    mode: SessionMode = "cookie"
    age: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A session that was opened for a test.

    Attributes:
        account: Whose it is.
        cookies: The fields that set its cookies; none in bearer mode.
        access_token: For the Authorization field; None in cookie mode.
    """

    account: Account
    cookies: tuple[Field, ...] = ()
    access_token: str | None = None


def security_of(app: Any) -> Security:
    """Return what protects an app, if somebody may be signed in to it without a password.

    Raises:
        ConfigurationError: It isn't protected, it has no accounts, or this isn't test mode.
    """
    security = owner_of(app)
    if security is None:
        raise ConfigurationError("this app is not protected, so nobody can sign in: give the protected one")
    mode = Mode.of(os.environ)
    if mode is not Mode.TEST:
        raise ConfigurationError(
            f"this is {mode.value} mode: signing in without a password is for test mode (THEBES_ENV=test)"
        )
    found = cast("Security", security)
    if not found.settings().accounts:
        raise ConfigurationError("there is nobody to sign in: Security(accounts=None) leaves accounts out")
    return found


def has_started(security: Security) -> bool:
    """Say whether the app is running: by a lifespan that goes on, or since a first request."""
    try:
        return security.membership.is_open
    except ConfigurationError:
        return False


async def open_session(
    membership: Membership, wanted: Wanted, *, client: tuple[str, int], agent: str, cookies: CookieJar
) -> Opened:
    """Open a session, as signing in does; the one that the client has in its cookies ends.

    Args:
        client: Where the client calls from.
        agent: Its User-Agent field.
        cookies: What it has.

    Raises:
        ConfigurationError: The address is none.
        SignInRefused: The account is disabled, unconfirmed or compromised.
    """
    account = await _account(membership, wanted)
    where = {"type": "http", "method": "POST", "headers": [(b"user-agent", agent.encode())], "client": client}
    opened = await membership.refresh.open(
        account.id,
        account.epoch,
        mode=wanted.mode,
        amr=PASSWORD,
        circumstances=membership.circumstances(RequestFacts(where, Surroundings())),
        auth_time=time.time() - wanted.age.total_seconds(),
        replaces=_session_in(membership, cookies),
    )
    if opened is None:
        raise SignInRefused(wanted.email, "disabled")
    session, token = opened
    owner = owner_of_session(account)
    if wanted.mode == "bearer":
        claims = session_claims(session, owner)
        return Opened(account=account, access_token=membership.bearer_tokens.issue(claims))
    renewed = Renewed(kind="rotated", token=token, session=session, owner=owner)
    return Opened(account=account, cookies=tuple(membership.authentication.fields_of(renewed)))


async def drained(membership: Membership) -> Mailbox:
    """Return the mailbox after all that is due was done: mails, hooks, and the mails that hooks ask for.

    Raises:
        ConfigurationError: Mails go to a server.
    """
    while await membership.runner.drain():
        pass
    if not isinstance(membership.mailer, Mailbox):
        raise ConfigurationError("there is no mailbox: mail_url is set, so mails go to that server")
    return membership.mailer


def complete(request: Any) -> Any:
    """Return a request of httpx or httpx2 with what a browser adds, unless it says that itself.

    It says where it comes from: by Sec-Fetch-Site, and a handshake by Origin (RFC 6455, 4.1).
    """
    if not {"sec-fetch-site", "origin"} & request.headers.keys():
        if request.url.scheme in _PAGES:
            host = request.url.netloc.decode("ascii")
            request.headers["Origin"] = f"{_PAGES[request.url.scheme]}://{host}"
        request.headers["Sec-Fetch-Site"] = "same-origin"
    return request


def keep_cookies(cookies: CookieJar, url: str, fields: Iterable[Field]) -> None:
    """Put the cookies of an answer into a client's jar by the jar's own rules."""
    answer = Message()
    for name, value in fields:
        answer[name.decode("ascii")] = value.decode("ascii")
    cookies.extract_cookies(cast("Any", _Answer(answer)), Request(url))  # noqa: S310 - nothing is opened


def sign_out_path(membership: Membership) -> str:
    """Return the path of the app's own sign-out."""
    return membership.routes.session_prefix.removesuffix("sessions/") + "logout"


async def _account(membership: Membership, wanted: Wanted) -> Account:
    address = parse_address(wanted.email)
    account = None if address is None else await membership.store.accounts.by_email(address.key)
    if account is None:
        invited = await membership.administration.create(
            wanted.email, password=None, roles=wanted.roles, scopes=wanted.scopes
        )
        # What the app does for a new account is done before the test goes on.
        await membership.runner.drain()
        return invited.account
    if account.verified_at is None:
        raise SignInRefused(wanted.email, "not confirmed yet")
    if account.is_compromised:
        raise SignInRefused(wanted.email, "marked as compromised")
    roles = [role for role in wanted.roles if role not in account.roles]
    scopes = [scope for scope in wanted.scopes if scope not in account.scopes]
    if roles or scopes:
        return await membership.administration.grant(account, roles=roles, scopes=scopes)
    return account


def _session_in(membership: Membership, cookies: CookieJar) -> str | None:
    for cookie in cookies:
        if cookie.name == membership.jar.refresh_name and cookie.value is not None:
            presented = membership.refresh.read(cookie.value)
            return None if presented is None else presented.session_id
    return None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a cookie jar wants of an answer."""

    headers: Message

    def info(self) -> Message:
        """Return the fields."""
        return self.headers
