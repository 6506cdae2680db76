"""Signatures against published vectors, and the one form in which each counts."""

import doctest
import re

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from thebes.encoding import decode, encode
from thebes.errors import ConfigurationError
from thebes.secret import Secret
from thebes.tokens import jws
from thebes.tokens.jws import KeySet, PrivateKey, header_segment, hs256

JOE = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def number(text: str) -> int:
    return int.from_bytes(decode(text), "big")


class TestPublishedVectors:
    def test_rfc_7515_a_1_hmac_sha_256(self):
        key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
        signed = f"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{JOE}".encode()
        assert hs256(Secret(decode(key)), signed) == b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

    RFC_7515_A_3 = ec.EllipticCurvePrivateNumbers(
        number("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"),
        ec.EllipticCurvePublicNumbers(
            number("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
            number("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
            ec.SECP256R1(),
        ),
    ).private_key()

    def test_rfc_7515_a_3_ecdsa_p_256_sha_256(self):
        signature = b"DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
        key, signed = PrivateKey(self.RFC_7515_A_3), f"eyJhbGciOiJFUzI1NiJ9.{JOE}".encode()
        assert key.public.verify(signed, signature)
        assert not key.public.verify(signed + b"A", signature)
        assert key.public.verify(signed, key.sign(signed))
        assert key.public.jwk("1") == {
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            "kid": "1",
            "alg": "ES256",
            "use": "sig",
        }

    def test_rfc_8037_a_4_ed25519(self):
        raw = decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
        key = PrivateKey(Ed25519PrivateKey.from_private_bytes(raw))
        signed = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
        signature = b"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        assert key.sign(signed) == signature
        assert key.public.verify(signed, signature)
        assert key.public.jwk("1")["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"  # A.2


@pytest.fixture(params=["ES256", "EdDSA"])
def key(request: pytest.FixtureRequest) -> PrivateKey:
    return PrivateKey.generate(request.param)


class TestSignatures:
    def test_what_was_signed_verifies_and_nothing_else_does(self, key):
        signature = key.sign(b"head.body")
        assert re.fullmatch(rb"[A-Za-z0-9_-]{86}", signature)
        assert key.public.verify(b"head.body", signature)
        assert not key.public.verify(b"head.bodY", signature)
        assert not PrivateKey.generate(key.public.alg).public.verify(b"head.body", signature)

    def test_a_signature_has_one_text(self, key):
        """Four bits of the last character hold nothing: 15 other characters would decode to the same bytes."""
        signature = key.sign(b"head.body").decode()
        same_bytes = [signature[:-1] + last for last in ALPHABET if last != signature[-1]]
        for text in [
            *same_bytes,
            signature + "=",
            signature + "==",
            signature + "A",
            signature[:-1],
            "",
            " " * 86,
        ]:
            assert not key.public.verify(b"head.body", text.encode())

    @pytest.mark.parametrize(
        "raw", [bytes(64), b"\xff" * 64, bytes(63) + b"\x01", bytes(31) + b"\x01" + bytes(32)]
    )
    def test_numbers_outside_the_group_are_refused(self, key, raw):
        assert not key.public.verify(b"head.body", encode(raw).encode())

    @given(
        st.binary(max_size=100)
        | st.binary(min_size=86, max_size=86)
        | st.binary(min_size=64, max_size=64).map(lambda raw: encode(raw).encode())
    )
    def test_any_other_bytes_are_refused_without_an_error(self, signature):
        for key in KEYS:
            assert key.public.verify(b"head.body", signature) is False

    def test_the_der_form_of_other_libraries_is_refused(self):
        key = PrivateKey(TestPublishedVectors.RFC_7515_A_3)
        der = TestPublishedVectors.RFC_7515_A_3.sign(b"head.body", jws._ES256)
        assert not key.public.verify(b"head.body", encode(der).encode())

    def test_a_leading_zero_of_a_number_cannot_be_left_out(self):
        """Without a check of the length one signature in 256 would have a second, shorter text."""
        key = PrivateKey.generate("ES256")
        raw = next(
            raw for raw in (decode(key.sign(b"head.body").decode()) for _ in range(20_000)) if raw[32] == 0
        )
        assert key.public.verify(b"head.body", encode(raw).encode())
        assert not key.public.verify(b"head.body", encode(raw[:32] + raw[33:]).encode())
        assert not key.public.verify(b"head.body", encode(raw[:32] + b"\0" + raw[32:]).encode())

    def test_small_numbers_keep_their_length(self):
        """About one signature in 128 has an r or s with a leading zero byte, which must not be dropped."""
        key = PrivateKey.generate("ES256")
        signatures = [key.sign(b"%d" % count) for count in range(400)]
        assert {len(signature) for signature in signatures} == {86}
        assert all(key.public.verify(b"%d" % count, one) for count, one in enumerate(signatures))


KEYS = [PrivateKey.generate("ES256"), PrivateKey.generate("EdDSA")]


def der(key: object) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


class TestKeys:
    def test_a_key_is_read_back_as_it_was_written(self, key):
        again = PrivateKey.load(key.dump())
        assert again.public.alg == key.public.alg
        assert key.public.verify(b"head.body", again.sign(b"head.body"))

    @pytest.mark.requirement("TOK-08")
    @pytest.mark.parametrize(
        "raw",
        [
            pytest.param(der(rsa.generate_private_key(65537, 2048)), id="RSA"),
            pytest.param(der(dsa.generate_private_key(1024)), id="DSA"),
            pytest.param(der(ec.generate_private_key(ec.SECP384R1())), id="P-384"),
            pytest.param(der(ec.generate_private_key(ec.SECP256K1())), id="secp256k1"),
            pytest.param(der(ed448.Ed448PrivateKey.generate()), id="Ed448"),
        ],
    )
    def test_no_other_kind_of_key_signs(self, raw):
        with pytest.raises(ValueError, match="neither a P-256 nor an Ed25519 key"):
            PrivateKey.load(raw)

    @pytest.mark.parametrize("raw", [b"", b"0" * 100, b"-----BEGIN PRIVATE KEY-----"])
    def test_other_bytes_are_no_key(self, raw):
        with pytest.raises(ValueError, match=r"deserialize|parse"):
            PrivateKey.load(raw)

    def test_an_encrypted_key_is_refused(self):
        from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

        raw = Ed25519PrivateKey.generate().private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
        )
        with pytest.raises(ValueError, match="another form"):
            PrivateKey.load(raw)

    def test_a_published_key_holds_no_private_member(self, key):
        assert set(key.public.jwk("1")) <= {"kty", "crv", "x", "y", "kid", "alg", "use"}


class TestHeaders:
    def test_a_header_names_algorithm_key_and_type_and_nothing_else(self):
        head = header_segment(alg="ES256", kid="k1", typ="at+jwt")
        assert decode(head.decode()) == b'{"alg":"ES256","kid":"k1","typ":"at+jwt"}'

    @pytest.mark.parametrize(
        "kid",
        [
            "",
            "k" * 129,
            "../../etc/passwd",
            "https://evil.example/key",
            "' OR 1=1 --",
            'k","alg":"none',
            "k\n",
            "ké",
        ],
    )
    def test_key_ids_are_of_a_safe_set(self, kid):
        with pytest.raises(ConfigurationError, match="1 to 128"):
            header_segment(alg="ES256", kid=kid, typ="at+jwt")

    def test_a_set_names_its_own_headers_only(self):
        keys = KeySet({b"head": 1})
        assert [keys.names(token) for token in (b"head.a.b", "head.a.b", "head")] == [True] * 3
        assert not any(
            keys.names(token) for token in (b"Head.a.b", "", "hea.d", ".head", "head\u00e9.a", "\udc80")
        )


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(jws).attempted >= 1
    assert doctest.testmod(jws).failed == 0
