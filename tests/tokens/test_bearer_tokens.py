"""Tokens that others can verify: the published keys, other libraries, and whose token it is."""

import asyncio
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError
from joserfc.jwk import KeySet

from thebes.encoding import encode
from thebes.errors import ConfigurationError
from thebes.tokens.bearer_tokens import BearerTokens
from thebes.tokens.claims import SessionClaims, TokenTooLarge
from thebes.tokens.jws import header_segment
from thebes.tokens.key_rotation import KeyRotation
from thebes.tokens.signing_keys import SigningKeys
from token_forging import refusal
from token_making import ADA, ISSUER, NOW, KeysInMemory, body_of, header_of, seals


@pytest.fixture(params=["bearers", "eddsa_bearers"])
def tokens(request: pytest.FixtureRequest) -> BearerTokens:
    found: BearerTokens = request.getfixturevalue(request.param)
    return found


class TestATokenOfASession:
    def test_says_what_the_session_says(self, tokens):
        claims = tokens.verify(tokens.issue(ADA, now=NOW), now=NOW + 1)

        assert (claims.sub, claims.sid, claims.client_id) == (ADA.sub, ADA.sid, ADA.client_id)
        assert (claims.scope, claims.roles, claims.epoch) == (ADA.scope, ADA.roles, ADA.epoch)
        assert (claims.iss, claims.aud, claims.exp - claims.iat) == (ISSUER, ISSUER, 600)

    @pytest.mark.requirement("TOK-08", "TOK-10")
    def test_is_signed_by_an_asymmetric_key_and_explicitly_typed(self, bearers, eddsa_bearers):
        for tokens, alg in ((bearers, "ES256"), (eddsa_bearers, "EdDSA")):
            header = header_of(tokens.issue(ADA, now=NOW))
            assert header == {"alg": alg, "kid": tokens.keys.in_use.kid, "typ": "at+jwt"}

    def test_writes_scope_as_oauth_does(self, tokens):
        """RFC 9068, 2.2.3 and RFC 8693, 4.2: one text, separated by spaces."""
        assert body_of(tokens.issue(ADA, now=NOW))["scope"] == "notes:read notes:write"

    def test_that_no_verifier_would_read_is_not_issued(self, bearers):
        scope = frozenset(f"documents:{number:05}:write" for number in range(300))
        session = SessionClaims(
            sub="ada", sid="s1", client_id="cli", auth_time=NOW, amr=("pwd",), epoch=0, scope=scope
        )
        with pytest.raises(TokenTooLarge) as refused:
            bearers.issue(session, now=NOW)
        assert refused.value.size > refused.value.limit == 8192

    async def test_needs_a_key_that_was_loaded(self):
        tokens = BearerTokens(SigningKeys(KeysInMemory(), seals("old")), issuer=ISSUER)
        with pytest.raises(ConfigurationError, match="no signing key"):
            tokens.issue(ADA, now=NOW)


class TestOtherLibraries:
    """joserfc reads our tokens with nothing but the published document, and we refuse what it makes."""

    @pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
    def test_verify_our_tokens_through_the_key_set(self, tokens):
        document = json.loads(json.dumps(tokens.jwks(now=NOW)))
        alg = document["keys"][0]["alg"]
        read = jwt.decode(tokens.issue(ADA, now=NOW), KeySet.import_key_set(document), algorithms=[alg])

        assert read.header["typ"] == "at+jwt"
        assert read.claims["sub"] == ADA.sub
        jwt.JWTClaimsRegistry(now=int(NOW), iss={"value": ISSUER}, aud={"value": ISSUER}).validate(
            read.claims
        )

    @pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
    def test_refuse_our_tokens_when_they_were_altered(self, tokens):
        keys = KeySet.import_key_set(tokens.jwks(now=NOW))
        head, _, signature = tokens.issue(ADA, now=NOW).split(".")
        other = tokens.issue(ADA, now=NOW + 1).split(".")[1]
        with pytest.raises(BadSignatureError):
            jwt.decode(f"{head}.{other}.{signature}", keys, algorithms=["ES256", "EdDSA"])

    def test_do_not_take_a_cookie_token(self, bearers, cookies):
        with pytest.raises((JoseError, ValueError)):
            jwt.decode(
                cookies.issue(ADA, now=NOW),
                KeySet.import_key_set(bearers.jwks(now=NOW)),
                algorithms=["ES256", "HS256"],
            )


