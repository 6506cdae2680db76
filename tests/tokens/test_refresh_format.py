"""The text of a refresh token: what it holds, that it has one spelling, and that nothing else is read."""

import base64
import dataclasses
import doctest
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refreshing import KEYS
from thebes.encoding import decode, encode, random_id
from thebes.errors import ConfigurationError
from thebes.secrets import successors
from thebes.secrets.bound import BoundKeys
from thebes.secrets.keyring import Purpose
from thebes.secrets.successors import RefreshKeyring
from thebes.tokens.refresh_format import MAX_TOKEN_BYTES, make_token, read_token
from token_making import ring

SESSION = "c2Vzc2lvbiBvZiBhZGEgMDAx"
MADE = make_token(KEYS, SESSION, 7)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def signed(text: str, keys: RefreshKeyring = KEYS) -> str:
    """Return a text with the MAC that it would have, had we made it."""
    return f"{text}.{encode(keys.mac(text.encode())[1])}"


class TestATokenThatWeMade:
    @pytest.mark.requirement("TOK-16")
    def test_has_256_random_bits_of_its_own(self):
        made = [make_token(KEYS, SESSION, 0) for _ in range(1000)]
        assert len({one.random for one in made}) == 1000
        assert {len(one.random) for one in made} == {32}

    def test_holds_its_session_generation_key_and_mac(self):
        session, generation, random, key, mac = MADE.token.split(".")
        assert (session, generation, key) == (SESSION, "7", "old")
        assert decode(random) == MADE.random
        assert decode(mac) == KEYS.mac(MADE.token.rpartition(".")[0].encode())[1]

    def test_is_kept_as_the_sha_256_of_its_exact_text(self):
        assert MADE.digest == hashlib.sha256(MADE.token.encode()).digest()

    def test_is_read_as_text_and_as_bytes(self):
        assert read_token(KEYS, MADE.token) == read_token(KEYS, MADE.token.encode()) == MADE

    @given(st.integers(0, 10**10 - 1))
    def test_is_read_back_and_fits_its_bound(self, generation):
        token = make_token(KEYS, random_id(), generation)
        assert read_token(KEYS, token.token) == token
        assert len(token.token) <= MAX_TOKEN_BYTES - 32 + len("old")

    def test_shows_neither_its_text_nor_its_random_part_when_printed(self):
        shown = repr(MADE)
        assert SESSION in shown
        assert MADE.token not in shown
        assert repr(MADE.random) not in shown

    def test_is_genuine_under_every_accepted_key_and_under_no_other(self):
        assert read_token(RefreshKeyring(ring("new", "old")), MADE.token) == MADE
        assert read_token(RefreshKeyring(ring("new")), MADE.token) is None


