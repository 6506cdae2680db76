"""The runner: at least once, tried again ever more slowly, never lost silently, and stopped without loss."""

import asyncio
import doctest
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.accounts import jobs as module
from thebes.accounts.jobs import LONGEST_DELAY_S, JobFailed, JobRunner, retry_delay
from thebes.errors import StoreUnavailable
from thebes.stores.jobs import Job, JobStore, NewJob
from thebes.stores.memory import MemoryStore

NOW = 1_700_000_000.0
FAR = 2_000_000_000.0
CANARY = "c4n4ry-0f-a-t0k3n"
# So long that a test which waits for a poll fails by its time limit.
NEVER = timedelta(hours=1)


class Workers:
    """A crew that does as it is told, and remembers what it did."""

    at_once = 2
    lease_s = 60.0

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.done: list[tuple[str, int]] = []
        self.is_closed = False
        self.most_at_once = 0
        self.under_way = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.began = asyncio.Event()
        self.finished = asyncio.Event()

    async def carry_out(self, job: Job) -> None:
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        self.began.set()
        try:
            await asyncio.sleep(0)  # let others begin
            await self.gate.wait()
            self.done.append((job.id, job.attempts))
            outcome = self.outcomes.pop(0) if self.outcomes else None
            if outcome is not None:
                raise outcome
        finally:
            self.under_way -= 1
            self.finished.set()

    def describe(self, job: Job) -> Mapping[str, str | None]:
        return {"account": "ada", "detail": "reset"}

    async def close(self) -> None:
        self.is_closed = True


def a_job(job_id: str = "one", *, kind: str = "mail", expires_at: float = FAR) -> NewJob:
    return NewJob(id=job_id, kind=kind, sealed=CANARY, expires_at=expires_at)  # type: ignore[arg-type]


@pytest.fixture
async def limit() -> AsyncIterator[None]:
    """A test that hangs fails: nothing here waits for a clock."""
    async with asyncio.timeout(10):
        yield


