"""Refresh tokens on real stores: many at once, what is kept of them, and a store that was set back."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from refreshing import AWAY, HOME, KEYS, STORES, T0, Client, a_store, queued, theft_mail
from thebes.encoding import encode
from thebes.secrets.successors import RefreshKeyring
from thebes.stores.sqlite import SQLiteStore
from thebes.stores.store import Store
from thebes.tokens.refresh import RefreshTokens, Renewed
from thebes.tokens.refresh_format import make_token
from token_making import ring


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


def of_one(results: list[Renewed]) -> set[str]:
    return {one.token for one in results if one.token is not None}


@pytest.mark.requirement("TOK-20")
class TestTwentyAtOnce:
    async def test_have_one_live_descendant(self, store, refresh):
        client = await Client.signed_in(refresh)
        results = await asyncio.gather(*(client.shows(client.tokens[0], T0 + 100) for _ in range(20)))
        assert sorted(one.kind for one in results) == ["rotated"] + ["successor"] * 19
        (token,) = of_one(results)
        row = await client.row(store)
        assert (row.generation, row.digest) == (1, refresh.read(token).digest)

    async def test_without_grace_have_none_after_a_race_at_the_endpoint(self, store):
        refresh = RefreshTokens(store.sessions, KEYS, grace=timedelta(0), theft_jobs=theft_mail)
        client = await Client.signed_in(refresh)
        results = await asyncio.gather(*(client.shows(client.tokens[0], T0 + 100) for _ in range(20)))
        assert sorted(one.kind for one in results) == ["refused"] * 19 + ["rotated"]
        assert (await client.row(store)).revoked_for == "unconfirmed"
        assert (await client.shows(*of_one(results), T0 + 101)).reason == "revoked"

    async def test_without_grace_have_one_when_they_renew_in_place(self, store):
        refresh = RefreshTokens(store.sessions, KEYS, grace=timedelta(0))
        client = await Client.signed_in(refresh)
        results = await asyncio.gather(
            *(client.shows(client.tokens[0], T0 + 100, step="renewal") for _ in range(20))
        )
        assert sorted(one.reason or one.kind for one in results) == ["overtaken"] * 19 + ["rotated"]
        assert (await client.shows(*of_one(results), T0 + 101)).kind == "rotated"

    @pytest.mark.parametrize("grace", [0, 30])
    async def test_in_four_processes_worth_of_stores_have_at_most_one(self, sqlite_store, tmp_path, grace):
        refresh = RefreshTokens(sqlite_store.sessions, KEYS, grace=timedelta(seconds=grace))
        client = await Client.signed_in(refresh)

        async def five_times() -> list[Renewed]:
            own = SQLiteStore(tmp_path / "thebes.db")
            await own.start()
            there = Client(
                RefreshTokens(own.sessions, KEYS, grace=timedelta(seconds=grace)),
                client.session,
                client.tokens[0],
            )
            answers = await asyncio.gather(*(there.shows(client.tokens[0], T0 + 100) for _ in range(5)))
            await own.close()
            return answers

        parts = await asyncio.gather(*(asyncio.to_thread(asyncio.run, five_times()) for _ in range(4)))
        results = [one for part in parts for one in part]
        assert [one.kind for one in results].count("rotated") == 1
        assert len(of_one(results)) == 1
        row = await client.row(sqlite_store)
        assert (row.generation, row.revoked_at is None) == (1, grace > 0)


class TestWhatIsKept:
    @pytest.mark.requirement("TOK-17")
    async def test_holds_no_refresh_token_that_could_be_used(self, sqlite_store, tmp_path):
        refresh = RefreshTokens(sqlite_store.sessions, KEYS)
        client = await Client.signed_in(refresh)
        await client.rotates(T0 + 100)
        await sqlite_store.close()
        files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert client.session.id.encode() in files
        for token in client.tokens:
            presented = refresh.read(token)
            assert presented.digest in files or token is client.tokens[0]
            for form in (token.encode(), presented.random, encode(presented.random).encode()):
                assert form not in files

    @pytest.mark.requirement("TOK-17")
    async def test_the_sealed_successor_opens_for_its_predecessor_alone(self, store, refresh):
        client = await Client.signed_in(refresh)
        await client.rotates(T0 + 100)
        sealed = (await client.row(store)).successor
        first = refresh.read(client.tokens[0])
        place = f"{client.session.id}.1".encode()
        assert KEYS.open_for(first.random, sealed, place) == client.tokens[1].encode()
        assert KEYS.open_for(refresh.read(client.tokens[1]).random, sealed, place) is None
        assert KEYS.open_for(first.random, sealed, f"{client.session.id}.2".encode()) is None

    @pytest.mark.requirement("TOK-17")
    async def test_and_is_cleared_once_the_grace_is_over(self, store, refresh):
        client = await Client.signed_in(refresh)
        await client.rotates(T0 + 100)
        assert (await store.purge(now=T0 + 129))["successors"] == 0
        assert (await client.row(store)).successor is not None
        assert (await store.purge(now=T0 + 130))["successors"] == 1
        assert (await client.row(store)).successor is None
        assert (await store.purge(now=T0 + 130))["successors"] == 0
        assert (await client.shows(client.tokens[1], T0 + 131)).kind == "rotated"

    async def test_a_rotation_of_keys_inside_the_grace_gives_the_same_successor(self, store, refresh):
        client = await Client.signed_in(refresh)
        await client.rotates(T0 + 100)
        newer = RefreshTokens(store.sessions, RefreshKeyring(ring("new", "old")))
        presented = newer.read(client.tokens[0])
        renewed = await newer.renew(presented, mode="cookie", circumstances=HOME, now=T0 + 101)
        assert (renewed.kind, renewed.token) == ("successor", client.tokens[1])


class TestAStoreThatWasSetBack:
    async def test_refuses_newer_tokens_and_takes_nobody_for_a_thief(self, sqlite_store, tmp_path):
        refresh = RefreshTokens(sqlite_store.sessions, KEYS, theft_jobs=theft_mail)
        client = await Client.signed_in(refresh)
        await client.rotates(T0 + 100)
        await sqlite_store.close()
        shutil.copy(tmp_path / "thebes.db", tmp_path / "backup.db")
        await sqlite_store.start()
        for number in (2, 3):
            await client.rotates(T0 + 100 * number)
        await sqlite_store.close()
        for path in tmp_path.glob("thebes.db*"):
            path.unlink()
        shutil.copy(tmp_path / "backup.db", tmp_path / "thebes.db")
        await sqlite_store.start()

        for step in ("arrival", "renewal", "refresh"):
            for token in client.tokens[2:]:
                refused = await client.shows(token, T0 + 400, step=step)
                assert (refused.kind, refused.reason) == ("refused", "rolled_back")
                assert [event.name for event in refused.events] == ["store_rolled_back"]
        assert (await client.row(sqlite_store)).revoked_at is None
        assert await queued(sqlite_store) == []
        # The token of the backup's own time goes on; what was rotated from it before is of another history.
        again = await client.shows(client.tokens[1], T0 + 500)
        assert again.kind == "rotated"
        lost = await client.shows(client.tokens[2], T0 + 500)
        assert (lost.reason, [event.name for event in lost.events]) == ("rolled_back", ["store_rolled_back"])

    @pytest.mark.parametrize("step", ["arrival", "renewal", "refresh"])
    async def test_does_not_give_the_successor_to_the_predecessor_of_another_history(
        self, store, refresh, step
    ):
        client = await Client.signed_in(refresh)
        await client.rotates(T0 + 100)
        before = await client.row(store)
        other = make_token(KEYS, client.session.id, 0)
        refused = await client.shows(other.token, T0 + 101, where=AWAY, step=step)
        assert (refused.kind, refused.reason, refused.token) == ("refused", "rolled_back", None)
        assert await client.row(store) == before
