"""What a process knows of ended sessions: at the next request, and within a second of other machines."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest

from account_rows import ADA, BOB, session
from refreshing import STORES, Clock, Rows, a_store
from thebes.errors import StoreUnavailable
from thebes.stores.retention import REVOCATION_SECONDS
from thebes.stores.sessions import Revocation, Verdict
from thebes.stores.sqlite import SQLiteStore
from thebes.stores.store import Store
from thebes.tokens.revocations import Revocations

NOW = 1_800_000_000.0


@pytest.fixture(params=sorted(STORES))
async def store(request, tmp_path) -> AsyncIterator[Store]:
    async with a_store(request.param, tmp_path) as made:
        for name, account in (("s1", ADA), ("s2", ADA), ("s3", BOB)):
            assert await made.sessions.open(session(name, account), most=9, now=NOW)
        yield made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def known(store, clock) -> Revocations:
    known = Revocations(store.sessions, clock=clock)
    await known.catch_up(now=NOW)
    return known


class TestOnRealStores:
    async def test_a_new_process_reads_first(self, store, clock):
        known = Revocations(store.sessions, clock=clock)
        assert known.is_behind()
        await known.catch_up(now=NOW)
        assert not known.is_behind()
        assert len(known) == 0

    @pytest.mark.requirement("TOK-24")
    async def test_a_session_that_ended_is_over_at_the_next_request(self, store, known):
        await store.sessions.revoke(ADA.id, "s1", reason="signed_out", now=NOW)
        assert known.is_behind()
        await known.catch_up(now=NOW)
        assert not known.is_behind()
        assert [known.concerns(one, ADA.id, 0) for one in ("s1", "s2", "s3", "s4")] == [True] + [False] * 3

    async def test_a_session_that_was_settled_as_stolen_is_over_too(self, store, known):
        def end(row, owner, now):
            return Verdict(None, dataclasses.replace(row, revoked_at=now, revoked_for="reused"))

        await store.sessions.settle("s1", end, now=NOW)
        assert known.is_behind()
        await known.catch_up(now=NOW)
        assert known.concerns("s1", ADA.id, 0)

    @pytest.mark.requirement("TOK-40")
    async def test_earlier_tokens_of_an_account_are_void_when_its_epoch_rises(self, store, known):
        await store.accounts.grant(ADA.id, roles=["admin"], now=NOW)
        assert known.is_behind()
        await known.catch_up(now=NOW)
        assert [known.concerns("s1", ADA.id, epoch) for epoch in (0, 1, 2)] == [True, False, False]
        assert not known.concerns("s3", BOB.id, 0)
        await store.accounts.revoke_grant(ADA.id, roles=["admin"], now=NOW)
        await known.catch_up(now=NOW)
        assert [known.concerns("s1", ADA.id, epoch) for epoch in (0, 1, 2)] == [True, True, False]

    @pytest.mark.requirement("TOK-40")
    async def test_a_disabled_account_is_out_at_the_next_request(self, store, known):
        await store.accounts.set_enabled(ADA.id, False, now=NOW)
        await known.catch_up(now=NOW)
        assert known.concerns("s1", ADA.id, 0)
        assert known.concerns("another session", ADA.id, 0)

    async def test_all_sessions_are_out_when_all_are_ended(self, store, known):
        assert await store.sessions.revoke_everything(reason="key leaked", now=NOW) == 3
        await known.catch_up(now=NOW)
        assert [known.concerns(*one, 0) for one in (("s1", ADA.id), ("s2", ADA.id), ("s3", BOB.id))] == [
            True
        ] * 3

    @pytest.mark.requirement("TOK-24", "TOK-40")
    async def test_another_process_sees_it_in_the_shared_number(self, tmp_path, clock):
        ours, theirs = SQLiteStore(tmp_path / "thebes.db"), SQLiteStore(tmp_path / "thebes.db")
        await ours.start()
        await theirs.start()
        await ours.accounts.create(ADA, now=NOW)
        await ours.sessions.open(session("s1"), most=9, now=NOW)
        known = Revocations(theirs.sessions, clock=clock)
        await known.catch_up(now=NOW)
        assert not known.is_behind()
        await ours.sessions.revoke(ADA.id, reason="signed_out", now=NOW)
        assert known.is_behind()
        await known.catch_up(now=NOW)
        assert known.concerns("s1", ADA.id, 0)
        await theirs.close()
        await ours.close()

    async def test_a_process_that_starts_later_knows_what_still_matters(self, store, clock):
        await store.sessions.revoke(ADA.id, "s1", reason="signed_out", now=NOW)
        await store.sessions.revoke(ADA.id, "s2", reason="signed_out", now=NOW + REVOCATION_SECONDS)
        known = Revocations(store.sessions, clock=clock)
        await known.catch_up(now=NOW + REVOCATION_SECONDS)
        assert [known.concerns(one, ADA.id, 0) for one in ("s1", "s2")] == [False, True]
        assert not known.is_behind()

    @pytest.mark.requirement("TOK-25")
    async def test_an_entry_names_a_session_and_stays_until_its_tokens_have_expired(
        self, store, clock, known
    ):
        """Whatever the spelling of a token, it is its `sid` that is looked up. Leeway is forgiven to the end."""
        await store.sessions.revoke(ADA.id, "s1", reason="signed_out", now=NOW)
        for seconds in range(0, int(REVOCATION_SECONDS) + 60, 61):
            clock.now += 61
            await known.catch_up(now=NOW + seconds)
            assert known.concerns("s1", ADA.id, 0)
        clock.now += 61
        await known.catch_up(now=NOW + REVOCATION_SECONDS + 61)
        assert not known.concerns("s1", ADA.id, 0)
        assert len(known) == 0

    async def test_a_closed_store_is_no_reason_to_believe_a_token(self, tmp_path, clock):
        store = SQLiteStore(tmp_path / "thebes.db")
        await store.start()
        known = Revocations(store.sessions, clock=clock)
        await known.catch_up(now=NOW)
        await store.close()
        clock.now += 1
        for _ in range(2):
            assert known.is_behind()
            with pytest.raises(StoreUnavailable):
                await known.catch_up(now=NOW)


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
async def told(rows, clock) -> Revocations:
    told = Revocations(rows, clock=clock)
    await told.catch_up(now=NOW)
    return told


async def settled(count: int = 20) -> None:
    """Let every task that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


