"""The queue in memory. The tables' lock is the transaction; nothing waits while it is held."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from thebes.stores.jobs import Job, JobKind, NewJob
from thebes.stores.memory.revoking import queue
from thebes.stores.memory.tables import MemoryTables, QueuedJob


class JobStore:
    """`thebes.stores.jobs.JobStore` in memory."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tables = tables

    async def add(self, jobs: Sequence[NewJob], *, now: float | None = None) -> None:
        """Queue jobs that follow no other change."""
        with self._tables.lock:
            queue(self._tables, jobs, _moment(now))

    async def take(
        self, kind: JobKind, *, most: int, lease: float, now: float | None = None
    ) -> Sequence[Job]:
        """Take due jobs, the oldest first; nobody else gets them for `lease` seconds."""
        moment, rows = _moment(now), self._tables.jobs
        with self._tables.lock:
            due = [row for row in rows.values() if row.job.kind == kind and _is_due(row, moment)]
            taken = [
                replace(row, attempts=row.attempts + 1, due_at=moment + lease) for row in islice(due, most)
            ]
            rows.update((row.job.id, row) for row in taken)
        return [_job(row) for row in taken]

    async def done(self, job_id: str) -> None:
        """Forget a job."""
        with self._tables.lock:
            self._tables.jobs.pop(job_id, None)

    async def postpone(self, job_id: str, *, seconds: float, now: float | None = None) -> None:
        """Let a job that failed be due again later, at the latest when it expires."""
        with self._tables.lock:
            row = self._tables.jobs.get(job_id)
            if row is not None:
                # Not behind its own end: then nobody would hear in time that it was given up.
                due_at = min(_moment(now) + seconds, row.job.expires_at)
                self._tables.jobs[job_id] = replace(row, due_at=due_at)

    async def given_up(self, *, now: float | None = None) -> Sequence[Job]:
        """Take those off the queue that have expired undone and are in nobody's hands, and return them."""
        moment, rows = _moment(now), self._tables.jobs
        with self._tables.lock:
            # Not while a lease lasts: it may be on its way.
            lost = [row for row in rows.values() if row.job.expires_at <= moment and row.due_at <= moment]
            for row in lost:
                del rows[row.job.id]
        return [_job(row) for row in lost]

    async def next_due(self, kind: JobKind) -> float | None:
        """Return when the next job is due, or None if there is none."""
        with self._tables.lock:
            due = (row.due_at for row in self._tables.jobs.values() if row.job.kind == kind)
            return min(due, default=None)


def _is_due(row: QueuedJob, now: float) -> bool:
    return row.due_at <= now < row.job.expires_at


def _job(row: QueuedJob) -> Job:
    job = row.job
    return Job(id=job.id, kind=job.kind, sealed=job.sealed, attempts=row.attempts, expires_at=job.expires_at)


def _moment(now: float | None) -> float:
    return time.time() if now is None else now
