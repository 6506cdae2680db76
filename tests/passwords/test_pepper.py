"""Keys outside the database: a stolen copy of it can't be guessed against."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from thebes.encoding import encode
from thebes.passwords import Bcrypt, Verdict
from thebes.passwords.formats import read
from thebes.secret import Secret
from thebes.secrets.keyring import Keyring
from thebes.secrets.peppering import KeyringPepper
from thebes.secrets.strength import SecretKey

GOOD = "seven lamps over the quay"


def pepper(*ids: str) -> KeyringPepper:
    """Return what a service hands over: the keyring's purpose for peppers, the first key in use."""
    keys = [SecretKey(one, Secret(hashlib.sha256(one.encode()).digest())) for one in ids]
    return KeyringPepper(Keyring(keys))


@pytest.mark.requirement("PWD-19")
class TestPepper:
    async def test_the_string_carries_the_key_id_and_is_useless_without_the_key(self, make):
        stored = await make(pepper=pepper("k1")).hash(GOOD)
        assert stored.startswith("thebes-peppered$k1$argon2id$v=19$m=64,t=1,p=1$")
        assert (await make(pepper=pepper("k1")).verify(GOOD, stored)) == Verdict(is_match=True)
        assert not (await make().verify(GOOD, stored)).is_match
        assert not (await make(pepper=pepper("k2")).verify(GOOD, stored)).is_match
        bare = "$" + stored.removeprefix("thebes-peppered$k1$")
        assert not (await make().verify(GOOD, bare)).is_match

    async def test_what_is_hashed_is_the_hmac_sha256_under_the_purposes_key(self, make):
        keys = pepper("k1")
        stored = read(await make(pepper=keys).hash(GOOD))
        master = hashlib.sha256(b"k1").digest()
        derived = HKDF(SHA256(), 32, None, b"thebes/1/pepper").derive(master)
        tag = hmac.digest(derived, GOOD.encode(), "sha256")
        assert keys.mac(GOOD.encode()) == ("k1", tag)
        assert stored.matches(Secret(encode(tag)))

    async def test_a_rotation_locks_nobody_out_and_moves_each_to_the_new_key(self, make):
        stored = await make(pepper=pepper("k1")).hash(GOOD)
        appended = make(pepper=pepper("k1", "k2"))
        assert await appended.verify(GOOD, stored) == Verdict(is_match=True)
        moved = make(pepper=pepper("k2", "k1"))
        verdict = await moved.verify(GOOD, stored)
        assert verdict.new_hash.startswith("thebes-peppered$k2$")
        assert not (await moved.verify(GOOD + "x", stored)).is_match
        retired = make(pepper=pepper("k2"))
        assert await retired.verify(GOOD, verdict.new_hash) == Verdict(is_match=True)
        assert not (await retired.verify(GOOD, stored)).is_match

    async def test_a_hash_without_one_gets_it_at_the_next_match(self, make):
        stored = await make().hash(GOOD)
        verdict = await make(pepper=pepper("k1")).verify(GOOD, stored)
        assert verdict.new_hash.startswith("thebes-peppered$k1$")

    async def test_a_key_that_is_retired_while_the_hash_waits_in_line_matches_nothing(self, make):
        class Retiring:
            """Has its key for the first question only."""

            in_use = "k2"

            def __init__(self):
                self.keys = ["k1"]

            def mac(self, message):
                return pepper("k2").mac(message)

            def mac_with(self, key_id, message):
                return pepper(self.keys.pop()).mac_with(key_id, message) if self.keys else None

        stored = await make(pepper=pepper("k1")).hash(GOOD)
        retiring = Retiring()
        assert await make(pepper=retiring).verify(GOOD, stored) == Verdict(is_match=False)
        assert retiring.keys == []

    async def test_a_missing_key_is_reported(self, make):
        said = []
        stored = await make(pepper=pepper("k1")).hash(GOOD)
        report = lambda event, *, reason: said.append((event, reason))  # noqa: E731
        await make(report=report).verify(GOOD, stored)
        await make(report=report, pepper=pepper("k2")).verify(GOOD, stored)
        assert said == [("pepper_key_unknown", "k1")] * 2

    async def test_fast_hashes_are_wrapped_with_it(self, make):
        passwords = make(pepper=pepper("k1"))
        wrapped = await passwords.wrap_fast_hash(hashlib.sha1(b"tea").hexdigest(), algorithm="sha1")
        assert wrapped.startswith("thebes-peppered$k1$thebes-wrapped$sha1$argon2id$")
        assert (await passwords.verify("tea", wrapped)).new_hash.startswith("thebes-peppered$k1$argon2id$")
        assert not (await make().verify("tea", wrapped)).is_match

    async def test_bcrypt_hashes_all_of_it(self, make):
        passwords = make(cost=Bcrypt(10), pepper=pepper("k1"))
        stored = await passwords.hash(GOOD)
        assert stored.startswith("thebes-peppered$k1$thebes-bcrypt$2b$10$")
        assert await passwords.verify(GOOD, stored) == Verdict(is_match=True)
        assert not (await passwords.verify(GOOD + "x", stored)).is_match
