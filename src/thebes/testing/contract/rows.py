"""Accounts, tokens, sessions and jobs as the contract puts them in, and short ways to ask for them again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, TypeVar

from thebes.stores.accounts import Account, NewToken, TokenPurpose
from thebes.stores.jobs import NewJob
from thebes.stores.sessions import Session
from thebes.stores.store import Store

Value = TypeVar("Value")

NOW: Final = 1_800_000_000.0
DAY: Final = 86_400.0
ADAS_HASH: Final = "$argon2id$ada's"
ADA: Final = Account(
    id="0192f0c1-7c1e-7d6a-9b1e-0123456789ab",
    email="Ada@Example.com",
    email_key="ada@example.com",
    password_hash=ADAS_HASH,
    roles=("editor", "author"),
    scopes=("notes:write",),
    created_at=NOW - 0.123456789,
)
BOB: Final = Account(
    id="0192f0c1-7c1e-7d6a-9b1e-0123456789ac",
    email="bob@example.com",
    email_key="bob@example.com",
    password_hash=None,
    created_at=NOW,
)
MAIL: Final = NewJob(id="mail 1", kind="mail", sealed="v1.k1.letter", expires_at=NOW + DAY)


def token(
    name: str, purpose: TokenPurpose, account: Account = ADA, *, expires_at: float = NOW + 1800
) -> NewToken:
    """Return a token of an account, whose digest is made from its name."""
    return NewToken(
        digest=digest(name),
        purpose=purpose,
        account_id=account.id,
        email_key=account.email_key,
        expires_at=expires_at,
    )


def digest(name: str) -> bytes:
    """Return what stands for the SHA-256 of a token."""
    return name.encode().ljust(32, b"\0")


def session(name: str, account: Account = ADA, **changes: Any) -> Session:
    """Return a session of an account, opened a minute ago."""
    opened = Session(
        id=name,
        account_id=account.id,
        mode="cookie",
        generation=0,
        digest=digest(name),
        rotated_at=NOW - 60,
        network=b"n",
        agent=b"a",
        grace=30.0,
        created_at=NOW - 60,
        used_at=NOW - 60,
        expires_at=NOW + 30 * DAY,
        idle_seconds=7 * DAY,
        auth_time=NOW - 60,
        amr=("pwd",),
        epoch=account.epoch,
        device="Firefox on Linux",
        address="192.0.2.0",
    )
    return replace(opened, **changes)


def present(value: Value | None) -> Value:
    """Return a value that must be there."""
    assert value is not None
    return value


async def found(store: Store, name: str = "one") -> Session:
    """Return a session that must be there."""
    return present(await store.sessions.find(name))[0]
