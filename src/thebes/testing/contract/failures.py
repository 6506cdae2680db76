"""What every store of failure rows promises: the judge decides alone, on rows that nobody else touches."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from thebes.stores.failures import FailureJudge, Failures, FailureVerdict
from thebes.stores.store import Store
from thebes.testing.contract.rows import NOW

ADA, BOB = b"\x00" + bytes(range(1, 32)), b"\xff" * 32


def counting(by: int = 1) -> FailureJudge[list[int]]:
    """Return a judge that adds to each row and answers with the counts that it found."""

    def judge(rows: Sequence[Failures | None], now: float) -> FailureVerdict[list[int]]:
        found = [row.count if row else 0 for row in rows]
        return FailureVerdict(found, [Failures(count=count + by, last_at=now) for count in found])

    return judge


def reading(rows: Sequence[Failures | None], now: float) -> FailureVerdict[list[Failures | None]]:
    return FailureVerdict(list(rows))


async def rows_of(store: Store, *keys: bytes) -> list[Failures | None]:
    rows: list[Failures | None] = await store.failures.settle(keys, reading)
    return rows


@pytest.mark.asyncio
class TestSettlingFailures:
    async def test_an_unknown_key_has_no_row(self, store: Store) -> None:
        assert await rows_of(store, ADA, BOB) == [None, None]

    async def test_rows_come_in_the_order_of_the_keys_exactly_as_they_were_written(
        self, store: Store
    ) -> None:
        ada = Failures(count=7, last_at=NOW + 0.123456789, blocked_until=NOW + 60.1)
        bob = Failures(count=1, last_at=NOW)
        await store.failures.settle((BOB, ADA), lambda rows, now: FailureVerdict(None, [bob, ada]))

        assert await rows_of(store, ADA, BOB) == [ada, bob]
        assert await rows_of(store, BOB, ADA) == [bob, ada]

    async def test_none_leaves_a_row_as_it_is_and_a_count_of_0_deletes_it(self, store: Store) -> None:
        await store.failures.settle((ADA, BOB), counting(3), now=NOW)
        gone = Failures(count=0, last_at=NOW)
        await store.failures.settle((ADA, BOB), lambda rows, now: FailureVerdict(None, [None, gone]))

        assert await rows_of(store, ADA, BOB) == [Failures(count=3, last_at=NOW), None]

    async def test_a_verdict_without_rows_changes_nothing(self, store: Store) -> None:
        await store.failures.settle((ADA,), counting(), now=NOW)
        assert await store.failures.settle((ADA,), lambda rows, now: FailureVerdict("tea")) == "tea"
        assert await rows_of(store, ADA) == [Failures(count=1, last_at=NOW)]

    async def test_the_judge_is_told_the_time(self, store: Store) -> None:
        assert await store.failures.settle((ADA,), lambda rows, now: FailureVerdict(now), now=NOW) == NOW

    async def test_the_judge_is_told_the_time_of_the_store_where_nobody_says_it(self, store: Store) -> None:
        early = await store.failures.settle((ADA,), lambda rows, now: FailureVerdict(now))
        late = await store.failures.settle((ADA,), lambda rows, now: FailureVerdict(now))
        assert NOW - 5e8 < early <= late

    async def test_a_judge_that_raises_changes_nothing_and_its_error_arrives(self, store: Store) -> None:
        await store.failures.settle((ADA,), counting(), now=NOW)

        def judge(rows: Sequence[Failures | None], now: float) -> FailureVerdict[None]:
            raise LookupError("the judge fell ill")

        with pytest.raises(LookupError, match="fell ill"):
            await store.failures.settle((ADA, BOB), judge, now=NOW)
        assert await rows_of(store, ADA, BOB) == [Failures(count=1, last_at=NOW), None]
        assert await store.failures.settle((ADA,), counting(), now=NOW) == [1]

    async def test_keys_that_differ_in_one_bit_are_different_keys(self, store: Store) -> None:
        close = bytes([ADA[0] ^ 1]) + ADA[1:]
        await store.failures.settle((ADA,), counting(), now=NOW)
        assert await rows_of(store, close) == [None]


@pytest.mark.asyncio
class TestParallelFailures:
    async def test_of_parallel_charges_every_one_sees_another_count(self, store: Store) -> None:
        found = await asyncio.gather(
            *(store.failures.settle((ADA, BOB), counting(), now=NOW) for _ in range(100))
        )
        assert sorted(found) == [[count, count] for count in range(100)]

    async def test_no_two_judges_run_at_the_same_time(self, store: Store) -> None:
        busy = threading.Lock()

        def judge(rows: Sequence[Failures | None], now: float) -> FailureVerdict[bool]:
            alone = busy.acquire(blocking=False)
            try:
                return FailureVerdict(alone, [Failures(count=1, last_at=now)])
            finally:
                if alone:
                    busy.release()

        assert all(await asyncio.gather(*(store.failures.settle((ADA,), judge, now=NOW) for _ in range(50))))


@pytest.mark.asyncio
class TestClearingFailures:
    async def test_it_deletes_the_rows_of_these_keys_alone(self, store: Store) -> None:
        await store.failures.settle((ADA, BOB), counting(), now=NOW)
        await store.failures.clear((ADA, b"nobody's key".ljust(32)))
        assert await rows_of(store, ADA, BOB) == [None, Failures(count=1, last_at=NOW)]

    async def test_no_keys_clear_nothing(self, store: Store) -> None:
        await store.failures.settle((ADA,), counting(), now=NOW)
        await store.failures.clear(())
        assert await rows_of(store, ADA) == [Failures(count=1, last_at=NOW)]
