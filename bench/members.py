"""People who have accounts before the measured server starts: their passwords, cookies and bearer tokens.

`prepare` runs in the process of the server to be, in its directory and under its keys, and does what
registering and signing in do, without hashing a password for each. What the load has to show is left in a
file there. Nothing of it outlives the benchmark.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thebes.membership import Membership
    from thebes.security import Security
    from thebes.stores.accounts import Account
    from thebes.stores.sessions import Session, SessionMode

PASSWORD = "seven lamps over the quay"
FILE = "members.json"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Who is needed.

    Attributes:
        cookies: So many people with a session in cookie mode.
        bearers: So many tokens of one session in bearer mode, each of which nobody has verified yet.
        passwords: So many people who sign in with `PASSWORD`.
    """

    cookies: int = 0
    bearers: int = 0
    passwords: int = 0

    def arguments(self) -> list[str]:
        """Return the options of `apps.py` that ask for them."""
        return [f"--{name}={count}" for name, count in asdict(self).items() if count]


@dataclass(frozen=True, slots=True)
class Members:
    """What they show.

    Attributes:
        cookies: Cookie fields, as a browser sends them after signing in.
        bearers: Access tokens of bearer mode.
        emails: Addresses of those who sign in with the password.
        stored: Its hash.
        lanes: How many lanes the server hashes in.
    """

    cookies: list[str] = field(default_factory=list)
    bearers: list[str] = field(default_factory=list)
    emails: list[str] = field(default_factory=list)
    stored: str = ""
    lanes: int = 0


async def prepare(security: Security, wanted: Wanted, directory: Path) -> None:
    """Make them in the store of the app that `security` protects, and leave `FILE` in `directory`."""
    from thebes.accounts.hooks import Hooks
    from thebes.membership import Membership, Surroundings

    around = Surroundings(
        settings=security.settings(), events=security.events, hooks=Hooks(), directory=directory, budget=None
    )
    membership = Membership(around)
    await membership.start(lives=False)
    try:
        made = await _made(membership, security.settings(), wanted)
    finally:
        await membership.close()
    (directory / FILE).write_text(json.dumps(asdict(made)))


def read(directory: Path) -> Members:
    """Return what `prepare` left."""
    return Members(**json.loads((directory / FILE).read_text()))


async def cookie_of(membership: Membership, name: str) -> str:
    """Return the Cookie field of a new account's new session."""
    account = await _account(membership, name, None)
    session, token = await _opened(membership, account, "cookie")
    from thebes.accounts.results import owner_of
    from thebes.tokens.refresh import Renewed

    renewed = Renewed(kind="rotated", token=token, session=session, owner=owner_of(account))
    fields = membership.authentication.fields_of(renewed)
    return "; ".join(value.decode("ascii").partition(";")[0] for _, value in fields)


async def _made(membership: Membership, settings: Any, wanted: Wanted) -> Members:
    from thebes.passwords.costs import chosen_cost
    from thebes.passwords.lanes import share_of_lanes

    # At once, so that they share commits.
    cookies = await asyncio.gather(*(cookie_of(membership, f"reader-{n}") for n in range(wanted.cookies)))
    bearers = await _bearers(membership, wanted.bearers) if wanted.bearers else []
    stored, emails = "", []
    if wanted.passwords:
        stored = await membership.passwords.hash(PASSWORD)
        accounts = [await _account(membership, f"owner-{n}", stored) for n in range(wanted.passwords)]
        emails = [account.email for account in accounts]
    lanes = share_of_lanes(chosen_cost(settings.passwords, settings.mode))
    return Members(cookies, bearers, emails, stored, lanes)


async def _bearers(membership: Membership, count: int) -> list[str]:
    from thebes.accounts.results import owner_of
    from thebes.tokens.authentication import session_claims

    account = await _account(membership, "client", None)
    session, _ = await _opened(membership, account, "bearer")
    claims = session_claims(session, owner_of(account))
    return [membership.bearer_tokens.issue(claims) for _ in range(count)]


async def _account(membership: Membership, name: str, password_hash: str | None) -> Account:
    from thebes.encoding import uuid7
    from thebes.stores.accounts import Account

    email, now = f"{name}@example.com", time.time()
    account = Account(
        id=uuid7(),
        email=email,
        email_key=email,
        password_hash=password_hash,
        verified_at=now,
        created_at=now,
    )
    if not await membership.store.accounts.create(account):
        raise RuntimeError(f"{email} has an account already")
    return account


async def _opened(membership: Membership, account: Account, mode: SessionMode) -> tuple[Session, str]:
    from load import USER_AGENT
    from thebes.facts import RequestFacts, Surroundings

    fields = [(b"user-agent", USER_AGENT.encode("ascii"))]
    where = {"type": "http", "method": "POST", "headers": fields, "client": ("203.0.113.7", 0)}
    opened = await membership.refresh.open(
        account.id,
        account.epoch,
        mode=mode,
        amr=("pwd",),
        circumstances=membership.circumstances(RequestFacts(where, Surroundings())),
    )
    if opened is None:
        raise RuntimeError(f"no session was opened for {account.email}")
    return opened