class TestDoing:
    async def test_a_job_is_done_once_and_gone(self, queue: JobStore, told) -> None:
        crew = Workers()
        runner = JobRunner(queue, {"mail": crew}, events=told.events)
        await runner.add([a_job()], now=NOW)

        assert await runner.drain(now=NOW) == 1
        assert crew.done == [("one", 1)]
        assert await queue.next_due("mail") is None
        assert await runner.drain(now=FAR - 1) == 0

    async def test_a_failed_try_is_repeated_after_a_growing_time_until_it_succeeds(
        self, queue: JobStore, told
    ) -> None:
        crew = Workers(*[JobFailed("temporary", detail="reply 451")] * 3)
        runner = JobRunner(queue, {"mail": crew}, events=told.events)
        await queue.add([a_job()], now=NOW)

        moment = NOW
        for delay in (5, 15, 45):
            assert await runner.drain(now=moment) == 1
            assert await queue.next_due("mail") == moment + delay
            assert await runner.drain(now=moment + delay - 0.1) == 0
            moment += delay
        assert await runner.drain(now=moment) == 1
        assert crew.done == [("one", 1), ("one", 2), ("one", 3), ("one", 4)]
        assert told.names == [("mail_delayed", "temporary")] * 3
        assert told.sink.objects[1]["detail"] == "reset: reply 451: attempt 2"
        assert told.sink.objects[1]["account"] == "ada"

    async def test_a_job_that_expires_undone_is_told_and_gone(self, queue: JobStore, told) -> None:
        crew = Workers(*[JobFailed("unreachable")] * 9)
        runner = JobRunner(queue, {"mail": crew}, events=told.events)
        await queue.add([a_job(expires_at=NOW + 10)], now=NOW)

        await runner.drain(now=NOW)
        await runner.drain(now=NOW + 5)
        await runner.drain(now=NOW + 100)
        assert told.names[-1] == ("mail_failed", "expired")
        assert told.sink.objects[-1]["severity"] == "error"
        assert len(crew.done) == 2
        assert await queue.next_due("mail") is None

    async def test_a_final_failure_is_told_and_not_repeated(self, queue: JobStore, told) -> None:
        crew = Workers(JobFailed("refused", detail="reply 550", is_final=True))
        runner = JobRunner(queue, {"mail": crew}, events=told.events)
        await queue.add([a_job()], now=NOW)

        await runner.drain(now=NOW)
        assert told.names == [("mail_failed", "refused")]
        assert await queue.next_due("mail") is None

    @pytest.mark.parametrize(
        ("error", "reason"),
        [(RuntimeError(CANARY), "error"), (asyncio.CancelledError(CANARY), "cancelled")],
        ids=["any exception", "a cancellation that isn't ours"],
    )
    async def test_an_unforeseen_error_is_a_failed_try_and_shows_nothing(
        self, queue: JobStore, told, error: Exception, reason: str
    ) -> None:
        runner = JobRunner(queue, {"mail": Workers(error)}, events=told.events)
        await queue.add([a_job(), a_job("two")], now=NOW)

        await runner.drain(now=NOW)
        assert told.names == [("mail_delayed", reason)]
        assert await queue.next_due("mail") == NOW + 5
        assert CANARY not in "".join(told.sink.lines)

    async def test_who_dies_between_doing_and_saying_so_leaves_it_to_the_next(
        self, queue: JobStore, told
    ) -> None:
        crew = Workers()
        await queue.add([a_job()], now=NOW)
        (taken,) = await queue.take("mail", most=1, lease=crew.lease_s, now=NOW)
        await crew.carry_out(taken)

        runner = JobRunner(queue, {"mail": crew}, events=told.events)
        assert await runner.drain(now=NOW + crew.lease_s - 1) == 0
        assert await runner.drain(now=NOW + crew.lease_s) == 1
        assert crew.done == [("one", 1), ("one", 2)]

    async def test_one_kind_waits_for_no_other(self, queue: JobStore, told, limit) -> None:
        mails, hooks = Workers(), Workers()
        hooks.gate.clear()
        runner = JobRunner(queue, {"mail": mails, "hook": hooks}, events=told.events, poll=NEVER)
        runner.start()
        await runner.add([a_job(f"h{number}", kind="hook") for number in range(3)])
        await hooks.began.wait()
        await runner.add([a_job()])
        await mails.finished.wait()
        assert mails.done == [("one", 1)]
        hooks.gate.set()
        await runner.stop()


