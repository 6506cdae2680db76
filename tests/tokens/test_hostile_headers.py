"""Every header trick of RFC 8725 and of published CVEs, against both verifiers."""

import json
import socket
import sys

import pytest
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey

from thebes.encoding import decode, encode
from thebes.secret import Secret
from thebes.tokens.bearer_tokens import BearerTokens
from thebes.tokens.jws import hs256
from thebes.tokens.key_rotation import KeyRotation
from token_forging import ATTACKERS_JWK, attackers_keys, refusal, with_header
from token_making import ADA, NOW, body_of, header_of, mac_keys, seals, segment, signed_by_us


@pytest.mark.requirement("TOK-02")
@pytest.mark.parametrize(
    "alg",
    ["none", "None", "nOnE", "NONE", "noNE", "none ", "", None, ..., 0, [], ["HS256"], "hs256", "Hs256", "es256",
     "HS384", "HS512", "ES384", "ES512", "PS256", "RS256", "RS384", "RS512", "eddsa", "Ed25519", "HMAC", "A128KW",
     "PBES2-HS256+A128KW", "dir"],
)  # fmt: skip
def test_no_algorithm_but_the_keys_own_is_accepted(tokens, alg):
    for token in with_header(tokens, alg=alg):
        assert refusal(tokens, token) == "unknown_key"


@pytest.mark.requirement("TOK-03")
class TestKeyConfusion:
    def test_the_public_key_is_no_hmac_secret(self, bearers, eddsa_bearers):
        """CVE-2022-29217 (PyJWT), CVE-2024-33663 (python-jose)."""
        for tokens in (bearers, eddsa_bearers):
            for alg in ("HS256", "HS384", "HS512"):
                for token in with_header(tokens, alg=alg):
                    assert refusal(tokens, token) == "unknown_key"

    def test_nor_under_the_genuine_header(self, bearers, eddsa_bearers):
        for tokens in (bearers, eddsa_bearers):
            signed = tokens.issue(ADA, now=NOW).rpartition(".")[0]
            for key in attackers_keys(tokens):
                mac = hs256(Secret(key), signed.encode()).decode()
                for signature in (mac, mac + mac, (mac + mac)[:86]):
                    assert refusal(tokens, f"{signed}.{signature}") == "signature"

    def test_each_verifier_has_keys_of_one_kind(self, cookies, bearers, eddsa_bearers):
        assert {type(key) for key in cookies._keys.by_header.values()} == {Secret}
        for tokens, alg in ((bearers, "ES256"), (eddsa_bearers, "EdDSA")):
            assert {key.public.alg for key in tokens.keys.verifying.by_header.values()} == {alg}

    async def test_a_key_counts_under_its_own_header_only(self, store, keys, bearers):
        """Both algorithms in one set, while a service goes from one to the other."""
        old, old_key = bearers.issue(ADA, now=NOW), keys.in_use.private
        rotation = KeyRotation(store, seals("old"), algorithm="EdDSA")
        for now in (NOW + 1, NOW + 100):
            await rotation.advance(now=now)
            await keys.reload(now=now)
        new, new_key = bearers.issue(ADA, now=NOW + 100), keys.in_use.private

        assert (header_of(old)["alg"], header_of(new)["alg"]) == ("ES256", "EdDSA")
        assert all(bearers.verify(token, now=NOW + 100) for token in (old, new))
        for head, key in ((old, new_key), (new, old_key)):
            signed = ".".join(head.split(".")[:2])
            forged = f"{signed}.{key.sign(signed.encode()).decode()}"
            assert refusal(bearers, forged, now=NOW + 100) == "signature"


class Connections:
    """What the process does on the network, from an audit hook that stays for good but listens on demand."""

    def __init__(self) -> None:
        self.seen: list[str] | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, _: object) -> None:
        if self.seen is not None and event.startswith(("socket.", "urllib.", "http.client.", "open")):
            self.seen.append(event)


CONNECTIONS = Connections()


