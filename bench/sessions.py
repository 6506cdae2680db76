"""Refreshes a second: sessions in SQLite, renewed by tasks at once, against the plainest loop there is.

Run `python bench/sessions.py`; bench/README.md says how to read it.

- `sqlite_refresh_share`: refreshes a second by `RefreshTokens.renew`, 16 tasks with a session each, over the
  updates of a blocking loop on the same disk: one `UPDATE .. RETURNING` of an equally wide row for each
  commit, in WAL mode with `synchronous=FULL`. It may exceed 1.0: tasks share commits, the loop can't.

Elapsed time and not CPU time: a refresh waits for the disk, and how it waits is what is measured. A file
system in memory would take that away, so the databases lie where `--directory` says.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import harness
from thebes.encoding import uuid7
from thebes.secret import Secret
from thebes.secrets.keyring import Keyring
from thebes.secrets.strength import SecretKey
from thebes.secrets.successors import RefreshKeyring
from thebes.stores.accounts import Account
from thebes.stores.sqlite import SQLiteStore
from thebes.stores.sqlite.sessions import COLUMNS, FIXED
from thebes.tokens.circumstances import Circumstances
from thebes.tokens.refresh import RefreshTokens

SHARE = "sqlite_refresh_share"
AIM = 0.5
TASKS = 16
HERE = Circumstances(network=b"n" * 32, agent=b"a" * 32, device="Chrome on Linux", address="203.0.113.0/24")
# All that a rotation may change, as the store writes it.
CHANGED = tuple(name for name in COLUMNS if name not in FIXED)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure.

    Attributes:
        pairs: How often both databases are made anew.
        rounds: With each pair.
        refreshes: By each task in a round.
        noise_only: Both sides are the loop.
    """

    pairs: int
    rounds: int
    refreshes: int
    noise_only: bool = False


class Sessions:
    """Sessions in a file of ours; each refresh is judged, and replaces the token that was presented.

    Args:
        path: Of the file.
        grace: With any, a current token so young is answered with itself, and nothing is written.
    """

    def __init__(self, path: Path, *, grace: timedelta = timedelta(0)) -> None:
        self._store = SQLiteStore(path)
        keyring = Keyring((SecretKey("k1", Secret(os.urandom(32))),))
        self._refresh = RefreshTokens(self._store.sessions, RefreshKeyring(keyring), grace=grace)
        self._tokens: list[str] = []

    async def start(self) -> None:
        """Open the file, and a session for each task."""
        await self._store.start()
        for number in range(TASKS):
            account = _account(f"person-{number}@example.com")
            await self._store.accounts.create(account)
            opened = await self._refresh.open(
                account.id, account.epoch, mode="cookie", amr=("pwd",), circumstances=HERE
            )
            assert opened is not None
            self._tokens.append(opened[1])

    async def close(self) -> None:
        """Close the file."""
        await self._store.close()

    async def renew_all(self, each: int) -> None:
        """Let every task refresh its session so many times, one after the other.

        Raises:
            RuntimeError: A refresh put no other token in the presented one's place.
        """
        self._tokens = await asyncio.gather(*(self._renew(token, each) for token in self._tokens))

    async def _renew(self, token: str, times: int) -> str:
        for _ in range(times):
            presented = self._refresh.read(token)
            assert presented is not None
            renewed = await self._refresh.renew(presented, mode="cookie", circumstances=HERE)
            if renewed.kind != "rotated" or renewed.token is None:
                raise RuntimeError(f"a refresh was {renewed.kind} ({renewed.reason})")
            token = renewed.token
        return token


