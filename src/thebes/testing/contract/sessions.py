"""What every store promises of sessions: each verb happens whole, once, or not at all."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from typing import Any

import pytest

from thebes.stores.retention import REVOCATION_SECONDS
from thebes.stores.sessions import Judge, Owner, Revocation, Session, Verdict
from thebes.stores.store import Store
from thebes.testing.contract.rows import NOW, found, present
from thebes.testing.contract.session_rows import (
    endings,
    job,
    noted,
    renewing,
    session,
    waiting_jobs,
    with_account,
    with_sessions,
)


async def settled(store: Store, judge: Judge[int]) -> int:
    answer = await store.sessions.settle("one", judge, now=NOW)
    return present(answer)


@pytest.mark.asyncio
class TestOpeningSessions:
    async def test_every_column_comes_back_as_it_was_given(self, store: Store) -> None:
        await with_account(store, verified_at=NOW, roles=("admin", "a b"), scopes=("notes:read",), epoch=3)
        given = session(
            mode="bearer",
            generation=7,
            rotated_at=NOW + 0.123456789,
            presented_at=NOW + 1.5,
            successor="v1.k1.sealed",
            strange_uses=2,
            is_remembered=True,
            amr=("pwd", "otp"),
            epoch=3,
            device="Räksmörgås \x00 \N{GRINNING FACE}",
        )
        assert await store.sessions.open(given, most=20, now=NOW)
        assert await store.sessions.find("one") == (
            given,
            Owner(
                id="ada",
                is_enabled=True,
                is_verified=True,
                epoch=3,
                roles=("admin", "a b"),
                scopes=("notes:read",),
            ),
        )

    async def test_an_unknown_session_is_none(self, store: Store) -> None:
        assert await store.sessions.find("one") is None

    @pytest.mark.parametrize(
        ("changes", "epoch"),
        [
            pytest.param(None, 0, id="no such account"),
            pytest.param({"is_enabled": False}, 0, id="disabled"),
            pytest.param({"epoch": 2}, 1, id="an earlier epoch"),
            pytest.param({"epoch": 2}, 3, id="a later epoch"),
        ],
    )
    async def test_nothing_happens_without_an_account_that_may_sign_in(
        self, store: Store, changes: dict[str, Any] | None, epoch: int
    ) -> None:
        await with_account(store, "bob")
        await with_sessions(store, "bobs", owner="bob")
        if changes is not None:
            await with_account(store, **changes)
        opened = await store.sessions.open(
            session(epoch=epoch), replaces="bobs", most=1, jobs=[job()], now=NOW
        )
        assert not opened
        assert await store.sessions.find("one") is None
        assert (await found(store, "bobs")).revoked_at is None
        assert await waiting_jobs(store) == []
        assert await noted(store) == []

    async def test_an_id_that_is_there_is_refused_and_the_other_session_stays(self, store: Store) -> None:
        await with_account(store)
        await with_account(store, "bob")
        await with_sessions(store, "one", "two")
        with pytest.raises(ValueError, match="there already"):
            await store.sessions.open(session("one", "bob"), replaces="two", most=1, jobs=[job()], now=NOW)
        assert (await found(store)).account_id == "ada"
        assert await endings(store, "one", "two") == {"one": (None, None), "two": (None, None)}
        assert await waiting_jobs(store) == []

    async def test_the_session_that_the_client_brought_ends_whosever_it_is(self, store: Store) -> None:
        await with_account(store)
        await with_account(store, "bob")
        await with_sessions(store, "bobs", owner="bob")
        assert await store.sessions.open(session(), replaces="bobs", most=20, jobs=[job()], now=NOW + 5)
        assert await endings(store, "one", "bobs") == {"one": (None, None), "bobs": (NOW + 5, "replaced")}
        assert await noted(store) == [("session", "bobs")]
        assert await waiting_jobs(store) == ["mail-1"]

    @pytest.mark.parametrize("replaces", ["unknown", "", "ended"])
    async def test_replacing_an_unknown_or_ended_session_changes_nothing_else(
        self, store: Store, replaces: str
    ) -> None:
        await with_account(store)
        await with_sessions(store, "ended")
        await store.sessions.revoke("ada", "ended", reason="signed_out", now=NOW + 1)
        before = store.sessions.sequence()
        assert await store.sessions.open(session(), replaces=replaces, most=20, now=NOW + 2)
        assert (await endings(store, "ended"))["ended"] == (NOW + 1, "signed_out")
        assert store.sessions.sequence() == before

    async def test_the_oldest_beyond_the_most_end(self, store: Store) -> None:
        await with_account(store)
        await with_account(store, "bob")
        await with_sessions(store, "bobs", owner="bob")
        await with_sessions(store, "a", "b", "c")
        assert await store.sessions.open(session("d", created_at=NOW + 9), most=2, now=NOW + 9)
        ended = await endings(store, "a", "b", "c", "d", "bobs")
        assert {name for name, (_, reason) in ended.items() if reason == "crowded_out"} == {"a", "b"}
        assert sorted(await noted(store)) == [("session", "a"), ("session", "b")]
        assert [one.id for one in await store.sessions.of_account("ada", now=NOW + 9)] == ["d", "c"]

    async def test_the_new_one_stays_even_where_its_clock_is_behind(self, store: Store) -> None:
        await with_account(store)
        await with_sessions(store, "a", "b")
        assert await store.sessions.open(session("c", created_at=NOW - 60), most=1, now=NOW)
        assert [one.id for one in await store.sessions.of_account("ada", now=NOW)] == ["c"]

    async def test_sessions_that_are_over_take_no_place(self, store: Store) -> None:
        await with_account(store)
        await with_sessions(store, "a", "ended", "b")
        await store.sessions.revoke("ada", "ended", reason="signed_out", now=NOW + 3)
        assert await store.sessions.open(session("idle", idle_seconds=1, created_at=NOW), most=9, now=NOW)
        assert await store.sessions.open(session("over", expires_at=NOW + 1, created_at=NOW), most=9, now=NOW)
        assert await store.sessions.open(session("d", created_at=NOW + 9), most=3, now=NOW + 9)
        assert [one.id for one in await store.sessions.of_account("ada", now=NOW + 9)] == ["d", "b", "a"]

    async def test_of_many_that_open_at_once_the_most_remain(self, store: Store) -> None:
        await with_account(store)
        names = [f"s{number}" for number in range(25)]
        opening = [store.sessions.open(session(name), most=5, now=NOW) for name in names]
        assert all(await asyncio.gather(*opening))
        assert len(await store.sessions.of_account("ada", now=NOW)) == 5
        assert len(await noted(store)) == 20


@pytest.mark.asyncio
class TestSettlingSessions:
    async def test_the_row_becomes_what_the_judge_says(self, store: Store) -> None:
        await with_account(store)
        await with_sessions(store, "one", "two")
        wanted = replace(
            await found(store),
            generation=1,
            digest=b"other",
            rotated_at=NOW + 60.25,
            presented_at=NOW + 61,
            successor="sealed",
            network=b"n",
            agent=b"a",
            strange_uses=1,
            grace=0.0,
            used_at=NOW + 62,
            expires_at=NOW + 63,
            idle_seconds=64.0,
            is_remembered=True,
            auth_time=NOW + 65,
            amr=("pwd", "otp"),
            epoch=4,
            device="Safari on iPhone",
            address="198.51.100.x",
        )
        changed = {
            field.name
            for field in fields(Session)
            if getattr(wanted, field.name) != getattr(session(), field.name)
        }
        fixed = {"id", "account_id", "mode", "created_at", "revoked_at", "revoked_for"}
        assert changed == {field.name for field in fields(Session)} - fixed, (
            "each column that may change does"
        )
        answer = await store.sessions.settle("one", lambda *_: Verdict("yes", wanted, [job()]), now=NOW + 60)
        assert answer == "yes"
        assert await found(store) == wanted
        assert await found(store, "two") == session("two", created_at=NOW + 1)
        assert await waiting_jobs(store) == ["mail-1"]
        assert await noted(store) == []

    async def test_the_judge_sees_the_row_its_owner_and_the_clock(self, store: Store) -> None:
        await with_account(store, is_enabled=True, verified_at=NOW)
        await with_sessions(store, "one")
        seen: list[object] = []

        def judge(*shown: object) -> Verdict[None]:
            seen.extend(shown)
            return Verdict(None)

        await store.sessions.settle("one", judge, now=NOW + 7)
        assert seen == [session(), Owner(id="ada", is_enabled=True, is_verified=True, epoch=0), NOW + 7]

    async def test_an_unknown_session_is_judged_as_nothing(self, store: Store) -> None:
        answer = await store.sessions.settle("one", lambda *all_of: Verdict(all_of, jobs=[job()]), now=NOW)
        assert answer == (None, None, NOW)
        assert await waiting_jobs(store) == ["mail-1"], "a verdict without a row may have jobs too"

    async def test_without_now_the_clock_is_the_stores(self, store: Store) -> None:
        first = await store.sessions.settle("one", lambda _, __, now: Verdict(now))
        second = await store.sessions.settle("one", lambda _, __, now: Verdict(now))
        assert first is not None
        assert second is not None
        assert NOW / 2 < first <= second

    async def test_a_verdict_without_a_session_leaves_the_row(self, store: Store) -> None:
        await with_account(store)
        await with_sessions(store, "one")
        assert await store.sessions.settle("one", lambda *_: Verdict(5), now=NOW + 60) == 5
        assert await found(store) == session()

    async def test_an_ending_is_noted_once(self, store: Store) -> None:
        await with_account(store)
        await with_sessions(store, "one")
        ended = replace(session(), revoked_at=NOW + 60, revoked_for="reused")
        before = store.sessions.sequence()
        await store.sessions.settle("one", lambda *_: Verdict(None, ended, [job()]), now=NOW + 60)
        await store.sessions.settle(
            "one", lambda *_: Verdict(None, replace(ended, generation=1)), now=NOW + 61
        )
        assert list(await store.sessions.revocations(before, now=NOW + 60)) == [
            Revocation(before + 1, "session", "one", 0, NOW + 60 + REVOCATION_SECONDS)
        ]
        assert store.sessions.sequence() == before + 1
        assert (await found(store)).revoked_for == "reused"

    async def test_a_judge_that_raises_leaves_everything_as_it_was(self, store: Store) -> None:
        await with_account(store)
        await with_sessions(store, "one")

        def faulty(*_: object) -> Verdict[None]:
            raise ZeroDivisionError("a bug")

        with pytest.raises(ZeroDivisionError, match="a bug"):
            await store.sessions.settle("one", faulty, now=NOW)
        assert await found(store) == session()
        assert await store.sessions.settle("one", renewing(), now=NOW) == 1

    @pytest.mark.parametrize(
        "changes",
        [{"id": "two"}, {"account_id": "bob"}, {"mode": "bearer"}, {"created_at": NOW + 1}],
        ids=lambda changes: next(iter(changes)),
    )
    async def test_a_judge_that_answers_with_another_session_is_refused(
        self, store: Store, changes: dict[str, Any]
    ) -> None:
        await with_account(store)
        await with_account(store, "bob")
        await with_sessions(store, "one", "two")
        with pytest.raises(ValueError, match="judge"):
            await store.sessions.settle(
                "one", lambda *_: Verdict(None, replace(session(generation=9), **changes), [job()]), now=NOW
            )
        assert await found(store) == session()
        assert await found(store, "two") == session("two", created_at=NOW + 1)
        assert await waiting_jobs(store) == []

    async def test_a_judge_can_not_make_a_session_where_there_is_none(self, store: Store) -> None:
        await with_account(store)
        with pytest.raises(ValueError, match="judge"):
            await store.sessions.settle("one", lambda *_: Verdict(None, session()), now=NOW)
        assert await store.sessions.find("one") is None

    async def test_twenty_at_once_on_one_row_are_judged_one_by_one(self, store: Store) -> None:
        await with_account(store)
        await with_sessions(store, "one")
        settling = [settled(store, renewing()) for _ in range(20)]
        assert sorted(await asyncio.gather(*settling)) == list(range(1, 21))
        assert (await found(store)).generation == 20

    async def test_faulty_ones_among_many_undo_only_themselves(self, store: Store) -> None:
        await with_account(store)
        await with_sessions(store, "one")

        def too_late(before: Session | None, owner: Owner | None, now: float) -> Verdict[int]:
            return Verdict(0, session(generation=99, account_id="bob"), [job("lost")])

        judges = [too_late if number % 3 == 0 else renewing() for number in range(30)]
        settling = [settled(store, judge) for judge in judges]
        answers = await asyncio.gather(*settling, return_exceptions=True)
        assert sum(isinstance(answer, ValueError) for answer in answers) == 10
        assert sorted(answer for answer in answers if isinstance(answer, int)) == list(range(1, 21))
        assert (await found(store)).generation == 20
        assert await waiting_jobs(store) == []

    async def test_who_is_cancelled_loses_the_answer_and_not_the_transaction(self, store: Store) -> None:
        await with_account(store)
        await with_sessions(store, "one")
        leaving = asyncio.create_task(settled(store, renewing()))
        await asyncio.sleep(0)  # it has asked, and waits
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert await store.sessions.settle("one", renewing(), now=NOW) == 2