class TestTheKeySet:
    def test_holds_public_keys_only_each_with_its_id_algorithm_and_use(self, tokens):
        (key,) = tokens.jwks(now=NOW)["keys"]
        assert key["kid"] == tokens.keys.in_use.kid
        assert key["use"] == "sig"
        members = {"ES256": {"kty", "crv", "x", "y"}, "EdDSA": {"kty", "crv", "x"}}[key["alg"]]
        assert set(key) == members | {"kid", "alg", "use"}

    def test_holds_what_verifies_and_no_longer(self):
        async def through_a_rotation() -> list[int]:
            store = KeysInMemory()
            keys, rotation = SigningKeys(store, seals("old")), KeyRotation(store, seals("old"))
            tokens = BearerTokens(keys, issuer=ISSUER)
            await keys.load(now=NOW)
            counts = [len(tokens.jwks(now=NOW)["keys"])]
            for now in (NOW + 1, NOW + 100, NOW + 200):
                step = await rotation.advance(now=now)
                await keys.reload(now=now)
                counts.append(len(tokens.jwks(now=now)["keys"]))
            return [*counts, len(tokens.jwks(now=step.due_at)["keys"])]

        assert asyncio.run(through_a_rotation()) == [1, 2, 2, 2, 1]

    def test_shows_nothing_of_a_private_key(self, bearers):
        private = bearers.keys.in_use.private._key
        assert private.curve.name == SECP256R1.name
        secret = private.private_numbers().private_value.to_bytes(32, "big")
        assert encode(secret) not in json.dumps(bearers.jwks(now=NOW))


def stranger(number: int = 0) -> str:
    """Return a token of our form under a key that we don't have."""
    head = header_segment(alg="ES256", kid=f"stranger{number}", typ="at+jwt").decode()
    return f"{head}.e30.c2ln"


