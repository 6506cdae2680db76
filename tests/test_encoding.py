"""base64url in one spelling only, comparison of bytes, and random values that are long enough."""

import string
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.encoding import IDENTIFIER_BYTES, decode, encode, is_equal, random_bytes, random_id, uuid7

ALPHABET = string.ascii_letters + string.digits + "-_"


class TestBase64url:
    @pytest.mark.parametrize(
        ("raw", "text"),
        [
            (b"", ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg"),
            (b"fooba", "Zm9vYmE"),
            (b"foobar", "Zm9vYmFy"),
            (b"\xfb\xff\xfe", "-__-"),
        ],
    )
    def test_texts_are_those_of_the_standard_without_padding(self, raw: bytes, text: str):
        """RFC 4648, section 10, and the two characters in which its section 5 differs."""
        assert encode(raw) == text
        assert decode(text) == raw

    @given(st.binary(max_size=300))  # 300: not a power of two, beyond every block size
    def test_decode_gives_back_what_encode_was_given(self, raw: bytes):
        text = encode(raw)

        assert decode(text) == raw
        assert set(text) <= set(ALPHABET)

    @given(st.text(ALPHABET, max_size=40) | st.text(ALPHABET + "=+/ \n?", max_size=12) | st.text(max_size=12))
    def test_a_text_is_refused_unless_it_is_the_one_spelling_of_its_bytes(self, text: str):
        try:
            raw = decode(text)
        except ValueError:
            return
        assert encode(raw) == text

    @given(st.binary(min_size=1, max_size=60).filter(lambda raw: len(raw) % 3), st.data())
    def test_trailing_bits_that_are_not_zero_are_refused(self, raw: bytes, data: st.DataObject):
        text = encode(raw)
        spare = {1: 16, 2: 4}[len(raw) % 3]  # how many last characters stand for the same bytes
        step = data.draw(st.integers(1, spare - 1))
        other = text[:-1] + _STANDARD[_STANDARD.index(text[-1]) + step]

        with pytest.raises(ValueError, match="base64url"):
            decode(other)

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("Zg==", id="padding"),
            pytest.param("Zg=", id="half a padding"),
            pytest.param("=", id="padding alone"),
            pytest.param("Zm9v====", id="padding that nothing needs"),
            pytest.param("Zg==Zg", id="padding in the middle"),
            pytest.param("Zh", id="trailing bits after one byte"),
            pytest.param("Zm9", id="trailing bits after two bytes"),
            pytest.param("Z", id="six bits"),
            pytest.param("Zm9vY", id="six bits too many"),
            pytest.param("Zm+v", id="plus of the standard alphabet"),
            pytest.param("Zm/v", id="slash of the standard alphabet"),
            pytest.param("Zm?v", id="a character of no alphabet"),
            pytest.param("Zm9v\n", id="line feed at the end"),
            pytest.param("Zm\r\n9v", id="folded line"),
            pytest.param(" Zm9v", id="space in front"),
            pytest.param("Zm9v\0", id="NUL"),
            pytest.param("Zm9\N{LATIN SMALL LETTER V WITH TILDE}", id="not ASCII"),
            pytest.param("\N{FULLWIDTH LATIN CAPITAL LETTER Z}m9v", id="full-width letter"),
            pytest.param("Zm\udc809v", id="lone surrogate"),
        ],
    )
    def test_what_is_not_canonical_is_refused(self, text: str):
        with pytest.raises(ValueError, match="not"):
            decode(text)


# In the order of their values, so that neighbours differ in the lowest bits.
_STANDARD = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


class TestRandomValues:
    def test_an_identifier_has_144_bits_in_24_characters_of_base64url(self):
        identifier = random_id()

        assert len(identifier) == 24
        assert len(decode(identifier)) == IDENTIFIER_BYTES == 18

    def test_identifiers_are_never_the_same_and_use_all_their_bits(self):
        identifiers = [decode(random_id()) for _ in range(1000)]

        assert len(set(identifiers)) == 1000
        # Each byte takes many values: a thousand throws of 256 show 251 of them, and never under 200.
        assert all(len({raw[place] for raw in identifiers}) > 200 for place in range(IDENTIFIER_BYTES))

    @pytest.mark.parametrize("count", [0, 1, 16, 32, 33])
    def test_random_bytes_are_as_many_as_asked_for(self, count: int):
        assert len(random_bytes(count)) == count

    def test_random_bytes_are_never_the_same(self):
        assert len({random_bytes(16) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("given_bytes", "expected"),
    [(b"gate", True), (b"gat", False), (b"gates", False), (b"Gate", False), (b"gate\0", False), (b"", False)],
)
def test_bytes_are_equal_only_as_a_whole(given_bytes: bytes, expected: bool):
    assert is_equal(b"gate", given_bytes) is expected


class TestUuid7:
    def test_has_the_form_of_the_standard(self) -> None:
        """RFC 9562, appendix A.6, but for the random bits."""
        made = uuid.UUID(uuid7(now=0x017F22E279B0 / 1000))
        assert (made.version, made.variant) == (7, uuid.RFC_4122)
        assert made.int >> 80 == 0x017F22E279B0

    def test_sorts_by_the_time_of_making_and_never_repeats(self) -> None:
        made = [uuid7(now=1_700_000_000 + step / 1000) for step in range(1000)]
        assert sorted(made) == made
        assert len({uuid7(now=1.0) for _ in range(1000)}) == 1000
