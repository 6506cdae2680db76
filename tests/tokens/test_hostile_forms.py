"""Bytes that are no token of ours, or nearly one, against both verifiers."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.tokens.cookie_tokens import CookieTokens
from token_forging import refusal
from token_making import ADA, ISSUER, NOW, body_of, mac_keys, segment

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
COOKIES = CookieTokens(mac_keys("old"), issuer=ISSUER)


@pytest.mark.requirement("TOK-07")
class TestForm:
    def test_every_changed_byte_is_refused(self, tokens):
        token = tokens.issue(ADA, now=NOW).encode()
        for place in range(len(token)):
            for other in {token[place] ^ 1, token[place] ^ 0x20, 0x2E, 0x3D, 0x00, 0xFF} - {token[place]}:
                changed = token[:place] + bytes([other]) + token[place + 1 :]
                assert refusal(tokens, changed) in {"signature", "unknown_key"}

    def test_every_cut_and_every_doubled_byte_is_refused(self, tokens):
        token = tokens.issue(ADA, now=NOW)
        for place in range(len(token)):
            for changed in (
                token[:place],
                token[:place] + token[place + 1 :],
                token[: place + 1] + token[place:],
            ):
                assert refusal(tokens, changed) in {"signature", "unknown_key"}

    def test_bits_that_hold_nothing_are_refused(self, tokens):
        """The last character of each part carries bits that no byte holds: one token would have many texts."""
        parts = tokens.issue(ADA, now=NOW).split(".")
        for number, part in enumerate(parts):
            for last in set(ALPHABET) - {part[-1]}:
                changed = [*parts[:number], part[:-1] + last, *parts[number + 1 :]]
                assert refusal(tokens, ".".join(changed)) in {"signature", "unknown_key"}

    @pytest.mark.parametrize("padding", ["=", "==", "===", "%3D", " ", "\n", "\t", "\r\n", "\0", "AAAA"])
    def test_padding_is_refused(self, tokens, padding):
        parts = tokens.issue(ADA, now=NOW).split(".")
        for number, part in enumerate(parts):
            for changed in (part + padding, padding + part, part[:4] + padding + part[4:]):
                token = ".".join([*parts[:number], changed, *parts[number + 1 :]])
                assert refusal(tokens, token) in {"signature", "unknown_key"}

    def test_the_standard_alphabet_is_refused(self, tokens):
        """Of a hundred tokens some hold - or _, for which other base64 has + and /."""
        for _ in range(100):
            token = tokens.issue(ADA, now=NOW)
            changed = token.replace("-", "+").replace("_", "/")
            if changed != token:
                assert refusal(tokens, changed) in {"signature", "unknown_key"}

    @pytest.mark.parametrize(
        "token", ["", ".", "..", "...", "....", "a", "a.b", "a.b.c", " ", "null", "{}", "\u00e9", "\u00e9.\u00e9.\u00e9", "\udc80", "\uff0e"]
    )  # fmt: skip
    def test_what_is_no_token_is_refused(self, tokens, token):
        assert refusal(tokens, token) in {"malformed", "unknown_key"}

    def test_the_json_serialisations_are_refused(self, tokens):
        head, body, signature = tokens.issue(ADA, now=NOW).split(".")
        flat = {"protected": head, "payload": body, "signature": signature}
        general = {"payload": body, "signatures": [{"protected": head, "signature": signature}]}
        for form in (flat, general):
            assert refusal(tokens, json.dumps(form)) == "unknown_key"

    @pytest.mark.parametrize("size", [8193, 1_000_000, 10_000_000])
    def test_a_longer_token_is_refused_before_anything_is_done_with_it(self, tokens, size):
        """CVE-2025-65015: the header of a token was decoded whatever its length."""
        start = tokens.issue(ADA, now=NOW) + "."
        token = (start + "A" * (size - len(start))).encode()
        before = time.process_time()
        reasons = [refusal(tokens, token) for _ in range(100)]
        assert set(reasons) == {"malformed"}
        assert time.process_time() - before < 0.1  # a millisecond of work each, whatever the length

    @pytest.mark.parametrize("length", [8000, 8192])
    def test_a_token_of_the_largest_size_is_looked_at(self, bearers, length):
        assert refusal(bearers, "A" * length) == "unknown_key"

    @given(st.text(max_size=300) | st.binary(max_size=300))
    def test_nothing_but_a_refusal_comes_of_anything_else(self, token):
        assert refusal(COOKIES, token) in {"malformed", "unknown_key"}

    @given(st.text(max_size=100) | st.binary(max_size=100))
    def test_nothing_but_a_refusal_comes_of_anything_behind_a_genuine_header(self, rest):
        head = COOKIES.issue(ADA, now=NOW).partition(".")[0]
        token = f"{head}.{rest}" if isinstance(rest, str) else head.encode() + b"." + rest
        assert refusal(COOKIES, token) in {"malformed", "signature"}


@pytest.mark.requirement("TOK-01")
class TestTheSignatureComesFirst:
    """Whatever the claims say, or if there are none: without a signature the answer is about the signature."""

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param({}, id="no claims"),
            pytest.param({"iss": "https://evil.example"}, id="another issuer"),
            pytest.param({"aud": ""}, id="no audience"),
            pytest.param({"exp": 0}, id="expired"),
            pytest.param({"nbf": 2**40}, id="not yet"),
            pytest.param({"sub": 7}, id="a claim of another type"),
        ],
    )
    def test_claims_are_not_looked_at(self, tokens, body):
        token = tokens.issue(ADA, now=NOW)
        head, _, signature = token.split(".")
        altered = segment(body_of(token) | body if body else {})
        assert refusal(tokens, f"{head}.{altered}.{signature}") == "signature"
        assert refusal(tokens, f"{head}.{altered}.") == "signature"

    @pytest.mark.parametrize("body", ["", "!", "A", "bm8ganNvbg", "[" * 1000, "\u00ff"])
    def test_a_body_that_cannot_be_read_is_not_read(self, tokens, body):
        head, _, signature = tokens.issue(ADA, now=NOW).split(".")
        assert refusal(tokens, f"{head}.{body}.{signature}") in {"signature", "malformed"}

    def test_a_signature_of_another_token_does_not_count(self, tokens):
        one, other = (tokens.issue(ADA, now=NOW).split(".") for _ in range(2))
        assert refusal(tokens, f"{one[0]}.{one[1]}.{other[2]}") == "signature"
