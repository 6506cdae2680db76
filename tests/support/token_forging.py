"""Forge access tokens: other headers, other keys, and what comes of them."""

import json
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from thebes.encoding import decode
from thebes.secret import Secret
from thebes.tokens.bearer_tokens import BearerTokens
from thebes.tokens.claims import InvalidToken
from thebes.tokens.cookie_tokens import CookieTokens
from thebes.tokens.jws import PrivateKey, hs256
from token_making import ADA, NOW, header_of, segment

Verifier = CookieTokens | BearerTokens

ATTACKER = PrivateKey(generate_private_key(SECP256R1()))
ATTACKERS_JWK = ATTACKER.public.jwk("evil")


def refusal(tokens: Verifier, token: str | bytes, *, now: float = NOW) -> str:
    """Return why a token is refused; it must be."""
    with pytest.raises(InvalidToken) as refused:
        tokens.verify(token, now=now)
    return refused.value.reason


def with_header(tokens: Verifier, **changes: object) -> Iterator[str]:
    """Yield the genuine token under another header, signed in each way that an attacker can try."""
    token = tokens.issue(ADA, now=NOW)
    _, body, signature = token.split(".")
    header = {name: value for name, value in (header_of(token) | changes).items() if value is not ...}
    head = segment(json.dumps(header, separators=(",", ":")))
    assert head != token.partition(".")[0]
    yield f"{head}.{body}.{signature}"
    yield f"{head}.{body}."
    yield f"{head}.{body}"
    for key in attackers_keys(tokens):
        yield f"{head}.{body}.{hs256(Secret(key), f'{head}.{body}'.encode()).decode()}"
    yield f"{head}.{body}.{ATTACKER.sign(f'{head}.{body}'.encode()).decode()}"


def attackers_keys(tokens: Verifier) -> list[bytes]:
    """Return what may be taken for an HMAC key: nothing, weak keys, and our public key in each of its forms."""
    keys = [b"", b"secret", bytes(32), b"null"]
    if isinstance(tokens, BearerTokens):
        public = tokens.keys.in_use.private.public
        keys.append(json.dumps(tokens.jwks(now=NOW)["keys"][0]).encode())
        keys.append(decode(public.jwk("1")["x"]))
        keys += [
            public._key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
            for encoding in (Encoding.PEM, Encoding.DER)
        ]
    return keys
