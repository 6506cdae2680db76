"""Tokens that only this service reads: made, verified, rotated, and kept small enough for a cookie."""

import hmac
import time

import pytest

from thebes.encoding import encode
from thebes.errors import ConfigurationError
from thebes.secret import Secret
from thebes.secrets.keyring import Keyring, Purpose
from thebes.secrets.strength import SAMPLE_KEYS, SecretKey, parse_secret_keys, strength_problems
from thebes.tokens.claims import SessionClaims, TokenTooLarge
from thebes.tokens.cookie_tokens import CookieTokens
from token_forging import refusal
from token_making import ADA, ISSUER, NOW, body_of, header_of, mac_keys, ring


class TestATokenOfASession:
    def test_says_what_the_session_says(self, cookies):
        claims = cookies.verify(cookies.issue(ADA, now=NOW), now=NOW)

        for name in ("sub", "sid", "client_id", "auth_time", "amr", "acr", "epoch", "scope", "roles"):
            assert getattr(claims, name) == getattr(ADA, name)
        assert (claims.iss, claims.aud) == (ISSUER, ISSUER)
        assert (claims.iat, claims.nbf, claims.exp) == (NOW, NOW, NOW + 600)

    def test_may_come_as_text_or_as_bytes(self, cookies):
        token = cookies.issue(ADA, now=NOW)
        assert cookies.verify(token, now=NOW) == cookies.verify(token.encode(), now=NOW)

    def test_states_a_level_of_authentication_where_there_is_one(self, cookies):
        ada = SessionClaims(
            sub="ada", sid="s1", client_id="thebes", auth_time=NOW, amr=("pwd", "otp"), epoch=0, acr="aal2"
        )
        token = cookies.issue(ada, now=NOW)
        assert cookies.verify(token, now=NOW).acr == "aal2"
        assert "acr" not in body_of(cookies.issue(ADA, now=NOW))

    @pytest.mark.requirement("TOK-08", "TOK-10")
    def test_is_hs256_under_a_key_of_its_own_and_explicitly_typed(self, cookies):
        token = cookies.issue(ADA, now=NOW)
        signed, _, signature = token.rpartition(".")
        key = mac_keys("old").derived("old").reveal()

        assert header_of(token) == {"alg": "HS256", "kid": "old", "typ": "session+jwt"}
        assert len(key) == 32
        assert signature == encode(hmac.digest(key, signed.encode(), "sha256"))

    def test_is_recognized_by_its_header(self, cookies, bearers):
        token = cookies.issue(ADA, now=NOW)
        assert cookies.names_our_key(token)
        assert cookies.names_our_key(token.encode())
        assert not cookies.names_our_key(bearers.issue(ADA, now=NOW))

    def test_uses_the_clock_where_no_time_is_given(self, cookies):
        before = time.time()
        claims = cookies.verify(cookies.issue(ADA))
        assert int(before) <= claims.iat <= time.time()


class TestKeysInRotation:
    """`old`, then `old,new`, then `new,old`, then `new`: processes one step apart read each other's tokens."""

    def tokens(self, *ids: str) -> CookieTokens:
        return CookieTokens(mac_keys(*ids), issuer=ISSUER)

    @pytest.mark.parametrize(
        ("maker", "reader", "counts"),
        [
            pytest.param(("old",), ("old", "new"), True, id="before, read once the new key is appended"),
            pytest.param(("old", "new"), ("old",), True, id="appended, read by a process that lags behind"),
            pytest.param(
                ("old", "new"), ("new", "old"), True, id="appended, read once the new key is promoted"
            ),
            pytest.param(("new", "old"), ("old", "new"), True, id="promoted, read by a process that lags"),
            pytest.param(("new", "old"), ("new",), True, id="promoted, read once the old key is retired"),
            pytest.param(("old", "new"), ("new",), False, id="a retired key is refused"),
            pytest.param(("new", "old"), ("old",), False, id="a key that a process doesn't know is refused"),
        ],
    )
    def test_a_token_counts_between_neighbouring_steps(self, maker, reader, counts):
        token = self.tokens(*maker).issue(ADA, now=NOW)
        if counts:
            assert self.tokens(*reader).verify(token, now=NOW).sub == ADA.sub
        else:
            assert refusal(self.tokens(*reader), token) == "unknown_key"

    @pytest.mark.requirement("TOK-05")
    def test_a_token_counts_under_the_key_that_it_names_only(self):
        """Same body, same type, the other key's header: no key but the named one is tried."""
        both = self.tokens("old", "new")
        token = both.issue(ADA, now=NOW)
        other = self.tokens("new").issue(ADA, now=NOW).partition(".")[0]
        assert refusal(both, f"{other}.{token.partition('.')[2]}") == "signature"


