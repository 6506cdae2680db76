"""Which keys are refused, why, and that no random key is."""

import base64
import hashlib
import hmac
import math
import os
import re
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.encoding import encode
from thebes.errors import ConfigurationError
from thebes.secret import Secret
from thebes.secrets.strength import (
    MAX_SHARE_OF_ONE_CASE,
    MIN_BITS_PER_BYTE,
    SAMPLE_KEYS,
    SecretKey,
    bits_per_byte,
    parse_secret_keys,
    strength_problems,
)

RANDOM = bytes.fromhex("8f1d3ab2409ce577c0116e9bd8f23465a7ec905b1cd84e33f6297a0d51be8842")


def problems(value: bytes | str, **other_values: str) -> list[str]:
    raw = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)) if isinstance(value, str) else value
    return strength_problems([SecretKey("k1", Secret(raw))], other_values=other_values)


def parsed(text: str) -> tuple[Sequence[SecretKey], Sequence[str]]:
    """Return the keys, or what was said against the text."""
    try:
        return parse_secret_keys(text), ()
    except ConfigurationError as error:
        return (), error.problems


class TestParsing:
    def test_the_keys_come_in_their_order(self):
        keys = parse_secret_keys(f"new:{encode(RANDOM)} , old_1-x:{encode(b'short')}\n")
        assert keys == (SecretKey("new", Secret(RANDOM)), SecretKey("old_1-x", Secret(b"short")))

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            pytest.param("", "is empty", id="empty"),
            pytest.param(" \n", "is empty", id="blank"),
            pytest.param("c4n4ry", "entry 1 .* no key id", id="no id"),
            pytest.param("k1:AAAA,", "entry 2 .* no key id", id="trailing comma"),
            pytest.param(":c4n4ry", "entry 1 .* an id", id="empty id"),
            pytest.param("c4n4ry!:AAAA", "entry 1 .* an id", id="id with a mark"),
            pytest.param("c4n4ry" * 6 + ":AAAA", "entry 1 .* an id", id="id too long"),
            pytest.param("c4n4ry\u0661:AAAA", "entry 1 .* an id", id="a digit that isn't ASCII"),
            pytest.param("k1:c4n4ry+/", "entry 1 .* base64url", id="standard base64"),
            pytest.param("k1:c4n4ry==", "entry 1 .* base64url", id="padding"),
            pytest.param("k1:c4n4ryx", "entry 1 .* base64url", id="not canonical"),
            pytest.param("k1:c4n4ry:x", "entry 1 .* base64url", id="two colons"),
            pytest.param("k1:c4n4ry\u00e9", "entry 1 .* base64url", id="not ASCII"),
            pytest.param("k1:c4n4ry\udce9", "entry 1 .* base64url", id="bytes that aren't UTF-8"),
            pytest.param("k1:", "entry 1 .* 0 bytes", id="no value"),
            pytest.param("k1:" + "c4n4" * 500, "entry 1 .* 1500 bytes", id="too long"),
            pytest.param("k1:AAAA,k1:BBBB", "same id", id="doubled id"),
        ],
    )
    def test_other_texts_are_refused_without_showing_them(self, text, problem):
        with pytest.raises(ConfigurationError, match=problem) as refused:
            parse_secret_keys(text)

        error = refused.value
        assert error.__traceback__ is not None
        ours = error.__traceback__.tb_next  # the first frame is the test's own
        report = traceback.TracebackException(type(error), error, ours, capture_locals=True)
        assert "c4n4" not in "".join(report.format()) + repr(error)
        assert error.__context__ is None

    def test_all_entries_that_are_wrong_are_named_at_once(self):
        with pytest.raises(ConfigurationError) as refused:
            parse_secret_keys("c4n4ry,k1:AAAA,k2:=")
        assert [problem.split()[1] for problem in refused.value.problems] == ["1", "3"]

    @given(st.text(max_size=300) | st.text("k1:,A_-= ", max_size=300))
    def test_any_text_gives_keys_or_sentences_of_ours(self, text):
        sentence = (
            r"THEBES_SECRET_KEYS is empty: [a-z` ]+|two entries of THEBES_SECRET_KEYS [a-z: ]+"
            r"|entry \d+ of THEBES_SECRET_KEYS has (no key id|an id that|a value (that|of \d+))[\w:,.`' -]+"
        )
        keys, said = parsed(text)
        assert all(re.fullmatch(sentence, problem) for problem in said)
        if keys:
            again = ",".join(f"{key.id}:{encode(key.value.reveal())}" for key in keys)
            assert parse_secret_keys(again) == keys
        assert bool(keys) != bool(said)

    @given(
        st.dictionaries(
            st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True), st.binary(min_size=1, max_size=300)
        ).filter(bool)
    )
    def test_what_was_written_is_read(self, values):
        text = ",".join(f"{key_id}:{encode(value)}" for key_id, value in values.items())
        assert {key.id: key.value.reveal() for key in parse_secret_keys(text)} == values


