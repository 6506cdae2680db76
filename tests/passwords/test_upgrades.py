"""What becomes of hashes that were brought along or made at another cost, fast ones included."""

import asyncio
import hashlib
import unicodedata

import pytest

from thebes.errors import ConfigurationError
from thebes.passwords import Argon2, Bcrypt, Lanes, Verdict
from thebes.passwords.formats import Stored, read, write
from thebes.secret import Secret

GOOD = "seven lamps over the quay"
# Of costs that no setting allows, so that the tests are quick: as others made them.
BCRYPT_10 = "$2b$10$YqV5tWQKutciBX2weRbFleM2l4haA/cm49D9MzXWnk3giiVmMIxgy"  # bcrypt 4.0.1
BCRYPT_10_OF_108_BYTES = "$2b$10$oeJIaO3UmEB5oG0GEewkJ.u6TmQRqNYjD3JxyQzIl8F8nKvj1SO5m"  # bcrypt 4.0.1
OF_BCRYPT = "Grüße, Ada! 42 tea"
OF_108_BYTES = "correct horse battery staple " * 4


class TestUpgrades:
    @pytest.mark.parametrize(
        "old",
        [
            pytest.param(BCRYPT_10, id="another function"),
            pytest.param(
                "$argon2id$v=19$m=64,t=1,p=4$ee99DwEgRGhtLUXIuRdCSA$A8Zg8yoZ81Vfu6mtBA9QEDgICEpMhB53E6COY7Wu4QU",
                id="other parameters",  # Passlib 1.7.4
            ),
        ],
    )
    async def test_a_match_brings_a_hash_of_the_present_cost(self, passwords, old):
        verdict = await passwords.verify(OF_BCRYPT, old)
        assert verdict.is_match
        assert read(verdict.new_hash).cost == passwords.cost
        assert await passwords.verify(OF_BCRYPT, verdict.new_hash) == Verdict(is_match=True)

    async def test_a_mismatch_brings_nothing(self, passwords):
        assert await passwords.verify("Grüße, Ada! 42 te", BCRYPT_10) == Verdict(is_match=False)

    async def test_a_short_salt_is_replaced(self, passwords):
        cost = passwords.cost
        digest = cost.derive(Secret(GOOD), b"8 bytes.", 32)
        assert (await passwords.verify(GOOD, write(Stored(cost, b"8 bytes.", digest)))).new_hash
        digest = cost.derive(Secret(GOOD), b"16 bytes of salt", 16)
        assert (await passwords.verify(GOOD, write(Stored(cost, b"16 bytes of salt", digest)))).new_hash

    async def test_a_higher_cost_is_brought_down_so_that_all_accounts_take_the_same_time(self, make):
        stored = await make(cost=Argon2(passes=3, memory_kib=20_000)).hash(GOOD)
        verdict = await make(cost="19MiB").verify(GOOD, stored)
        assert verdict.new_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")

    async def test_a_brought_bcrypt_of_over_72_bytes_matches_as_it_did_and_becomes_whole(self, passwords):
        verdict = await passwords.verify(OF_108_BYTES, BCRYPT_10_OF_108_BYTES)
        assert verdict.is_match
        assert (await passwords.verify(OF_108_BYTES, verdict.new_hash)).is_match
        assert not (await passwords.verify(OF_108_BYTES[:72], verdict.new_hash)).is_match

    async def test_a_brought_hash_of_a_password_that_nobody_composed_still_opens(self, passwords):
        typed = "Ame\u0301lie drinks tea"
        digest = hashlib.pbkdf2_hmac("sha256", typed.encode(), b"salty", 1000)
        old = f"pbkdf2:sha256:1000$salty${digest.hex()}"
        verdict = await passwords.verify(typed, old)
        assert verdict.is_match
        assert (await passwords.verify(unicodedata.normalize("NFC", typed), verdict.new_hash)).is_match

    async def test_a_match_of_the_raw_form_alone_is_renewed_even_at_the_present_cost(self, passwords):
        typed, salt = "Ame\u0301lie drinks tea", b"16 bytes of salt"
        digest = passwords.cost.derive(Secret(typed), salt, 32)
        verdict = await passwords.verify(typed, write(Stored(passwords.cost, salt, digest)))
        assert await passwords.verify(unicodedata.normalize("NFC", typed), verdict.new_hash) == Verdict(True)

    async def test_a_hash_that_needs_more_memory_than_planned_waits_for_another_such(self, make):
        passwords = make(lanes=Lanes(2))
        larger = Stored(
            Argon2(256, 1), b"16 bytes of salt", Argon2(256, 1).derive(Secret(GOOD), b"16 bytes of salt", 32)
        )
        stored = await passwords.hash(GOOD)
        with passwords.lanes._oversized:
            waiting = asyncio.create_task(passwords.verify(GOOD, write(larger)))
            for _ in range(20):
                assert (await passwords.verify(GOOD, stored)).is_match
            assert not waiting.done()
        assert (await waiting).is_match


