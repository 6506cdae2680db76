"""What is remembered of verified tokens: bounded, by the exact bytes, and never past its time or its key."""

import sys
import threading

import pytest

from thebes.tokens.cache import CACHED_TOKENS, VerifiedTokens
from thebes.tokens.claims import InvalidToken, Opened
from thebes.tokens.cookie_tokens import CookieTokens
from thebes.tokens.jws import KeySet
from token_making import ADA, ISSUER, NOW, mac_keys

CLAIMS = CookieTokens(mac_keys("old"), issuer=ISSUER).verify(
    CookieTokens(mac_keys("old"), issuer=ISSUER).issue(ADA, now=NOW), now=NOW
)
KEYS = KeySet({b"head": 1})


class Opening:
    """Opens any token but `bad`, and counts how often it was asked."""

    def __init__(self, *, latest: float = NOW + 600) -> None:
        self.asked: list[bytes] = []
        self.latest = latest

    def __call__(self, token: bytes, keys: KeySet[int]) -> Opened:
        self.asked.append(token)
        if token == b"bad":
            raise InvalidToken("signature")
        return Opened(CLAIMS, NOW, self.latest)


@pytest.fixture
def opening() -> Opening:
    return Opening()


@pytest.fixture
def verified(opening: Opening) -> VerifiedTokens[KeySet[int]]:
    return VerifiedTokens(opening, max_bytes=100, size=3)


def test_a_token_is_opened_once(verified, opening):
    answers = [verified.verify(token, KEYS, NOW) for token in (b"one", "one", bytes(bytearray(b"one")))]
    assert all(answer is CLAIMS for answer in answers)
    assert opening.asked == [b"one"]


def test_another_text_is_opened_by_itself(verified, opening):
    for token in (b"one", b"onE", b"one=", b"on"):
        verified.verify(token, KEYS, NOW)
    assert opening.asked == [b"one", b"onE", b"one=", b"on"]


def test_a_refused_token_is_not_kept(verified, opening):
    """Else a stranger's tokens would push out those of users."""
    verified.verify(b"one", KEYS, NOW)
    for _ in range(10):
        with pytest.raises(InvalidToken, match="signature"):
            verified.verify(b"bad", KEYS, NOW)
    assert len(verified) == 1
    verified.verify(b"one", KEYS, NOW)
    assert opening.asked.count(b"one") == 1


def test_the_least_used_is_forgotten_first(verified, opening):
    for token in (b"one", b"two", b"three", b"one", b"four", b"one"):
        verified.verify(token, KEYS, NOW)
    assert len(verified) == 3
    assert opening.asked == [b"one", b"two", b"three", b"four"]
    verified.verify(b"two", KEYS, NOW)
    assert opening.asked[-1] == b"two"


def test_a_hit_checks_the_time(verified, opening):
    assert verified.verify(b"one", KEYS, NOW + 599.9) is CLAIMS
    for now, reason in ((NOW + 600, "expired"), (NOW - 0.1, "not_yet")):
        with pytest.raises(InvalidToken, match=reason):
            verified.verify(b"one", KEYS, now)
    assert opening.asked == [b"one"]


def test_other_keys_are_asked_anew_even_if_they_hold_the_same(verified, opening):
    """A key that was taken away must not live on in what it once verified."""
    verified.verify(b"one", KEYS, NOW)
    verified.verify(b"one", KeySet(dict(KEYS.by_header)), NOW)
    assert opening.asked == [b"one", b"one"]


@pytest.mark.parametrize("token", ["a" * 101, b"a" * 101])
def test_a_token_that_is_too_long_is_not_even_hashed(verified, opening, token):
    with pytest.raises(InvalidToken, match="malformed"):
        verified.verify(token, KEYS, NOW)
    assert opening.asked == []


def test_text_outside_of_ascii_becomes_no_token(verified, opening):
    verified.verify("caf\u00e9\udc80", KEYS, NOW)
    assert opening.asked == [b"caf??"]


def test_what_is_held_can_be_asked_for(verified):
    assert not verified.holds(b"one", KEYS)
    verified.verify(b"one", KEYS, NOW)
    assert verified.holds(b"one", KEYS)
    assert verified.holds("one", KEYS)
    assert not verified.holds(b"one", KeySet(dict(KEYS.by_header)))


def test_ten_thousand_tokens_are_kept_and_no_more():
    tokens = CookieTokens(mac_keys("old"), issuer=ISSUER)
    made = [tokens.issue(ADA, now=NOW).encode() for _ in range(CACHED_TOKENS + 500)]
    for token in made:
        tokens.verify(token, now=NOW)
    assert len(tokens._verified) == CACHED_TOKENS == 10_000


def test_threads_may_share_it():
    tokens = CookieTokens(mac_keys("old"), issuer=ISSUER)
    tokens._verified = VerifiedTokens(tokens._open, max_bytes=4000, size=5)
    made = [tokens.issue(ADA, now=NOW) for _ in range(20)]
    expected = {
        token: CookieTokens(mac_keys("old"), issuer=ISSUER).verify(token, now=NOW).jti for token in made
    }
    wrong: list[object] = []

    def read() -> None:
        for _ in range(100):
            for token in made:
                if tokens.verify(token, now=NOW).jti != expected[token]:
                    wrong.append(token)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
    assert len(tokens._verified) == 5