class Loop:
    """The same rows in another file, updated by one blocking connection."""

    def __init__(self, original: Path, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            self._connection.execute(f"PRAGMA {pragma}")
        with closing(sqlite3.connect(original)) as source:
            (schema,) = source.execute(
                "SELECT sql FROM sqlite_schema WHERE name = 'thebes_sessions'"
            ).fetchone()
            rows = source.execute("SELECT * FROM thebes_sessions").fetchall()
            found = source.execute(f"SELECT {', '.join(CHANGED)}, id FROM thebes_sessions")
            self._values: list[tuple[Any, ...]] = found.fetchall()
        self._connection.execute(schema)
        marks = ", ".join("?" * len(rows[0]))
        self._connection.executemany(f"INSERT INTO thebes_sessions VALUES ({marks})", rows)
        changes = ", ".join(f"{name} = ?" for name in CHANGED)
        self._update = f"UPDATE thebes_sessions SET {changes} WHERE id = ? RETURNING generation"
        self._generation = 0

    def update_all(self, each: int) -> None:
        """Update every row so many times, each time in a commit of its own."""
        for _ in range(each):
            self._generation += 1
            for _, *others in self._values:
                written = self._connection.execute(self._update, (self._generation, *others)).fetchall()
                assert written == [(self._generation,)]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def measure(effort: Effort, directory: Path | None) -> harness.Figure:
    """Return refreshes a second: ours / the blocking loop's.

    Args:
        effort: How much to measure.
        directory: Where the databases lie; that of temporary files if None.

    Raises:
        RuntimeError: A refresh was refused.
    """
    measured = harness.Rounds()
    for number in range(effort.pairs):
        with asyncio.Runner() as runner, tempfile.TemporaryDirectory(prefix="bench-", dir=directory) as empty:
            add_rounds(measured, runner, effort, Path(empty))
        median = statistics.median(measured.ratios[-effort.rounds :])
        harness.say(f"{SHARE}: pair {number + 1} of {effort.pairs}: {median:.3f}")
    ours_s, blocking_s = (statistics.median(side) for side in (measured.below, measured.above))
    detail = f"{1 / ours_s:.0f} refreshes/s by {TASKS} tasks, {1 / blocking_s:.0f} updates/s by the loop"
    return harness.Figure(SHARE, "higher", AIM, measured.ratios, detail)


def add_rounds(measured: harness.Rounds, runner: asyncio.Runner, effort: Effort, directory: Path) -> None:
    """Measure with a fresh pair of databases."""
    sessions = Sessions(directory / "ours.db")
    runner.run(sessions.start())
    runner.run(sessions.renew_all(2))  # the row is as wide as it gets once a successor stands in it
    with closing(Loop(directory / "ours.db", directory / "loop.db")) as loop:

        def ours() -> float:
            began = time.perf_counter()
            runner.run(sessions.renew_all(effort.refreshes))
            return (time.perf_counter() - began) / (TASKS * effort.refreshes)

        def blocking() -> float:
            began = time.perf_counter()
            loop.update_all(effort.refreshes)
            return (time.perf_counter() - began) / (TASKS * effort.refreshes)

        for warm_up in (ours, blocking):
            warm_up()
        measured.measure(effort.rounds, above=blocking, below=blocking if effort.noise_only else ours)
    runner.run(sessions.close())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; what is measured is a matter of the options alone."""
    parser = argparse.ArgumentParser(description="Refreshes a second on SQLite.")
    parser.add_argument("--pairs", type=int, default=3, help="of fresh databases (default: 3)")
    parser.add_argument("--rounds", type=int, default=5, help="with each pair (default: 5)")
    parser.add_argument("--refreshes", type=int, default=50, help="by each of 16 tasks in a round")
    parser.add_argument("--directory", type=Path, help="where the databases lie; that of temporary files")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--noise", action="store_true", help="compare the loop with itself")
    options = parser.parse_args(arguments)

    effort = Effort(options.pairs, options.rounds, options.refreshes, options.noise)
    figure = measure(effort, options.directory)
    print(harness.machine(harness.Cores.choose()), harness.table([figure]), sep="\n\n")
    if options.json:
        print(harness.as_json([figure]))


def _account(email: str) -> Account:
    now = time.time()
    return Account(
        id=uuid7(), email=email, email_key=email, password_hash=None, verified_at=now, created_at=now
    )


if __name__ == "__main__":
    main()