class TestTransactionsUnderWay:
    async def test_are_looked_for_on_each_request_until_their_row_is_there(self, rows, told):
        number = rows.begin()
        for _ in range(3):
            assert told.is_behind()
            await told.catch_up(now=NOW)
            assert not told.concerns("s1", "ada", 0)
        rows.commit(number, "s1")
        assert told.is_behind()
        await told.catch_up(now=NOW)
        assert told.concerns("s1", "ada", 0)
        assert not told.is_behind()

    async def test_are_given_up_after_ten_seconds_and_not_before(self, rows, told, clock):
        rows.begin()
        await told.catch_up(now=NOW)
        clock.now += 9.9
        await told.catch_up(now=NOW)
        assert told.is_behind()
        clock.now += 0.1
        await told.catch_up(now=NOW)
        assert not told.is_behind()
        rows.add("s2")
        assert told.is_behind()
        await told.catch_up(now=NOW)
        assert told.concerns("s2", "ada", 0)

    async def test_of_which_a_later_one_commits_first_are_not_overlooked(self, rows, told, clock):
        slow = rows.begin()
        rows.add("quick")
        await told.catch_up(now=NOW)
        assert told.concerns("quick", "ada", 0)
        rows.commit(slow, "slow")
        clock.now += 1
        assert told.is_behind()
        await told.catch_up(now=NOW)
        assert told.concerns("slow", "ada", 0)

    async def test_that_raised_the_number_during_a_read_are_read_next(self, rows, told):
        rows.add("s1")
        rows.gate.clear()
        reading = asyncio.ensure_future(told.catch_up(now=NOW))
        await settled()
        rows.add("s2")
        rows.gate.set()
        await reading
        assert told.is_behind()
        await told.catch_up(now=NOW)
        assert told.concerns("s2", "ada", 0)


