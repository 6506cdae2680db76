"""Every format that others store, from their own programs; and what hostile strings can't do."""

import re
import resource
import time
from base64 import b64encode

import pytest
from django.conf import settings as django_settings
from hypothesis import given
from hypothesis import strategies as st

from thebes.facts import Mode
from thebes.passwords import Argon2, Bcrypt, Lanes, Passwords, Pbkdf2, Scrypt
from thebes.passwords.formats import FAST_HASHES, MAX_DIGEST_BYTES, Stored, Wrapping, read, write
from thebes.secret import Secret

PASSWORD = "Grüße, Ada! 42 tea"
LONG = "correct horse battery staple " * 4

# Made by these programs; low costs where they let one choose, so that the tests are quick.
OF_OTHERS = {
    "bcrypt 4.0.1 for Python": "$2b$10$YqV5tWQKutciBX2weRbFleM2l4haA/cm49D9MzXWnk3giiVmMIxgy",
    "bcrypt 4.0.1, 2a": "$2a$04$4FDk/NrqPDgzGBFWetxWDO4TP9RF/PgFlPmMK12/7FRhaWgdSuoSO",
    "bcryptjs 3.0.3": "$2b$10$Rje1ah1wfz5FBulRZqbxWeRdMICWw0OAIOKL5bKydf38QMbVizww2",
    "Passlib 1.7.4 scrypt": (
        "$scrypt$ln=10,r=8,p=1$cg5hjFFKCeG8915rTYmxlg$iyHkCQ9cfEOer70iIlmaWzihKcV6yl9Q7WdMy4fxwp8"
    ),
    "Passlib 1.7.4 pbkdf2_sha256": (
        "$pbkdf2-sha256$1000$C4EQgvCec.59L.UcAyDkvA$ZqOTYFiO9swsGmicMxjVIDHWlEIcuAixEIgyluTcEWg"
    ),
    "Passlib 1.7.4 pbkdf2_sha512": (
        "$pbkdf2-sha512$1000$1frfW2ttLUWIMWaslbJ2Lg"
        "$aSFIUjek4ZfcQH8mPNjnNbaZ74mxNWe1AGJMgOgbGJRTNARwljYgXz11ICXsN1z22gn1A2.R2VRehzvw260pDg"
    ),
    "Passlib 1.7.4 pbkdf2_sha1": "$pbkdf2$1000$.b8X4vwfg9Cak1Iq5VwLAQ$HxNsSeqkCtZUGpms14LQMyiY2fc",
    "Passlib 1.7.4 bcrypt_sha256": (
        "$bcrypt-sha256$v=2,t=2b,r=4$qDG.LXAfUhsc82NcfdC7lu$sZ5tqACSqlpwp/FJRDkBtwJsShco6u."
    ),
    "Passlib 1.7.4 bcrypt_sha256, version 1": (
        "$bcrypt-sha256$2b,4$B9bbymrban5HoJ.zmp0eoe$JqO/jKXRBfociSygBrq9llCDFWnROVK"
    ),
    "Passlib 1.7.4 argon2, four lanes": (
        "$argon2id$v=19$m=64,t=1,p=4$ee99DwEgRGhtLUXIuRdCSA$A8Zg8yoZ81Vfu6mtBA9QEDgICEpMhB53E6COY7Wu4QU"
    ),
    "Werkzeug 3.1.9 scrypt": (
        "scrypt:1024:8:1$xzS0ylZ7TabQlBJI$adada0e14d26406c558ac761ba2ae403a4f2b90b9ae1a581988ad0b6f6ab3f62"
        "1a53128b83187e1d84db19d9b6894529a97a459082d9ddd0007f2c9fd57ead8a"
    ),
    "Werkzeug 3.1.9 scrypt, default": (
        "scrypt:32768:8:1$wfh6yJx41UIbZw0E$84e83d99dc3f0ca50100a0d50a8cf12ef74c9860ab5285e1ba2b8836cbede5e1"
        "e28c42918f380bfaa62804132e40c3eaf2d32b9596b8616f67045bfe2134ff05"
    ),
    "Werkzeug 3.1.9 pbkdf2:sha256": (
        "pbkdf2:sha256:1000$zntOgQGvEvOPmfaK$72bd9c3f312599c2686fd5810e87c4762d2b1382fe74c9fdc41da9df188ca1d6"
    ),
    "Werkzeug 3.1.9 pbkdf2:sha512": (
        "pbkdf2:sha512:1000$hGLw16mCY2c6VWsJ$be24ba9e7c6796373e95d2786570dd718adbe937207e785bdedac3408f0348da"
        "e0947d881e1c48ad75098e1ba2e932e40952f200a31be54eb4375876f2951e10"
    ),
}
# phc-winner-argon2, src/test.c (20190702): password "password", salt "somesalt".
ARGON2_REFERENCE = {
    "1.3, id": "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
    "1.3, id, two lanes": "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
    "1.3, i": "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8",
    "1.0, i": "$argon2i$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY",
    "1.3, id, our own cost": (
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
    ),
}


