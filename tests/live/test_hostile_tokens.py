"""Tokens that nobody should believe, sent to a server: as a bearer and as a cookie they open nothing."""

import base64
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from account_api import SESSION, Service, accounts, document
from thebes import ConfigurationError, Security
from thebes.encoding import encode
from token_forging import ATTACKERS_JWK, with_header
from token_making import header_of, segment

pytestmark = pytest.mark.slow

NONES = ("none", "None", "NONE", "nOnE", "")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with accounts("socket", tmp_path_factory.mktemp("accounts")) as served:
        yield served


@pytest.fixture(scope="module")
def bearer(service: Service) -> str:
    member = service.member()
    token = document(member.sign_in("ada@example.com", mode="bearer"))["access_token"]
    assert opens(service, token) == (200, 401)  # where it belongs, and there only
    return str(token)


@pytest.fixture(scope="module")
def cookie(service: Service, bearer: str) -> str:
    member = service.caller()
    member.sign_in("ada@example.com")
    token = member.cookies[SESSION]
    assert opens(service, token) == (401, 200)
    return token


def opens(service: Service, token: str) -> tuple[int, int]:
    """Return what a token is answered as a bearer, and as a session cookie."""
    program = service.caller().get("/who", Authorization=f"Bearer {token}")
    browser = service.caller().get("/who", Cookie=f"{SESSION}={token}")
    return program.status, browser.status


def claims_of(token: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return read


def genuinely_signed(service: Service, token: str, **changes: object) -> str:
    """Return a token with other claims that our own key has signed."""
    claims = {name: value for name, value in (claims_of(token) | changes).items() if value is not ...}
    head = token.partition(".")[0]
    signed = f"{head}.{segment(json.dumps(claims, separators=(',', ':')))}"
    key = service.membership.bearer_tokens.keys.in_use.private
    return f"{signed}.{key.sign(signed.encode()).decode()}"


def forged(service: Service, **header: object) -> Iterator[str]:
    for tokens in (service.membership.bearer_tokens, service.membership._cookie_tokens):
        yield from with_header(tokens, **header)


@pytest.mark.requirement("TOK-01", by="live")
@pytest.mark.parametrize("kind", ["bearer", "cookie"])
def test_no_claim_counts_before_its_signature(service: Service, request: pytest.FixtureRequest, kind: str):
    token = request.getfixturevalue(kind)
    head, _, signature = token.split(".")
    for claims in (
        {"roles": ["admin"]},
        {"sub": "0192f0c1-7c1e-7d6a-9b1e-000000000000"},
        {"exp": 9_999_999_999},
    ):
        body = segment(json.dumps(claims_of(token) | claims, separators=(",", ":")))
        assert opens(service, f"{head}.{body}.{signature}") == (401, 401)
    for changed in (
        f"{token[:-1]}{'A' if token[-1] != 'A' else 'Q'}",
        token[:-4],
        f"{head}.{body}.",
        token + "A",
    ):
        assert opens(service, changed) == (401, 401)


@pytest.mark.requirement("TOK-02", by="live")
@pytest.mark.parametrize("algorithm", [*NONES, "hs256", "es256", "HS512", ...])
def test_other_algorithms_and_none_at_all_are_refused(service: Service, bearer: str, algorithm: object):
    for token in forged(service, alg=algorithm):
        assert opens(service, token) == (401, 401)


@pytest.mark.requirement("TOK-03", by="live")
@pytest.mark.parametrize("algorithm", ["HS256", "ES256"])
def test_a_public_key_is_no_hmac_secret_and_no_key_serves_two_algorithms(
    service: Service, bearer: str, cookie: str, algorithm: str
):
    kid = header_of(bearer if algorithm == "HS256" else cookie)["kid"]
    for token in forged(service, alg=algorithm, kid=kid):
        assert opens(service, token) == (401, 401)


@pytest.mark.requirement("TOK-04", by="live")
def test_a_key_in_the_header_is_neither_taken_nor_fetched(service: Service, bearer: str):
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0.2)
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/keys"
        for header in ({"jku": url}, {"x5u": url}, {"jwk": ATTACKERS_JWK}, {"x5c": ["MIIB"]}):
            for token in forged(service, **header):
                assert opens(service, token) == (401, 401)
        with pytest.raises(TimeoutError):
            elsewhere.accept()


@pytest.mark.requirement("TOK-08", by="live")
def test_bearers_are_es256_cookies_hs256_and_rsa_is_not_to_be_had(service: Service, bearer: str, cookie: str):
    assert header_of(bearer)["alg"] == "ES256"
    assert header_of(cookie)["alg"] == "HS256"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for kid in (header_of(bearer)["kid"], header_of(cookie)["kid"]):
        head = segment(json.dumps({"alg": "RS256", "kid": kid, "typ": "at+jwt"}, separators=(",", ":")))
        signed = f"{head}.{bearer.split('.')[1]}"
        signature = encode(key.sign(signed.encode(), padding.PKCS1v15(), SHA256()))
        assert opens(service, f"{signed}.{signature}") == (401, 401)
    for algorithm in ("RS256", "RS384", "RS512", "HS256", "none"):
        with pytest.raises(ConfigurationError, match="signing"):
            Security(signing=algorithm)  # type: ignore[arg-type]


@pytest.mark.requirement("TOK-11", by="live")
def test_each_claim_is_needed_and_the_issuer_is_compared_whole(service: Service, bearer: str, tmp_path: Path):
    assert opens(service, genuinely_signed(service, bearer)) == (200, 401)
    for name in ("iss", "exp", "aud", "sub", "client_id", "iat", "jti"):
        assert opens(service, genuinely_signed(service, bearer, **{name: ...})) == (401, 401)
    issuer = claims_of(bearer)["iss"]
    for other in (issuer[:-1], issuer + "/", issuer.upper(), issuer.replace("s", "5", 1)):
        assert opens(service, genuinely_signed(service, bearer, iss=other)) == (401, 401)
    with accounts("socket", tmp_path, public_url="https://other.example") as elsewhere:
        elsewhere.member()
        theirs = document(elsewhere.caller().sign_in("ada@example.com", mode="bearer"))["access_token"]
        assert opens(elsewhere, theirs)[0] == 200
    assert opens(service, theirs) == (401, 401)


@pytest.mark.requirement("TOK-12", by="live")
@pytest.mark.parametrize("audience", [..., "", "https://other.example", ["https://other.example"], [], None])
def test_a_token_for_another_service_is_refused(service: Service, bearer: str, audience: object):
    assert opens(service, genuinely_signed(service, bearer, aud=audience)) == (401, 401)
