"""What every store promises of the tokens that are mailed: used once, for one purpose, by their owner."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from thebes.stores.accounts import Account, AccountStore, NewToken, TokenPurpose
from thebes.stores.failures import Failures, FailureVerdict
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

PURPOSES: tuple[TokenPurpose, ...] = ("verify", "reset", "invite")


async def with_ada_and_bob(store: Store) -> AccountStore:
    await store.accounts.create(ADA, now=NOW)
    await store.accounts.create(BOB, now=NOW)
    return store.accounts


async def use(
    accounts: AccountStore, name: str, purpose: TokenPurpose, *, now: float = NOW
) -> Account | None:
    """Use a token for what it is meant for."""
    if purpose == "verify":
        return await accounts.confirm_email(digest(name), now=now)
    return await accounts.reset_password(digest(name), purpose, "new", now=now)


@pytest.mark.asyncio
class TestLookingAtTokens:
    async def test_it_shows_whose_it_is_and_uses_nothing(self, store: Store) -> None:
        accounts = await with_ada_and_bob(store)
        await accounts.issue(token("t", "reset"), now=NOW)
        assert await accounts.look(digest("t"), "reset", now=NOW) == ADA
        assert await accounts.look(digest("t"), "reset", now=NOW) == ADA

    async def test_a_reset_request_changes_nothing_on_the_account(self, store: Store) -> None:
        accounts = await with_ada_and_bob(store)
        await store.sessions.open(session("s"), most=20, now=NOW)
        await accounts.issue(token("t", "reset"), jobs=[MAIL], now=NOW)
        assert await accounts.by_id(ADA.id) == ADA
        assert len(await store.sessions.of_account(ADA.id, now=NOW)) == 1
        assert [job.id for job in await store.jobs.take("mail", most=1, lease=1, now=NOW)] == [MAIL.id]


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.asyncio
class TestUsingTokens:
    async def test_a_token_works_once(self, store: Store, purpose: TokenPurpose) -> None:
        accounts = await with_ada_and_bob(store)
        await accounts.issue(token("t", purpose), now=NOW)
        assert present(await use(accounts, "t", purpose)).id == ADA.id
        assert await use(accounts, "t", purpose) is None
        assert await accounts.look(digest("t"), purpose, now=NOW) is None

    async def test_of_simultaneous_uses_exactly_one_succeeds(
        self, store: Store, purpose: TokenPurpose
    ) -> None:
        accounts = await with_ada_and_bob(store)
        await accounts.issue(token("t", purpose), now=NOW)
        done = await asyncio.gather(*(use(accounts, "t", purpose) for _ in range(20)))
        assert sum(account is not None for account in done) == 1
        assert present(await accounts.by_id(ADA.id)).password_epoch == (purpose != "verify")

    async def test_a_new_one_voids_the_earlier_ones_of_its_purpose(
        self, store: Store, purpose: TokenPurpose
    ) -> None:
        accounts = await with_ada_and_bob(store)
        await accounts.issue(token("bob's", purpose, BOB), now=NOW)
        for other in PURPOSES:
            await accounts.issue(token(f"other {other}", other), now=NOW)
        await accounts.issue(token("late", purpose), now=NOW)
        assert await use(accounts, f"other {purpose}", purpose) is None
        assert await accounts.look(digest("bob's"), purpose, now=NOW) == BOB
        for other in set(PURPOSES) - {purpose}:
            assert await accounts.look(digest(f"other {other}"), other, now=NOW) == ADA
        assert present(await use(accounts, "late", purpose)).id == ADA.id

    @pytest.mark.parametrize(("seconds", "is_good"), [(1799.999, True), (1800, False), (1801, False)])
    async def test_it_expires(
        self, store: Store, purpose: TokenPurpose, seconds: float, is_good: bool
    ) -> None:
        accounts = await with_ada_and_bob(store)
        await accounts.issue(token("t", purpose), now=NOW)
        assert (await accounts.look(digest("t"), purpose, now=NOW + seconds) is not None) is is_good
        assert (await use(accounts, "t", purpose, now=NOW + seconds) is not None) is is_good

    async def test_it_is_for_no_other_purpose_and_not_used_up_by_the_attempt(
        self, store: Store, purpose: TokenPurpose
    ) -> None:
        accounts = await with_ada_and_bob(store)
        await accounts.issue(token("t", purpose), now=NOW)
        for other in set(PURPOSES) - {purpose}:
            assert await accounts.look(digest("t"), other, now=NOW) is None
            assert await use(accounts, "t", other) is None
        assert await accounts.by_id(ADA.id) == ADA
        assert present(await use(accounts, "t", purpose)).id == ADA.id

    async def test_it_is_void_for_another_address_than_it_was_sent_to(
        self, store: Store, purpose: TokenPurpose
    ) -> None:
        accounts = await with_ada_and_bob(store)
        elsewhere = replace(token("t", purpose), email_key="ada@elsewhere.example")
        await accounts.issue(elsewhere, now=NOW)
        assert await accounts.look(digest("t"), purpose, now=NOW) is None
        assert await use(accounts, "t", purpose) is None
        assert await accounts.by_id(ADA.id) == ADA

    async def test_an_unknown_one_is_no_good(self, store: Store, purpose: TokenPurpose) -> None:
        accounts = await with_ada_and_bob(store)
        assert await use(accounts, "t", purpose) is None


@pytest.mark.asyncio
class TestConfirmingAddresses:
    async def test_the_address_is_confirmed_from_then_on(self, store: Store) -> None:
        accounts = await with_ada_and_bob(store)
        await accounts.issue(token("1", "verify"), now=NOW)
        confirmed = await accounts.confirm_email(digest("1"), jobs=[MAIL], now=NOW + 1)
        assert confirmed == replace(ADA, verified_at=NOW + 1) == await accounts.by_id(ADA.id)
        assert len(await store.jobs.take("mail", most=2, lease=1, now=NOW + 1)) == 1

        await accounts.issue(token("2", "verify"), now=NOW)
        assert await accounts.confirm_email(digest("2"), now=NOW + 2) == confirmed

    async def test_a_token_that_is_no_good_queues_nothing(self, store: Store) -> None:
        accounts = await with_ada_and_bob(store)
        assert await accounts.confirm_email(digest("?"), jobs=[MAIL], now=NOW) is None
        assert await accounts.reset_password(digest("?"), "reset", "new", jobs=[MAIL], now=NOW) is None
        assert list(await store.jobs.take("mail", most=2, lease=1, now=NOW)) == []


@pytest.mark.asyncio
class TestResettingPasswords:
    async def test_both_epochs_rise_and_the_address_is_confirmed(self, store: Store) -> None:
        accounts = await with_ada_and_bob(store)
        await accounts.mark_compromised(ADA.id, now=NOW)
        await accounts.issue(token("t", "reset"), now=NOW)
        done = await accounts.reset_password(digest("t"), "reset", "new", now=NOW + 1)
        expected = replace(ADA, password_hash="new", password_epoch=1, epoch=2, verified_at=NOW + 1)
        assert done == expected == await accounts.by_id(ADA.id)

    async def test_every_session_ends_with_a_revocation_row(self, store: Store) -> None:
        accounts = await with_ada_and_bob(store)
        for name in ("one", "two"):
            await store.sessions.open(session(name), most=20, now=NOW)
        await store.sessions.open(session("bob's", BOB), most=20, now=NOW)
        await accounts.issue(token("t", "reset"), now=NOW)
        before = store.sessions.sequence()
        await accounts.reset_password(digest("t"), "reset", "new", now=NOW)

        assert list(await store.sessions.of_account(ADA.id, now=NOW)) == []
        assert [(await found(store, one)).revoked_for for one in ("one", "two")] == ["password_reset"] * 2
        rows = await store.sessions.revocations(before, now=NOW)
        assert ("account", ADA.id, 1) in [(row.kind, row.subject, row.epoch) for row in rows]
        assert len(await store.sessions.of_account(BOB.id, now=NOW)) == 1

    async def test_the_named_failures_are_forgotten_and_no_others(self, store: Store) -> None:
        accounts = await with_ada_and_bob(store)
        keys, row = [b"ada", b"ada's account", b"bob"], Failures(count=100, last_at=NOW)
        await store.failures.settle(keys, lambda rows, now: FailureVerdict(None, [row] * 3), now=NOW)
        await accounts.issue(token("t", "reset"), now=NOW)
        await accounts.reset_password(digest("t"), "reset", "new", failure_keys=keys[:2], now=NOW)
        left = await store.failures.settle(keys, lambda rows, now: FailureVerdict(list(rows)), now=NOW)
        assert left == [None, None, row]

    async def test_failures_stay_where_the_token_is_no_good(self, store: Store) -> None:
        accounts = await with_ada_and_bob(store)
        row = Failures(count=100, last_at=NOW)
        await store.failures.settle([b"ada"], lambda rows, now: FailureVerdict(None, [row]), now=NOW)
        await accounts.reset_password(digest("?"), "reset", "new", failure_keys=[b"ada"], now=NOW)
        left = await store.failures.settle([b"ada"], lambda rows, now: FailureVerdict(list(rows)), now=NOW)
        assert left == [row]

    @pytest.mark.parametrize("name", ["reset", "invite"])
    async def test_a_changed_password_voids_the_links_that_could_set_one(
        self, store: Store, name: TokenPurpose
    ) -> None:
        """A reset token that outlives a password change gives the account back to whoever reads old mails."""
        accounts = await with_ada_and_bob(store)
        await accounts.issue(token("t", name), now=NOW)
        await accounts.issue(token("v", "verify"), now=NOW)
        await accounts.change_password(ADA.id, ADAS_HASH, "new", now=NOW)
        assert await accounts.look(digest("t"), name, now=NOW) is None
        assert present(await accounts.look(digest("v"), "verify", now=NOW)).id == ADA.id

    async def test_a_used_invitation_voids_a_reset_link_too(self, store: Store) -> None:
        accounts = await with_ada_and_bob(store)
        await accounts.issue(token("i", "invite", BOB), now=NOW)
        await accounts.issue(token("r", "reset", BOB), now=NOW)
        invited = await accounts.reset_password(digest("i"), "invite", "bob's first", now=NOW)
        assert invited == replace(
            BOB, password_hash="bob's first", password_epoch=1, epoch=1, verified_at=NOW
        )
        assert await accounts.look(digest("r"), "reset", now=NOW) is None


@pytest.mark.asyncio
async def test_a_token_of_another_account_is_theirs(store: Store) -> None:
    accounts = await with_ada_and_bob(store)
    stolen: NewToken = token("t", "reset", BOB)
    await accounts.issue(stolen, now=NOW)
    assert present(await use(accounts, "t", "reset")).id == BOB.id
    assert await accounts.by_id(ADA.id) == ADA
