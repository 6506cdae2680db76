"""JSON Web Signatures as far as we write them: compact, three algorithms, each bound to its own kind of key.

No header is ever parsed. A verifier holds the header segments that it writes, byte for byte, and each of
them names one key: so a stranger's `alg`, `kid`, `jku`, `jwk` or `crit` decides nothing (RFC 8725, 3.1 and
3.10). There is no algorithm `none`, no encryption and no key that a token brings along.

Does not protect: an ECDSA signature (r, s) has a twin (r, n - s), so one token has two texts. Therefore
nothing may be keyed by a token's text that must hold for the token: revocations name `sid` or `jti`.

Sources: RFC 7515 (JWS); RFC 7518, 3.2 and 3.4 (HS256, ES256); RFC 8037, 3.1 (EdDSA); RFC 7517 (JWK).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hmac import digest
from typing import Generic, Literal, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from thebes.encoding import decode, encode
from thebes.errors import ConfigurationError
from thebes.secret import Secret

Algorithm = Literal["ES256", "EdDSA"]

# How each of our header segments begins, under whatever key: base64url of `{"alg":`, but for its last bits.
HEADER_START = b"eyJhbGciO"
MAX_TOKEN_BYTES = 8192  # TOK-07; what servers allow for a whole header field
COORDINATE_BYTES = 32  # of P-256; a signature is two numbers of that length (RFC 7518, 3.4)
SIGNATURE_CHARACTERS = 86  # 64 bytes as base64url, for both algorithms

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")  # TOK-05
_ES256 = ECDSA(SHA256())

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True, eq=False)
class KeySet(Generic[Key]):
    """Verification keys by the header segment that names each. No two sets are equal, whatever they hold."""

    by_header: Mapping[bytes, Key]

    def names(self, token: str | bytes) -> bool:
        """Say whether a token's header segment is one of these; that alone proves nothing."""
        return as_bytes(token).partition(b".")[0] in self.by_header


def as_bytes(token: str | bytes) -> bytes:
    """Return a token's bytes; what isn't ASCII becomes `?`, which stands in no token of ours."""
    return token if isinstance(token, bytes) else token.encode("ascii", "replace")


def header_segment(*, alg: str, kid: str, typ: str) -> bytes:
    """Return the one header that we write for a key and a kind of token, as base64url.

    >>> header_segment(alg="HS256", kid="k1", typ="session+jwt")
    b'eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIiwidHlwIjoic2Vzc2lvbitqd3QifQ'

    Raises:
        ConfigurationError: A key id that can't stand in a header.
    """
    if not _KEY_ID.fullmatch(kid):
        raise ConfigurationError("a key's id must be 1 to 128 of A-Z a-z 0-9 _ -")
    return encode(msgspec.json.encode({"alg": alg, "kid": kid, "typ": typ})).encode("ascii")


def hs256(key: Secret, signing_input: bytes) -> bytes:
    """Return the signature segment of HMAC-SHA256, as base64url.

    Compare it as text: padding and bits that no byte holds are then refused with the rest.
    """
    return encode(digest(key.reveal(), signing_input, "sha256")).encode("ascii")


class PublicKey:
    """A key that verifies under one algorithm, and may be published."""

    __slots__ = ("_key", "alg")

    alg: Algorithm
    """The only algorithm for which the key counts."""

    def __init__(self, key: EllipticCurvePublicKey | Ed25519PublicKey) -> None:
        self._key = key
        self.alg = "EdDSA" if isinstance(key, Ed25519PublicKey) else "ES256"

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        """Say whether a signature segment is genuine, and in the one form that its bytes have."""
        if len(signature) != SIGNATURE_CHARACTERS:
            return False
        try:
            raw = decode(signature.decode("ascii"))
            if isinstance(self._key, Ed25519PublicKey):
                self._key.verify(raw, signing_input)
            else:
                self._key.verify(_der(raw), signing_input, _ES256)
        except (ValueError, InvalidSignature):
            return False
        return True

    def jwk(self, kid: str) -> dict[str, str]:
        """Return the key as RFC 7517 publishes it; there is no private member to leave out."""
        if isinstance(self._key, Ed25519PublicKey):
            raw = self._key.public_bytes(Encoding.Raw, PublicFormat.Raw)
            parameters = {"kty": "OKP", "crv": "Ed25519", "x": encode(raw)}
        else:
            numbers = self._key.public_numbers()
            parameters = {
                "kty": "EC",
                "crv": "P-256",
                "x": _coordinate(numbers.x),
                "y": _coordinate(numbers.y),
            }
        return parameters | {"kid": kid, "alg": self.alg, "use": "sig"}


class PrivateKey:
    """A key that signs under one algorithm."""

    __slots__ = ("_key", "public")

    public: PublicKey
    """What verifies its signatures."""

    def __init__(self, key: EllipticCurvePrivateKey | Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    @classmethod
    def generate(cls, alg: Algorithm) -> PrivateKey:
        """Return a new key, drawn by OpenSSL from the operating system's random source."""
        return cls(Ed25519PrivateKey.generate() if alg == "EdDSA" else generate_private_key(SECP256R1()))

    @classmethod
    def load(cls, raw: bytes) -> PrivateKey:
        """Return the key behind PKCS #8 in DER.

        Raises:
            ValueError: No such key, or of another kind or curve.
        """
        try:
            key = load_der_private_key(raw, password=None)
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError("a private key of another form") from error
        if isinstance(key, Ed25519PrivateKey):
            return cls(key)
        if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
            return cls(key)
        raise ValueError("neither a P-256 nor an Ed25519 key")

    def dump(self) -> bytes:
        """Return the key as PKCS #8 in DER, not encrypted: for sealing alone."""
        return self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, signing_input: bytes) -> bytes:
        """Return the signature segment, as base64url."""
        if isinstance(self._key, Ed25519PrivateKey):
            raw = self._key.sign(signing_input)
        else:
            r, s = decode_dss_signature(self._key.sign(signing_input, _ES256))
            raw = r.to_bytes(COORDINATE_BYTES, "big") + s.to_bytes(COORDINATE_BYTES, "big")
        return encode(raw).encode("ascii")


def _der(raw: bytes) -> bytes:
    """Return r and s, side by side in JOSE, in the form that the library verifies."""
    r, s = raw[:COORDINATE_BYTES], raw[COORDINATE_BYTES:]
    return encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))


def _coordinate(number: int) -> str:
    return encode(number.to_bytes(COORDINATE_BYTES, "big"))
