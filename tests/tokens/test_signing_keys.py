"""The keys of bearer tokens in the store: sealed, bound to their rows, read anew, and refused when altered."""

import asyncio
import dataclasses

import pytest

from thebes.encoding import encode
from thebes.errors import ConfigurationError, ThebesError
from thebes.secrets.bound import BoundKeys
from thebes.secrets.keyring import BrokenSeal, Purpose
from thebes.stores.keys import StoredKey
from thebes.tokens.bearer_tokens import BearerTokens
from thebes.tokens.claims import InvalidToken
from thebes.tokens.jws import PrivateKey
from thebes.tokens.key_rotation import KeyRotation
from thebes.tokens.signing_keys import SigningKeys, _bound, new_key, open_key, seal_key
from token_making import ADA, ISSUER, NOW, KeysInMemory, ring, seals

EVIL = "attacker"


def only(store: KeysInMemory) -> StoredKey:
    (row,) = store.rows.values()
    return row


class TestTheFirstKey:
    async def test_is_made_where_there_is_none_and_signs_at_once(self, store, keys, bearers):
        row = only(store)
        assert (row.alg, row.status, row.created_at, row.promoted_at, row.retire_at) == (
            "ES256", "promoted", NOW, NOW, None,
        )  # fmt: skip
        assert keys.in_use.kid == row.kid
        assert bearers.verify(bearers.issue(ADA, now=NOW), now=NOW)

    async def test_is_of_the_algorithm_that_was_asked_for(self, store):
        keys = SigningKeys(store, seals("old"), algorithm="EdDSA")
        await keys.load(now=NOW)
        assert only(store).alg == keys.in_use.private.public.alg == "EdDSA"

    async def test_is_the_same_for_workers_that_start_together(self, store):
        workers = [SigningKeys(store, seals("old")) for _ in range(8)]
        await asyncio.gather(*(worker.load(now=NOW) for worker in workers))
        assert {worker.in_use.kid for worker in workers} == {only(store).kid}

    async def test_stays_when_the_service_starts_again(self, store, keys):
        later = SigningKeys(store, seals("old"), algorithm="EdDSA")
        await later.load(now=NOW + 86_400)
        assert later.in_use.kid == keys.in_use.kid


class TestWhatLiesInTheStore:
    async def test_shows_nothing_of_the_key(self, store, keys):
        row, raw = only(store), keys.in_use.private.dump()
        assert encode(raw)[10:-10] not in row.sealed
        assert row.sealed.startswith("v1.old.")

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"kid": EVIL}, id="another id"),
            pytest.param({"alg": "EdDSA"}, id="another algorithm"),
            pytest.param({"alg": "HS256"}, id="an algorithm of the other kind"),
            pytest.param({"alg": "none"}, id="no algorithm"),
            pytest.param({"status": "published"}, id="set back to published"),
            pytest.param({"status": "retired", "retire_at": NOW + 60}, id="retired by hand"),
            pytest.param({"created_at": NOW - 1}, id="another beginning"),
            pytest.param({"promoted_at": NOW + 1}, id="promoted at another time"),
            pytest.param({"promoted_at": None}, id="never promoted"),
            pytest.param({"retire_at": NOW + 1e6}, id="another end"),
            pytest.param({"sealed": ""}, id="no seal"),
            pytest.param({"sealed": "v1.old.AAAA"}, id="a broken seal"),
        ],
    )
    async def test_counts_for_nothing_when_it_was_changed(self, store, keys, changes):
        """Whoever writes into the database neither adds a key nor changes what one is good for."""
        told: list[tuple[str | None, str]] = []
        row = dataclasses.replace(only(store), **changes)
        store.rows = {row.kid: row}
        reader = SigningKeys(store, seals("old"), report=lambda kid, problem: told.append((kid, problem)))
        with pytest.raises(ConfigurationError, match="no signing key"):
            await reader.load(now=NOW)
        assert reader.verifying.by_header == {}
        assert [kid for kid, _ in told] == [row.kid]
        assert len(store.rows) == 1

    async def test_cannot_be_revived_after_it_was_retired(self, store, keys, bearers):
        token, leaked = bearers.issue(ADA, now=NOW), keys.in_use.kid
        await KeyRotation(store, seals("old")).replace(now=NOW + 10)
        row = store.rows[leaked]
        store.rows[leaked] = dataclasses.replace(row, status="promoted", retire_at=None)
        await keys.reload(now=NOW + 10)

        with pytest.raises(InvalidToken, match="unknown_key"):
            bearers.verify(token, now=NOW + 10)

    async def test_a_key_that_an_attacker_sealed_with_another_secret_counts_for_nothing(self, store, keys):
        evil = new_key(seals("new"), "ES256", now=NOW + 5, is_first=True)
        store.rows[evil.kid] = evil
        await keys.reload(now=NOW + 5)
        assert keys.in_use.kid != evil.kid
        assert len(keys.verifying.by_header) == 1

    async def test_a_value_that_was_sealed_for_another_purpose_is_no_key(self, store):
        other = BoundKeys(ring("old"), Purpose.FIELD_ENCRYPTION)
        row = new_key(other, "ES256", now=NOW)
        assert open_key(other, row)
        with pytest.raises(ThebesError, match="not_genuine"):
            open_key(seals("old"), row)

    @pytest.mark.parametrize(
        ("alg", "plaintext", "problem"),
        [
            pytest.param("ES256", PrivateKey.generate("EdDSA").dump(), "isn't that of its algorithm", id="Ed25519 as ES256"),
            pytest.param("EdDSA", PrivateKey.generate("ES256").dump(), "isn't that of its algorithm", id="P-256 as EdDSA"),
            pytest.param("RS256", PrivateKey.generate("ES256").dump(), "isn't that of its algorithm", id="P-256 as RS256"),
            pytest.param("ES256", b"no key", "no key of a kind", id="no key"),
            pytest.param("ES256", b"", "no key of a kind", id="nothing"),
        ],
    )  # fmt: skip
    def test_even_our_own_seal_makes_no_key_of_another_kind(self, alg, plaintext, problem):
        row = StoredKey("k1", alg, "published", NOW, None, None, "")
        row = dataclasses.replace(row, sealed=seals("old").seal(plaintext, _bound(row)))
        with pytest.raises(ThebesError, match=problem):
            open_key(seals("old"), row)

    def test_whole_numbers_from_a_database_are_the_same_instants(self):
        row = new_key(seals("old"), "ES256", now=NOW, is_first=True)
        assert open_key(seals("old"), dataclasses.replace(row, created_at=int(NOW), promoted_at=int(NOW)))

    def test_no_two_rows_are_bound_to_the_same_bytes(self):
        row = StoredKey("a", "b", "published", 1.0, None, 2.0, "")
        twins = [
            dataclasses.replace(row, kid="a,b"),
            dataclasses.replace(row, promoted_at=2.0, retire_at=None),
            dataclasses.replace(row, kid='a","b'),
            dataclasses.replace(row, alg="c"),
            dataclasses.replace(row, status="promoted"),
            dataclasses.replace(row, created_at=1.0000000000000002),
        ]
        assert len({_bound(one) for one in [row, *twins]}) == 7


