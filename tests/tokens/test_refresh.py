"""Sessions on real stores: opened, recognised, renewed, ended, however many ask at once."""

import asyncio
import dataclasses
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from account_rows import ADA, BOB
from refreshing import AWAY, DAY, HOME, KEYS, STORES, T0, Client, a_store, queued, theft_mail
from thebes.errors import ConfigurationError, StoreUnavailable
from thebes.stores.memory import MemoryStore
from thebes.stores.sessions import Verdict
from thebes.stores.sqlite import SQLiteStore
from thebes.stores.store import Store
from thebes.tokens.refresh import RefreshTokens, Renewed, max_age
from thebes.tokens.refresh_format import make_token


@pytest.fixture(params=sorted(STORES))
async def store(request, tmp_path) -> AsyncIterator[Store]:
    async with a_store(request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def sqlite_store(tmp_path) -> AsyncIterator[SQLiteStore]:
    async with a_store("sqlite", tmp_path) as made:
        yield made


@pytest.fixture
def refresh(store: Store) -> RefreshTokens:
    return RefreshTokens(store.sessions, KEYS, theft_jobs=theft_mail)


class TestOpening:
    @pytest.mark.requirement("TOK-22")
    async def test_answers_with_a_session_and_its_first_token(self, store, refresh):
        session, token = await refresh.open(
            ADA.id,
            0,
            mode="bearer",
            amr=["pwd"],
            circumstances=HOME,
            auth_time=T0 - 5,
            is_remembered=True,
            now=T0,
        )
        assert refresh.read(token).session_id == session.id
        assert (session.account_id, session.mode, session.amr) == (ADA.id, "bearer", ("pwd",))
        assert (session.auth_time, session.created_at, session.is_remembered) == (T0 - 5, T0, True)
        assert (session.expires_at, session.idle_seconds) == (T0 + 30 * DAY, 7 * DAY)
        assert (session.device, session.address) == (HOME.device, HOME.address)
        assert (await store.sessions.find(session.id))[0] == session

    async def test_takes_the_clock_where_no_time_is_given(self, refresh):
        session, token = await refresh.open(ADA.id, 0, mode="cookie", amr=["pwd"], circumstances=HOME)
        renewed = await refresh.renew(refresh.read(token), mode="cookie", circumstances=HOME)
        arrived = await refresh.arrive(refresh.read(token), mode="cookie", circumstances=HOME)
        assert (renewed.kind, arrived.kind) == ("kept", "kept")
        assert 0 <= renewed.session.used_at - session.created_at < 60

    @pytest.mark.parametrize("epoch", [1, -1])
    async def test_needs_the_epoch_at_which_the_sign_in_was_checked(self, refresh, epoch):
        assert await refresh.open(ADA.id, epoch, mode="cookie", amr=["pwd"], circumstances=HOME) is None

    async def test_needs_an_account_that_may_be_used(self, store, refresh):
        assert await refresh.open("nobody", 0, mode="cookie", amr=["pwd"], circumstances=HOME) is None
        await store.accounts.set_enabled(ADA.id, False, now=T0)
        assert await refresh.open(ADA.id, 1, mode="cookie", amr=["pwd"], circumstances=HOME) is None

    async def test_ends_the_session_that_the_client_brought_and_adopts_nothing_of_it(self, store, refresh):
        """Session fixation: what an attacker planted in the browser is worth nothing after the sign-in."""
        planted = await Client.signed_in(refresh, account=BOB)
        signed_in = await Client.signed_in(refresh, replaces=planted.session.id, now=T0 + 60)
        assert signed_in.session.id != planted.session.id
        assert refresh.read(signed_in.tokens[0]).random != refresh.read(planted.tokens[0]).random
        for step in ("arrival", "renewal", "refresh"):
            assert (await planted.shows(planted.tokens[0], T0 + 61, step=step)).reason == "revoked"
        assert (await signed_in.shows(signed_in.tokens[0], T0 + 61)).kind == "kept"

    async def test_an_id_that_we_never_gave_out_is_not_adopted(self, store, refresh):
        client = await Client.signed_in(refresh, replaces="chosen-by-an-attacker")
        assert client.session.id != "chosen-by-an-attacker"
        assert await store.sessions.find("chosen-by-an-attacker") is None

    async def test_ends_the_oldest_beyond_the_most(self, store):
        refresh = RefreshTokens(store.sessions, KEYS, most_sessions=2)
        clients = [await Client.signed_in(refresh, now=T0 + number) for number in range(3)]
        assert [(await one.row(store)).revoked_for for one in clients] == ["crowded_out", None, None]


# Seconds since the rotation, which of the three tokens, from where, grace, whether the newest was presented.
TABLE = [
    pytest.param(2, 5, HOME, 30, False, "kept", None, None, id="current, young"),
    pytest.param(2, 30, HOME, 30, False, "rotated", None, None, id="current, as old as the grace"),
    pytest.param(2, 5, HOME, 0, False, "rotated", None, None, id="current, without grace"),
    pytest.param(1, 5, HOME, 30, True, "successor", None, None, id="predecessor in the grace"),
    pytest.param(1, 5, AWAY, 30, True, "successor", None, "refresh_strange", id="from elsewhere"),
    pytest.param(1, 31, HOME, 30, True, "refused", "reused", "reuse_detected", id="late, presented"),
    pytest.param(1, 31, HOME, 30, False, "refused", "unconfirmed", "refresh_unconfirmed", id="late, lost"),
    pytest.param(1, 31, AWAY, 30, False, "refused", "reused", "reuse_detected", id="late, lost, elsewhere"),
    pytest.param(
        1, 0, HOME, 0, False, "refused", "unconfirmed", "refresh_unconfirmed", id="at once, no grace"
    ),
    pytest.param(1, 1, HOME, 0, True, "refused", "reused", "reuse_detected", id="presented, no grace"),
    pytest.param(0, 1, HOME, 30, False, "refused", "reused", "reuse_detected", id="two generations old"),
    pytest.param(0, 100, HOME, 0, True, "refused", "reused", "reuse_detected", id="two old, no grace"),
]


@pytest.mark.requirement("TOK-18", "TOK-19", "TOK-21")
@pytest.mark.parametrize(("index", "age", "where", "grace", "is_seen", "kind", "reason", "event"), TABLE)
async def test_every_row_of_the_table_on_a_real_store(
    store, index, age, where, grace, is_seen, kind, reason, event
):
    refresh = RefreshTokens(store.sessions, KEYS, grace=timedelta(seconds=grace), theft_jobs=theft_mail)
    client = await Client.signed_in(refresh)
    await client.rotates(T0 + 100)
    await client.rotates(rotated_at := T0 + 200)
    if is_seen:
        await store.sessions.settle(client.session.id, presenting(rotated_at), now=rotated_at)
    before, sequence = await client.row(store), store.sessions.sequence()

    renewed = await client.shows(client.tokens[index], rotated_at + age, where=where)

    after = await client.row(store)
    assert (renewed.kind, renewed.reason) == (kind, reason)
    assert [one.name for one in renewed.events] == ([event] if event else [])
    is_ended = reason is not None
    assert (after.revoked_for, after.revoked_at) == ((reason, rotated_at + age) if is_ended else (None, None))
    assert store.sessions.sequence() == sequence + is_ended
    entries = await store.sessions.revocations(sequence, now=rotated_at + age)
    assert [(entry.kind, entry.subject) for entry in entries] == [("session", after.id)] * is_ended
    assert await queued(store) == ([f"theft of {after.id}"] if reason == "reused" else [])
    assert after.generation == before.generation + (kind == "rotated")
    if kind in ("kept", "successor"):
        assert renewed.token == client.tokens[2]
    if is_ended:
        assert (renewed.token, renewed.session, renewed.owner) == (None, None, None)
        assert (await client.shows(client.tokens[2], rotated_at + age)).reason == "revoked"
    else:
        assert renewed.session == after
        assert refresh.read(renewed.token).digest == after.digest
        assert renewed.owner.roles == ADA.roles


def presenting(now):
    """Return a judge that notes that the current token was presented."""
    return lambda row, owner, at: Verdict(None, dataclasses.replace(row, presented_at=now))


class TestRenewalInPlace:
    async def test_arriving_writes_nothing(self, store, refresh):
        client = await Client.signed_in(refresh)
        await client.rotates(T0 + 100)
        before = await client.row(store)
        for token, now, kind in (
            (client.tokens[1], T0 + 101, "kept"),
            (client.tokens[1], T0 + 500, "kept"),
            (client.tokens[0], T0 + 101, "successor"),
        ):
            arrived = await client.shows(token, now, step="arrival")
            assert (arrived.kind, arrived.token, arrived.session) == (kind, None, before)
            assert arrived.owner.id == ADA.id
        assert await client.row(store) == before

    async def test_arriving_ends_the_session_of_a_stolen_token_and_tells_its_owner(self, store, refresh):
        client = await Client.signed_in(refresh)
        await client.rotates(T0 + 100)
        arrived = await client.shows(client.tokens[0], T0 + 140, where=AWAY, step="arrival")
        assert (arrived.kind, arrived.reason) == ("refused", "reused")
        assert [event.name for event in arrived.events] == ["reuse_detected"]
        assert (await client.row(store)).revoked_for == "reused"
        assert len(await queued(store)) == 1

    async def test_what_was_read_on_arrival_is_judged_again_before_it_is_written(self, store, refresh):
        """Between the read and the write the newest token was presented: no lost answer, but theft."""
        client = await Client.signed_in(refresh)
        await client.rotates(T0 + 100)
        slow = RefreshTokens(
            Between(store.sessions, lambda: client.shows(client.tokens[1], T0 + 129)),
            KEYS,
            theft_jobs=theft_mail,
        )
        arrived = await slow.arrive(
            refresh.read(client.tokens[0]), mode="cookie", circumstances=HOME, now=T0 + 131
        )
        assert arrived.reason == "reused"
        assert len(await queued(store)) == 1

    async def test_an_answer_slower_than_the_grace_sets_nothing_and_is_no_theft(self, store, refresh):
        client = await Client.signed_in(refresh)
        slow = client.tokens[0]
        assert (await client.shows(slow, T0 + 100, step="arrival")).kind == "kept"
        await client.rotates(T0 + 101)
        await client.rotates(T0 + 150)
        late = await client.shows(slow, T0 + 200, step="renewal")
        assert (late.kind, late.reason, late.token, late.events) == ("refused", "overtaken", None, ())
        assert (await client.shows(client.tokens[-1], T0 + 200)).kind == "rotated"

    async def test_overtaken_inside_the_grace_it_gets_the_same_successor(self, store, refresh):
        client = await Client.signed_in(refresh)
        for step in ("arrival", "arrival"):
            assert (await client.shows(client.tokens[0], T0 + 100, step=step)).kind == "kept"
        first = await client.shows(client.tokens[0], T0 + 101, step="renewal")
        second = await client.shows(client.tokens[0], T0 + 103, step="renewal")
        assert (first.kind, second.kind) == ("rotated", "successor")
        assert first.token == second.token

    async def test_late_answers_of_a_browser_that_signed_in_anew_set_nothing(self, store, refresh):
        ada = await Client.signed_in(refresh)
        assert (await ada.shows(ada.tokens[0], T0 + 100, step="arrival")).kind == "kept"
        bob = await Client.signed_in(refresh, account=BOB, replaces=ada.session.id, now=T0 + 101)
        late = await ada.shows(ada.tokens[0], T0 + 102, step="renewal")
        assert (late.kind, late.reason, late.token) == ("refused", "revoked", None)
        assert (await bob.shows(bob.tokens[0], T0 + 103)).kind == "kept"

    async def test_a_rotation_that_does_not_begin_in_time_is_withdrawn(self, sqlite_store, tmp_path):
        refresh = RefreshTokens(sqlite_store.sessions, KEYS)
        client = await Client.signed_in(refresh)
        before = await client.row(sqlite_store)
        other = sqlite3.connect(tmp_path / "thebes.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        withdrawn = await client.shows(client.tokens[0], T0 + 100, step="renewal", begin_within=0.05)
        assert withdrawn == Renewed(kind="withdrawn")
        assert (await client.shows(client.tokens[0], T0 + 100, step="arrival")).kind == "kept"
        other.execute("ROLLBACK")
        other.close()
        assert await client.row(sqlite_store) == before
        assert (
            await client.shows(client.tokens[0], T0 + 101, step="renewal", begin_within=5)
        ).kind == "rotated"


class Between:
    """A store of sessions in which something happens right after a session was found."""

    def __init__(self, store, happens) -> None:
        self._store, self._happens = store, happens
        self.settle = store.settle

    async def find(self, session_id):
        found = await self._store.find(session_id)
        assert (await self._happens()).kind == "kept"
        return found


class TestASessionThatEnds:
    @pytest.mark.requirement("TOK-24")
    @pytest.mark.parametrize("step", ["arrival", "renewal", "refresh"])
    async def test_by_sign_out_can_not_be_refreshed(self, store, refresh, step):
        client = await Client.signed_in(refresh)
        assert await store.sessions.revoke(ADA.id, client.session.id, reason="signed_out", now=T0 + 1)
        assert (await client.shows(client.tokens[0], T0 + 1, step=step)).reason == "revoked"

    @pytest.mark.requirement("TOK-24", "TOK-40")
    @pytest.mark.parametrize("step", ["arrival", "renewal", "refresh"])
    async def test_with_its_account_can_not_be_refreshed(self, store, refresh, step):
        client = await Client.signed_in(refresh)
        await store.accounts.set_enabled(ADA.id, False, now=T0 + 1)
        assert (await client.shows(client.tokens[0], T0 + 1, step=step)).kind == "refused"
        await store.accounts.set_enabled(ADA.id, True, now=T0 + 2)
        assert (await client.shows(client.tokens[0], T0 + 2, step=step)).kind == "refused"
        await store.accounts.delete(ADA.id, now=T0 + 3)
        assert (await client.shows(client.tokens[0], T0 + 3, step=step)).reason == "unknown"

    @pytest.mark.parametrize(("mode", "other"), [("cookie", "bearer"), ("bearer", "cookie")])
    async def test_is_not_reached_by_its_token_in_another_place(self, store, refresh, mode, other):
        client = await Client.signed_in(refresh, mode=mode)
        before = await client.row(store)
        for step in ("arrival", "renewal", "refresh"):
            assert (await client.shows(client.tokens[0], T0 + 100, mode=other, step=step)).reason == "mode"
        assert await client.row(store) == before

    async def test_other_sessions_of_the_account_go_on(self, store, refresh):
        stolen, other = await Client.signed_in(refresh), await Client.signed_in(refresh)
        await stolen.rotates(T0 + 100)
        assert (await stolen.shows(stolen.tokens[0], T0 + 200)).reason == "unconfirmed"
        assert (await other.shows(other.tokens[0], T0 + 200)).kind == "rotated"

    async def test_is_told_when_the_end_can_not_be_written(self, sqlite_store):
        refresh = RefreshTokens(sqlite_store.sessions, KEYS)
        client = await Client.signed_in(refresh)
        await client.rotates(T0 + 100)
        await sqlite_store.close()
        with pytest.raises(StoreUnavailable):
            await client.shows(client.tokens[0], T0 + 200, step="arrival")


class TestWhatComesToLight:
    async def test_is_reported_once_with_where_the_token_came_from(self, store):
        told = []
        refresh = RefreshTokens(
            store.sessions,
            KEYS,
            report=lambda event, where: told.append((event.name, event.session_id, where)),
        )
        client = await Client.signed_in(refresh)
        newer = make_token(KEYS, client.session.id, 9).token
        await client.rotates(T0 + 100)
        await client.shows(client.tokens[0], T0 + 101, where=AWAY)
        await client.shows(newer, T0 + 101, step="arrival")
        await client.shows(client.tokens[0], T0 + 200, where=AWAY, step="arrival")
        await client.shows(client.tokens[0], T0 + 201, where=AWAY)
        assert told == [
            ("refresh_strange", client.session.id, AWAY),
            ("store_rolled_back", client.session.id, HOME),
            ("refresh_unconfirmed", client.session.id, AWAY),
        ]

    @pytest.mark.parametrize("step", ["arrival", "refresh"])
    async def test_is_reported_too_when_the_thief_hangs_up(self, sqlite_store, tmp_path, step):
        told = []
        refresh = RefreshTokens(
            sqlite_store.sessions, KEYS, report=lambda event, where: told.append(event.name)
        )
        client = await Client.signed_in(refresh)
        await client.rotates(T0 + 100)
        other = sqlite3.connect(tmp_path / "thebes.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        asking = asyncio.ensure_future(client.shows(client.tokens[0], T0 + 200, where=AWAY, step=step))
        await asyncio.sleep(0.02)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        other.execute("ROLLBACK")
        other.close()
        async with asyncio.timeout(10):
            while not told:
                await asyncio.sleep(0.005)
        assert told == ["reuse_detected"]
        assert (await client.row(sqlite_store)).revoked_for == "reused"


class TestARoleThatIsGranted:
    async def test_stands_in_the_next_answer_whatever_the_age_of_the_refresh_token(self, store, refresh):
        client = await Client.signed_in(refresh)
        await store.accounts.grant(ADA.id, roles=["admin"], now=T0 + 1)
        renewed = await client.shows(client.tokens[0], T0 + 2)
        assert renewed.kind == "kept"
        assert set(renewed.owner.roles) == {*ADA.roles, "admin"}
        assert renewed.session.epoch == renewed.owner.epoch == 1

    @pytest.mark.requirement("TOK-39")
    async def test_and_every_renewal_leaves_the_authentication_as_it_was(self, store, refresh):
        client = await Client.signed_in(refresh, auth_time=T0 - 7, amr=("pwd", "otp"))
        for number in range(1, 4):
            await store.accounts.grant(ADA.id, roles=[f"role{number}"], now=T0 + number * 100)
            await client.rotates(T0 + number * 100 + 1)
            row = await client.row(store)
            assert (row.auth_time, row.amr, row.expires_at) == (T0 - 7, ("pwd", "otp"), T0 + 30 * DAY)


@pytest.mark.requirement("TOK-21")
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"grace": timedelta(seconds=30.001)}, "0 to 30 seconds"),
        ({"grace": timedelta(seconds=-1)}, "0 to 30 seconds"),
        ({"lifetime": timedelta(0)}, "400 days"),
        ({"lifetime": timedelta(days=401)}, "400 days"),
        ({"idle": timedelta(0)}, "idle"),
        ({"most_sessions": 0}, "at least 1"),
    ],
)
def test_a_setting_outside_its_bounds_is_refused(settings, said):
    with pytest.raises(ConfigurationError, match=said):
        RefreshTokens(MemoryStore().sessions, KEYS, **settings)


@pytest.mark.requirement("TOK-33")
@pytest.mark.parametrize(
    ("is_remembered", "left", "age"),
    [
        (False, 30 * DAY, None),
        (True, 30 * DAY, 30 * 86400),
        (True, 59.9, 59),
        (True, -5, 0),
        (True, 900 * DAY, 400 * 86400),
    ],
)
async def test_cookies_last_as_long_as_what_is_left_of_the_session(is_remembered, left, age):
    store = MemoryStore()
    await store.accounts.create(ADA, now=T0)
    client = await Client.signed_in(RefreshTokens(store.sessions, KEYS), is_remembered=is_remembered)
    session = dataclasses.replace(client.session, expires_at=T0 + left)
    assert max_age(session, now=T0) == age


def test_nothing_that_is_printed_shows_a_token():
    token = make_token(KEYS, "c2Vzc2lvbiBvZiBhZGEgMDAx", 0)
    assert token.token not in repr(Renewed(kind="kept", token=token.token))