@pytest.mark.requirement("TOK-04")
@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"jwk": ATTACKERS_JWK}, id="jwk"),
        pytest.param({"jwk": ATTACKERS_JWK, "kid": "evil"}, id="jwk with its kid"),
        pytest.param({"jku": "http://127.0.0.1:9/jwks.json", "kid": "evil"}, id="jku"),
        pytest.param({"jku": "file:///etc/passwd"}, id="jku of a file"),
        pytest.param({"x5u": "http://127.0.0.1:9/cert.pem"}, id="x5u"),
        pytest.param({"x5c": ["MIIB" + "A" * 40]}, id="x5c"),
        pytest.param({"x5t": "AAAA", "x5t#S256": "AAAA"}, id="x5t"),
    ],
)
def test_no_token_brings_or_fetches_its_key(tokens, header):
    forged = list(with_header(tokens, alg="ES256", **header)) + list(with_header(tokens, **header))
    CONNECTIONS.seen = []
    try:
        reasons = {refusal(tokens, token) for token in forged}
        assert not isinstance(tokens, BearerTokens) or not any(map(tokens.names_our_key, forged))
    finally:
        seen, CONNECTIONS.seen = CONNECTIONS.seen, None
    assert reasons == {"unknown_key"}
    assert seen == []


def test_the_hook_would_hear_a_connection(unused_tcp_port):
    CONNECTIONS.seen = []
    with socket.socket() as client:
        client.connect_ex(("127.0.0.1", unused_tcp_port))
    seen, CONNECTIONS.seen = CONNECTIONS.seen, None
    assert "socket.connect" in seen


@pytest.mark.requirement("TOK-05")
@pytest.mark.parametrize(
    "kid",
    ["../../../../dev/null", "/etc/passwd", "' UNION SELECT 'key' --", "https://evil.example/key", "|id", "\x00",
     "k" * 129, "k" * 5000, "", None, ..., 1, ["old"], {"a": 1}, "OLD", " old", "old ", "old\n", "\u043eld", "evil"],
)  # fmt: skip
def test_a_kid_is_looked_up_exactly_or_not_at_all(tokens, kid):
    for token in with_header(tokens, kid=kid):
        assert refusal(tokens, token) in {"unknown_key", "malformed"}


@pytest.mark.requirement("TOK-06")
@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"crit": ["exp"], "exp": 1}, id="crit (CVE-2025-59420, CVE-2026-32597)"),
        pytest.param({"crit": ["x"]}, id="crit that names nothing"),
        pytest.param({"crit": []}, id="empty crit"),
        pytest.param({"crit": ["b64"], "b64": False}, id="b64=false with crit"),
        pytest.param({"b64": False}, id="b64=false"),
        pytest.param({"b64": True}, id="b64=true"),
        pytest.param({"zip": "DEF"}, id="zip"),
        pytest.param({"enc": "A256GCM"}, id="enc"),
        pytest.param({"cty": "JWT"}, id="nested"),
        pytest.param({"p2c": 2**31, "p2s": "AAAA", "alg": "PBES2-HS256+A128KW"}, id="p2c"),
    ],
)
def test_no_extension_is_understood(tokens, header):
    for token in with_header(tokens, **header):
        assert refusal(tokens, token) == "unknown_key"


@pytest.mark.requirement("TOK-06")
class TestEncryptedTokens:
    """No decryption takes place, so a bomb costs nothing: CVE-2024-33664, CVE-2025-65015."""

    @pytest.mark.parametrize("alg", ["dir", "A256KW", "PBES2-HS256+A128KW", "ECDH-ES"])
    def test_encryption_with_a_key_of_ours_is_refused(self, tokens, alg):
        header = {"alg": alg, "enc": "A256GCM", "zip": "DEF"}
        if alg == "PBES2-HS256+A128KW":
            header["p2c"] = 1000
        key = OctKey.import_key(mac_keys("old").derived("old").reveal())
        if alg == "ECDH-ES":
            key = ECKey.generate_key("P-256", private=True)
        bomb = jwe.encrypt_compact(header, b"\0" * 250_000, key, algorithms=[alg, "A256GCM", "DEF"])
        assert bomb.count(".") == 4
        assert refusal(tokens, bomb) == "unknown_key"

    def test_five_parts_under_a_genuine_header_are_refused(self, tokens):
        head, body, signature = tokens.issue(ADA, now=NOW).split(".")
        for token in (f"{head}.{body}.{body}.{body}.{signature}", f"{head}..{body}.{body}.{signature}"):
            assert refusal(tokens, token) == "signature"


