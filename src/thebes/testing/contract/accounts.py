"""What every store of accounts promises: whole changes, none on a state that nobody decided on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from thebes.stores.accounts import Account
from thebes.stores.failures import Failures, FailureVerdict
from thebes.stores.sessions import Verdict
from thebes.stores.store import Store
from thebes.testing.contract.rows import (
    ADA,
    ADAS_HASH,
    BOB,
    MAIL,
    NOW,
    digest,
    found,
    present,
    session,
    token,
)

Change = Callable[[Store], Coroutine[Any, Any, object]]


async def queued(store: Store) -> list[str]:
    return [job.id for job in await store.jobs.take("mail", most=10, lease=1, now=NOW + 5)]


async def with_sessions(store: Store, *names: str, account: Account = ADA) -> None:
    await store.accounts.create(account, now=NOW)
    for name in names:
        assert await store.sessions.open(session(name, account), most=20, now=NOW)


@pytest.mark.asyncio
class TestCreatingAccounts:
    @pytest.mark.parametrize("account", [ADA, BOB, replace(ADA, verified_at=NOW + 0.1, is_compromised=True)])
    async def test_an_account_comes_back_as_it_was_created(self, store: Store, account: Account) -> None:
        assert await store.accounts.create(account, now=NOW)
        assert await store.accounts.by_id(account.id) == account
        assert await store.accounts.by_email(account.email_key) == account

    async def test_an_unknown_one_is_none(self, store: Store) -> None:
        assert await store.accounts.by_id(ADA.id) is None
        assert await store.accounts.by_email("") is None

    async def test_a_taken_address_changes_nothing_and_queues_nothing(self, store: Store) -> None:
        await store.accounts.create(ADA, now=NOW)
        other = replace(BOB, email_key=ADA.email_key)
        assert not await store.accounts.create(other, token=token("t", "verify", other), jobs=[MAIL], now=NOW)
        assert await store.accounts.by_id(BOB.id) is None
        assert await store.accounts.by_email(ADA.email_key) == ADA
        assert await store.accounts.look(digest("t"), "verify", now=NOW) is None
        assert await queued(store) == []

    async def test_an_id_that_is_there_is_not_replaced(self, store: Store) -> None:
        await store.accounts.create(ADA, now=NOW)
        assert not await store.accounts.create(replace(BOB, id=ADA.id), now=NOW)
        assert await store.accounts.by_id(ADA.id) == ADA
        assert await store.accounts.by_email(BOB.email_key) is None

    async def test_of_two_registrations_of_one_address_at_once_one_gets_it(self, store: Store) -> None:
        rivals = [replace(ADA, id=f"id {number}") for number in range(10)]
        done = await asyncio.gather(*(store.accounts.create(rival, now=NOW) for rival in rivals))
        assert sorted(done) == [False] * 9 + [True]
        assert len(await store.accounts.page()) == 1

    async def test_its_token_and_its_jobs_are_kept_with_it(self, store: Store) -> None:
        assert await store.accounts.create(ADA, token=token("t", "verify"), jobs=[MAIL], now=NOW)
        assert await store.accounts.look(digest("t"), "verify", now=NOW) == ADA
        assert await queued(store) == [MAIL.id]

    async def test_pages_are_in_the_order_of_the_ids(self, store: Store) -> None:
        names = ["c", "a", "e", "b", "d"]
        for name in names:
            await store.accounts.create(replace(BOB, id=name, email_key=name), now=NOW)
        assert [one.id for one in await store.accounts.page(most=2)] == ["a", "b"]
        assert [one.id for one in await store.accounts.page(after="b", most=2)] == ["c", "d"]
        assert [one.id for one in await store.accounts.page(after="d")] == ["e"]


@pytest.mark.asyncio
class TestChangingPasswords:
    async def test_it_is_set_where_the_present_one_is_what_the_caller_checked(self, store: Store) -> None:
        await store.accounts.create(replace(ADA, is_compromised=True), now=NOW)
        changed = await store.accounts.change_password(ADA.id, "$argon2id$ada's", "new", jobs=[MAIL], now=NOW)
        assert changed == replace(ADA, password_hash="new", password_epoch=1, epoch=1)
        assert await store.accounts.by_id(ADA.id) == changed
        assert await queued(store) == [MAIL.id]

    @pytest.mark.parametrize(("account", "expected"), [(ADA, "$argon2id$another"), (BOB, "None"), (BOB, "")])
    async def test_it_stays_where_it_is_another_by_now(
        self, store: Store, account: Account, expected: str
    ) -> None:
        await with_sessions(store, "s", account=account)
        assert not await store.accounts.change_password(account.id, expected, "new", jobs=[MAIL], now=NOW)
        assert await store.accounts.by_id(account.id) == account
        assert len(await store.sessions.of_account(account.id, now=NOW)) == 1
        assert await queued(store) == []

    async def test_of_two_changes_at_once_one_comes_too_late(self, store: Store) -> None:
        await store.accounts.create(ADA, now=NOW)
        changes = (
            store.accounts.change_password(ADA.id, ADAS_HASH, f"new {number}", now=NOW)
            for number in range(10)
        )
        done = [changed for changed in await asyncio.gather(*changes) if changed is not None]
        assert done == [await store.accounts.by_id(ADA.id)]
        assert done[0].password_epoch == 1

    async def test_all_sessions_end_besides_the_one_that_is_kept(self, store: Store) -> None:
        await with_sessions(store, "kept", "other", "third")
        await store.accounts.change_password(ADA.id, ADAS_HASH, "new", keeps="kept", now=NOW)
        assert [one.id for one in await store.sessions.of_account(ADA.id, now=NOW)] == ["kept"]
        kept, owner = present(await store.sessions.find("kept"))
        assert (kept.epoch, owner.epoch) == (1, 1)
        other = await found(store, "other")
        assert (other.revoked_at, other.revoked_for) == (NOW, "password_changed")

    async def test_a_session_of_somebody_else_is_no_session_to_keep(self, store: Store) -> None:
        await with_sessions(store, "ada's")
        await with_sessions(store, "bob's", account=BOB)
        before = await store.sessions.find("bob's")
        await store.accounts.change_password(ADA.id, ADAS_HASH, "new", keeps="bob's", now=NOW)
        assert list(await store.sessions.of_account(ADA.id, now=NOW)) == []
        assert await store.sessions.find("bob's") == before

    async def test_a_session_that_had_ended_with_its_epoch_does_not_come_back_to_life(
        self, store: Store
    ) -> None:
        await with_sessions(store, "old")
        await store.sessions.settle(
            "old", lambda row, owner, now: Verdict(None, replace(present(row), epoch=-1)), now=NOW
        )
        await store.accounts.change_password(ADA.id, ADAS_HASH, "new", keeps="old", now=NOW)
        assert (await found(store, "old")).epoch == -1
        await store.accounts.grant(ADA.id, roles=["x"], now=NOW)
        assert (await found(store, "old")).epoch == -1

    async def test_an_upgraded_hash_ends_nothing(self, store: Store) -> None:
        await with_sessions(store, "s")
        assert await store.accounts.upgrade_hash(ADA.id, ADAS_HASH, "stronger")
        assert not await store.accounts.upgrade_hash(ADA.id, ADAS_HASH, "stronger still")
        assert not await store.accounts.upgrade_hash("unknown", ADAS_HASH, "stronger")
        assert await store.accounts.by_id(ADA.id) == replace(ADA, password_hash="stronger")
        assert len(await store.sessions.of_account(ADA.id, now=NOW)) == 1
        assert list(await store.sessions.revocations(0, now=NOW)) == []

    async def test_an_upgrade_does_not_undo_a_change_that_came_first(self, store: Store) -> None:
        await store.accounts.create(ADA, now=NOW)
        await store.accounts.change_password(ADA.id, ADAS_HASH, "new", now=NOW)
        assert not await store.accounts.upgrade_hash(ADA.id, ADAS_HASH, "old one, stronger")
        assert present(await store.accounts.by_id(ADA.id)).password_hash == "new"


@pytest.mark.asyncio
class TestDisablingAccounts:
    async def test_it_ends_the_sessions_at_once_with_revocation_rows(self, store: Store) -> None:
        await with_sessions(store, "one", "two")
        before = store.sessions.sequence()
        disabled = await store.accounts.set_enabled(ADA.id, False, jobs=[MAIL], now=NOW)
        assert disabled == replace(ADA, is_enabled=False, epoch=1)
        assert list(await store.sessions.of_account(ADA.id, now=NOW)) == []
        assert (await found(store, "one")).revoked_for == "disabled"
        rows = await store.sessions.revocations(before, now=NOW)
        assert ("account", ADA.id, 1) in [(row.kind, row.subject, row.epoch) for row in rows]
        assert store.sessions.sequence() == rows[-1].sequence
        assert await queued(store) == [MAIL.id]

    async def test_nobody_signs_in_until_it_is_enabled_and_no_session_comes_back(self, store: Store) -> None:
        await with_sessions(store, "one")
        disabled = present(await store.accounts.set_enabled(ADA.id, False, now=NOW))
        assert not await store.sessions.open(session("two", disabled), most=20, now=NOW)
        enabled = await store.accounts.set_enabled(ADA.id, True, jobs=[MAIL], now=NOW)
        assert enabled == replace(ADA, epoch=1)
        assert list(await store.sessions.of_account(ADA.id, now=NOW)) == []
        assert await store.sessions.open(session("two", enabled), most=20, now=NOW)
        assert await queued(store) == [MAIL.id]

    async def test_a_compromised_password_ends_the_sessions_and_is_remembered(self, store: Store) -> None:
        await with_sessions(store, "one")
        marked = await store.accounts.mark_compromised(ADA.id, now=NOW)
        assert marked == replace(ADA, is_compromised=True, epoch=1) == await store.accounts.by_id(ADA.id)
        assert (await found(store, "one")).revoked_for == "compromised"


@pytest.mark.asyncio
class TestGranting:
    async def test_what_is_granted_comes_behind_what_is_there_once(self, store: Store) -> None:
        await store.accounts.create(ADA, now=NOW)
        granted = await store.accounts.grant(
            ADA.id, roles=["admin", "editor"], scopes=["a", "a"], jobs=[MAIL], now=NOW
        )
        expected = replace(ADA, roles=("editor", "author", "admin"), scopes=("notes:write", "a"), epoch=1)
        assert granted == expected == await store.accounts.by_id(ADA.id)
        assert await queued(store) == [MAIL.id]

    async def test_what_is_revoked_is_gone(self, store: Store) -> None:
        await store.accounts.create(ADA, now=NOW)
        left = await store.accounts.revoke_grant(
            ADA.id, roles=["editor", "x"], scopes=["notes:write"], now=NOW
        )
        assert (
            left == replace(ADA, roles=("author",), scopes=(), epoch=1) == await store.accounts.by_id(ADA.id)
        )

    @pytest.mark.parametrize("verb", ["grant", "revoke_grant"])
    async def test_sessions_go_on_and_earlier_access_tokens_do_not(self, store: Store, verb: str) -> None:
        await with_sessions(store, "one")
        before = store.sessions.sequence()
        await getattr(store.accounts, verb)(ADA.id, roles=["editor"], now=NOW)
        going_on, owner = present(await store.sessions.find("one"))
        assert (going_on.epoch, going_on.revoked_at, owner.epoch) == (1, None, 1)
        rows = await store.sessions.revocations(before, now=NOW)
        assert [(row.kind, row.subject, row.epoch) for row in rows] == [("account", ADA.id, 1)]

    async def test_refresh_tokens_keep_their_age_or_a_lagging_tab_would_look_like_a_thief(
        self, store: Store
    ) -> None:
        await store.accounts.create(ADA, now=NOW)
        for name, rotated_at in (("young", NOW - 1), ("old", NOW - 500)):
            await store.sessions.open(session(name, rotated_at=rotated_at), most=20, now=NOW)
        await store.accounts.grant(ADA.id, roles=["admin"], now=NOW)
        assert [(await found(store, one)).rotated_at for one in ("young", "old")] == [
            NOW - 1,
            NOW - 500,
        ]

    async def test_two_grants_at_once_are_both_there(self, store: Store) -> None:
        await with_sessions(store, "one")
        await asyncio.gather(*(store.accounts.grant(ADA.id, roles=[f"r{n}"], now=NOW) for n in range(10)))
        account = present(await store.accounts.by_id(ADA.id))
        assert set(account.roles) == {"editor", "author", *(f"r{n}" for n in range(10))}
        assert account.epoch == (await found(store, "one")).epoch == 10


@pytest.mark.asyncio
class TestDeletingAccounts:
    async def test_sessions_and_tokens_go_and_revocations_stay(self, store: Store) -> None:
        await with_sessions(store, "one")
        await store.accounts.issue(token("t", "reset"), now=NOW)
        before = store.sessions.sequence()
        assert await store.accounts.delete(ADA.id, jobs=[MAIL], now=NOW)
        assert await store.accounts.by_id(ADA.id) is await store.accounts.by_email(ADA.email_key) is None
        assert await store.sessions.find("one") is None
        assert await store.accounts.look(digest("t"), "reset", now=NOW) is None
        rows = await store.sessions.revocations(before, now=NOW)
        assert [(row.kind, row.subject, row.epoch) for row in rows] == [("account", ADA.id, 1)]
        assert await queued(store) == [MAIL.id]

    async def test_nobody_else_loses_anything(self, store: Store) -> None:
        await with_sessions(store, "ada's")
        await with_sessions(store, "bob's", account=BOB)
        await store.accounts.issue(token("t", "reset", BOB), now=NOW)
        await store.accounts.delete(ADA.id, now=NOW)
        assert await store.accounts.by_id(BOB.id) == BOB
        assert len(await store.sessions.of_account(BOB.id, now=NOW)) == 1
        assert await store.accounts.look(digest("t"), "reset", now=NOW) == BOB

    async def test_the_address_is_free_again(self, store: Store) -> None:
        await store.accounts.create(ADA, now=NOW)
        await store.accounts.delete(ADA.id, now=NOW)
        assert await store.accounts.create(replace(ADA, id="another"), now=NOW)


UNKNOWN: dict[str, Change] = {
    "change_password": lambda store: store.accounts.change_password("?", "old", "new", jobs=[MAIL], now=NOW),
    "set_enabled": lambda store: store.accounts.set_enabled("?", False, jobs=[MAIL], now=NOW),
    "grant": lambda store: store.accounts.grant("?", roles=["admin"], jobs=[MAIL], now=NOW),
    "revoke_grant": lambda store: store.accounts.revoke_grant("?", roles=["admin"], jobs=[MAIL], now=NOW),
    "mark_compromised": lambda store: store.accounts.mark_compromised("?", now=NOW),
    "delete": lambda store: store.accounts.delete("?", jobs=[MAIL], now=NOW),
    "issue": lambda store: store.accounts.issue(replace(token("t", "reset"), account_id="?"), jobs=[MAIL]),
}


@pytest.mark.parametrize("verb", UNKNOWN)
@pytest.mark.asyncio
async def test_where_there_is_no_account_nothing_happens(store: Store, verb: str) -> None:
    assert not await UNKNOWN[verb](store)
    assert await queued(store) == []
    assert list(await store.sessions.revocations(0, now=NOW)) == []


@pytest.mark.asyncio
async def test_without_a_time_the_store_has_its_own(store: Store) -> None:
    soon = replace(token("t", "verify"), expires_at=NOW * 2)
    assert await store.accounts.create(ADA, token=soon)
    confirmed = present(await store.accounts.confirm_email(digest("t")))
    assert NOW - 5e8 < present(confirmed.verified_at) < NOW * 2
    await store.failures.settle(
        [b"k"], lambda rows, now: FailureVerdict(None, [Failures(count=1, last_at=now)])
    )
    assert await store.accounts.set_enabled(ADA.id, False)
