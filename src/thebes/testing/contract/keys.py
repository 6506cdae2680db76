"""What every store of signing keys promises: no key is lost, revived or replaced behind anybody's back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from thebes.stores.keys import KeyState, StoredKey
from thebes.stores.store import Store
from thebes.testing.contract.rows import NOW


def key(kid: str, status: KeyState = "promoted", *, created_at: float = NOW) -> StoredKey:
    promoted_at = None if status == "published" else created_at
    return StoredKey(kid, "ES256", status, created_at, promoted_at, None, f"sealed {kid}")


@pytest.mark.asyncio
class TestTheFirstKey:
    async def test_it_is_kept_and_comes_back_exactly(self, store: Store) -> None:
        first = replace(
            key("a"), created_at=NOW + 0.123456789, promoted_at=NOW + 1 / 3, retire_at=NOW + 2 / 3
        )
        assert await store.keys.insert_first(first) == first
        assert list(await store.keys.keys()) == [first]

    async def test_of_workers_that_start_together_all_get_the_same(self, store: Store) -> None:
        found = await asyncio.gather(*(store.keys.insert_first(key(f"key {number}")) for number in range(20)))
        assert len(set(found)) == 1
        assert list(await store.keys.keys()) == [found[0]]

    async def test_where_there_are_keys_the_oldest_is_returned(self, store: Store) -> None:
        await store.keys.insert_first(key("b", created_at=NOW))
        await store.keys.publish(key("a", "published", created_at=NOW - 1))
        found = await store.keys.insert_first(key("c", created_at=NOW - 2))
        assert found.kid == "a"
        assert [one.kid for one in await store.keys.keys()] == ["a", "b"]


@pytest.mark.asyncio
class TestPublishingKeys:
    async def test_keys_are_listed_by_age_then_id(self, store: Store) -> None:
        await store.keys.insert_first(key("m"))
        for kid, age in (("z", 0), ("a", 0), ("young", -5), ("old", 5)):
            await store.keys.publish(key(kid, "published", created_at=NOW - age))
        assert [one.kid for one in await store.keys.keys()] == ["old", "a", "m", "z", "young"]

    @pytest.mark.parametrize("status", ["promoted", "retired"])
    async def test_only_a_published_one_can_be(self, store: Store, status: KeyState) -> None:
        with pytest.raises(ValueError, match="published"):
            await store.keys.publish(key("a", status))
        assert list(await store.keys.keys()) == []

    async def test_an_id_that_is_there_is_not_replaced(self, store: Store) -> None:
        first = key("a")
        await store.keys.insert_first(first)
        with pytest.raises(ValueError, match="is there"):
            await store.keys.publish(key("a", "published"))
        assert list(await store.keys.keys()) == [first]


@pytest.mark.asyncio
class TestPromotingKeys:
    async def test_a_published_key_comes_into_use(self, store: Store) -> None:
        await store.keys.publish(key("a", "published"))
        assert await store.keys.promote("a", was="sealed a", sealed="new", now=NOW + 60.5)
        assert list(await store.keys.keys()) == [
            StoredKey("a", "ES256", "promoted", NOW, NOW + 60.5, None, "new")
        ]

    @pytest.mark.parametrize(
        ("kid", "was"),
        [
            pytest.param("unknown", "sealed a", id="no such key"),
            pytest.param("a", "sealed b", id="changed meanwhile"),
            pytest.param("b", "sealed b", id="promoted already"),
            pytest.param("c", "sealed c", id="retired"),
        ],
    )
    async def test_nothing_else_does(self, store: Store, kid: str, was: str) -> None:
        await self._three(store)
        before = await store.keys.keys()
        assert not await store.keys.promote(kid, was=was, sealed="new", now=NOW)
        assert await store.keys.keys() == before

    async def test_of_two_at_once_one_comes_too_late(self, store: Store) -> None:
        await store.keys.publish(key("a", "published"))
        done = await asyncio.gather(
            *(store.keys.promote("a", was="sealed a", sealed=f"by {who}", now=NOW) for who in range(10))
        )
        assert sorted(done) == [False] * 9 + [True]

    async def _three(self, store: Store) -> None:
        await store.keys.insert_first(key("b"))
        await store.keys.publish(key("a", "published"))
        await store.keys.publish(key("c", "published"))
        assert await store.keys.retire("c", was="sealed c", sealed="sealed c", retire_at=NOW)


@pytest.mark.asyncio
class TestRetiringKeys:
    async def test_a_key_gets_its_end_and_a_retired_one_another(self, store: Store) -> None:
        await store.keys.insert_first(key("a"))
        await store.keys.publish(key("b", "published"))
        assert await store.keys.promote("b", was="sealed b", sealed="sealed b", now=NOW + 1)
        assert await store.keys.retire("a", was="sealed a", sealed="2nd", retire_at=NOW + 2)
        assert await store.keys.retire("a", was="2nd", sealed="3rd", retire_at=NOW + 1)
        assert (await store.keys.keys())[0] == StoredKey("a", "ES256", "retired", NOW, NOW, NOW + 1, "3rd")

    async def test_the_last_key_to_sign_with_stays(self, store: Store) -> None:
        await store.keys.insert_first(key("a"))
        await store.keys.publish(key("b", "published"))
        assert not await store.keys.retire("a", was="sealed a", sealed="new", retire_at=NOW)
        assert [one.status for one in await store.keys.keys()] == ["promoted", "published"]

    async def test_of_two_keys_retired_at_once_one_stays(self, store: Store) -> None:
        await store.keys.insert_first(key("a"))
        await store.keys.publish(key("b", "published"))
        await store.keys.promote("b", was="sealed b", sealed="sealed b", now=NOW)
        done = await asyncio.gather(
            *(store.keys.retire(kid, was=f"sealed {kid}", sealed="x", retire_at=NOW) for kid in ("a", "b"))
        )
        assert sorted(done) == [False, True]
        assert sorted(one.status for one in await store.keys.keys()) == ["promoted", "retired"]

    @pytest.mark.parametrize(("kid", "was"), [("unknown", "sealed b"), ("b", "sealed a")])
    async def test_an_unknown_or_changed_one_does_not(self, store: Store, kid: str, was: str) -> None:
        await store.keys.insert_first(key("a"))
        await store.keys.publish(key("b", "published"))
        assert not await store.keys.retire(kid, was=was, sealed="new", retire_at=NOW)


@pytest.mark.asyncio
class TestResealingKeys:
    async def test_it_changes_the_sealed_text_alone(self, store: Store) -> None:
        first = key("a")
        await store.keys.insert_first(first)
        assert await store.keys.reseal("a", was="sealed a", sealed="anew")
        assert list(await store.keys.keys()) == [replace(first, sealed="anew")]

    @pytest.mark.parametrize(("kid", "was"), [("unknown", "sealed a"), ("a", "older")])
    async def test_a_changed_row_keeps_its_text(self, store: Store, kid: str, was: str) -> None:
        await store.keys.insert_first(key("a"))
        assert not await store.keys.reseal(kid, was=was, sealed="anew")
        assert (await store.keys.keys())[0].sealed == "sealed a"