def matches(stored: str, password: str) -> bool:
    known = read(stored)
    return known is not None and known.matches(Secret(password.encode()))


@pytest.mark.requirement("PWD-17")
class TestImports:
    @pytest.mark.parametrize("stored", [pytest.param(text, id=name) for name, text in OF_OTHERS.items()])
    def test_what_other_programs_stored_matches_its_password_alone(self, stored):
        assert matches(stored, PASSWORD)
        assert not matches(stored, PASSWORD + "x")

    @pytest.mark.parametrize(
        "stored", [pytest.param(text, id=name) for name, text in ARGON2_REFERENCE.items()]
    )
    def test_vectors_of_argon2s_reference_implementation(self, stored):
        assert matches(stored, "password")
        assert not matches(stored, "Password")

    @pytest.mark.parametrize(
        "stored",
        [
            pytest.param("$2b$10$oeJIaO3UmEB5oG0GEewkJ.u6TmQRqNYjD3JxyQzIl8F8nKvj1SO5m", id="bcrypt 4.0.1"),
            pytest.param("$2b$10$iYxraD2VUfuyfPHNP3H.5uCiU61guMFbuV6I5zH9HleKIcVvH.Dcu", id="bcryptjs 3.0.3"),
        ],
    )
    def test_bcrypt_of_others_was_cut_at_72_bytes(self, stored):
        assert matches(stored, LONG)
        assert matches(stored, LONG[:72])
        assert not matches(stored, LONG[:71])

    @pytest.mark.parametrize("last", ["e", "f", "t"])
    def test_bits_behind_a_salt_of_bcrypt_change_nothing(self, last):
        """As old libraries wrote it: `e`, `f` and `t` have the same first two bits."""
        stored = f"$2b$10$YqV5tWQKutciBX2weRbFl{last}M2l4haA/cm49D9MzXWnk3giiVmMIxgy"
        assert matches(stored, PASSWORD)
        assert not matches(stored.replace("bFl" + last, "bFlu"), PASSWORD)

    @pytest.mark.parametrize(
        ("hasher", "settings"),
        [
            ("PBKDF2PasswordHasher", {"iterations": 1000}),
            ("PBKDF2SHA1PasswordHasher", {"iterations": 1000}),
            ("Argon2PasswordHasher", {"memory_cost": 1024, "time_cost": 1}),
            ("BCryptSHA256PasswordHasher", {"rounds": 4}),
            ("BCryptPasswordHasher", {"rounds": 4}),
            ("ScryptPasswordHasher", {"work_factor": 1024}),
        ],
    )
    @pytest.mark.parametrize("password", [PASSWORD, "tea", "x" * 72])
    def test_what_django_stores_matches(self, hasher, settings, password):
        if not django_settings.configured:
            django_settings.configure()
        from django.contrib.auth import hashers

        made = type(hasher, (getattr(hashers, hasher),), settings)()
        stored = made.encode(password, made.salt())
        assert matches(stored, password)
        assert not matches(stored, password[:-1])

    def test_what_django_stores_by_default_is_within_the_bounds(self):
        from django.contrib.auth import hashers

        salt, digest = "a" * 22, b64encode(bytes(32)).decode()
        for stored in (
            f"pbkdf2_sha256${2 * hashers.PBKDF2PasswordHasher.iterations}${salt}${digest}",
            f"scrypt$16384${salt}$8$5${digest}",
            f"argon2$argon2id$v=19$m=102400,t=2,p=8${'a' * 22}${digest.rstrip('=')}",
            f"bcrypt_sha256$$2b$12${salt}{'a' * 31}",
        ):
            assert read(stored) is not None


SALT16, DIGEST32 = "c29tZXNhbHRzb21lc2FsdA", b64encode(b"\x07" * 32).decode().rstrip("=")
HEX32 = "07" * 32


