"""What has to happen after a change, kept with it: mails to send, hooks to call.

A job is written in the transaction of the change that it follows, and taken off when it is done. So a crash
between the two loses neither, and a change that failed leaves nothing behind. It is done at least once: who
takes it and dies leaves it to the next.

Does not protect: against doing a job twice, where a process ended between doing it and saying so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

JobKind = Literal["mail", "hook"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """Work to be done.

    Attributes:
        id: Random; a job of an id that is there already is not queued again.
        kind: Who does it.
        sealed: What it is about, sealed: it may hold a link that signs somebody in.
        expires_at: Seconds since the epoch; it is given up then.
    """

    id: str
    kind: JobKind
    sealed: str
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job that was taken.

    Attributes:
        id: The job's.
        kind: Who does it.
        sealed: What it is about.
        attempts: How often it was taken, this time included.
        expires_at: When it is given up.
    """

    id: str
    kind: JobKind
    sealed: str
    attempts: int
    expires_at: float


class JobStore(Protocol):
    """The queue. Every verb is one transaction; `now` None is the store's clock."""

    async def add(self, jobs: Sequence[NewJob], *, now: float | None = None) -> None:
        """Queue jobs that follow no other change."""

    async def take(
        self, kind: JobKind, *, most: int, lease: float, now: float | None = None
    ) -> Sequence[Job]:
        """Take due jobs, the oldest first; nobody else gets them for `lease` seconds."""

    async def done(self, job_id: str) -> None:
        """Forget a job."""

    async def postpone(self, job_id: str, *, seconds: float, now: float | None = None) -> None:
        """Let a job that failed be due again later."""

    async def given_up(self, *, now: float | None = None) -> Sequence[Job]:
        """Take those off the queue that have expired undone, and return them, so that it can be told."""

    async def next_due(self, kind: JobKind) -> float | None:
        """Return when the next job is due, or None if there is none."""
