"""What every queue of jobs promises: at least once, the oldest first, and nothing given up silently."""

from __future__ import annotations

import asyncio

import pytest

from thebes.stores.jobs import Job, JobKind, NewJob
from thebes.stores.store import Store
from thebes.testing.contract.rows import DAY, NOW


def new(job_id: str, kind: JobKind = "mail", *, expires_at: float = NOW + DAY) -> NewJob:
    return NewJob(id=job_id, kind=kind, sealed=f"v1.k1.{job_id}", expires_at=expires_at)


async def ids_taken(
    store: Store, *, kind: JobKind = "mail", most: int = 10, lease: float = 60.0, now: float = NOW
) -> list[str]:
    return [job.id for job in await store.jobs.take(kind, most=most, lease=lease, now=now)]


@pytest.mark.asyncio
class TestTakingJobs:
    async def test_a_job_comes_back_as_it_was_queued(self, store: Store) -> None:
        await store.jobs.add([new("a")], now=NOW)
        assert list(await store.jobs.take("mail", most=1, lease=60, now=NOW)) == [
            Job(id="a", kind="mail", sealed="v1.k1.a", attempts=1, expires_at=NOW + DAY)
        ]

    async def test_the_oldest_come_first(self, store: Store) -> None:
        await store.jobs.add([new("z"), new("m")], now=NOW)
        await store.jobs.add([new("a")], now=NOW)
        await store.jobs.add([new("k")], now=NOW + 1)
        assert await ids_taken(store, most=3, now=NOW + 1) == ["z", "m", "a"]
        assert await ids_taken(store, most=3, now=NOW + 1) == ["k"]

    async def test_only_jobs_of_the_kind_are_taken(self, store: Store) -> None:
        await store.jobs.add([new("letter"), new("call", "hook")], now=NOW)
        assert await ids_taken(store, kind="hook") == ["call"]
        assert await ids_taken(store, kind="hook") == []
        assert await ids_taken(store) == ["letter"]

    async def test_nobody_else_gets_a_taken_job_until_its_lease_is_over(self, store: Store) -> None:
        await store.jobs.add([new("a")], now=NOW)
        assert await ids_taken(store, lease=60) == ["a"]
        assert await ids_taken(store, now=NOW + 59.9) == []
        jobs = await store.jobs.take("mail", most=1, lease=60, now=NOW + 60)
        assert [(job.id, job.attempts) for job in jobs] == [("a", 2)]

    async def test_of_parallel_takers_no_two_get_the_same_job(self, store: Store) -> None:
        await store.jobs.add([new(f"job {number}") for number in range(40)], now=NOW)
        shares = await asyncio.gather(*(ids_taken(store, most=5) for _ in range(10)))
        taken = [job_id for share in shares for job_id in share]
        assert len(taken) == len(set(taken)) == 40

    async def test_a_job_that_is_done_is_gone(self, store: Store) -> None:
        await store.jobs.add([new("a"), new("b")], now=NOW)
        await ids_taken(store, most=1)
        await store.jobs.done("a")
        await store.jobs.done("unknown")
        assert await ids_taken(store, now=NOW + 61) == ["b"]

    async def test_an_id_that_is_queued_already_is_not_queued_again(self, store: Store) -> None:
        await store.jobs.add([new("a")], now=NOW)
        await store.jobs.add(
            [NewJob(id="a", kind="mail", sealed="other", expires_at=NOW + 1), new("b")], now=NOW
        )
        jobs = await store.jobs.take("mail", most=10, lease=60, now=NOW)
        assert [(job.id, job.sealed) for job in jobs] == [("a", "v1.k1.a"), ("b", "v1.k1.b")]

    async def test_without_a_time_the_store_has_its_own(self, store: Store) -> None:
        await store.jobs.add([new("a", expires_at=NOW * 2)])
        assert [job.id for job in await store.jobs.take("mail", most=1, lease=60)] == ["a"]
        assert list(await store.jobs.take("mail", most=1, lease=60)) == []
        await store.jobs.postpone("a", seconds=-1)
        assert [job.id for job in await store.jobs.take("mail", most=1, lease=60)] == ["a"]


@pytest.mark.asyncio
class TestPostponingJobs:
    async def test_a_postponed_job_is_due_again_then_and_not_earlier(self, store: Store) -> None:
        await store.jobs.add([new("a")], now=NOW)
        await ids_taken(store)
        await store.jobs.postpone("a", seconds=300, now=NOW + 1)
        assert await ids_taken(store, now=NOW + 300.9) == []
        assert await ids_taken(store, now=NOW + 301) == ["a"]

    async def test_an_unknown_job_is_nothing_to_postpone(self, store: Store) -> None:
        await store.jobs.postpone("unknown", seconds=1, now=NOW)
        assert await store.jobs.next_due("mail") is None


@pytest.mark.asyncio
class TestGivingUpJobs:
    async def test_what_has_expired_undone_is_returned_once_and_gone(self, store: Store) -> None:
        await store.jobs.add(
            [new("old", expires_at=NOW + 10), new("hook", "hook", expires_at=NOW + 5)], now=NOW
        )
        await store.jobs.add([new("young")], now=NOW)
        assert list(await store.jobs.given_up(now=NOW + 4.9)) == []
        lost = await store.jobs.given_up(now=NOW + 10)
        assert [(job.id, job.kind, job.attempts) for job in lost] == [("old", "mail", 0), ("hook", "hook", 0)]
        assert list(await store.jobs.given_up(now=NOW + 10)) == []
        assert await ids_taken(store, now=NOW + 10) == ["young"]

    async def test_an_expired_job_is_not_taken(self, store: Store) -> None:
        await store.jobs.add([new("a", expires_at=NOW + 10)], now=NOW)
        assert await ids_taken(store, now=NOW + 10) == []
        assert len(await store.jobs.given_up(now=NOW + 10)) == 1

    async def test_a_job_under_way_is_not_given_up_while_its_lease_lasts(self, store: Store) -> None:
        await store.jobs.add([new("a", expires_at=NOW + 10)], now=NOW)
        await ids_taken(store, lease=60, now=NOW + 9)
        assert list(await store.jobs.given_up(now=NOW + 30)) == []
        assert [job.attempts for job in await store.jobs.given_up(now=NOW + 69)] == [1]

    async def test_a_job_postponed_beyond_its_end_is_given_up_at_its_end(self, store: Store) -> None:
        await store.jobs.add([new("a", expires_at=NOW + 10)], now=NOW)
        await ids_taken(store)
        await store.jobs.postpone("a", seconds=3600, now=NOW + 1)
        assert [job.id for job in await store.jobs.given_up(now=NOW + 10)] == ["a"]


@pytest.mark.asyncio
class TestTheNextJob:
    async def test_nothing_is_due_in_an_empty_queue(self, store: Store) -> None:
        await store.jobs.add([new("call", "hook")], now=NOW)
        assert await store.jobs.next_due("mail") is None

    @pytest.mark.parametrize(("seconds", "due"), [(5.0, NOW + 5), (120.0, NOW + 60)])
    async def test_it_is_the_earliest_of_the_kind(self, store: Store, seconds: float, due: float) -> None:
        await store.jobs.add([new("a"), new("b"), new("call", "hook")], now=NOW)
        assert await store.jobs.next_due("mail") == NOW
        await ids_taken(store, lease=60)
        await store.jobs.postpone("b", seconds=seconds, now=NOW)
        assert await store.jobs.next_due("mail") == due