class TestRunning:
    async def test_it_wakes_at_once_for_a_job_of_this_process(self, queue: JobStore, told, limit) -> None:
        crew = Workers()
        runner = JobRunner(queue, {"mail": crew}, events=told.events, poll=NEVER)
        runner.start()
        await asyncio.sleep(0)
        await runner.add([a_job()])
        await crew.finished.wait()
        await runner.stop()
        assert crew.done == [("one", 1)]

    async def test_it_finds_the_jobs_of_other_processes_by_looking(
        self, queue: JobStore, told, limit
    ) -> None:
        crew = Workers()
        runner = JobRunner(queue, {"mail": crew}, events=told.events, poll=timedelta(seconds=0.05))
        runner.start()
        await asyncio.sleep(0)
        await queue.add([a_job()])
        await crew.finished.wait()
        await runner.stop()
        assert crew.done == [("one", 1)]

    async def test_it_finds_what_was_left_from_before_the_start(self, queue: JobStore, told, limit) -> None:
        crew = Workers()
        await queue.add([a_job()])
        runner = JobRunner(queue, {"mail": crew}, events=told.events, poll=NEVER)
        runner.start()
        runner.start()
        await crew.finished.wait()
        await runner.stop()
        assert crew.done == [("one", 1)]

    async def test_no_more_than_the_crew_allows_are_under_way(self, queue: JobStore, told, limit) -> None:
        crew = Workers()
        crew.gate.clear()
        runner = JobRunner(queue, {"mail": crew}, events=told.events, poll=NEVER)
        runner.start()
        await runner.add([a_job(str(number)) for number in range(7)])
        await crew.began.wait()
        crew.gate.set()
        await runner.drain()
        assert sorted(name for name, _ in crew.done) == [str(number) for number in range(7)]
        assert crew.most_at_once <= 2 * crew.at_once  # the call's own and those of the task
        await runner.stop()

    async def test_of_many_jobs_it_alone_does_each_once_and_two_at_a_time(
        self, queue: JobStore, told, limit
    ) -> None:
        crew = Workers()
        runner = JobRunner(queue, {"mail": crew}, events=told.events, poll=NEVER)
        await queue.add([a_job(str(number)) for number in range(7)])
        runner.start()
        while len(crew.done) < 7:
            crew.finished.clear()
            await crew.finished.wait()
        await runner.stop()
        assert sorted(crew.done) == [(str(number), 1) for number in range(7)]
        assert crew.most_at_once == crew.at_once

    async def test_two_processes_share_the_queue_and_do_each_job_once(
        self, queue: JobStore, told, limit
    ) -> None:
        crews = Workers(), Workers()
        runners = [JobRunner(queue, {"mail": crew}, events=told.events) for crew in crews]
        await queue.add([a_job(str(number)) for number in range(20)], now=NOW)
        await asyncio.gather(*(runner.drain(now=NOW) for runner in runners))
        assert sorted(int(name) for crew in crews for name, _ in crew.done) == [*range(20)]

    async def test_it_survives_a_store_that_cannot_be_asked(self, queue: JobStore, told, limit) -> None:
        crew = Workers()
        broken = Broken(queue, times=3)
        runner = JobRunner(broken, {"mail": crew}, events=told.events, poll=timedelta(seconds=0.01))
        await queue.add([a_job()])
        runner.start()
        await crew.finished.wait()
        await runner.stop()
        assert crew.done == [("one", 1)]
        assert ("jobs_stalled", "store") in told.names

    async def test_it_goes_on_telling_what_expired_when_the_store_was_away(
        self, queue: JobStore, told, limit
    ) -> None:
        broken = Broken(queue, times=3)
        runner = JobRunner(
            broken, {"mail": Workers()}, events=told.events, poll=NEVER, sweep=timedelta(seconds=0.01)
        )
        await queue.add([a_job(expires_at=NOW + 1)], now=NOW)
        runner.start()
        while ("mail_failed", "expired") not in told.names:
            await asyncio.sleep(0.01)
        await runner.stop()
        assert await queue.next_due("mail") is None

    async def test_draining_waits_for_what_the_task_is_just_taking(
        self, queue: JobStore, told, limit
    ) -> None:
        crew, slow = Workers(), SlowlyTaking(queue)
        runner = JobRunner(slow, {"mail": crew}, events=told.events, poll=NEVER)
        await queue.add([a_job()])
        runner.start()
        await slow.has_taken.wait()
        draining = asyncio.ensure_future(runner.drain())
        await asyncio.sleep(0.01)
        slow.gate.set()
        await draining
        assert crew.done == [("one", 1)]
        await runner.stop()

    async def test_a_job_whose_end_the_store_cannot_take_is_done_again_after_its_lease(
        self, queue: JobStore, told
    ) -> None:
        crew = Workers()
        runner = JobRunner(Broken(queue, forgets=True), {"mail": crew}, events=told.events)
        await queue.add([a_job()], now=NOW)
        await runner.drain(now=NOW)
        assert told.names == [("jobs_stalled", "store")]
        await JobRunner(queue, {"mail": crew}, events=told.events).drain(now=NOW + crew.lease_s)
        assert crew.done == [("one", 1), ("one", 2)]


