"""Hash, verify and upgrade: what a service does with passwords."""

import hashlib
import secrets
import time
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thebes.errors import ConfigurationError
from thebes.facts import Mode
from thebes.passwords import (
    Bcrypt,
    Lanes,
    Passwords,
    PasswordTooLong,
    Pbkdf2,
    Scrypt,
    Verdict,
)
from thebes.passwords.formats import read
from thebes.secret import Secret

GOOD = "seven lamps over the quay"
# Of costs that no setting allows, so that the tests are quick: as others made them.
BCRYPT_10 = "$2b$10$YqV5tWQKutciBX2weRbFleM2l4haA/cm49D9MzXWnk3giiVmMIxgy"  # bcrypt 4.0.1
BCRYPT_10_OF_108_BYTES = "$2b$10$oeJIaO3UmEB5oG0GEewkJ.u6TmQRqNYjD3JxyQzIl8F8nKvj1SO5m"  # bcrypt 4.0.1
OF_BCRYPT = "Grüße, Ada! 42 tea"
OF_108_BYTES = "correct horse battery staple " * 4


async def test_ten_lines_are_all_that_a_service_needs():
    passwords = Passwords(lanes=Lanes(1))

    assert (await passwords.judge("passwordpassword", context=["ada@example.com"])).reason == "blocklisted"
    assert await passwords.judge(GOOD, context=["ada@example.com"]) is None
    stored = await passwords.hash(GOOD)
    assert await passwords.verify(GOOD, stored) == Verdict(is_match=True)
    assert not (await passwords.verify("seven lamps over the bay", stored)).is_match
    assert not (await passwords.verify(GOOD, None)).is_match  # nobody has this address
    verdict = await passwords.verify(OF_BCRYPT, BCRYPT_10)
    assert verdict.is_match
    assert await passwords.verify(OF_BCRYPT, verdict.new_hash) == Verdict(is_match=True)
    await passwords.close()


class TestHash:
    @pytest.mark.requirement("PWD-12")
    async def test_the_default_is_argon2id_with_64_mib_two_passes_and_one_lane(self, make):
        assert (await make(cost="64MiB").hash(GOOD)).startswith("$argon2id$v=19$m=65536,t=2,p=1$")

    @pytest.mark.requirement("PWD-12")
    async def test_the_small_preset_is_the_floor_of_owasp(self, make):
        assert (await make(cost="19MiB").hash(GOOD)).startswith("$argon2id$v=19$m=19456,t=2,p=1$")

    @pytest.mark.requirement("PWD-14")
    async def test_the_same_password_twice_gives_two_strings_with_salts_of_16_bytes(self, passwords):
        stored = [read(await passwords.hash(GOOD)) for _ in range(50)]
        assert len({one.salt for one in stored}) == 50
        assert {len(one.salt) for one in stored} == {16}
        assert {len(one.digest) for one in stored} == {32}

    @pytest.mark.parametrize(
        ("cost", "begins"),
        [
            pytest.param(Scrypt(), "$scrypt$ln=17,r=8,p=1$", marks=pytest.mark.slow),
            (Pbkdf2(210_000, "sha512"), "$pbkdf2-sha512$i=210000$"),
            (Bcrypt(10), "thebes-bcrypt$2b$10$"),
        ],
    )
    async def test_other_functions_can_be_in_use(self, make, cost, begins):
        passwords = make(cost=cost)
        stored = await passwords.hash(GOOD)
        assert stored.startswith(begins)
        assert await passwords.verify(GOOD, stored) == Verdict(is_match=True)
        assert not (await passwords.verify(GOOD + " ", stored)).is_match


