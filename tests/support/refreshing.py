"""Sessions, refresh tokens, the places that they come from and the stores that they lie in, for tests."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from account_rows import ADA, BOB
from thebes.secrets.successors import RefreshKeyring
from thebes.stores.jobs import NewJob
from thebes.stores.memory import MemoryStore
from thebes.stores.sessions import Owner, Revocation, Session, Verdict
from thebes.stores.sqlite import SQLiteStore
from thebes.stores.store import Store
from thebes.tokens.circumstances import Circumstances
from thebes.tokens.refresh import RefreshTokens, Renewed
from thebes.tokens.refresh_format import Presented, make_token
from token_making import ring

T0 = NOW = 1_800_000_000.0
GRACE = 30.0
DAY = 24 * 3600.0
KEYS = RefreshKeyring(ring("old"))
ACCOUNT = "0192f0c1-7c1e-7d6a-9b1e-0123456789ab"
OWNER = Owner(id=ACCOUNT, is_enabled=True, is_verified=True, epoch=3, roles=("editor",))
HOME = Circumstances(network=b"home", agent=b"firefox", device="Firefox on Linux", address="203.0.113.0/24")
AWAY = dataclasses.replace(HOME, network=b"away", address="198.51.100.0/24")
OTHER_BROWSER = dataclasses.replace(HOME, agent=b"curl", device="curl")


def tokens_of(session_id: str, count: int) -> list[Presented]:
    """Return a session's genuine tokens, those of the generations 0 to `count` - 1."""
    return [make_token(KEYS, session_id, generation) for generation in range(count)]


def session_row(current: Presented, **changes: Any) -> Session:
    """Return the row of a session whose current token this is: made at NOW, at home."""
    row = Session(
        id=current.session_id,
        account_id=ACCOUNT,
        mode="cookie",
        generation=current.generation,
        digest=current.digest,
        rotated_at=NOW,
        network=HOME.network,
        agent=HOME.agent,
        grace=GRACE,
        created_at=NOW - DAY,
        used_at=NOW,
        expires_at=NOW + 29 * DAY,
        idle_seconds=7 * DAY,
        auth_time=NOW - DAY,
        amr=("pwd",),
        epoch=OWNER.epoch,
        device=HOME.device,
        address=HOME.address,
    )
    return dataclasses.replace(row, **changes)


class OneSession:
    """The sessions of a store that holds one: each verb runs to its end before another begins.

    Attributes:
        row: The session.
        owner: Its account.
        writes: How many rows were written.
    """

    def __init__(self, row: Session, owner: Owner = OWNER) -> None:
        self.row = row
        self.owner = owner
        self.writes = 0

    async def find(self, session_id: str) -> tuple[Session, Owner] | None:
        """Return the session, if it is this one."""
        return (self.row, self.owner) if session_id == self.row.id else None

    async def settle(
        self,
        session_id: str,
        judge: Callable[[Session | None, Owner | None, float], Verdict[Any]],
        *,
        begin_within: float | None = None,
        now: float | None = None,
    ) -> Any:
        """Let `judge` decide."""
        assert now is not None
        found = session_id == self.row.id
        verdict = judge(self.row if found else None, self.owner if found else None, now)
        if verdict.session is not None:
            self.row = verdict.session
            self.writes += 1
        return verdict.answer


STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda directory: MemoryStore(),
    "sqlite": lambda directory: SQLiteStore(directory / "thebes.db"),
}


@contextlib.asynccontextmanager
async def a_store(kind: str, directory: Path) -> AsyncIterator[Any]:
    """Start a store that holds two accounts, and close it in the end."""
    made = STORES[kind](directory)
    await made.start()
    assert await made.accounts.create(ADA, now=T0)
    assert await made.accounts.create(BOB, now=T0)
    yield made
    await made.close()


def theft_mail(session) -> list[NewJob]:
    """Return what stands for the mail to the owner of a stolen session."""
    return [
        NewJob(id=f"theft of {session.id}", kind="mail", sealed="v1.old.x", expires_at=session.expires_at)
    ]


class Client:
    """Somebody with a session: opens it at T0, and asks for its tokens to be judged."""

    def __init__(self, refresh: RefreshTokens, session, token: str) -> None:
        self.refresh = refresh
        self.session = session
        self.tokens = [token]

    @classmethod
    async def signed_in(cls, refresh, *, now: float = T0, account=ADA, mode="cookie", **settings) -> "Client":
        """Open a session, and return who holds it."""
        settings = {"amr": ("pwd",), "circumstances": HOME} | settings
        opened = await refresh.open(account.id, account.epoch, mode=mode, now=now, **settings)
        assert opened is not None
        return cls(refresh, *opened)

    async def shows(
        self, token: str, now: float, *, where=HOME, mode=None, step="refresh", **more
    ) -> Renewed:
        """Show a token: on `arrival`, for the `renewal` after it, or to the endpoint (`refresh`)."""
        presented = self.refresh.read(token)
        assert presented is not None
        how = {"mode": mode or self.session.mode, "circumstances": where, "now": now}
        if step == "arrival":
            return await self.refresh.arrive(presented, **how)
        return await self.refresh.renew(presented, after_arrival=step == "renewal", **how, **more)

    async def rotates(self, now: float) -> str:
        """Exchange the newest token, and keep the one that follows."""
        renewed = await self.shows(self.tokens[-1], now)
        assert renewed.kind == "rotated", renewed
        self.tokens.append(renewed.token)
        return renewed.token

    async def row(self, store):
        """Return the session as the store has it."""
        row, _ = await store.sessions.find(self.session.id)
        return row


async def queued(store: Store) -> list[str]:
    """Return the ids of the mails that wait."""
    return [job.id for job in await store.jobs.take("mail", most=10, lease=1, now=T0 + DAY)]


class Clock:
    """Seconds that the test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Rows:
    """Revocation rows whose number, commits and faults the test decides on, and reads that it lets end.

    Attributes:
        number: What `sequence` says.
        rows: What is committed.
        reads: The `after` of every read.
        gate: A read that has seen the rows waits for it.
        fault: Raised by reads.
    """

    def __init__(self) -> None:
        self.number = 0
        self.rows: list[Revocation] = []
        self.reads: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: Exception | None = None

    def sequence(self) -> int:
        """Return the number."""
        return self.number

    async def revocations(self, after: int, *, now: float | None = None) -> list[Revocation]:
        """Return what is committed when the read begins, once the gate is open."""
        self.reads.append(after)
        seen = [row for row in self.rows if row.sequence > after]
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return seen

    def begin(self) -> int:
        """Raise the number, as a transaction does before its commit."""
        self.number += 1
        return self.number

    def commit(self, number: int, subject: str) -> None:
        """Make the row of a number visible."""
        self.rows.append(Revocation(number, "session", subject, 0, NOW + 600))
        self.rows.sort(key=lambda row: row.sequence)

    def add(self, subject: str) -> None:
        """Begin and commit."""
        self.commit(self.begin(), subject)