class TestWeakKeys:
    def test_a_random_key_has_no_problem(self):
        assert problems(RANDOM) == []

    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            pytest.param(RANDOM[:31], "31 bytes long, at least 32", id="31 bytes"),
            pytest.param(b"hunter2", "7 bytes long", id="a password"),
            pytest.param(bytes(32), "repeats or counts", id="zeros"),
            pytest.param(RANDOM[:16] * 2, "repeats or counts", id="the same half twice"),
            pytest.param(RANDOM[:7] * 5, "repeats or counts", id="seven bytes over and over"),
            pytest.param(bytes(range(32)), "repeats or counts", id="counting up"),
            pytest.param(bytes(range(250, 100, -3)), "repeats or counts", id="counting down by three"),
            pytest.param(bytes(i * 37 % 256 for i in range(40)), "repeats or counts", id="wrapping steps"),
            pytest.param(bytes(i + i // 2 for i in range(32)), "repeats or counts", id="alternating steps"),
            pytest.param(b"correct horse battery staple, again", "typed text", id="passphrase"),
            pytest.param(RANDOM[:16].hex().encode(), "typed text", id="32 hex digits as bytes"),
            pytest.param(RANDOM[:9] + RANDOM[:9] + RANDOM[:6][::-1] + RANDOM[:9], "bits of entropy", id="few bytes"),
        ],
    )  # fmt: skip
    def test_weak_bytes(self, value, problem):
        (found,) = problems(value)
        assert problem in found
        assert found.startswith("secret key 'k1' ")
        assert "`thebes secrets init" in found
        assert encode(value) not in found

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("thisisaverysecretpasswordthatnobodyknowsxxxx", id="lower case"),
            pytest.param("THIS-IS-A-SECRET-THAT-NOBODY-KNOWS-AT-ALLXXX", id="upper case"),
            pytest.param("correct-horse-battery-staple-correct-horse-1", id="with dashes"),
            pytest.param("My-dog-has-a-very-long-name-that-is-not-tedd", id="with a capital"),
        ],
    )
    def test_a_passphrase_written_in_the_place_of_base64url(self, text):
        (found,) = problems(text)
        assert "looks like typed text" in found

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqr", id="the alphabet"),
            pytest.param("1234567890" * 4 + "1234", id="ten digits over and over"),
            pytest.param("Secret-" * 6 + "Se", id="a word over and over"),
        ],
    )
    def test_a_pattern_written_in_the_place_of_base64url(self, text):
        (found,) = problems(text)
        assert "repeats or counts" in found

    @pytest.mark.parametrize("sample", SAMPLE_KEYS)
    def test_published_samples_are_refused_in_every_form(self, sample):
        forms = [base64.urlsafe_b64decode(sample + "=" * (-len(sample) % 4)), sample.encode()]
        if re.fullmatch("[0-9a-f]{64}|[0-9a-f]{62}", sample):
            forms.append(bytes.fromhex(sample))
        for form in forms:
            assert any("sample value" in problem for problem in problems(form))

    def test_the_sample_of_rfc_7515_is_the_one_that_signed_its_example(self):
        """RFC 7515, A.1.1."""
        key = base64.urlsafe_b64decode(SAMPLE_KEYS[1] + "==")
        signed = (
            b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQog"
            b"Imh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        )
        made = encode(hmac.new(key, signed, hashlib.sha256).digest())
        assert made == "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

    def test_two_ids_with_one_value_are_one_purpose_too_many(self):
        keys = [SecretKey("k1", Secret(RANDOM)), SecretKey("k2", Secret(RANDOM))]
        (found,) = strength_problems(keys, other_values={})
        assert "key 'k2' has the same value as key 'k1'" in found

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param(encode(RANDOM), id="base64url"),
            pytest.param(base64.b64encode(RANDOM).decode(), id="base64"),
            pytest.param(RANDOM.hex(), id="hex"),
            pytest.param(RANDOM.hex().upper(), id="hex in capitals"),
            pytest.param(os.fsdecode(RANDOM), id="the bytes"),
            pytest.param(f"redis://:{encode(RANDOM)}@cache/0", id="inside a URL"),
        ],
    )
    def test_the_same_value_in_another_variable_is_named_and_not_shown(self, text):
        (found,) = problems(RANDOM, OTHER_KEY=text, HOME="/home/ada", EMPTY="")
        assert "is also used in OTHER_KEY" in found
        assert text not in found

    def test_the_variable_of_the_keys_itself_is_no_second_purpose(self):
        assert problems(RANDOM, THEBES_SECRET_KEYS=f"k1:{encode(RANDOM)}") == []


