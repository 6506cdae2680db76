"""Work off what has to happen after a change: mails and hooks, at least once, never lost silently.

Jobs lie in the store, sealed, since a mail's holds a link that opens an account. Whoever takes one has it for
a while (a lease): a process that dies in between leaves it to the next. What fails is tried again after a
growing time, until the job expires; then it is given up, and an event says so.

Does not protect: against doing a job twice, where a process ended between doing it and saying so. Nor against
an event that is lost because the process is killed in the moment between giving a job up and telling it.

Sources: RFC 5321, 4.5.4.1 (retries); ASVS 5.0.0, 16.5.3; OWASP Logging.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, Protocol

from thebes.encoding import random_id
from thebes.errors import ThebesError
from thebes.events import Events, Severity
from thebes.stores.jobs import Job, JobKind, JobStore, NewJob

FIRST_DELAY_S = 5.0
DELAY_FACTOR = 3.0
# A link to reset a password lives 30 minutes: ten between the last tries still leaves it a few.
LONGEST_DELAY_S = 600.0
POLL = timedelta(seconds=2)  # how long a job of another process may wait for us
SWEEP = timedelta(seconds=30)  # how often those that expired are looked for
STOP_WITHIN = timedelta(seconds=10)


class JobFailed(ThebesError):
    """A job could not be done; what is told of it holds nothing of its content.

    Attributes:
        reason: From a closed set of its kind, for events.
        detail: More for whoever runs the service.
        is_final: Whether it must not be tried again.
    """

    def __init__(self, reason: str, *, detail: str | None = None, is_final: bool = False) -> None:
        super().__init__(f"job failed: {reason}")
        self.reason = reason
        self.detail = detail
        self.is_final = is_final


class Seals(Protocol):
    """Seals contents: met by `secrets.bound.BoundKeys`."""

    def seal(self, plaintext: bytes, associated_data: bytes) -> str:
        """Encrypt, bound to what it belongs to."""

    def open(self, sealed: str, associated_data: bytes) -> bytes:
        """Return what was sealed for this.

        Raises:
            ThebesError: It was not, or its key is unknown.
        """


class JobSeals:
    """Puts contents into jobs and takes them out; a sealed content counts in its own job only."""

    def __init__(self, seals: Seals) -> None:
        self._seals = seals

    def new_job(
        self, kind: JobKind, content: bytes, *, expires_at: float, job_id: str | None = None
    ) -> NewJob:
        """Return a job.

        Args:
            content: What it is about.
            expires_at: Seconds since the epoch.
            job_id: Of a job that must be queued once only; random if None.
        """
        chosen = job_id or random_id()
        return NewJob(
            id=chosen,
            kind=kind,
            sealed=self._seals.seal(content, _bound(kind, chosen)),
            expires_at=expires_at,
        )

    def open(self, job: Job) -> bytes:
        """Return the content of a job.

        Raises:
            JobFailed: It isn't ours, or its key isn't known here. It is tried again: in a rotation another
                process may have the key.
        """
        try:
            return self._seals.open(job.sealed, _bound(job.kind, job.id))
        except ThebesError:
            raise JobFailed("unreadable") from None


class Crew(Protocol):
    """Does the jobs of one kind.

    Attributes:
        at_once: How many at the same time.
        lease_s: Longer than any of them takes.
    """

    at_once: int
    lease_s: float

    async def carry_out(self, job: Job) -> None:
        """Do a job.

        Raises:
            JobFailed: It could not be done.
        """

    def describe(self, job: Job) -> Mapping[str, str | None]:
        """Return what an event may say of a job: `account` and `detail`. Never raises."""

    async def close(self) -> None:
        """Let go of threads and connections."""


def retry_delay(attempts: int) -> float:
    """Return the seconds until the next try, after so many.

    >>> [retry_delay(attempts) for attempts in (1, 2, 3, 4, 5, 6, 60)]
    [5.0, 15.0, 45.0, 135.0, 405.0, 600.0, 600.0]
    """
    # The exponent is bounded too: 3.0 ** 700 is no float any more.
    return min(FIRST_DELAY_S * DELAY_FACTOR ** min(max(attempts - 1, 0), 20), LONGEST_DELAY_S)


@dataclass(slots=True)
class _Line:
    """The jobs of one kind that are under way in this process."""

    crew: Crew
    running: dict[asyncio.Task[None], Job] = field(default_factory=dict)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    # Held from asking the store until what it gave is in `running`: no job is ever out of sight.
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)


class JobRunner:
    """One background task that works off the queue, on the event loop on which it was started.

    Events: `mail_delayed` and `hook_delayed` for a try that failed, `mail_failed` and `hook_failed` for a
    job that was given up, `jobs_stalled` when the store can't be asked. All go on by themselves.

    Args:
        store: The queue.
        crews: Who does which kind.
        events: Where is told what failed.
        poll: How often the queue is looked at when nobody wakes us.
        sweep: How often those that have expired are looked for.
        clock: Seconds since the epoch, to compare with what the store says is due.
    """

    def __init__(
        self,
        store: JobStore,
        crews: Mapping[JobKind, Crew],
        *,
        events: Events,
        poll: timedelta = POLL,
        sweep: timedelta = SWEEP,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._lines = {kind: _Line(crew) for kind, crew in crews.items()}
        self._events = events
        self._poll_s = poll.total_seconds()
        self._sweep_s = sweep.total_seconds()
        self._clock = clock
        self._loops: Sequence[asyncio.Task[None]] = ()
        self._stopping = asyncio.Event()

    def start(self) -> None:
        """Begin; call it on the event loop. Started twice is started once."""
        if self._loops:
            return
        # Anew: those of an earlier start belong to its event loop.
        self._stopping = asyncio.Event()
        for line in self._lines.values():
            line.woken, line.taking = asyncio.Event(), asyncio.Lock()
        loops: list[Awaitable[None]] = [self._serve(kind) for kind in self._lines]
        self._loops = [asyncio.ensure_future(one) for one in (*loops, self._sweep_for_ever())]

    def wake(self) -> None:
        """Look at the queue now: a job was added in this process. Call it on the event loop."""
        for line in self._lines.values():
            line.woken.set()

    async def add(self, jobs: Sequence[NewJob], *, now: float | None = None) -> None:
        """Queue jobs that follow no other change, and wake up."""
        await self._store.add(jobs, now=now)
        self.wake()

    async def drain(self, *, now: float | None = None) -> int:
        """Do all that is due at this moment, and wait for what is under way; return how many were taken.

        For tests and commands. What fails is postponed as ever, and not tried again within the call.
        """
        count = 0
        for kind, line in self._lines.items():
            while jobs := await self._take(kind, line, line.crew.at_once, now=now):
                count += len(jobs)
                await asyncio.wait([*line.running])
            if line.running:
                await asyncio.wait([*line.running])
        await self._give_up(now=now)
        return count

    async def stop(self, *, within: timedelta = STOP_WITHIN) -> None:
        """Take nothing more, let what is under way end, and leave the rest in the queue.

        Args:
            within: How long it may take; then what is under way is broken off and is due at once for others.
        """
        self._stopping.set()
        self.wake()
        running = {task: job for line in self._lines.values() for task, job in line.running.items()}
        if running:
            await asyncio.wait([*running], timeout=within.total_seconds())
        for task in (broken_off := [task for task in running if not task.done()]):
            task.cancel()
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, *broken_off, return_exceptions=True)
        self._loops = ()
        for task in broken_off:
            with contextlib.suppress(Exception):  # else it is due when its lease ends
                await self._store.postpone(running[task].id, seconds=0)
        for line in self._lines.values():
            await line.crew.close()

    async def _serve(self, kind: JobKind) -> None:
        line = self._lines[kind]
        while not self._stopping.is_set():
            line.woken.clear()
            try:
                wait_s = await self._begin(kind, line)
            except Exception as error:
                self._stalled(error)
                wait_s = self._poll_s
            if wait_s > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await line.woken.wait()

    async def _begin(self, kind: JobKind, line: _Line) -> float:
        """Start what is due and has a place, and return how long to wait unless somebody wakes us."""
        places = line.crew.at_once - len(line.running)
        if places <= 0:
            return self._poll_s  # whoever ends wakes us
        # Reads only, while nothing is due: a poll must not make writers wait.
        due = await self._store.next_due(kind)
        if due is None or (ahead := due - self._clock()) > self._poll_s:
            return self._poll_s
        if ahead > 0:
            return ahead
        return 0 if await self._take(kind, line, places) else self._poll_s

    async def _take(
        self, kind: JobKind, line: _Line, most: int, *, now: float | None = None
    ) -> Sequence[Job]:
        async with line.taking:
            jobs = await self._store.take(kind, most=most, lease=line.crew.lease_s, now=now)
            for job in jobs:
                task = asyncio.ensure_future(self._do(line.crew, job, now=now))
                line.running[task] = job
                task.add_done_callback(lambda done: self._ended(line, done))
        return jobs

    def _ended(self, line: _Line, task: asyncio.Task[None]) -> None:
        del line.running[task]
        line.woken.set()

    async def _do(self, crew: Crew, job: Job, *, now: float | None = None) -> None:
        try:
            failure = await _try(crew, job)
            if failure is None:
                await self._store.done(job.id)
            elif failure.is_final:
                # Told first: a process that dies in between tells it twice rather than never.
                self._tell(job, crew, "failed", failure.reason, detail=failure.detail)
                await self._store.done(job.id)
            else:
                self._tell(job, crew, "delayed", failure.reason, detail=failure.detail)
                await self._store.postpone(job.id, seconds=retry_delay(job.attempts), now=now)
        except Exception as error:
            self._stalled(error)  # the store can't be told: the lease ends, and the job is done again

    async def _sweep_for_ever(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._give_up()
            except Exception as error:
                self._stalled(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._sweep_s):
                    await self._stopping.wait()

    async def _give_up(self, *, now: float | None = None) -> None:
        for job in await self._store.given_up(now=now):
            line = self._lines.get(job.kind)
            self._tell(job, line.crew if line else None, "failed", "expired")

    def _tell(
        self,
        job: Job,
        crew: Crew | None,
        what: Literal["failed", "delayed"],
        reason: str,
        *,
        detail: str | None = None,
    ) -> None:
        told = dict(crew.describe(job)) if crew is not None else {}
        parts = [told.get("detail"), detail, f"attempt {job.attempts}"]
        severity: Severity = "error" if what == "failed" else "warning"
        self._events.emit(
            f"{job.kind}_{what}",
            severity=severity,
            outcome="failed",
            reason=reason,
            account=told.get("account"),
            detail=": ".join(part for part in parts if part),
        )

    def _stalled(self, error: Exception) -> None:
        self._events.emit(
            "jobs_stalled", severity="error", outcome="failed", reason="store", detail=type(error).__name__
        )


async def _try(crew: Crew, job: Job) -> JobFailed | None:
    """Do a job, and return what went wrong; only our own cancellation gets through."""
    try:
        await crew.carry_out(job)
    except JobFailed as failure:
        return failure
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return JobFailed("cancelled")
    except Exception as error:
        # Its text is not told: it may hold what the job is about.
        return JobFailed("error", detail=type(error).__name__)
    return None


def _bound(kind: JobKind, job_id: str) -> bytes:
    return f"job {kind} {job_id}".encode()