@pytest.mark.requirement("PWD-17")
class TestFastHashes:
    @pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"])
    async def test_one_is_never_accepted_bare_and_opens_wrapped(self, passwords, algorithm):
        bare = hashlib.new(algorithm, OF_BCRYPT.encode()).hexdigest()
        for stored in (bare, f"{algorithm}${bare}", f"{algorithm}$${bare}", f"{{{algorithm}}}{bare}"):
            assert not (await passwords.verify(OF_BCRYPT, stored)).is_match
            assert not (await passwords.verify(bare, stored)).is_match

        wrapped = await passwords.wrap_fast_hash(bare.upper(), algorithm=algorithm)
        assert wrapped.startswith(f"thebes-wrapped${algorithm}$argon2id$v=19$m=64,t=1,p=1$")
        assert bare not in wrapped
        verdict = await passwords.verify(OF_BCRYPT, wrapped)
        assert verdict.is_match
        assert verdict.new_hash.startswith("$argon2id$")
        assert await passwords.verify(OF_BCRYPT, verdict.new_hash) == Verdict(is_match=True)
        assert not (await passwords.verify(bare, wrapped)).is_match
        assert not (await passwords.verify(OF_BCRYPT + "x", wrapped)).is_match

    async def test_salts_stand_before_or_behind(self, passwords):
        first = hashlib.md5(b"pepper" + OF_BCRYPT.encode()).hexdigest()
        last = hashlib.md5(OF_BCRYPT.encode() + b"\xff\x00").hexdigest()
        wrapped = await passwords.wrap_fast_hash(first, algorithm="md5", salt="pepper")
        assert (await passwords.verify(OF_BCRYPT, wrapped)).is_match
        wrapped = await passwords.wrap_fast_hash(last, algorithm="md5", salt=b"\xff\x00", is_salt_last=True)
        assert (await passwords.verify(OF_BCRYPT, wrapped)).is_match
        wrapped = await passwords.wrap_fast_hash(last, algorithm="md5", salt=b"\xff\x00")
        assert not (await passwords.verify(OF_BCRYPT, wrapped)).is_match

    @pytest.mark.parametrize(
        ("digest", "settings"),
        [
            ("ab" * 15, {"algorithm": "md5"}),
            ("zz" * 16, {"algorithm": "md5"}),
            ("ab" * 32, {"algorithm": "sha3_256"}),
            ("ab" * 16, {"algorithm": "md5", "salt": "x" * 129}),
        ],
    )
    async def test_what_is_no_fast_hash_is_refused_without_showing_it(self, passwords, digest, settings):
        with pytest.raises(ConfigurationError) as refused:
            await passwords.wrap_fast_hash(digest, **settings)
        assert digest not in str(refused.value)

    async def test_bcrypt_takes_no_digest_that_it_would_cut(self, make):
        bcrypt = make(cost=Bcrypt(10))
        with pytest.raises(ConfigurationError, match="cut"):
            await bcrypt.wrap_fast_hash("ab" * 64, algorithm="sha512")
        wrapped = await bcrypt.wrap_fast_hash(hashlib.sha256(b"tea").hexdigest(), algorithm="sha256")
        assert (await bcrypt.verify("tea", wrapped)).is_match
