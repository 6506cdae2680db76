"""Failure rows on SQLite: the judge is called inside the write transaction, so no two see the same count."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import cast

from thebes.stores.failures import Answer, FailureJudge, Failures
from thebes.stores.sqlite.database import Database

_SELECT = "SELECT count, last_at, blocked_until FROM thebes_failures WHERE key = ?"
_UPSERT = """
INSERT INTO thebes_failures (key, count, last_at, blocked_until) VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE
SET count = excluded.count, last_at = excluded.last_at, blocked_until = excluded.blocked_until
"""
_DELETE = "DELETE FROM thebes_failures WHERE key = ?"


class FailureStore:
    """`thebes.stores.failures.FailureStore` on SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def settle(
        self, keys: Sequence[bytes], judge: FailureJudge[Answer], *, now: float | None = None
    ) -> Answer:
        """Let `judge` decide on the rows of these keys together, in one transaction."""

        def work(connection: sqlite3.Connection) -> Answer:
            moment = time.time() if now is None else now
            verdict = judge([_row(connection, key) for key in keys], moment)
            for key, row in zip(keys, verdict.rows, strict=False):
                if row is not None:
                    _write(connection, key, row)
            return verdict.answer

        return cast("Answer", await self._database.write(work))

    async def clear(self, keys: Sequence[bytes]) -> None:
        """Delete rows."""
        if keys:
            await self._database.write(lambda connection: forget(connection, keys))


def forget(connection: sqlite3.Connection, keys: Sequence[bytes]) -> None:
    """Delete rows within somebody's transaction."""
    connection.executemany(_DELETE, [(key,) for key in keys])


def _row(connection: sqlite3.Connection, key: bytes) -> Failures | None:
    found = connection.execute(_SELECT, (key,)).fetchone()
    return None if found is None else Failures(count=found[0], last_at=found[1], blocked_until=found[2])


def _write(connection: sqlite3.Connection, key: bytes, row: Failures) -> None:
    if row.count == 0:
        connection.execute(_DELETE, (key,))
    else:
        connection.execute(_UPSERT, (key, row.count, row.last_at, row.blocked_until))
