"""The queue on SQLite: a job is one row, and who takes it moves its due time into the future."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import cast

from thebes.stores.jobs import Job, JobKind, NewJob
from thebes.stores.sqlite.database import Database
from thebes.stores.sqlite.revoking import queue

_TAKE = """
UPDATE thebes_jobs SET attempts = attempts + 1, due_at = :until WHERE place IN (
    SELECT place FROM thebes_jobs
    WHERE kind = :kind AND due_at <= :now AND expires_at > :now ORDER BY place LIMIT :most
)
RETURNING place, id, kind, sealed, attempts, expires_at
"""
# Not behind its own end: then nobody would hear in time that it was given up.
_POSTPONE = "UPDATE thebes_jobs SET due_at = min(:due, expires_at) WHERE id = :id"
# Not while a lease lasts: it may be on its way.
_GIVE_UP = """
DELETE FROM thebes_jobs WHERE expires_at <= :now AND due_at <= :now
RETURNING place, id, kind, sealed, attempts, expires_at
"""


class JobStore:
    """`thebes.stores.jobs.JobStore` on SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, jobs: Sequence[NewJob], *, now: float | None = None) -> None:
        """Queue jobs that follow no other change."""
        await self._database.write(lambda connection: queue(connection, jobs, _moment(now)))

    async def take(
        self, kind: JobKind, *, most: int, lease: float, now: float | None = None
    ) -> Sequence[Job]:
        """Take due jobs, the oldest first; nobody else gets them for `lease` seconds."""

        def work(connection: sqlite3.Connection) -> list[Job]:
            moment = _moment(now)
            values = {"kind": kind, "now": moment, "until": moment + lease, "most": most}
            return _jobs(connection.execute(_TAKE, values))

        return cast("list[Job]", await self._database.write(work))

    async def done(self, job_id: str) -> None:
        """Forget a job."""
        await self._database.write(
            lambda connection: connection.execute("DELETE FROM thebes_jobs WHERE id = ?", (job_id,)).rowcount
        )

    async def postpone(self, job_id: str, *, seconds: float, now: float | None = None) -> None:
        """Let a job that failed be due again later, at the latest when it expires."""
        await self._database.write(
            lambda connection: (
                connection.execute(_POSTPONE, {"id": job_id, "due": _moment(now) + seconds}).rowcount
            )
        )

    async def given_up(self, *, now: float | None = None) -> Sequence[Job]:
        """Take those off the queue that have expired undone and are in nobody's hands, and return them."""
        lost = await self._database.write(
            lambda connection: _jobs(connection.execute(_GIVE_UP, {"now": _moment(now)}))
        )
        return cast("list[Job]", lost)

    async def next_due(self, kind: JobKind) -> float | None:
        """Return when the next job is due, or None if there is none."""
        query = "SELECT min(due_at) FROM thebes_jobs WHERE kind = ?"
        found: float | None = self._database.read(
            lambda connection: connection.execute(query, (kind,)).fetchone()[0]
        )
        return found


def _jobs(cursor: sqlite3.Cursor) -> list[Job]:
    # RETURNING has no order. Fetched to the end: a statement that isn't finished keeps the write lock.
    rows = sorted(cursor.fetchall())
    return [
        Job(id=job_id, kind=kind, sealed=sealed, attempts=attempts, expires_at=expires_at)
        for _, job_id, kind, sealed, attempts, expires_at in rows
    ]


def _moment(now: float | None) -> float:
    return time.time() if now is None else now