@pytest.mark.requirement("TOK-10")
class TestTypes:
    @pytest.mark.parametrize(
        "typ",
        ["JWT", "jwt", "at+jwt", "session+jwt", "AT+JWT", "Session+JWT", "application/at+jwt",
         "application/session+jwt", "", None, ..., "JOSE", "secevent+jwt", "logout+jwt", "dpop+jwt", "refresh+jwt"],
    )  # fmt: skip
    def test_every_other_type_is_refused(self, tokens, typ):
        if typ == header_of(tokens.issue(ADA, now=NOW))["typ"]:
            return
        for token in with_header(tokens, typ=typ):
            assert refusal(tokens, token) == "unknown_key"

    def test_a_token_of_the_other_mode_is_refused(self, cookies, bearers):
        assert refusal(cookies, bearers.issue(ADA, now=NOW)) == "unknown_key"
        assert refusal(bearers, cookies.issue(ADA, now=NOW)) == "unknown_key"
        assert not bearers.names_our_key(cookies.issue(ADA, now=NOW))

    def test_a_cookie_token_signed_with_our_own_key_under_another_type_is_refused(self, cookies):
        key = mac_keys("old").derived("old")
        body = cookies.issue(ADA, now=NOW).split(".")[1]
        for typ in ("JWT", "at+jwt", "csrf+jwt", None):
            header = {"alg": "HS256", "kid": "old"} | ({} if typ is None else {"typ": typ})
            signed = f"{segment(json.dumps(header, separators=(',', ':')))}.{body}"
            assert refusal(cookies, f"{signed}.{hs256(key, signed.encode()).decode()}") == "unknown_key"


class TestHeadersOfTheSameMeaning:
    """Same members, other bytes, a genuine signature: the header is compared, not parsed."""

    @pytest.mark.parametrize(
        "header",
        [
            pytest.param('{"kid":"old","alg":"HS256","typ":"session+jwt"}', id="another order"),
            pytest.param('{"alg": "HS256", "kid": "old", "typ": "session+jwt"}', id="spaces"),
            pytest.param('{"alg":"HS256","kid":"old","typ":"session+jwt"}\n', id="a line end"),
            pytest.param(
                '{"alg":"HS256","alg":"HS256","kid":"old","typ":"session+jwt"}', id="a doubled member"
            ),
            pytest.param(
                '{"alg":"none","alg":"HS256","kid":"old","typ":"session+jwt"}', id="a contradiction"
            ),
            pytest.param('{"\\u0061lg":"HS256","kid":"old","typ":"session+jwt"}', id="an escape"),
            pytest.param('{"alg":"HS256","kid":"old","typ":"session+jwt","x":1}', id="a further member"),
            pytest.param('\ufeff{"alg":"HS256","kid":"old","typ":"session+jwt"}', id="a byte order mark"),
        ],
    )
    def test_are_refused(self, cookies, header):
        key, body = mac_keys("old").derived("old"), cookies.issue(ADA, now=NOW).split(".")[1]
        signed = f"{segment(header)}.{body}"
        assert refusal(cookies, f"{signed}.{hs256(key, signed.encode()).decode()}") == "unknown_key"

    def test_and_the_same_bytes_pass(self, cookies):
        assert cookies.verify(signed_by_us(cookies, body_of(cookies.issue(ADA, now=NOW))), now=NOW)


def test_the_twin_of_an_ecdsa_signature_has_the_ids_by_which_its_session_is_revoked(bearers):
    """(r, n - s) verifies too, so a revocation keyed by a token's text or its hash would miss this one."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    token = bearers.issue(ADA, now=NOW)
    signed, _, signature = token.rpartition(".")
    raw = decode(signature)
    twin = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    other = f"{signed}.{encode(twin)}"

    assert other != token
    one, two = bearers.verify(token, now=NOW), bearers.verify(other, now=NOW)
    assert (one.sid, one.jti, one.exp) == (two.sid, two.jti, two.exp)