class TestWhoseTokenItIs:
    def test_a_token_with_one_of_our_headers_is_ours_whatever_follows(self, bearers):
        head = bearers.issue(ADA, now=NOW).partition(".")[0]
        assert bearers.names_our_key(f"{head}.e30.c2ln")
        assert bearers.names_our_key(f"{head}.e30.c2ln".encode())
        assert refusal(bearers, f"{head}.e30.c2ln") == "signature"

    @pytest.mark.parametrize(
        "token", ["", "opaque", "eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "a" * 100_000, "\u00e9"]
    )
    def test_another_token_is_the_apps(self, bearers, token):
        assert not bearers.names_our_key(token)

    async def test_a_token_under_a_key_that_another_process_promoted_is_recognized_at_once(
        self, store, bearers
    ):
        other = SigningKeys(store, seals("old"))
        await KeyRotation(store, seals("old")).replace(now=NOW + 10)
        await other.load(now=NOW + 10)
        token = BearerTokens(other, issuer=ISSUER).issue(ADA, now=NOW + 10)

        assert not bearers.names_our_key(token)
        assert await bearers.recognizes(token, now=NOW + 10)
        assert bearers.verify(token, now=NOW + 10).sub == ADA.sub

    async def test_strangers_cause_one_reading_a_second_in_all(self, store, bearers):
        before = store.readings
        for tenth in range(100):
            assert not await bearers.recognizes(stranger(tenth), now=NOW + 5 + tenth / 10)
        assert store.readings - before == 10

    async def test_strangers_that_come_together_wait_for_one_reading(self, store, bearers):
        before = store.readings
        answers = await asyncio.gather(*(bearers.recognizes(stranger(n), now=NOW + 5) for n in range(50)))
        assert answers == [False] * 50
        assert store.readings - before == 1

    @pytest.mark.parametrize(
        "token",
        ["", "opaque", "sk_live_0123456789", "a.b.c", "eyJ0eXAiOiJKV1QifQ.e30.c2ln", stranger() + ".x", stranger() + "A" * 8192,
         stranger()[:-5], "\u00e9"],
    )  # fmt: skip
    async def test_a_token_of_another_form_costs_no_reading(self, store, bearers, token):
        """Keys of an app's own API are no reason to ask the store."""
        before = store.readings
        assert not bearers.may_have_newer_keys(token, now=NOW + 5)
        assert not await bearers.recognizes(token, now=NOW + 5)
        assert store.readings == before

    async def test_whether_keys_may_be_newer_is_said_without_asking(self, bearers):
        token = stranger().encode()
        assert not bearers.may_have_newer_keys(token, now=NOW + 0.9)
        assert bearers.may_have_newer_keys(token, now=NOW + 1)
        await bearers.reload(now=NOW + 1)
        assert not bearers.may_have_newer_keys(token, now=NOW + 1)

    async def test_whoever_comes_during_a_reading_waits_for_it(self, store, bearers):
        """It may bring the key of just this token; a second reading isn't begun."""
        answers = asyncio.Event()

        class Slow(KeysInMemory):
            async def keys(self):
                self.readings += 1
                await answers.wait()
                return await store.keys()

        slow = bearers.keys._store = Slow()
        await KeyRotation(store, seals("old")).replace(now=NOW + 5)
        other = SigningKeys(store, seals("old"))
        await other.load(now=NOW + 5)
        token = BearerTokens(other, issuer=ISSUER).issue(ADA, now=NOW + 5)
        asking = []
        for tenth in range(10):
            asking.append(asyncio.create_task(bearers.recognizes(token, now=NOW + 5 + tenth / 10)))
            for _ in range(3):
                await asyncio.sleep(0)
        assert not any(one.done() for one in asking)
        answers.set()
        assert await asyncio.gather(*asking) == [True] * 10
        assert slow.readings == 1

    async def test_a_token_that_was_verified_is_known_until_the_keys_change(self, store, bearers):
        token = bearers.issue(ADA, now=NOW)
        assert not bearers.has_seen(token)
        bearers.verify(token, now=NOW)
        assert bearers.has_seen(token)
        assert bearers.has_seen(token.encode())
        await KeyRotation(store, seals("old")).advance(now=NOW + 5)
        await bearers.keys.reload(now=NOW + 5)
        assert not bearers.has_seen(token)
        assert bearers.verify(token, now=NOW + 5)

    async def test_a_known_header_costs_no_reading(self, store, bearers):
        before = store.readings
        assert await bearers.recognizes(bearers.issue(ADA, now=NOW), now=NOW + 5)
        assert store.readings == before

    async def test_a_clock_that_was_set_back_does_not_stop_the_readings(self, store, bearers):
        before = store.readings
        await bearers.recognizes(stranger(), now=NOW - 86_400)
        assert store.readings == before + 1

    async def test_while_the_store_is_away_a_stranger_is_not_ours_and_somebody_is_told(self):
        told: list[tuple[str | None, str]] = []
        store = KeysInMemory()
        keys = SigningKeys(store, seals("old"), report=lambda kid, problem: told.append((kid, problem)))
        await keys.load(now=NOW)
        tokens, store.is_away = BearerTokens(keys, issuer=ISSUER), True

        assert not await tokens.recognizes(stranger(), now=NOW + 5)
        assert told == [(None, "the store is away")]
        assert tokens.verify(tokens.issue(ADA, now=NOW), now=NOW)

    async def test_a_request_that_is_given_up_does_not_take_the_reading_from_the_others(self, store, bearers):
        waiting = [asyncio.create_task(bearers.recognizes(stranger(n), now=NOW + 5)) for n in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        assert await asyncio.gather(*waiting[1:]) == [False, False]
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
