"""Sessions with every column set to something of its own, their accounts, and what becomes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from thebes.stores.accounts import Account
from thebes.stores.jobs import NewJob
from thebes.stores.sessions import Judge, Owner, Session, Verdict
from thebes.stores.store import Store
from thebes.testing.contract.rows import DAY, NOW, found


def account(name: str = "ada", **changes: Any) -> Account:
    """Return an account whose id is its name."""
    made = Account(
        id=name,
        email=f"{name}@example.com",
        email_key=f"{name}@example.com",
        password_hash="$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g",
        created_at=NOW - DAY,
    )
    return replace(made, **changes)


def session(name: str = "one", owner: str = "ada", **changes: Any) -> Session:
    """Return a session opened just now."""
    made = Session(
        id=name,
        account_id=owner,
        mode="cookie",
        generation=0,
        digest=bytes(range(32)),
        rotated_at=NOW,
        network=b"\x00network",
        agent=b"\xffagent",
        grace=30.0,
        created_at=NOW,
        used_at=NOW,
        expires_at=NOW + 30 * DAY,
        idle_seconds=7 * DAY,
        auth_time=NOW,
        amr=("pwd",),
        epoch=0,
        device="Firefox on Linux",
        address="192.0.2.x",
    )
    return replace(made, **changes)


def job(name: str = "mail-1") -> NewJob:
    """Return a mail to queue."""
    return NewJob(id=name, kind="mail", sealed=f"v1.k1.{name}", expires_at=NOW + DAY)


async def with_account(store: Store, name: str = "ada", **changes: Any) -> None:
    """Create an account."""
    assert await store.accounts.create(account(name, **changes), now=NOW)


async def with_sessions(store: Store, *names: str, owner: str = "ada") -> None:
    """Open sessions, each a second younger than the one before."""
    for number, name in enumerate(names):
        opened = session(name, owner, created_at=NOW + number)
        assert await store.sessions.open(opened, most=100, now=NOW + number)


async def waiting_jobs(store: Store) -> list[str]:
    """Return the ids of the mails in the queue, and take them."""
    return [one.id for one in await store.jobs.take("mail", most=100, lease=60, now=NOW + 3600)]


async def endings(store: Store, *names: str) -> dict[str, tuple[float | None, str | None]]:
    """Return when and why sessions were ended."""
    return {name: ((one := await found(store, name)).revoked_at, one.revoked_for) for name in names}


async def noted(store: Store, after: int = 0, now: float = NOW) -> list[tuple[str, str]]:
    """Return the revocations behind a mark, by kind and subject."""
    return [(entry.kind, entry.subject) for entry in await store.sessions.revocations(after, now=now)]


def renewing(**changes: Any) -> Judge[int]:
    """Return a judge that counts up the generation, and answers with it."""

    def judge(before: Session | None, owner: Owner | None, now: float) -> Verdict[int]:
        if before is None:
            return Verdict(-1)
        after = replace(before, generation=before.generation + 1, used_at=now, **changes)
        return Verdict(after.generation, after)

    return judge