@pytest.mark.requirement("PWD-15")
class TestWhatIsRefused:
    @pytest.mark.parametrize(
        "stored",
        [
            pytest.param(f"$argon2id$v=19$m=8388608,t=1,p=1${SALT16}${DIGEST32}", id="argon2, 8 GiB"),
            pytest.param(f"$argon2id$v=19$m=262145,t=1,p=1${SALT16}${DIGEST32}", id="argon2, above 256 MiB"),
            pytest.param(
                f"$argon2id$v=19$m=4294967296,t=1,p=1${SALT16}${DIGEST32}", id="argon2, above 32 bits"
            ),
            pytest.param(f"$argon2id$v=19$m=65536,t=17,p=1${SALT16}${DIGEST32}", id="argon2, minutes"),
            pytest.param(f"$argon2id$v=19$m=65536,t=1,p=65${SALT16}${DIGEST32}", id="argon2, too many lanes"),
            pytest.param(
                f"$argon2id$v=19$m=8,t=1,p=2${SALT16}${DIGEST32}", id="argon2, too little for its lanes"
            ),
            pytest.param(f"$argon2id$v=19$m=65536,t=0,p=1${SALT16}${DIGEST32}", id="argon2, no pass"),
            pytest.param(f"$argon2id$v=19$m=65536,t=1,p=1$c29tZQ${DIGEST32}", id="argon2, short salt"),
            pytest.param(f"$argon2id$v=19$m=65536,t=1,p=1${SALT16}$", id="no digest, which would match all"),
            pytest.param(f"$argon2id$v=19$m=65536,t=1,p=1${SALT16}$BwcH", id="a digest of three bytes"),
            pytest.param(f"$argon2id$v=19$m=65536,t=1,p=1${SALT16}${'B' * 88}", id="a digest of 66 bytes"),
            pytest.param(
                f"$argon2id$v=19$m=65536,t=1,p=1,keyid=QQ${SALT16}${DIGEST32}", id="argon2 with a key"
            ),
            pytest.param(f"$argon2id$v=18$m=65536,t=1,p=1${SALT16}${DIGEST32}", id="argon2, no such version"),
            pytest.param(f"$argon2x$v=19$m=65536,t=1,p=1${SALT16}${DIGEST32}", id="argon2, no such variant"),
            pytest.param(f"$argon2id$v=19$m=65536,t=1,p=1${SALT16}${DIGEST32}\n", id="a newline behind"),
            pytest.param(f"$argon2id$v=19$m=065536,t=1,p=1${SALT16}${DIGEST32}", id="a leading zero"),
            pytest.param(f"$argon2id$v=19$m=-1,t=1,p=1${SALT16}${DIGEST32}", id="a negative number"),
            pytest.param(f"$argon2id$v=19$m=٦٤,t=1,p=1${SALT16}${DIGEST32}", id="digits of another script"),
            pytest.param(f"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhb${DIGEST32}", id="base64 that can't be"),
            pytest.param(f"$scrypt$ln=20,r=8,p=1${SALT16}${DIGEST32}", id="scrypt, 1 GiB"),
            pytest.param(f"$scrypt$ln=19,r=8,p=1${SALT16}${DIGEST32}", id="scrypt, 512 MiB at once"),
            pytest.param(f"$scrypt$ln=99,r=8,p=1${SALT16}${DIGEST32}", id="scrypt, beyond everything"),
            pytest.param(f"$scrypt$ln=14,r=8,p=99999${SALT16}${DIGEST32}", id="scrypt, hours"),
            pytest.param(f"$scrypt$ln=17,r=1,p=1${SALT16}${DIGEST32}", id="scrypt, N above 2**16r"),
            pytest.param(f"scrypt$1000$salt$8$1${DIGEST32}", id="scrypt, no power of two"),
            pytest.param(f"scrypt:1048576:8:1$salt${HEX32}", id="Werkzeug's scrypt, 1 GiB"),
            pytest.param(f"$pbkdf2-sha256$i=999999999${SALT16}${DIGEST32}", id="pbkdf2, minutes"),
            pytest.param(f"$pbkdf2-sha256$i=999${SALT16}${DIGEST32}", id="pbkdf2, a fast hash"),
            pytest.param(f"pbkdf2_sha256$1$salt${DIGEST32}", id="Django's, a fast hash"),
            pytest.param(f"pbkdf2:sha1:4000000$salt${'07' * 40}", id="pbkdf2, two blocks of too many"),
            pytest.param(f"pbkdf2:md5:100000$salt${HEX32}", id="pbkdf2 with MD5"),
            pytest.param(f"$2b$16${'a' * 53}", id="bcrypt, too many rounds"),
            pytest.param(f"$2b$03${'a' * 53}", id="bcrypt, too few rounds"),
            pytest.param(f"$2x$10${'a' * 53}", id="bcrypt's bug of 2011"),
            pytest.param(f"$2b$10${'a' * 52}", id="bcrypt, too short"),
            pytest.param(f"thebes-peppered$k1$2b$10${'a' * 53}", id="a pepper on a hash of others"),
            pytest.param(
                f"thebes-peppered$k1$thebes-peppered$k1$argon2id$v=19$m=64,t=1,p=1${SALT16}${DIGEST32}",
                id="two peppers",
            ),
            pytest.param(
                f"thebes-wrapped$crc32$argon2id$v=19$m=64,t=1,p=1${SALT16}${DIGEST32}", id="no such fast hash"
            ),
            pytest.param(
                f"thebes-wrapped$md5,first=A$argon2id$v=19$m=64,t=1,p=1${SALT16}${DIGEST32}",
                id="no base64url",
            ),
            pytest.param(f"thebes-wrapped$md5$pbkdf2_sha256$1000$salt${DIGEST32}", id="a wrapping of others"),
            pytest.param("5f4dcc3b5aa765d61d8327deb882cf99", id="MD5"),
            pytest.param("sha1$salt$" + "07" * 20, id="Django's SHA-1"),
            pytest.param("{SSHA}" + DIGEST32, id="LDAP's SHA-1"),
            pytest.param("$1$salt$" + "a" * 22, id="crypt's MD5"),
            pytest.param("$argon2id$" * 200, id="very long"),
            pytest.param("", id="nothing"),
        ],
    )
    def test_malformed_unknown_fast_or_too_costly(self, stored):
        began = time.process_time()
        assert read(stored) is None
        assert time.process_time() - began < 0.05

    async def test_8_gib_are_refused_before_anything_is_allocated(self):
        passwords = Passwords(cost="test", mode=Mode.TEST, lanes=Lanes(1))
        await passwords.verify("tea", None)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert not (
            await passwords.verify("tea", f"$argon2id$v=19$m=8388608,t=1,p=1${SALT16}${DIGEST32}")
        ).is_match
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024
        await passwords.close()

    @given(st.text() | st.from_regex(r"\$(argon2id|scrypt|pbkdf2-sha256|2b)\$[ -~]{0,80}", fullmatch=True))
    def test_no_text_makes_reading_raise(self, text):
        assert read(text) is None or isinstance(read(text), Stored)

    @given(data=st.data())
    def test_no_change_of_one_character_makes_reading_raise_or_matching_succeed(self, data):
        stored = data.draw(
            st.sampled_from(
                [text for text in OF_OTHERS.values() if "$10$" not in text and "32768" not in text]
            )
        )
        place = data.draw(st.integers(0, len(stored) - 1))
        character = data.draw(st.characters(max_codepoint=0x17F))
        changed = stored[:place] + character + stored[place + 1 :]
        known = read(changed)
        if known is None or known == read(stored) or known.cost.memory_kib > 2048 or is_slow(known):
            return
        assert not known.matches(Secret(PASSWORD))


