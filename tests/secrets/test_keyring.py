"""Derived keys, MACs, sealed values and digests, and what a rotation does to them."""

import copy
import doctest
import hashlib
import hmac
import itertools
import json
import pickle
import re
import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from thebes.encoding import decode, encode
from thebes.errors import ConfigurationError, ThebesError
from thebes.secret import Secret
from thebes.secrets import keyring as module
from thebes.secrets.keyring import (
    BrokenSeal,
    Keyring,
    KeyStatus,
    Purpose,
    UnknownKey,
    _encrypt,
    _hkdf,
    sealed_under,
)
from thebes.secrets.strength import SecretKey, parse_secret_keys

OLD = bytes.fromhex("8f1d3ab2409ce577c0116e9bd8f23465a7ec905b1cd84e33f6297a0d51be8842")
NEW = bytes.fromhex("0c5be1d2f7a83946b2e4907d1f6a35c8e0947bd5a21c6f38d97e04b3fa58612d")
VALUES = {"old": OLD, "new": NEW}

MACS = [purpose for purpose in Purpose if purpose.verb == "mac"]
SEALS = [purpose for purpose in Purpose if purpose.verb == "seal"]
DIGESTS = [purpose for purpose in Purpose if purpose.verb == "digest"]
FIELD, COOKIE = Purpose.FIELD_ENCRYPTION, Purpose.COOKIE_SEALING


def ring(*ids: str) -> Keyring:
    """Return a keyring as the setting makes it, the first key in use."""
    return Keyring(parse_secret_keys(",".join(f"{one}:{encode(VALUES[one])}" for one in ids)))


KEYS = ring("new", "old")


def refusal(purpose: Purpose, sealed: str, owner: bytes = b"ada", *, keys: Keyring = KEYS) -> str:
    """Return why a sealed value is refused."""
    with pytest.raises(BrokenSeal) as refused:
        keys.open(purpose, sealed, owner)
    return refused.value.reason


def derived_by_hand(master: bytes, label: str) -> bytes:
    """HKDF-SHA256 as RFC 5869 writes it, without a salt, for one block of output."""
    extracted = hmac.digest(bytes(32), master, "sha256")
    return hmac.digest(extracted, f"thebes/1/{label}".encode() + b"\x01", "sha256")


