"""What every store promises of the ends of sessions: who sees them, how they are noted, when they go."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from thebes.stores.store import Store
from thebes.testing.contract.rows import DAY, NOW, found
from thebes.testing.contract.session_rows import (
    account,
    endings,
    job,
    noted,
    renewing,
    session,
    waiting_jobs,
    with_account,
    with_sessions,
)


@pytest.mark.asyncio
class TestListsOfSessions:
    async def test_an_account_sees_its_live_sessions_the_newest_first(self, store: Store) -> None:
        await with_account(store)
        await with_account(store, "bob")
        await with_sessions(store, "a", "b", "c")
        await with_sessions(store, "bobs", owner="bob")
        await store.sessions.revoke("ada", "b", reason="signed_out", now=NOW + 4)
        assert [one.id for one in await store.sessions.of_account("ada", now=NOW + 4)] == ["c", "a"]
        assert [one.id for one in await store.sessions.of_account("nobody", now=NOW + 4)] == []

    @pytest.mark.parametrize(
        ("changes", "last"),
        [
            pytest.param({"expires_at": NOW + 100}, NOW + 100, id="its end"),
            pytest.param({"idle_seconds": 100.0}, NOW + 100, id="its disuse"),
        ],
    )
    async def test_a_session_is_live_up_to(self, store: Store, changes: dict[str, Any], last: float) -> None:
        await with_account(store)
        await store.sessions.open(session(**changes), most=1, now=NOW)
        assert len(await store.sessions.of_account("ada", now=last - 0.001)) == 1
        assert len(await store.sessions.of_account("ada", now=last)) == 0

    async def test_a_session_of_an_earlier_epoch_has_ended(self, store: Store) -> None:
        await with_account(store)
        await with_sessions(store, "one")
        await store.sessions.settle("one", renewing(epoch=-1), now=NOW)
        assert list(await store.sessions.of_account("ada", now=NOW)) == []


@pytest.mark.asyncio
class TestRevokingSessions:
    async def test_one_session_ends(self, store: Store) -> None:
        await with_account(store)
        await with_sessions(store, "a", "b")
        ended = await store.sessions.revoke("ada", "a", reason="signed_out", jobs=[job()], now=NOW + 5)
        assert list(ended) == ["a"]
        assert await endings(store, "a", "b") == {"a": (NOW + 5, "signed_out"), "b": (None, None)}
        assert await noted(store) == [("session", "a")]
        assert await waiting_jobs(store) == ["mail-1"]

    @pytest.mark.parametrize("name", ["bobs", "unknown", "over"])
    async def test_a_session_of_another_an_unknown_and_an_ended_one_are_alike(
        self, store: Store, name: str
    ) -> None:
        await with_account(store)
        await with_account(store, "bob")
        await with_sessions(store, "over")
        await with_sessions(store, "bobs", owner="bob")
        await store.sessions.revoke("ada", "over", reason="signed_out", now=NOW)
        before = store.sessions.sequence()
        assert list(await store.sessions.revoke("ada", name, reason="x", jobs=[job()], now=NOW + 5)) == []
        assert await endings(store, "bobs", "over") == {"bobs": (None, None), "over": (NOW, "signed_out")}
        assert store.sessions.sequence() == before
        assert await waiting_jobs(store) == []

    @pytest.mark.parametrize(
        ("besides", "ended"),
        [
            pytest.param(None, ["a", "b", "c"], id="all"),
            pytest.param("b", ["a", "c"], id="all besides one"),
            pytest.param("bobs", ["a", "b", "c"], id="besides a foreign one"),
        ],
    )
    async def test_the_sessions_of_an_account_end(
        self, store: Store, besides: str | None, ended: list[str]
    ) -> None:
        await with_account(store)
        await with_account(store, "bob")
        await with_sessions(store, "bobs", owner="bob")
        await with_sessions(store, "a", "b", "c")
        told = await store.sessions.revoke(
            "ada", besides=besides, reason="everywhere", jobs=[job()], now=NOW + 5
        )
        assert list(told) == ended
        left = await endings(store, "a", "b", "c", "bobs")
        assert [name for name, (_, reason) in left.items() if reason == "everywhere"] == ended
        assert await noted(store) == [("session", name) for name in ended]
        assert await waiting_jobs(store) == ["mail-1"]

    async def test_the_one_to_keep_is_kept_even_when_it_is_named_itself(self, store: Store) -> None:
        await with_account(store)
        await with_sessions(store, "a")
        assert list(await store.sessions.revoke("ada", "a", besides="a", reason="x", now=NOW)) == []
        assert (await found(store, "a")).revoked_at is None

    async def test_an_expired_session_is_ended_too_since_an_access_token_may_outlive_it(
        self, store: Store
    ) -> None:
        await with_account(store)
        await store.sessions.open(session(expires_at=NOW + 1), most=1, now=NOW)
        assert list(await store.sessions.revoke("ada", reason="everywhere", now=NOW + 2)) == ["one"]
        assert await noted(store, now=NOW + 2) == [("session", "one")]

    async def test_everything_ends_at_once(self, store: Store) -> None:
        await with_account(store)
        await with_account(store, "bob")
        await with_sessions(store, "a", "b")
        await with_sessions(store, "bobs", owner="bob")
        await store.sessions.revoke("ada", "a", reason="signed_out", now=NOW)
        before = store.sessions.sequence()
        assert await store.sessions.revoke_everything(reason="incident", now=NOW + 9) == 2
        assert await endings(store, "a", "b", "bobs") == {
            "a": (NOW, "signed_out"),
            "b": (NOW + 9, "incident"),
            "bobs": (NOW + 9, "incident"),
        }
        assert sorted(await noted(store, before)) == [("session", "b"), ("session", "bobs")]
        assert store.sessions.sequence() == before + 2
        assert await store.sessions.revoke_everything(reason="incident", now=NOW + 10) == 0


@pytest.mark.asyncio
class TestRevocations:
    async def test_a_reader_gets_what_is_behind_its_mark_in_order(self, store: Store) -> None:
        await with_account(store)
        await with_sessions(store, "a", "b", "c")
        for name in ("b", "c", "a"):
            await store.sessions.revoke("ada", name, reason="x", now=NOW)
        entries = await store.sessions.revocations(0, now=NOW)
        assert [entry.subject for entry in entries] == ["b", "c", "a"]
        numbers = [entry.sequence for entry in entries]
        assert numbers == sorted(set(numbers))
        assert store.sessions.sequence() == numbers[-1]
        assert await noted(store, after=numbers[0]) == [("session", "c"), ("session", "a")]
        assert await noted(store, after=numbers[-1]) == []

    async def test_entries_matter_until_the_last_token_has_expired(self, store: Store) -> None:
        await with_account(store)
        await with_sessions(store, "a")
        await store.sessions.revoke("ada", "a", reason="x", now=NOW)
        until = (await store.sessions.revocations(0, now=NOW))[0].until
        assert until - NOW >= 3660, "60 minutes and 60 seconds: the longest that can be configured"
        assert await noted(store, now=until - 0.001) == [("session", "a")]
        assert await noted(store, now=until) == []

    async def test_however_many_there_are_a_reader_gets_them_all(self, store: Store) -> None:
        await with_account(store)
        names = [f"s{number}" for number in range(1001)]
        await asyncio.gather(*(store.sessions.open(session(name), most=1, now=NOW) for name in names))
        assert [subject for _, subject in await noted(store)] == names[:-1]
        last = store.sessions.sequence()
        assert [subject for _, subject in await noted(store, after=last - 500)] == names[500:-1]

    async def test_numbers_are_not_used_again_after_a_purge(self, store: Store) -> None:
        await with_account(store)
        await with_sessions(store, "a", "b")
        await store.sessions.revoke("ada", "a", reason="x", now=NOW)
        last = store.sessions.sequence()
        assert (await store.purge(now=NOW + 5000))["revocations"] == 1
        await store.sessions.revoke("ada", "b", reason="x", now=NOW + 5001)
        assert [entry.sequence for entry in await store.sessions.revocations(0, now=NOW + 5001)] == [last + 1]


@pytest.mark.asyncio
class TestPurgingSessions:
    @pytest.mark.parametrize(
        ("changes", "over_at"),
        [
            pytest.param({"expires_at": NOW + 10}, NOW + 10 + DAY, id="expired"),
            pytest.param({"idle_seconds": 20.0}, NOW + 20 + DAY, id="idle"),
            pytest.param({"revoked_at": NOW + 30, "revoked_for": "x"}, NOW + 30 + DAY, id="revoked"),
        ],
    )
    async def test_a_session_goes_a_day_after_it_has_ended(
        self, store: Store, changes: dict[str, Any], over_at: float
    ) -> None:
        await with_account(store)
        await store.sessions.open(session(**changes), most=9, now=NOW)
        await store.sessions.open(session("live"), most=9, now=NOW)
        assert (await store.purge(now=over_at - 1))["sessions"] == 0
        assert (await store.purge(now=over_at))["sessions"] == 1
        assert await store.sessions.find("one") is None
        assert await found(store, "live") == session("live")
        assert set((await store.purge(now=over_at)).values()) == {0}

    async def test_one_call_takes_a_bounded_piece(self, store: Store) -> None:
        await with_account(store)
        opening = [
            store.sessions.open(session(f"s{number}", expires_at=NOW + 1), most=1, now=NOW)
            for number in range(501)
        ]
        await asyncio.gather(*opening)
        pieces = [(await store.purge(now=NOW + 2 + DAY))["sessions"] for _ in range(3)]
        assert pieces == [500, 1, 0]

    async def test_an_account_whose_sessions_went_can_sign_in_and_sign_out_again(self, store: Store) -> None:
        await with_account(store)
        await store.sessions.open(session(expires_at=NOW + 1), most=9, now=NOW)
        await store.purge(now=NOW + 2 + DAY)
        await with_sessions(store, "again")
        assert list(await store.sessions.revoke("ada", reason="x", now=NOW)) == ["again"]


@pytest.mark.asyncio
async def test_a_deleted_account_takes_its_sessions_with_it(store: Store) -> None:
    await with_account(store)
    await with_account(store, "bob")
    await with_sessions(store, "a")
    await with_sessions(store, "bobs", owner="bob")
    assert await store.accounts.delete("ada", now=NOW)
    assert await store.sessions.find("a") is None
    assert list(await store.sessions.of_account("ada", now=NOW)) == []
    assert (await found(store, "bobs")).account_id == "bob"
    assert await store.accounts.by_id("bob") == account("bob")
