"""A fault between any two steps of a change leaves the old state or the new one (ACC-35)."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from account_rows import ADA, BOB, MAIL, NOW, digest, session, token
from thebes.errors import StoreUnavailable
from thebes.stores.failures import Failures, FailureVerdict
from thebes.stores.sqlite import SQLiteStore
from thebes.stores.sqlite.accounts import AccountStore
from thebes.stores.sqlite.database import Database

Verb = Callable[[Any], Coroutine[Any, Any, Any]]
FAILURES = (b"ada", b"ada's account")
VERBS: dict[str, Verb] = {
    "create": lambda accounts: accounts.create(BOB, token=token("b", "verify", BOB), jobs=[MAIL], now=NOW),
    "issue": lambda accounts: accounts.issue(token("again", "reset"), jobs=[MAIL], now=NOW),
    "confirm_email": lambda accounts: accounts.confirm_email(digest("verify"), jobs=[MAIL], now=NOW),
    "reset_password": lambda accounts: accounts.reset_password(
        digest("reset"), "reset", "new", failure_keys=FAILURES, jobs=[MAIL], now=NOW
    ),
    "change_password": lambda accounts: accounts.change_password(
        ADA.id, ADA.password_hash, "new", keeps="one", jobs=[MAIL], now=NOW
    ),
    "set_enabled": lambda accounts: accounts.set_enabled(ADA.id, False, jobs=[MAIL], now=NOW),
    "grant": lambda accounts: accounts.grant(ADA.id, roles=["admin"], jobs=[MAIL], now=NOW),
    "revoke_grant": lambda accounts: accounts.revoke_grant(ADA.id, roles=["editor"], jobs=[MAIL], now=NOW),
    "mark_compromised": lambda accounts: accounts.mark_compromised(ADA.id, now=NOW),
    "delete": lambda accounts: accounts.delete(ADA.id, jobs=[MAIL], now=NOW),
}


class Fault(Exception):
    """What goes wrong in the middle."""


class FaultyConnection:
    """A connection on which something goes wrong before a statement, or after its effect.

    Attributes:
        strike: Called when it does.
        left: How many points between statements pass before that.
    """

    def __init__(self, connection: sqlite3.Connection, left: int, strike: Callable[[], Any]) -> None:
        self._connection = connection
        self.left = left
        self.strike = strike

    def execute(self, *arguments: Any) -> Any:
        return self._between(self._connection.execute, *arguments)

    def executemany(self, *arguments: Any) -> Any:
        return self._between(self._connection.executemany, *arguments)

    def _between(self, run: Callable[..., Any], *arguments: Any) -> Any:
        self._point()
        cursor = run(*arguments)
        self._point()
        return cursor

    def _point(self) -> None:
        self.left -= 1
        if self.left < 0:
            self.strike()


class FaultyDatabase:
    """A database whose transactions are given a connection with a fault."""

    def __init__(self, database: Database, left: int, strike: Callable[[], Any]) -> None:
        self._database = database
        self._left = left
        self._strike = strike
        self.read = database.read

    async def write(self, work: Any, **settings: Any) -> Any:
        return await self._database.write(
            lambda connection: work(FaultyConnection(connection, self._left, self._strike)), **settings
        )


def raise_fault() -> None:
    raise Fault


def raise_full_disk() -> None:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    raise error


async def filled(path: Path) -> SQLiteStore:
    """Return a store with an account that has all that a change could touch."""
    store = SQLiteStore(path)
    await store.start()
    await store.accounts.create(ADA, token=token("verify", "verify"), now=NOW)
    await store.accounts.issue(token("reset", "reset"), now=NOW)
    await store.accounts.issue(token("invite", "invite"), now=NOW)
    for name in ("one", "two", "three"):
        await store.sessions.open(session(name), most=20, now=NOW)
    rows = [Failures(count=100, last_at=NOW)] * 2
    await store.failures.settle(FAILURES, lambda found, now: FailureVerdict(None, rows), now=NOW)
    return store


def state(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table; of a revocation not its number, which is never given twice."""
    connection = sqlite3.connect(path)
    try:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        rows = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
    finally:
        connection.close()
    rows["thebes_revocations"] = [row[1:] for row in rows["thebes_revocations"]]
    for name in ("sqlite_sequence", "thebes_migrations"):
        rows.pop(name, None)
    return {name: sorted(found, key=repr) for name, found in rows.items()}


@pytest.mark.requirement("ACC-35")
@pytest.mark.parametrize("strike", [raise_fault, raise_full_disk], ids=["error", "disk is full"])
@pytest.mark.parametrize("verb", VERBS)
async def test_a_fault_between_any_two_statements_leaves_the_old_state(
    tmp_path: Path, verb: str, strike: Callable[[], None]
) -> None:
    twin = await filled(tmp_path / "twin.db")
    await VERBS[verb](twin.accounts)
    await twin.close()
    new = state(tmp_path / "twin.db")

    path = tmp_path / "thebes.db"
    store = await filled(path)
    old, faults, is_done = state(path), 0, False
    assert old != new
    while not is_done:
        accounts = AccountStore(FaultyDatabase(store._database, faults, strike))  # type: ignore[arg-type]
        try:
            await VERBS[verb](accounts)
        except (Fault, StoreUnavailable):
            faults += 1
            assert state(path) == old
        else:
            is_done = True
    assert state(path) == new
    assert faults >= 4  # before and behind each of at least two statements
    await store.close()


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from test_accounts_faults import VERBS, AccountStore, FaultyDatabase, SQLiteStore

async def change(path: str, verb: str, points: int) -> None:
    store = SQLiteStore(path)
    await store.start()
    strike = lambda: os.kill(os.getpid(), signal.SIGKILL)
    await VERBS[verb](AccountStore(FaultyDatabase(store._database, points, strike)))
    await store.close()

asyncio.run(change(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["reset_password", "delete"])
async def test_a_process_killed_between_any_two_statements_leaves_the_old_state(
    tmp_path: Path, verb: str, counts_are_full: bool
) -> None:
    path, kills, points = tmp_path / "thebes.db", 0, 0
    await (await filled(path)).close()
    old = state(path)
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (here, here.parent / "support", *filter(None, sys.path))))
    while True:
        command = [sys.executable, "-c", KILLED, str(path), verb, str(points)]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        kills += 1
        points += 1 if counts_are_full else 4
        assert state(path) == old
    assert kills >= 2
    assert state(path) != old