class TestWhatCannotBeSetUp:
    @pytest.mark.requirement("TOK-09")
    @pytest.mark.parametrize(
        ("keys", "problem"),
        [
            pytest.param("k1:" + "Zx9_Tq3-" * 5, "30 bytes long, at least 32", id="too short"),
            pytest.param(
                "k1:" + "correct-horse-battery-staple-correct-horseA", "typed text", id="a passphrase"
            ),
            pytest.param("k1:" + "A" * 43, "repeats or counts", id="no random value"),
            *(pytest.param(f"k1:{one}", "sample value", id=f"sample {one[:8]}") for one in SAMPLE_KEYS),
        ],
    )
    def test_keys_that_are_short_typed_or_printed_somewhere_are_refused(self, keys, problem):
        assert any(problem in found for found in strength_problems(parse_secret_keys(keys), other_values={}))

    @pytest.mark.requirement("TOK-09")
    @pytest.mark.parametrize("length", [0, 8, 31])
    def test_no_shorter_key_signs(self, length):
        class ShortKeys:
            ids = ("k1",)

            def derived(self, key_id: str) -> Secret:
                return Secret(bytes(range(length)))

        with pytest.raises(ConfigurationError, match="at least 32 random bytes"):
            CookieTokens(ShortKeys(), issuer=ISSUER)
        if length:
            with pytest.raises(ConfigurationError, match=f"{length} bytes long"):
                Keyring([SecretKey("k1", Secret(bytes(range(length))))])

    def test_no_key_at_all_is_refused(self):
        class NoKeys:
            ids = ()

            def derived(self, key_id: str) -> Secret:
                raise AssertionError

        with pytest.raises(ConfigurationError, match="need keys"):
            CookieTokens(NoKeys(), issuer=ISSUER)

    def test_keys_of_a_purpose_that_seals_are_not_given_out_for_macs(self):
        """Each purpose has a key of its own: what seals signing keys signs nothing."""
        derived = {ring("old").derived(purpose, "old") for purpose in Purpose}
        assert len(derived) == len(Purpose)


class TestSize:
    def granted(self, count: int) -> SessionClaims:
        scope = frozenset(f"documents:{number:04}:write" for number in range(count))
        return SessionClaims(
            sub="ada", sid="s1", client_id="thebes", auth_time=NOW, amr=("pwd",), epoch=0, scope=scope
        )

    def test_a_cookie_that_browsers_would_drop_raises_when_it_is_issued(self):
        """RFC 6265bis, 5.6: 4096 bytes for name and value; one more and the browser says nothing."""
        tokens = CookieTokens(mac_keys("old"), issuer=ISSUER, cookie_name="__Host-thebes-session-8443")
        most = self.most_granted(tokens)
        token = tokens.issue(self.granted(most), now=NOW)
        assert 4060 < len("__Host-thebes-session-8443") + len(token) <= 4096
        with pytest.raises(TokenTooLarge, match="grant fewer roles and scopes") as refused:
            tokens.issue(self.granted(most + 1), now=NOW)
        assert refused.value.size > refused.value.limit == 4096

    def most_granted(self, tokens: CookieTokens) -> int:
        for count in range(200):
            try:
                tokens.issue(self.granted(count + 1), now=NOW)
            except TokenTooLarge:
                return count
        raise AssertionError("no limit")

    def test_the_name_counts(self):
        short, long = (
            CookieTokens(mac_keys("old"), issuer=ISSUER, cookie_name="s" * length) for length in (1, 400)
        )
        assert self.most_granted(short) > self.most_granted(long)

    def test_the_largest_token_is_read_again(self, cookies):
        token = cookies.issue(self.granted(120), now=NOW)
        assert len(token) > 3500
        assert len(cookies.verify(token, now=NOW).scope) == 120