class TestFalseAlarms:
    def test_ten_thousand_random_keys_pass(self):
        keys = [SecretKey(str(number), Secret(os.urandom(32))) for number in range(10_000)]
        bad = [key for key in keys if strength_problems([key], other_values={})]
        assert bad == []

    def test_random_hex_in_the_place_of_base64url_passes(self):
        """`openssl rand -hex 32` is 256 bits, whatever it decodes to."""
        assert [text for _ in range(1000) if problems(text := os.urandom(32).hex())] == []

    @pytest.mark.parametrize("length", [33, 40, 48, 64, 100])
    def test_longer_random_keys_pass(self, length):
        assert [raw for _ in range(200) if problems(raw := os.urandom(length))] == []

    def test_the_bound_for_the_entropy_of_random_keys_is_exact(self):
        """The sum over all ways in which 32 bytes can coincide, with their multiplicities."""
        low = sum(probability(parts) for parts in partitions(32) if entropy(parts) < MIN_BITS_PER_BYTE)
        assert low == pytest.approx(1.46e-11, rel=0.01)

    def test_the_bound_for_one_case_among_random_letters_is_kept(self):
        """43 characters: dashes are left out, and the last character counts against us."""
        low = 0.0
        for dashes in range(43):
            rest = 42 - dashes
            one_case = sum(
                math.comb(rest, n) * (26 / 62) ** n * (36 / 62) ** (rest - n)
                for n in range(rest + 1)
                if n + 1 > MAX_SHARE_OF_ONE_CASE * (rest + 1)
            )
            low += math.comb(42, dashes) * (2 / 64) ** dashes * (62 / 64) ** rest * one_case
        assert 2 * low < 6.5e-8

    def test_all_ways_in_which_bytes_can_coincide_sum_up_to_one(self):
        assert sum(map(probability, partitions(32))) == pytest.approx(1)

    @given(st.binary(min_size=1, max_size=300))
    def test_entropy_lies_between_zero_and_the_length(self, raw):
        assert -1e-9 <= bits_per_byte(raw) <= min(8, math.log2(len(raw))) + 1e-9

    @given(st.binary(min_size=1, max_size=300))
    def test_any_key_is_judged_without_showing_it(self, raw):
        for problem in problems(raw, OTHER=encode(raw)):
            assert re.fullmatch(r"secret key 'k1' [a-z0-9A-Z_,.' ]+: make a new one with `[a-z -]+`", problem)


def partitions(total: int, largest: int | None = None) -> Iterator[tuple[int, ...]]:
    if total == 0:
        yield ()
    for first in range(min(total, largest or total), 0, -1):
        for rest in partitions(total - first, first):
            yield (first, *rest)


def entropy(counts: tuple[int, ...]) -> float:
    total = sum(counts)
    return math.log2(total) - sum(n * math.log2(n) for n in counts) / total


def probability(counts: tuple[int, ...]) -> float:
    """Of `sum(counts)` random bytes falling into groups of these sizes."""
    total = sum(counts)
    ways = math.lgamma(total + 1) - sum(math.lgamma(n + 1) for n in counts)
    values = math.lgamma(257) - math.lgamma(257 - len(counts))
    alike = sum(math.lgamma(n + 1) for n in Counter(counts).values())
    return math.exp(ways + values - alike - total * math.log(256))