class TestStopping:
    async def test_what_is_under_way_may_end_and_nothing_new_begins(
        self, queue: JobStore, told, limit
    ) -> None:
        crew = Workers()
        crew.gate.clear()
        runner = JobRunner(queue, {"mail": crew}, events=told.events, poll=NEVER)
        await queue.add([a_job(str(number)) for number in range(3)])
        runner.start()
        await crew.began.wait()
        stopping = asyncio.ensure_future(runner.stop())
        await asyncio.sleep(0)
        crew.gate.set()
        await stopping
        assert len(crew.done) == 2
        assert crew.is_closed
        assert [job.id for job in await queue.take("mail", most=9, lease=1)] == ["2"]

    async def test_what_does_not_end_is_broken_off_and_due_at_once_for_the_next(
        self, queue: JobStore, told, limit
    ) -> None:
        crew = Workers()
        crew.gate.clear()
        runner = JobRunner(queue, {"mail": crew}, events=told.events, poll=NEVER)
        await queue.add([a_job()])
        runner.start()
        await crew.began.wait()
        await runner.stop(within=timedelta(0))
        assert crew.done == []
        assert told.names == []  # nothing has failed
        assert [job.attempts for job in await queue.take("mail", most=9, lease=1)] == [2]

    async def test_it_can_be_started_again(self, queue: JobStore, told, limit) -> None:
        crew = Workers()
        runner = JobRunner(queue, {"mail": crew}, events=told.events, poll=NEVER)
        runner.start()
        await runner.stop()
        runner.start()
        await runner.add([a_job()])
        await crew.finished.wait()
        await runner.stop()
        assert crew.done == [("one", 1)]

    def test_it_can_be_started_on_another_event_loop(self, told) -> None:
        queue, crew = MemoryStore().jobs, Workers()
        runner = JobRunner(queue, {"mail": crew}, events=told.events, poll=NEVER)

        async def work_off(job_id: str) -> None:
            crew.finished = asyncio.Event()
            runner.start()
            await asyncio.sleep(0)
            await runner.add([a_job(job_id)])
            async with asyncio.timeout(10):
                await crew.finished.wait()
            await runner.stop()

        for job_id in ("one", "two"):
            asyncio.run(work_off(job_id))
        assert crew.done == [("one", 1), ("two", 1)]

    async def test_stopped_before_it_started_is_nothing(self, queue: JobStore, told) -> None:
        await JobRunner(queue, {"mail": Workers()}, events=told.events).stop()


class Broken:
    """A queue in front of a real one, whose store is away for a while."""

    def __init__(self, queue: JobStore, *, times: int = 0, forgets: bool = False) -> None:
        self._queue = queue
        self._times = times
        self._forgets = forgets

    def __getattr__(self, name: str) -> object:
        if name in ("next_due", "given_up") and self._times > 0:
            self._times -= 1
            raise StoreUnavailable("the disk is away")
        if name == "done" and self._forgets:
            raise StoreUnavailable("the disk is away")
        return getattr(self._queue, name)


class SlowlyTaking:
    """A queue in front of a real one, whose first answer to `take` is long on its way."""

    def __init__(self, queue: JobStore) -> None:
        self._queue = queue
        self.has_taken = asyncio.Event()
        self.gate = asyncio.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._queue, name)

    async def take(self, *args: Any, **options: Any) -> Sequence[Job]:
        jobs = await self._queue.take(*args, **options)
        if not self.has_taken.is_set():
            self.has_taken.set()
            await self.gate.wait()
        return jobs


@given(st.integers(min_value=0, max_value=10**9))
def test_the_time_between_tries_grows_and_is_bounded(attempts: int) -> None:
    assert 0 < retry_delay(attempts) <= retry_delay(attempts + 1) <= LONGEST_DELAY_S


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(module).attempted >= 1
    assert doctest.testmod(module).failed == 0