class TestAnythingElse:
    @pytest.mark.parametrize("position", range(len(MADE.token)))
    def test_with_one_other_character_is_not_genuine(self, position):
        for other in "A0.-":
            changed = MADE.token[:position] + other + MADE.token[position + 1 :]
            assert changed == MADE.token or read_token(KEYS, changed) is None

    @pytest.mark.parametrize("length", range(len(MADE.token)))
    def test_that_is_cut_is_not_genuine(self, length):
        assert read_token(KEYS, MADE.token[:length]) is None
        assert read_token(KEYS, MADE.token[length + 1 :]) is None

    @pytest.mark.parametrize(
        "text",
        [
            f" {MADE.token}", f"{MADE.token} ", f"{MADE.token}\n", f"{MADE.token}=", f'"{MADE.token}"',
            MADE.token.replace(".7.", ".07."), MADE.token.replace(".7.", ".+7."), MADE.token.replace(".7.", ".7_."),
            MADE.token.replace(".7.", ".\u0667."), MADE.token + ".", "." + MADE.token, MADE.token + "\0",
            MADE.token * 2, "", ".", "....", "\ud800", "\u2000" * 50, "A" * 10_000_000,
        ],
        ids=[
            "blank before", "blank behind", "line end", "padding", "quotes", "leading zero", "sign", "underscore",
            "other digit", "dot behind", "dot before", "NUL", "twice", "empty", "dot", "dots", "surrogate", "wide blanks",
            "10 MB",
        ],
    )  # fmt: skip
    def test_in_another_spelling_is_not_genuine(self, text):
        assert read_token(KEYS, text) is None
        assert read_token(KEYS, text.encode("utf-8", "surrogatepass")) is None

    @pytest.mark.parametrize(
        "body",
        [
            f"{SESSION}.07.{encode(bytes(32))}.old",
            f"{SESSION}.-1.{encode(bytes(32))}.old",
            f"{SESSION}.{10**10}.{encode(bytes(32))}.old",
            f"{SESSION[:-1]}.7.{encode(bytes(32))}.old",
            f"{SESSION}A.7.{encode(bytes(32))}.old",
            f"{SESSION}.7.{encode(bytes(31))}.old",
            f"{SESSION}.7.{encode(bytes(33))}.old",
            f"{SESSION}.7.{encode(bytes(32))}=.old",
            f"{SESSION}.7.{encode(bytes(32))[:-1]}B.old",
            f"{SESSION}.7.{base64.b64encode(b'?' * 32).decode().rstrip('=')}.old",
            f"{SESSION}.7.{encode(bytes(32))}.",
            f"{SESSION}.7.{encode(bytes(32))}.old.old",
            f"{SESSION}.7.{encode(bytes(32))}.new",
        ],
    )
    def test_is_refused_for_its_form_even_with_our_mac(self, body):
        assert read_token(KEYS, signed(body)) is None

    def test_over_the_bound_is_not_even_decoded(self):
        class Sent(bytes):
            def decode(self, *arguments):
                raise AssertionError("decoded")

        with pytest.raises(AssertionError, match="decoded"):
            read_token(KEYS, Sent(MAX_TOKEN_BYTES))
        assert read_token(KEYS, Sent(MAX_TOKEN_BYTES + 1)) is None

    def test_with_other_trailing_bits_is_not_genuine(self):
        """43 characters hold 258 bits: without this check 16 spellings would be one token, with 16 digests."""
        for part in (2, 4):
            pieces = MADE.token.split(".")
            last = ALPHABET.index(pieces[part][-1])
            for bits in (1, 2, 3):
                pieces[part] = pieces[part][:-1] + ALPHABET[last ^ bits]
                assert read_token(KEYS, ".".join(pieces)) is None

    def test_of_another_session_or_generation_is_not_genuine(self):
        other = make_token(KEYS, random_id(), 8).token.split(".")
        for part in range(5):
            pieces = MADE.token.split(".")
            if pieces[part] != other[part]:
                pieces[part] = other[part]
                assert read_token(KEYS, ".".join(pieces)) is None

    def test_made_under_a_key_for_another_purpose_is_not_genuine(self):
        body = MADE.token.rpartition(".")[0]
        for purpose in (Purpose.TOKEN_SIGNING, Purpose.CSRF, Purpose.CIRCUMSTANCES):
            tag = BoundKeys(ring("old"), purpose).mac(body.encode())[1]
            assert read_token(KEYS, f"{body}.{encode(tag)}") is None

    @given(st.text(max_size=300) | st.binary(max_size=300))
    def test_is_none_and_never_an_error(self, token):
        assert read_token(KEYS, token) is None

    @given(
        st.binary(min_size=18, max_size=18), st.integers(0, 10**10 - 1), st.binary(min_size=64, max_size=64)
    )
    def test_that_looks_like_one_is_none(self, session, generation, rest):
        parts = (encode(session), str(generation), encode(rest[:32]), "old", encode(rest[32:]))
        assert read_token(KEYS, ".".join(parts)) is None


class TestTheSealOfASuccessor:
    SALT = MADE.random

    @given(st.binary(max_size=200), st.binary(min_size=1, max_size=60))
    def test_opens_for_the_holder_of_the_salt(self, plaintext, owner):
        assert KEYS.open_for(self.SALT, KEYS.seal_for(self.SALT, plaintext, owner), owner) == plaintext

    def test_opens_for_nobody_else(self):
        sealed = KEYS.seal_for(self.SALT, b"next", b"s1.8")
        assert KEYS.open_for(make_token(KEYS, SESSION, 7).random, sealed, b"s1.8") is None
        assert KEYS.open_for(self.SALT, sealed, b"s1.9") is None
        assert KEYS.open_for(self.SALT, sealed, b"s2.8") is None
        assert RefreshKeyring(ring("new")).open_for(self.SALT, sealed, b"s1.8") is None
        assert RefreshKeyring(ring("new", "old")).open_for(self.SALT, sealed, b"s1.8") == b"next"
        assert KEYS.open_for(self.SALT, "v1.old.", b"s1.8") is None

    def test_opens_for_no_key_of_the_service_alone(self):
        sealed = KEYS.seal_for(self.SALT, b"next", b"s1.8")
        for purpose in Purpose:
            if purpose.verb == "seal":
                with pytest.raises(Exception, match="not_genuine"):
                    ring("old").open(purpose, sealed, b"s1.8")

    def test_needs_256_bits_of_the_token(self):
        for salt in (b"", bytes(31)):
            with pytest.raises(ConfigurationError, match="32 bytes"):
                KEYS.seal_for(salt, b"next", b"s1.8")
            with pytest.raises(ConfigurationError, match="32 bytes"):
                KEYS.open_for(salt, "v1.old.AAAA", b"s1.8")

    def test_names_the_key_under_which_it_was_made(self):
        assert re.fullmatch(r"v1\.old\.[A-Za-z0-9_-]+", KEYS.seal_for(self.SALT, b"next", b"s1.8"))


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(successors).attempted >= 4


def test_a_presented_token_never_changes():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MADE.generation = 8