class TestPublishedVectors:
    @pytest.mark.parametrize(
        ("material", "salt", "info", "output"),
        [
            pytest.param(b"\x0b" * 22, range(13), range(0xF0, 0xFA),
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865", id="A.1"),
            pytest.param(range(0x50), range(0x60, 0xB0), range(0xB0, 0x100),
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
                "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87", id="A.2"),
            pytest.param(b"\x0b" * 22, b"", b"",
                "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8", id="A.3"),
        ],
    )  # fmt: skip
    def test_hkdf_gives_what_rfc_5869_prints(self, material, salt, info, output):
        derived = _hkdf(Secret(bytes(material)), info=bytes(info), salt=bytes(salt), length=len(output) // 2)
        assert derived.reveal().hex() == output

    @pytest.mark.parametrize(
        ("key", "nonce", "plaintext", "bound", "sealed"),
        [
            pytest.param("00" * 32, "00" * 12, "00" * 16, "",
                "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919", id="case 14"),
            pytest.param("feffe9928665731c6d6a8f9467308308" * 2, "cafebabefacedbaddecaf888",
                "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
                "feedfacedeadbeeffeedfacedeadbeefabaddad2",
                "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b10"
                "56828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b", id="case 16"),
        ],
    )  # fmt: skip
    def test_aes_256_gcm_gives_what_its_authors_print(self, key, nonce, plaintext, bound, sealed):
        """McGrew and Viega, The Galois/Counter Mode of Operation (GCM), appendix B."""
        box = _encrypt(Secret(bytes.fromhex(key)), *map(bytes.fromhex, (nonce, plaintext, bound)))
        assert box.hex() == sealed


@pytest.mark.requirement("SEC-11")
class TestPurposes:
    def test_token_signing_csrf_cookies_pepper_and_fields_have_keys_of_their_own(self):
        assert {purpose.name: (purpose.label, purpose.verb) for purpose in Purpose} == {
            "TOKEN_SIGNING": ("token-signing", "mac"),
            "CSRF": ("csrf", "mac"),
            "PEPPER": ("pepper", "mac"),
            "COOKIE_SEALING": ("cookie-sealing", "seal"),
            "FIELD_ENCRYPTION": ("field-encryption", "seal"),
            "SIGNING_KEYS": ("signing-keys", "seal"),
            "REFRESH_TOKENS": ("refresh-tokens", "mac"),
            "REFRESH_SUCCESSORS": ("refresh-successors", "seal"),
            "CIRCUMSTANCES": ("circumstances", "mac"),
            "JOBS": ("jobs", "seal"),
            "KNOWN_DEVICES": ("known-devices", "mac"),
            "FAILURES": ("failures", "mac"),
            "EVENTS": ("events", "digest"),
            "RATELIMIT_PARTITION": ("ratelimit-partition", "digest"),
        }

    @pytest.mark.parametrize("key_id", ["new", "old"])
    @pytest.mark.parametrize("purpose", Purpose)
    def test_each_key_is_hkdf_of_its_master_key_under_its_own_label(self, purpose, key_id):
        """Stored values depend on these bytes: this test fails when a label or the scheme changes."""
        expected = derived_by_hand(VALUES[key_id], purpose.label)
        assert KEYS.derived(purpose, key_id).reveal() == expected

    def test_no_two_keys_are_equal_and_none_is_a_master_key(self):
        keys = [KEYS.derived(purpose, one) for purpose in Purpose for one in VALUES]
        assert {len(key) for key in keys} == {32}
        assert len({OLD, NEW, *(key.reveal() for key in keys)}) == len(keys) + 2

    def test_a_key_is_derived_once(self):
        assert KEYS.derived(Purpose.CSRF) is KEYS.derived(Purpose.CSRF, "new")

    @pytest.mark.parametrize(("made_for", "asked_for"), list(itertools.permutations(MACS, 2)))
    def test_a_mac_is_refused_for_every_other_purpose(self, made_for, asked_for):
        key_id, tag = KEYS.mac(made_for, b"session 7")
        assert KEYS.verify(made_for, key_id, b"session 7", tag)
        assert not KEYS.verify(asked_for, key_id, b"session 7", tag)

    @pytest.mark.parametrize(("made_for", "asked_for"), list(itertools.permutations(SEALS, 2)))
    def test_a_sealed_value_is_refused_for_every_other_purpose(self, made_for, asked_for):
        assert refusal(asked_for, KEYS.seal(made_for, b"seed", b"ada")) == "not_genuine"

    def test_digests_of_two_purposes_differ(self):
        assert len({KEYS.digest(purpose, "203.0.113.7") for purpose in DIGESTS}) == len(DIGESTS)

    @pytest.mark.parametrize("purpose", Purpose)
    def test_no_key_serves_two_algorithms(self, purpose):
        calls = {
            "mac": [lambda: KEYS.mac(purpose, b""), lambda: KEYS.verify(purpose, "new", b"", b"")],
            "seal": [lambda: KEYS.seal(purpose, b"", b"ada"), lambda: KEYS.open(purpose, "", b"ada")],
            "digest": [lambda: KEYS.digest(purpose, "")],
        }
        del calls[purpose.verb]
        for call in itertools.chain(*calls.values()):
            with pytest.raises(ConfigurationError, match=f"{purpose.label} is for {purpose.verb}"):
                call()

    def test_a_purpose_that_is_none_of_ours_is_refused(self):
        with pytest.raises(ConfigurationError, match="must be one of"):
            KEYS.mac("csrf", b"")


class TestMacs:
    def test_the_tag_is_hmac_sha256_under_the_derived_key(self):
        key = KEYS.derived(Purpose.TOKEN_SIGNING).reveal()
        assert KEYS.mac(Purpose.TOKEN_SIGNING, b"message") == (
            "new",
            hmac.digest(key, b"message", hashlib.sha256),
        )

    @given(st.binary(max_size=300), st.integers(0, 255), st.sampled_from(MACS))
    def test_no_tag_with_a_flipped_bit_passes(self, message, bit, purpose):
        key_id, tag = KEYS.mac(purpose, message)
        assert KEYS.verify(purpose, key_id, message, tag)
        assert not KEYS.verify(purpose, key_id, message, flipped(tag, bit))
        assert not KEYS.verify(purpose, key_id, message + b"\0", tag)

    @pytest.mark.parametrize("length", [0, 1, 16, 31])
    def test_a_shortened_tag_is_refused(self, length):
        key_id, tag = KEYS.mac(Purpose.CSRF, b"message")
        assert not KEYS.verify(Purpose.CSRF, key_id, b"message", tag[:length])
        assert not KEYS.verify(Purpose.CSRF, key_id, b"message", tag + b"\0")

    @pytest.mark.parametrize("key_id", ["old", "", "NEW", "new\n", "gone", "\udce9"])
    def test_a_tag_counts_under_the_key_that_it_names_only(self, key_id):
        _, tag = KEYS.mac(Purpose.CSRF, b"message")
        assert KEYS.verify(Purpose.CSRF, key_id, b"message", tag) is False


def flipped(raw: bytes, bit: int) -> bytes:
    """Return the bytes with one bit changed."""
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


class TestSealedValues:
    @given(st.binary(max_size=300), st.binary(min_size=1, max_size=300), st.sampled_from(SEALS))
    def test_what_was_sealed_can_be_opened(self, plaintext, owner, purpose):
        assert KEYS.open(purpose, KEYS.seal(purpose, plaintext, owner), owner) == plaintext

    def test_the_text_is_the_documented_one(self):
        """Opened by hand: version, key id, nonce, what is bound; other programs may rely on it."""
        sealed = KEYS.seal(FIELD, b"seed", b"account 7\0totp")
        version, key_id, text = sealed.split(".")
        box, key = decode(text), AESGCM(KEYS.derived(FIELD).reveal())
        assert (version, key_id) == ("v1", "new")
        assert key.decrypt(box[:12], box[12:], b"thebes/1\0field-encryption\0new\0account 7\0totp") == b"seed"
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", sealed)

    def test_each_value_gets_a_nonce_of_its_own(self):
        texts = [KEYS.seal(FIELD, b"seed", b"ada") for _ in range(1000)]
        assert len({decode(text.split(".")[2])[:12] for text in texts}) == 1000

    @given(st.binary(max_size=30), st.integers(min_value=0))
    def test_no_value_with_a_flipped_bit_opens(self, plaintext, seed):
        head, _, text = KEYS.seal(FIELD, plaintext, b"ada").rpartition(".")
        box = decode(text)
        changed = flipped(box, seed % (8 * len(box)))
        assert refusal(FIELD, f"{head}.{encode(changed)}") == "not_genuine"

    def test_no_value_with_a_changed_character_opens(self):
        sealed = KEYS.seal(FIELD, b"seed", b"ada")
        for place in range(len(sealed)):
            for other in {"A", "b", "0", "_", ".", "=", "\u00e9", ""} - {sealed[place]}:
                assert refusal(FIELD, sealed[:place] + other + sealed[place + 1 :])

    @given(st.binary(min_size=1, max_size=30), st.binary(max_size=30))
    def test_a_value_moved_to_another_owner_does_not_open(self, owner, other):
        if owner != other:
            assert refusal(FIELD, KEYS.seal(FIELD, b"seed", owner), other) == "not_genuine"

    def test_a_value_without_an_owner_is_not_sealed(self):
        with pytest.raises(ConfigurationError, match="whose it is"):
            KEYS.seal(FIELD, b"seed", b"")

    def test_a_value_relabelled_to_another_accepted_key_does_not_open(self):
        sealed = KEYS.seal(FIELD, b"seed", b"ada")
        assert refusal(FIELD, sealed.replace(".new.", ".old.")) == "not_genuine"
        assert refusal(FIELD, sealed.replace(".new.", ".gone.")) == "unknown_key"

    @pytest.mark.parametrize("text", ["", ".", "v1", "v1.new.", f"v1.new.{encode(bytes(27))}", f"v1..{encode(bytes(40))}", f"v1.n w.{encode(bytes(40))}",
        f"v2.new.{encode(bytes(40))}", f"v1.new.{encode(bytes(40))}=", f"v1.new.{encode(bytes(40))}\n", "v1.new." * 1000],
    )  # fmt: skip
    def test_other_texts_are_malformed(self, text):
        assert refusal(FIELD, text) == "malformed"

    @given(
        st.text() | st.binary().map(lambda raw: f"v1.new.{encode(raw)}"), st.binary(), st.sampled_from(SEALS)
    )
    def test_opening_never_raises_anything_else(self, text, owner, purpose):
        assert refusal(purpose, text, owner) in {"malformed", "not_genuine"}

    def test_the_key_that_a_value_names_can_be_asked_for(self):
        assert sealed_under(ring("old").seal(FIELD, b"seed", b"ada")) == "old"
        assert sealed_under("v1.new.AAAA") is None


class TestDigests:
    @given(st.text(alphabet=st.characters(), max_size=300), st.sampled_from(DIGESTS))
    def test_a_digest_is_short_and_the_same_for_the_same_text(self, text, purpose):
        digest = KEYS.digest(purpose, text)
        assert re.fullmatch(r"[A-Za-z0-9_-]{16}", digest)
        assert ring("new").digest(purpose, text) == digest
        assert KEYS.digest(purpose, text + "x") != digest

    def test_lone_surrogates_are_told_apart(self):
        texts = ["\ud800", "\udcc3\udca9", "\u00e9", "\ud83d\ude00", "\U0001f600", ""]
        assert len({KEYS.digest(Purpose.EVENTS, text) for text in texts}) == len(texts)

    def test_nobody_can_compute_it_without_the_key(self):
        assert ring("old").digest(Purpose.EVENTS, "session 7") != KEYS.digest(Purpose.EVENTS, "session 7")


class TestRotation:
    """Appended, promoted, retired: what each process accepts while two neighbouring lists are in use."""

    BEFORE, APPENDED, PROMOTED, RETIRED = ring("old"), ring("old", "new"), ring("new", "old"), ring("new")

    @pytest.mark.parametrize("purpose", MACS)
    @pytest.mark.parametrize(
        ("maker", "reader", "counts"),
        [
            pytest.param(BEFORE, APPENDED, True, id="before, read once the new key is appended"),
            pytest.param(APPENDED, BEFORE, True, id="appended, read by a process that lags behind"),
            pytest.param(APPENDED, PROMOTED, True, id="appended, read once the new key is promoted"),
            pytest.param(PROMOTED, APPENDED, True, id="promoted, read by a process that lags behind"),
            pytest.param(PROMOTED, RETIRED, True, id="promoted, read once the old key is retired"),
            pytest.param(RETIRED, PROMOTED, True, id="retired, read by a process that lags behind"),
            pytest.param(APPENDED, RETIRED, False, id="a retired key is refused"),
            pytest.param(PROMOTED, BEFORE, False, id="a key in use before all accept it is refused"),
        ],
    )
    def test_macs_count_between_neighbouring_steps(self, purpose, maker, reader, counts):
        key_id, tag = maker.mac(purpose, b"message")
        assert reader.verify(purpose, key_id, b"message", tag) is counts

    @pytest.mark.parametrize("purpose", SEALS)
    def test_sealed_values_open_while_their_key_is_accepted(self, purpose):
        sealed = self.BEFORE.seal(purpose, b"seed", b"ada")
        for keys in (self.BEFORE, self.APPENDED, self.PROMOTED):
            assert keys.open(purpose, sealed, b"ada") == b"seed"
        assert refusal(purpose, sealed, keys=self.RETIRED) == "unknown_key"

    def test_new_values_are_made_under_the_first_key(self):
        for keys, first in {self.APPENDED: "old", self.PROMOTED: "new"}.items():
            assert keys.in_use == first
            assert keys.mac(Purpose.CSRF, b"")[0] == first
            assert sealed_under(keys.seal(FIELD, b"", b"ada")) == first
            assert keys.derived(Purpose.PEPPER) == keys.derived(Purpose.PEPPER, first)

    def test_a_derived_key_of_a_retired_key_is_not_given(self):
        assert self.PROMOTED.derived(Purpose.PEPPER, "old") == self.BEFORE.derived(Purpose.PEPPER)
        with pytest.raises(UnknownKey) as refused:
            self.RETIRED.derived(Purpose.PEPPER, "old")
        assert refused.value.key_id == "old"

    def test_each_step_shows_where_every_key_stands(self):
        assert self.APPENDED.statuses() == (KeyStatus("old", "in use"), KeyStatus("new", "accepted"))
        assert self.PROMOTED.statuses() == (KeyStatus("new", "in use"), KeyStatus("old", "accepted"))
        assert self.RETIRED.statuses() == (KeyStatus("new", "in use"),)


class TestWhatIsRefusedAtTheStart:
    @pytest.mark.parametrize(
        ("keys", "problem"),
        [
            pytest.param((), "no key: run `thebes secrets init`", id="no key"),
            pytest.param((("k1", OLD[:31]),), "31 bytes long, at least 32", id="too short"),
            pytest.param((("k1", OLD), ("k1", NEW)), "the same id", id="doubled id"),
            pytest.param((("k1", OLD), ("k2", OLD)), "the same value", id="doubled value"),
            pytest.param((("k.1", OLD),), "an id that isn't", id="an id that ends early in a token"),
            pytest.param((("k1\n", OLD),), "an id that isn't", id="an id with a line end"),
        ],
    )
    def test_lists_that_no_rotation_survives(self, keys, problem):
        with pytest.raises(ConfigurationError, match=problem):
            Keyring([SecretKey(key_id, Secret(value)) for key_id, value in keys])


class TestWhatNobodySees:
    def test_the_repr_shows_ids_only(self):
        assert repr(KEYS) == str(KEYS) == f"{KEYS}" == "Keyring(new, old)"

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_it_is_not_pickled(self, protocol):
        with pytest.raises(TypeError, match="can't be pickled"):
            pickle.dumps(KEYS, protocol)

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: one.__getstate__()])
    def test_it_is_not_copied(self, copied):
        with pytest.raises(TypeError, match="can't be pickled"):
            copied(KEYS)

    def test_it_is_no_json(self):
        with pytest.raises(TypeError):
            json.dumps(KEYS)

    def test_no_error_shows_a_key_even_with_the_locals_of_its_frames(self):
        sealed = KEYS.seal(FIELD, b"seed", b"ada")
        calls = [
            lambda: KEYS.open(FIELD, sealed, b"bob"),
            lambda: KEYS.open(FIELD, "v1.gone." + encode(bytes(40)), b"ada"),
            lambda: KEYS.derived(Purpose.PEPPER, "gone"),
            lambda: KEYS.mac(Purpose.CSRF, "text"),
            lambda: KEYS.verify(Purpose.CSRF, "new", b"", "text"),
            lambda: KEYS.seal(FIELD, "text", b"ada"),
            lambda: Keyring([SecretKey("new", Secret(NEW)), SecretKey("old", Secret(NEW[:31]))]),
        ]
        secrets = [NEW, NEW[:31], KEYS.mac(Purpose.CSRF, b"")[1]]
        secrets += [KEYS.derived(purpose).reveal() for purpose in Purpose]
        shown = [form for one in secrets for form in (repr(one)[2:-1], one.hex(), encode(one))]
        for call in calls:
            with pytest.raises((ThebesError, TypeError)) as raised:
                call()
            error = raised.value
            assert error.__traceback__ is not None
            report = traceback.TracebackException(
                type(error), error, error.__traceback__.tb_next, capture_locals=True
            )
            text = "".join(report.format())
            assert [form for form in shown if form in text] == []


def test_the_page_on_secrets_lists_every_purpose_with_its_verb():
    page = (Path(__file__).parents[2] / "docs" / "secrets.md").read_text("utf-8")
    rows = set(re.findall(r"^\| `([a-z-]+)` \| `([a-z]+)` \|", page, re.MULTILINE))
    assert rows == {(purpose.label, purpose.verb) for purpose in Purpose}


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(module).attempted >= 4
    assert doctest.testmod(module).failed == 0
