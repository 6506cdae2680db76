"""Guessing: what is delayed, what is switched off, and what nobody can tell from outside."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from account_rows import ADA as ACCOUNT_OF_ADA
from account_rows import digest, token
from guessing import ACCOUNT, ADA, Guesser
from thebes.errors import StoreUnavailable
from thebes.ratelimit.bruteforce import Attempt, SignInProtection, Wait
from thebes.stores.memory import MemoryStore
from thebes.stores.sqlite import SQLiteStore

DAY = 86400.0
CURVE = [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


both_stores = pytest.mark.parametrize("store", ["memory", "sqlite"], indirect=True)


@pytest.fixture
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    kind = getattr(request, "param", "memory")
    made = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "thebes.db")
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def guesser(store: Any) -> Guesser:
    return Guesser(store)


class TestTheDelay:
    async def test_five_failures_are_free_and_then_it_grows_to_an_hour(self, guesser: Guesser) -> None:
        assert [await guesser.guess() for _ in range(5)] == ["wrong"] * 5
        for seconds in CURVE:
            assert await guesser.guess() == seconds
            guesser.now += seconds - 0.001
            assert await guesser.guess() == 1
            guesser.now += 0.001
            assert await guesser.guess() == "wrong"

    async def test_the_right_password_is_not_looked_at_meanwhile(self, guesser: Guesser) -> None:
        await guesser.patiently(5)
        assert await guesser.guess(is_right=True) == 30
        guesser.now += 30
        assert await guesser.guess(is_right=True) == "in"

    async def test_an_attempt_that_has_to_wait_makes_nobody_wait_longer(self, guesser: Guesser) -> None:
        await guesser.patiently(5)
        assert [await guesser.guess() for _ in range(50)] == [30] * 50

    async def test_a_success_begins_anew(self, guesser: Guesser) -> None:
        for _ in range(30):
            assert await guesser.patiently(4) == ["wrong"] * 4
            assert await guesser.guess(is_right=True) == "in"

    @both_stores
    async def test_it_is_forgotten_a_day_after_the_last_failure(self, guesser: Guesser, store: Any) -> None:
        await guesser.patiently(5)
        await store.purge(now=guesser.now + DAY - 1)
        assert await guesser.guess() == 30
        guesser.now += DAY
        await store.purge(now=guesser.now)
        assert [await guesser.guess() for _ in range(5)] == ["wrong"] * 5

    async def test_each_identifier_has_its_own(self, guesser: Guesser) -> None:
        await guesser.patiently(5)
        assert await guesser.guess("bob@example.com", account_id="bob") == "wrong"

    async def test_it_is_the_same_from_every_address(self, guesser: Guesser) -> None:
        assert [await guesser.guess(address=f"203.0.113.{n}") for n in range(6)] == ["wrong"] * 5 + [30]

    async def test_a_clock_that_was_put_back_locks_nobody_out_for_years(self, guesser: Guesser) -> None:
        await guesser.patiently(5)
        guesser.now -= 10 * 365 * DAY
        assert await guesser.guess() == 3600
        guesser.now += 3600
        assert await guesser.guess() == "wrong"

    async def test_delays_are_reported(self, guesser: Guesser) -> None:
        await guesser.patiently(5)
        assert guesser.told == []
        await guesser.guess()
        assert guesser.told == [("sign_in_delayed", ACCOUNT)]


class TestParallelGuesses:
    @both_stores
    async def test_of_200_at_once_no_more_are_looked_at_than_of_200_in_a_row(self, guesser: Guesser) -> None:
        outcomes = await asyncio.gather(*(guesser.guess() for _ in range(200)))
        assert sorted(outcomes, key=str) == [30] * 195 + ["wrong"] * 5

        guesser.now += 30
        outcomes = await asyncio.gather(*(guesser.guess() for _ in range(200)))
        assert sorted(outcomes, key=str) == [60] * 199 + ["wrong"]

    async def test_workers_that_share_a_file_share_the_charge(self, tmp_path: Path) -> None:
        workers = [SQLiteStore(tmp_path / "thebes.db") for _ in range(2)]
        for worker in workers:
            await worker.start()
        guessers = [Guesser(worker) for worker in workers]
        outcomes = await asyncio.gather(*(guessers[n % 2].guess() for n in range(200)))
        assert sorted(outcomes, key=str) == [30] * 195 + ["wrong"] * 5
        for worker in workers:
            await worker.close()

    async def test_a_success_among_failures_does_not_give_theirs_back_to_them(self, guesser: Guesser) -> None:
        attempts = [await guesser.charge() for _ in range(4)]
        assert all(isinstance(attempt, Attempt) for attempt in attempts)
        assert await guesser.guess(is_right=True) == "in"
        assert await guesser.patiently(5) == ["wrong"] * 5
        assert await guesser.guess() == 30


class TestTheCap:
    @both_stores
    @pytest.mark.requirement("RAT-10")
    async def test_after_100_failures_the_password_is_off_until_it_is_reset(
        self, guesser: Guesser, store: Any
    ) -> None:
        await store.accounts.create(replace(ACCOUNT_OF_ADA, id=ACCOUNT), now=guesser.now)
        assert await guesser.patiently(100) == ["wrong"] * 100
        assert guesser.told[-1] == ("password_disabled", ACCOUNT)
        for _ in range(3):
            guesser.now += 30 * DAY
            await store.purge(now=guesser.now)
            assert await guesser.guess(is_right=True) == "off"
        assert guesser.checked == 100

        link = replace(token("t", "reset", expires_at=guesser.now + 60), account_id=ACCOUNT)
        await store.accounts.issue(link, now=guesser.now)
        forgotten = guesser.protection.keys_of(ADA, ACCOUNT)
        await store.accounts.reset_password(
            digest("t"), "reset", "new", failure_keys=forgotten, now=guesser.now
        )
        assert await guesser.guess(is_right=True) == "in"

    @pytest.mark.requirement("RAT-10")
    async def test_a_known_device_has_its_own_count_and_the_same_cap(
        self, guesser: Guesser, store: Any
    ) -> None:
        await guesser.patiently(100)
        assert await guesser.patiently(100, device_id="laptop") == ["wrong"] * 100
        guesser.now += 30 * DAY
        await store.purge(now=guesser.now)
        assert await guesser.guess(device_id="laptop", is_right=True) == "off"
        assert await guesser.guess(device_id="phone", is_right=True) == "in"

    @pytest.mark.requirement("RAT-10")
    async def test_a_success_on_a_known_device_resets_its_own_count_alone(self, guesser: Guesser) -> None:
        await guesser.patiently(99)
        assert await guesser.guess(device_id="laptop", is_right=True) == "in"
        assert await guesser.patiently(2) == ["wrong", "off"]

    @pytest.mark.requirement("RAT-10")
    def test_no_setting_raises_the_cap(self) -> None:
        settings = set(SignInProtection.__init__.__annotations__) - {"return"}
        assert settings == {"store", "keys", "by_address", "report", "clock"}

    async def test_patience_brings_no_more_than_100_guesses(self, guesser: Guesser, store: Any) -> None:
        """The delay is forgotten after a day without failures; the count on the account is not."""
        for _ in range(25):
            await guesser.patiently(6)
            guesser.now += DAY + 60
            await store.purge(now=guesser.now)
        assert guesser.checked == 100

    async def test_a_success_before_the_cap_begins_anew(self, guesser: Guesser) -> None:
        await guesser.patiently(99)
        guesser.now += 3600
        assert await guesser.guess(is_right=True) == "in"
        assert await guesser.patiently(100) == ["wrong"] * 100

    async def test_a_password_that_is_off_can_not_have_been_right(self, guesser: Guesser) -> None:
        await guesser.patiently(100)
        guesser.now += 3600
        attempt = await guesser.charge()
        assert isinstance(attempt, Attempt)
        with pytest.raises(ValueError, match="off"):
            await guesser.protection.succeeded(attempt)

    async def test_the_spellings_of_one_account_share_its_count(self, guesser: Guesser) -> None:
        await guesser.patiently(50)
        assert await guesser.patiently(51, identifier="ada") == ["wrong"] * 50 + ["off"]

    async def test_that_it_is_off_is_told_once(self, guesser: Guesser) -> None:
        await guesser.patiently(105)
        assert guesser.told.count(("password_disabled", ACCOUNT)) == 1

    async def test_earlier_failures_are_told_when_the_delay_is_long_forgotten(
        self, guesser: Guesser, store: Any
    ) -> None:
        await guesser.patiently(6)
        guesser.now += 2 * DAY
        await store.purge(now=guesser.now)
        attempt = await guesser.charge()
        assert isinstance(attempt, Attempt)
        assert attempt.failures == 6

    async def test_the_owner_is_told_of_earlier_failures_and_of_the_last_one(self, guesser: Guesser) -> None:
        for before in range(100):
            attempt = await guesser.charge()
            if isinstance(attempt, Wait):
                guesser.now += attempt.seconds
                attempt = await guesser.charge()
            assert isinstance(attempt, Attempt)
            assert (attempt.failures, attempt.disables) == (before, before == 99)


class TestSpraying:
    async def test_one_address_has_20_failures_in_5_minutes_whatever_the_accounts(
        self, guesser: Guesser
    ) -> None:
        outcomes = [
            await guesser.guess(
                f"user {n}", account_id=f"account {n}" if n % 2 else None, address="192.0.2.1"
            )
            for n in range(200)
        ]
        assert outcomes == ["wrong"] * 20 + [300] * 180
        assert guesser.told == [
            ("sign_in_sprayed", f"account {n}" if n % 2 else None) for n in range(20, 200)
        ]
        assert await guesser.guess("somebody", address="192.0.2.2") == "wrong"

    async def test_what_it_had_to_wait_for_was_charged_to_no_identifier(self, guesser: Guesser) -> None:
        for n in range(20):
            await guesser.guess(f"user {n}", address="192.0.2.1")
        assert [await guesser.guess(address="192.0.2.1") for _ in range(9)] == [300] * 9
        assert await guesser.patiently(5) == ["wrong"] * 5

    async def test_successes_cost_nothing(self, guesser: Guesser) -> None:
        for n in range(60):
            assert await guesser.guess(f"user {n}", address="192.0.2.1", is_right=True) == "in"

    async def test_a_success_after_its_window_gives_nobody_elses_failure_back(self, guesser: Guesser) -> None:
        slow = await guesser.charge("slow", address="192.0.2.1")
        assert isinstance(slow, Attempt)
        guesser.now += 301
        outcomes = [await guesser.guess(f"user {n}", address="192.0.2.1") for n in range(20)]
        await guesser.protection.succeeded(slow)
        assert outcomes == ["wrong"] * 20
        assert await guesser.guess("more", address="192.0.2.1") in (300, 301)

    async def test_ipv6_counts_by_the_64_and_wider_by_the_48(self, guesser: Guesser) -> None:
        inside = [await guesser.guess(f"a {n}", address=f"2001:db8:0:1::{n:x}") for n in range(21)]
        assert inside == ["wrong"] * 20 + [300]
        wide = [
            await guesser.guess(f"b {n}", address=f"2001:db8:0:{2 + n // 20:x}::{n:x}") for n in range(400)
        ]
        assert wide.count("wrong") <= 320 - 20
        assert wide.count("wrong") >= 60


class TestWithdrawing:
    async def test_an_attempt_that_was_never_looked_at_is_not_counted(self, guesser: Guesser) -> None:
        for _ in range(150):
            attempt = await guesser.charge(address="192.0.2.1")
            assert isinstance(attempt, Attempt)
            await guesser.protection.withdraw(attempt)
        assert await guesser.patiently(5) == ["wrong"] * 5

    async def test_its_delay_goes_with_it(self, guesser: Guesser) -> None:
        await guesser.patiently(4)
        for _ in range(10):
            attempt = await guesser.charge()
            assert isinstance(attempt, Attempt)
            await guesser.protection.withdraw(attempt)
        assert [await guesser.guess(), await guesser.guess()] == ["wrong", 30]

    @both_stores
    async def test_only_its_own_delay_goes_with_it(self, guesser: Guesser) -> None:
        await guesser.patiently(4)
        fifth = await guesser.charge()
        assert isinstance(fifth, Attempt)
        guesser.now += 30
        assert await guesser.guess() == "wrong"
        await guesser.protection.withdraw(fifth)
        assert await guesser.guess() == 60

    async def test_it_takes_nothing_back_after_a_success(self, guesser: Guesser) -> None:
        attempt = await guesser.charge()
        assert isinstance(attempt, Attempt)
        assert await guesser.guess(is_right=True) == "in"
        await guesser.protection.withdraw(attempt)
        assert await guesser.patiently(5) == ["wrong"] * 5


@both_stores
class TestKeys:
    async def test_an_exchange_of_master_keys_forgets_nothing(self, guesser: Guesser, store: Any) -> None:
        await guesser.patiently(99)
        second = Guesser(store, ids=("new", "old"))
        second.now = guesser.now + 3600
        assert await second.patiently(1) == ["wrong"]
        third = Guesser(store, ids=("new",))
        third.now = second.now
        assert await third.guess() == 3600
        third.now += 3600
        assert await third.guess(is_right=True) == "off"

    async def test_while_keys_are_exchanged_each_failure_counts_once(
        self, guesser: Guesser, store: Any
    ) -> None:
        await guesser.patiently(5)
        second = Guesser(store, ids=("new", "old"))
        for seconds in CURVE[:4]:
            assert await second.guess() == seconds
            second.now += seconds
            assert await second.guess() == "wrong"

    async def test_so_do_those_that_a_worker_with_the_old_keys_alone_has_charged(
        self, guesser: Guesser, store: Any
    ) -> None:
        second = Guesser(store, ids=("new", "old"))
        assert await second.patiently(4) == ["wrong"] * 4
        assert await guesser.guess() == "wrong"
        assert [await second.guess(), await second.guess()] == ["wrong", 60]

    async def test_what_is_forgotten_is_forgotten_under_every_key(self, guesser: Guesser, store: Any) -> None:
        await guesser.patiently(100)
        second = Guesser(store, ids=("new", "old"))
        await second.protection.forget(ADA, ACCOUNT)
        assert await guesser.guess() == await second.guess() == "wrong"

    async def test_no_identifier_stands_in_the_store(self, guesser: Guesser, tmp_path: Path) -> None:
        await guesser.patiently(6)
        written = b"".join(path.read_bytes() for path in tmp_path.glob("thebes.db*"))
        assert b"ada" not in written.lower()


async def test_when_the_store_is_away_nobody_signs_in(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "thebes.db")
    await store.start()
    guesser = Guesser(store)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await guesser.guess(is_right=True)


@given(
    gaps=st.lists(st.sampled_from([0.0, 1.0, 29.9, 30.0, 61.0, 3600.0, DAY - 1, DAY, 2 * DAY]), max_size=30)
)
def test_nothing_tells_an_unknown_identifier_from_a_known_one(gaps: list[float]) -> None:
    async def seen(account_id: str | None) -> list[Any]:
        store = MemoryStore()
        guesser, outcomes = Guesser(store), []
        for gap in gaps:
            guesser.now += gap
            await store.purge(now=guesser.now)
            outcomes.append(await guesser.guess(account_id=account_id))
        return outcomes

    assert asyncio.run(seen(None)) == asyncio.run(seen(ACCOUNT))


async def test_nor_does_the_cap(store: Any) -> None:
    async def seen(identifier: str, account_id: str | None) -> list[Any]:
        guesser, outcomes = Guesser(store), []
        for _ in range(250):
            outcome = await guesser.guess(identifier, account_id=account_id)
            if isinstance(outcome, int):
                guesser.now += outcome
            outcomes.append(outcome if isinstance(outcome, int) else "refused")
        return outcomes

    assert await seen("known@example.com", "account") == await seen("unknown@example.com", None)