class TestReads:
    async def test_begin_behind_what_was_applied(self, rows, told):
        for name in ("s1", "s2", "s3"):
            rows.add(name)
            await told.catch_up(now=NOW)
        assert rows.reads == [0, 0, 1, 2]

    @pytest.mark.requirement("TOK-24", "TOK-40")
    async def test_see_at_once_what_no_number_told_where_every_request_asks(self, rows, told):
        for number in range(1, 4):
            rows.rows.append(Revocation(number, "session", f"s{number}", 0, NOW + 600))
            assert not told.is_behind()
            await told.catch_up(now=NOW)
            assert told.concerns(f"s{number}", "ada", 0)

    @pytest.mark.requirement("TOK-24", "TOK-40")
    async def test_happen_once_a_second_though_no_number_moved(self, rows, told, clock):
        rows.rows.append(Revocation(1, "session", "on another machine", 0, NOW + 600))
        clock.now += 0.9
        assert not told.is_behind()
        clock.now += 0.1
        assert told.is_behind()
        await told.catch_up(now=NOW)
        assert told.concerns("on another machine", "ada", 0)
        assert not told.is_behind()

    async def test_count_from_their_beginning(self, rows, told, clock):
        """What a slow read saw is as old as its beginning."""
        clock.now += 1
        rows.gate.clear()
        reading = asyncio.ensure_future(told.catch_up(now=NOW))
        await settled()
        clock.now += 0.7
        rows.gate.set()
        await reading
        assert not told.is_behind()
        clock.now += 0.3
        assert told.is_behind()

    async def test_are_shared_by_all_that_wait_but_never_one_that_had_begun(self, rows, told):
        """One under way may have looked before the session ended that a newcomer must know of."""
        rows.number = 1
        rows.gate.clear()
        first = asyncio.ensure_future(told.catch_up(now=NOW))
        await settled()
        rows.commit(1, "s1")
        waiting = [asyncio.ensure_future(told.catch_up(now=NOW)) for _ in range(50)]
        await settled()
        assert len(rows.reads) == 2
        rows.gate.set()
        await first
        await asyncio.gather(*waiting)
        assert told.concerns("s1", "ada", 0)
        assert len(rows.reads) == 3

    async def test_that_fail_fail_all_that_share_them_and_the_next_tries_again(self, rows, told):
        rows.gate.clear()
        rows.fault = StoreUnavailable("away")
        waiting = [asyncio.ensure_future(told.catch_up(now=NOW)) for _ in range(10)]
        await settled()
        rows.gate.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(one) for one in results} == {StoreUnavailable}
        assert len(rows.reads) == 3
        rows.fault = None
        await told.catch_up(now=NOW)

    async def test_that_fail_do_not_count_for_the_second(self, rows, told, clock):
        clock.now += 1
        rows.fault = StoreUnavailable("away")
        with pytest.raises(StoreUnavailable):
            await told.catch_up(now=NOW)
        assert told.is_behind()

    async def test_whose_request_is_cancelled_leave_the_others_theirs(self, rows, told):
        rows.gate.clear()
        rows.add("s1")
        leaving = asyncio.ensure_future(told.catch_up(now=NOW))
        staying = asyncio.ensure_future(told.catch_up(now=NOW))
        await settled()
        leaving.cancel()
        await settled()
        rows.gate.set()
        await staying
        assert told.concerns("s1", "ada", 0)
        assert not told.is_behind()


def test_one_event_loop_after_another_may_use_it(clock):
    """As tests of an app do; a loop that ended in the middle of a read leaves nothing locked."""
    rows = Rows()
    known = Revocations(rows, clock=clock)

    async def many(*, is_cut_off: bool = False) -> None:
        rows.gate = asyncio.Event()
        reading = [asyncio.ensure_future(known.catch_up(now=NOW)) for _ in range(5)]
        await settled()
        if not is_cut_off:
            rows.gate.set()
            await asyncio.gather(*reading)

    for is_cut_off in (False, True, False):
        rows.add(f"s{rows.number}")
        asyncio.run(many(is_cut_off=is_cut_off))
    assert [known.concerns(f"s{number}", "ada", 0) for number in range(4)] == [True] * 3 + [False]


async def test_a_store_that_was_set_back_is_read_from_its_beginning(rows, told):
    for name in ("s1", "s2", "s3"):
        rows.add(name)
    await told.catch_up(now=NOW)
    rows.rows, rows.number = [], 0
    rows.add("s4")
    assert told.is_behind()
    await told.catch_up(now=NOW)
    assert told.concerns("s4", "ada", 0)
    assert told.concerns("s3", "ada", 0)
    assert not told.is_behind()


async def test_the_highest_epoch_of_an_account_counts_whatever_the_order(rows, told):
    for sequence, epoch in ((1, 5), (2, 3)):
        rows.rows.append(Revocation(sequence, "account", "ada", epoch, NOW + 600))
    rows.number = 2
    await told.catch_up(now=NOW)
    assert [told.concerns("s1", "ada", epoch) for epoch in (3, 4, 5)] == [True, True, False]
    assert len(told) == 1