class TestReading:
    async def test_keys_that_did_not_change_are_not_opened_again(self, store):
        opened: list[str] = []

        class Counting:
            def __getattr__(self, name: str) -> object:
                return getattr(seals("old"), name)

            def open(self, sealed: str, associated_data: bytes) -> bytes:
                opened.append(sealed)
                return seals("old").open(sealed, associated_data)

        keys = SigningKeys(store, Counting())
        await keys.load(now=NOW)
        before, count = keys.verifying, len(opened)
        for seconds in range(30, 300, 30):
            await keys.reload(now=NOW + seconds)
        assert len(opened) == count == 1
        assert keys.verifying is before  # so that verified tokens stay known

    async def test_a_reading_that_was_overtaken_brings_no_key_back(self, store, keys, bearers):
        """An older reading that is answered late has rows of before a key was replaced because it leaked."""
        token, answers = bearers.issue(ADA, now=NOW), asyncio.Event()

        class Late(KeysInMemory):
            async def keys(self):
                rows = await store.keys()
                await answers.wait()
                return rows

        keys._store = Late()
        late = asyncio.create_task(keys.reload(now=NOW + 10))
        await asyncio.sleep(0)
        await KeyRotation(store, seals("old")).replace(now=NOW + 10)
        keys._store = store
        await keys.reload(now=NOW + 10)
        answers.set()
        await late
        with pytest.raises(InvalidToken, match="unknown_key"):
            bearers.verify(token, now=NOW + 10)

    async def test_a_key_that_is_only_published_signs_nothing(self, store):
        await store.publish(new_key(seals("old"), "ES256", now=NOW))
        keys = SigningKeys(store, seals("old"))
        with pytest.raises(ConfigurationError, match="no signing key"):
            await keys.load(now=NOW)
        assert len(keys.verifying.by_header) == 1

    async def test_a_bad_key_is_told_once_and_the_others_go_on(self, store, keys):
        told: list[tuple[str | None, str]] = []
        evil = dataclasses.replace(
            new_key(seals("old"), "ES256", now=NOW), status="promoted", promoted_at=NOW + 9
        )
        store.rows[evil.kid] = evil
        reader = SigningKeys(store, seals("old"), report=lambda kid, problem: told.append((kid, problem)))
        await reader.load(now=NOW + 10)
        for seconds in range(30, 300, 30):
            await reader.reload(now=NOW + seconds)
        assert told == [(evil.kid, "sealed value refused: not_genuine")]
        assert reader.in_use.kid == keys.in_use.kid

    async def test_keys_under_a_master_key_that_is_gone_stop_the_start_and_say_what_helps(self, store, keys):
        with pytest.raises(
            ConfigurationError, match=r"put the master key back .* `thebes secrets rotate --at-once`"
        ):
            await SigningKeys(store, seals("new")).load(now=NOW)
        with pytest.raises(BrokenSeal, match="unknown_key"):
            seals("new").open(only(store).sealed, b"any")

    async def test_a_store_that_is_away_leaves_the_keys_that_are_known(self, store, keys, bearers):
        store.is_away = True
        with pytest.raises(ThebesError, match="away"):
            await keys.reload(now=NOW + 30)
        assert bearers.verify(bearers.issue(ADA, now=NOW), now=NOW)

    async def test_the_clock_is_asked_where_no_time_is_given(self, store):
        keys = SigningKeys(store, seals("old"))
        await keys.load()
        await keys.reload()
        await keys.reload_for_a_stranger()
        assert BearerTokens(keys, issuer=ISSUER).jwks()["keys"][0]["kid"] == only(store).kid

    def test_a_sealed_key_is_bound_to_the_fields_that_it_gets(self):
        row = new_key(seals("old"), "ES256", now=NOW)
        key = open_key(seals("old"), row)
        promoted = seal_key(seals("old"), row, key, status="promoted", promoted_at=NOW + 60)
        assert open_key(seals("old"), promoted).public.jwk("1") == key.public.jwk("1")
        with pytest.raises(ThebesError, match="not_genuine"):
            open_key(seals("old"), dataclasses.replace(promoted, sealed=row.sealed))