class TestWholePasswords:
    @pytest.mark.requirement("PWD-02")
    @pytest.mark.parametrize(
        "character", ["a", "é", "木", "🦉"], ids=lambda one: f"{len(one.encode())} bytes"
    )
    async def test_64_code_points_are_accepted_and_verify(self, passwords, character):
        password = character * 63 + "."
        assert await passwords.judge(password) is None
        assert (await passwords.verify(password, await passwords.hash(password))).is_match

    @pytest.mark.requirement("PWD-02")
    async def test_length_is_counted_in_code_points_after_nfc(self, passwords):
        composed, decomposed = "é" * 15, "e\u0301" * 15
        assert len(decomposed) == 30
        assert await passwords.judge("e\u0301" * 14) is not None
        assert (await passwords.judge("e\u0301" * 14)).reason == "too_short"
        assert (await passwords.judge(decomposed)) == (await passwords.judge(composed))
        assert await passwords.judge("e\u0301" * 255 + ".") is None
        assert (await passwords.judge("e\u0301" * 256 + ".")).reason == "too_long"

    @pytest.mark.requirement("PWD-02")
    async def test_more_than_256_code_points_are_rejected_and_never_cut(self, passwords):
        longest = secrets.token_hex(128)
        assert await passwords.judge(longest) is None
        assert (await passwords.judge(longest + "x")).reason == "too_long"
        with pytest.raises(PasswordTooLong):
            await passwords.hash(longest + "x")
        assert not (await passwords.verify(longest + "x", await passwords.hash(longest))).is_match

    async def test_a_megabyte_is_refused_at_once(self, passwords):
        stored = await passwords.hash(GOOD)
        began = time.process_time()
        for password in ("\u0316\u0300" * 500_000, "x" * 1_000_000):
            assert (await passwords.judge(password)).reason == "too_long"
            assert not (await passwords.verify(password, stored)).is_match
        assert time.process_time() - began < 0.1

    @pytest.mark.requirement("PWD-03")
    @pytest.mark.parametrize("length", [1, 8, 15, 55, 56, 57, 71, 72, 73, 128, 256])
    async def test_the_last_character_decides(self, passwords, length):
        password = secrets.token_hex(128)[:length]
        other = password[:-1] + ("1" if password[-1] == "0" else "0")
        stored = await passwords.hash(password)
        assert (await passwords.verify(password, stored)).is_match
        assert not (await passwords.verify(other, stored)).is_match

    @pytest.mark.requirement("PWD-04")
    @pytest.mark.parametrize(
        "other",
        [
            pytest.param(GOOD + " ", id="a space behind"),
            pytest.param(" " + GOOD, id="a space before"),
            pytest.param(GOOD.replace(" ", "  ", 1), id="a second space within"),
            pytest.param(GOOD.upper(), id="capitals"),
            pytest.param(GOOD.title(), id="titles"),
            pytest.param(GOOD + "\n", id="a newline"),
            pytest.param(GOOD + "\0", id="a zero"),
            pytest.param(GOOD + "&amp;", id="an entity"),
            pytest.param(GOOD + "\u200b", id="a zero-width space"),
            pytest.param(GOOD.replace("q", "\uff51"), id="a compatibility character"),
        ],
    )
    async def test_nothing_is_trimmed_folded_escaped_or_removed(self, passwords, other):
        assert not (await passwords.verify(other, await passwords.hash(GOOD))).is_match
        assert not (await passwords.verify(GOOD, await passwords.hash(other))).is_match
        assert (await passwords.verify(other, await passwords.hash(other))).is_match

    @pytest.mark.requirement("PWD-04")
    async def test_what_is_hashed_is_the_utf8_of_nfc(self, passwords):
        typed = "A\u030angstro\u0308m & \ufb01n <b>'\"\\"
        stored = read(await passwords.hash(typed))
        assert stored.matches(Secret(unicodedata.normalize("NFC", typed).encode()))

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            pytest.param("Å" * 15, "A\u030a" * 15, id="composed and decomposed"),
            pytest.param("\u212b" * 15, "Å" * 15, id="the sign for angstrom"),
            pytest.param("가" * 15, "\u1100\u1161" * 15, id="Hangul"),
        ],
    )
    async def test_one_password_typed_on_two_keyboards_is_one(self, passwords, first, second):
        assert (await passwords.verify(second, await passwords.hash(first))).is_match
        assert (await passwords.verify(first, await passwords.hash(second))).is_match

    async def test_a_lone_surrogate_is_hashed_like_any_other_character(self, passwords):
        password = "\ud83d" * 15
        assert await passwords.judge(password + "tea") is None
        stored = await passwords.hash(password)
        assert (await passwords.verify(password, stored)).is_match
        assert not (await passwords.verify("\ud83e" * 15, stored)).is_match

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(password=st.text(max_size=300), other=st.text(max_size=300))
    async def test_two_passwords_match_only_if_they_are_the_same_after_nfc(self, passwords, password, other):
        if len(unicodedata.normalize("NFC", password)) > 256:
            with pytest.raises(PasswordTooLong):
                await passwords.hash(password)
            return
        stored = await passwords.hash(password)
        assert await passwords.verify(password, stored) == Verdict(is_match=True)
        same = unicodedata.normalize("NFC", password) == unicodedata.normalize("NFC", other)
        assert (await passwords.verify(other, stored)).is_match == same


@pytest.mark.requirement("PWD-18")
class TestBcryptInUse:
    @pytest.fixture
    def bcrypt(self, make) -> Passwords:
        return make(cost=Bcrypt(10))

    async def test_more_than_72_bytes_are_refused_on_set(self, bcrypt):
        for password in ("x" * 73, "é" * 37, "🦉" * 19):
            assert (await bcrypt.judge(password)).reason == "too_long"
            with pytest.raises(PasswordTooLong):
                await bcrypt.hash(password)
        assert await bcrypt.judge(secrets.token_hex(36)) is None

    async def test_nothing_behind_72_bytes_opens_what_72_lock(self, bcrypt):
        password = secrets.token_hex(36)
        stored = await bcrypt.hash(password)
        assert (await bcrypt.verify(password, stored)).is_match
        assert not (await bcrypt.verify(password + "x", stored)).is_match

    async def test_a_zero_byte_is_no_end_and_no_repetition(self, bcrypt):
        stored = await bcrypt.hash("tea")
        assert not (await bcrypt.verify("tea\0", stored)).is_match
        assert not (await bcrypt.verify("tea\0tea", stored)).is_match
        with_zero = await bcrypt.hash("tea\0tea")
        assert (await bcrypt.verify("tea\0tea", with_zero)).is_match
        assert not (await bcrypt.verify("tea", with_zero)).is_match

    async def test_nothing_is_hashed_quickly_first(self, bcrypt):
        stored = await bcrypt.hash(GOOD)
        assert not (await bcrypt.verify(hashlib.sha256(GOOD.encode()).hexdigest(), stored)).is_match
        import bcrypt as library

        assert library.checkpw(GOOD.encode(), stored.removeprefix("thebes-bcrypt").encode())

    async def test_a_brought_hash_of_a_longer_password_stays_as_it_is(self, bcrypt):
        assert await bcrypt.verify(OF_108_BYTES, BCRYPT_10_OF_108_BYTES) == Verdict(is_match=True)


async def test_the_preset_for_tests_is_refused_elsewhere():
    for mode in (Mode.PRODUCTION, Mode.DEVELOPMENT):
        with pytest.raises(ConfigurationError, match="allowed are 64MiB, 19MiB"):
            Passwords(cost="test", mode=mode)
    with pytest.raises(ConfigurationError, match="no preset"):
        Passwords(cost="2MiB", mode=Mode.TEST)