def is_slow(known: Stored) -> bool:
    """Whether it would take long to compute, though it is allowed."""
    match known.cost:
        case Argon2(passes=passes):
            return passes > 100
        case Bcrypt(rounds=rounds):
            return rounds > 6
        case Pbkdf2(iterations=iterations):
            return iterations > 10_000
        case Scrypt(p=p):
            return p > 4


costs = st.one_of(
    st.builds(
        Argon2,
        memory_kib=st.integers(8, 256),
        passes=st.integers(1, 3),
        variant=st.sampled_from(["id", "i", "d"]),
        version=st.sampled_from([16, 19]),
    ),
    st.builds(Scrypt, n=st.sampled_from([2, 16, 256]), r=st.integers(1, 4), p=st.integers(1, 3)),
    st.builds(Pbkdf2, iterations=st.integers(1000, 2000), prf=st.sampled_from(["sha1", "sha256", "sha512"])),
)
wrappings = st.none() | st.builds(
    Wrapping, st.sampled_from(FAST_HASHES), st.binary(max_size=128), is_salt_last=st.just(False)
)
key_ids = st.none() | st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True)


@given(
    cost=costs,
    salt=st.binary(min_size=8, max_size=128),
    digest=st.binary(min_size=16, max_size=MAX_DIGEST_BYTES),
    wrapping=wrappings,
    key_id=key_ids,
)
def test_what_is_written_is_read_back_and_can_be_computed(cost, salt, digest, wrapping, key_id):
    stored = Stored(cost, salt, digest, wrapping=wrapping, key_id=key_id)
    text = write(stored)
    assert read(text) == stored
    assert re.fullmatch(r"[!-~]+", text)
    assert not stored.matches(Secret(b"tea"))


@given(rounds=st.integers(4, 15), key_id=key_ids)
def test_bcrypt_is_written_so_that_it_is_known_as_ours(rounds, key_id):
    stored = Stored(Bcrypt(rounds), b"a" * 21 + b"O", b"b" * 31, key_id=key_id)
    assert read(write(stored)) == stored
    assert read(f"$2b${rounds:02}${'a' * 21}O{'b' * 31}") == Stored(
        Bcrypt(rounds, is_whole=False), b"a" * 21 + b"O", b"b" * 31
    )


@given(st.binary(max_size=300), st.binary(max_size=16))
def test_an_empty_secret_matches_only_the_hash_of_one(secret, salt):
    cost = Argon2(8, 1)
    stored = Stored(cost, b"somesalt" + salt, cost.derive(Secret(b""), b"somesalt" + salt, 32))
    assert stored.matches(Secret(secret)) == (secret == b"")
