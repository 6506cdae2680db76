"""Certificates and contexts: what is refused before anything serves, and what is accepted."""

import functools
import os
import ssl
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from thebes.errors import CertificateError, ConfigurationError
from thebes.https.certificates import key_exchange_groups, post_quantum_group_available, server_context

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

TODAY = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
X25519, P_256 = 0x1D, 0x17

ROOT_KEY = ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Files:
    certificate: Path
    key: Path


@functools.cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def name_of(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def sign(
    key: Key,
    *names: str,
    signer: Key = ROOT_KEY,
    issuer: str = "test root",
    begin: datetime = TODAY - DAY,
    end: datetime = TODAY + 30 * DAY,
    is_ca: bool = False,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(names[0]))
        .issuer_name(name_of(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if not is_ca:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([*map(general_name, names)]), critical=False
        )
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def write(
    directory: Path,
    key: Key,
    *chain: x509.Certificate,
    encryption: KeySerializationEncryption = NoEncryption(),  # noqa: B008
) -> Files:
    files = Files(directory / "server.pem", directory / "server.key")
    files.certificate.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in chain))
    files.key.touch(mode=0o600)
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return files


def new_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


class TestWhatIsRefused:
    def refusal(self, files: Files, **settings: object) -> str:
        with pytest.raises(CertificateError) as refused:
            server_context(files.certificate, files.key, **settings)
        return str(refused.value)

    def test_a_good_pair_gives_a_context_of_its_own_each_time(self, tmp_path):
        key = new_key()
        files = write(tmp_path, key, sign(key, "example.com"))

        first = server_context(files.certificate, files.key, hosts=["example.com"])
        second = server_context(files.certificate, files.key)

        assert first is not second

    def test_a_key_of_another_certificate_is_refused(self, tmp_path):
        files = write(tmp_path, new_key(), sign(new_key(), "example.com"))
        assert "does not belong to the first certificate" in self.refusal(files)

    def test_a_chain_in_the_wrong_order_is_refused(self, tmp_path):
        key, middle = new_key(), new_key()
        leaf = sign(key, "example.com", signer=middle, issuer="middle")
        files = write(tmp_path, key, sign(middle, "middle", is_ca=True), leaf)
        assert "stands first" in self.refusal(files)

    def test_a_certificate_is_refused_before_and_after_its_time(self, tmp_path):
        key = new_key()
        files = write(tmp_path, key, sign(key, "example.com"))

        assert "expired at" in self.refusal(files, now=TODAY + 31 * DAY)
        assert "not valid before" in self.refusal(files, now=TODAY - 2 * DAY)

    @pytest.mark.requirement("TLS-06")
    def test_weak_keys_are_refused_and_the_message_names_what_is_allowed(self, tmp_path):
        for weak, found in [
            (rsa_key(1024), "1024 bits of RSA; the least is 2048"),
            (new_key(ec.SECP224R1()), "secp224r1; allowed are ECDSA P-256"),
            (new_key(ec.SECP256K1()), "secp256k1; allowed are ECDSA P-256"),
        ]:
            assert found in self.refusal(write(tmp_path, weak, sign(weak, "example.com")))

    @pytest.mark.requirement("TLS-06")
    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(lambda: rsa_key(2048), id="RSA of 2048 bits"),
            pytest.param(new_key, id="P-256"),
            pytest.param(lambda: new_key(ec.SECP384R1()), id="P-384"),
            pytest.param(ed25519.Ed25519PrivateKey.generate, id="Ed25519"),
        ],
    )
    def test_strong_keys_that_a_ca_signed_are_accepted(self, tmp_path, make):
        key = make()
        files = write(tmp_path, key, sign(key, "example.com"))
        assert server_context(files.certificate, files.key)

    @pytest.mark.requirement("TLS-06")
    def test_self_signed_rsa_needs_3072_bits(self, tmp_path):
        short, long = rsa_key(2048), rsa_key(3072)

        files = write(tmp_path, short, sign(short, "x", signer=short, issuer="x"))
        assert "self-signed; the least is 3072" in self.refusal(files, insecure_allow_self_signed=True)
        files = write(tmp_path, long, sign(long, "x", signer=long, issuer="x"))
        assert server_context(files.certificate, files.key, insecure_allow_self_signed=True)

    def test_a_self_signed_certificate_is_refused_unless_allowed_by_name(self, tmp_path):
        key = new_key()
        files = write(tmp_path, key, sign(key, "example.com", signer=key, issuer="example.com"))

        assert "insecure_allow_self_signed" in self.refusal(files)
        assert server_context(files.certificate, files.key, insecure_allow_self_signed=True)

    def test_a_weak_intermediate_is_refused_by_openssl_itself(self, tmp_path):
        key, weak = new_key(), rsa_key(1024)
        leaf = sign(key, "example.com", signer=weak, issuer="middle")
        files = write(tmp_path, key, leaf, sign(weak, "middle", is_ca=True))
        assert "OpenSSL refuses" in self.refusal(files)

    def test_missing_broken_and_encrypted_files_are_named(self, tmp_path):
        key = new_key()
        leaf = sign(key, "example.com")
        encrypted = write(tmp_path, key, leaf, encryption=BestAvailableEncryption(b"pass"))
        assert "server.key is encrypted" in self.refusal(encrypted)

        files = write(tmp_path, key, leaf)
        files.key.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        assert "server.key holds no usable private key" in self.refusal(files)
        files.certificate.write_text("hello")
        assert "server.pem holds no certificate" in self.refusal(files)
        files.certificate.unlink()
        assert "cannot read" in self.refusal(files)

    def test_another_word_for_tls_is_a_configuration_error(self, tmp_path):
        with pytest.raises(ConfigurationError, match="allowed are 'intermediate' and 'modern'"):
            server_context(tmp_path / "a", tmp_path / "b", tls="old")  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
class TestKeyFiles:
    @pytest.fixture
    def files(self, tmp_path) -> Files:
        key = new_key()
        return write(tmp_path, key, sign(key, "example.com"))

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
    def test_a_key_that_others_may_open_is_refused(self, files, mode):
        files.key.chmod(mode)
        with pytest.raises(CertificateError, match=f"has mode {mode:04o}.*allowed is 0600"):
            server_context(files.certificate, files.key)
        assert server_context(files.certificate, files.key, require_private_key_file=False)

    def test_a_link_to_a_private_key_is_followed(self, files, tmp_path):
        link = tmp_path / "current.key"
        link.symlink_to(files.key)
        assert server_context(files.certificate, link)

    def test_a_pipe_is_refused_at_once_where_opening_it_would_wait_for_ever(self, files, tmp_path):
        os.mkfifo(tmp_path / "pipe", 0o600)
        with pytest.raises(CertificateError, match="not a regular file"):
            server_context(files.certificate, tmp_path / "pipe")


@pytest.mark.parametrize(
    ("names", "host", "is_covered"),
    [
        pytest.param(["example.com"], "example.com", True, id="the same name"),
        pytest.param(["Example.COM"], "eXample.com", True, id="letter case does not matter"),
        pytest.param(["example.com"], "example.com:8443", True, id="a port is not part of the name"),
        pytest.param(["example.com"], "www.example.com", False, id="a name says nothing of names under it"),
        pytest.param(["*.example.com"], "www.example.com", True, id="a wildcard is one label"),
        pytest.param(["*.example.com"], "a.b.example.com", False, id="and never two"),
        pytest.param(["*.example.com"], "example.com", False, id="and never none"),
        pytest.param(["w*.example.com"], "www.example.com", False, id="a wildcard is a whole label"),
        pytest.param(["www.*.com"], "www.example.com", False, id="and the first one"),
        pytest.param(["127.0.0.1"], "127.0.0.1", True, id="the same address"),
        pytest.param(["::1"], "::1", True, id="an IPv6 address"),
        pytest.param(["::1"], "[::1]:8443", True, id="an IPv6 address with brackets and port"),
        pytest.param(["*.0.0.1"], "127.0.0.1", False, id="a wildcard is no address"),
        pytest.param(["127.0.0.1"], "127.0.0.2", False, id="another address"),
    ],
)
def test_names_are_matched_as_clients_match_them(tmp_path, names, host, is_covered):
    key = new_key()
    files = write(tmp_path, key, sign(key, *names))
    if is_covered:
        assert server_context(files.certificate, files.key, hosts=[host])
    else:
        with pytest.raises(CertificateError, match="does not cover"):
            server_context(files.certificate, files.key, hosts=[host])


def test_the_common_name_is_no_substitute_for_the_names(tmp_path):
    key = new_key()
    files = write(tmp_path, key, sign(key, "example.com", is_ca=True))
    with pytest.raises(CertificateError, match="it covers no names at all"):
        server_context(files.certificate, files.key, hosts=["example.com"])


class TestKeyExchangeGroups:
    def test_the_groups_of_this_process_are_read_from_a_real_handshake(self):
        assert {X25519, P_256} <= set(key_exchange_groups())
        assert post_quantum_group_available() == (ssl.OPENSSL_VERSION_INFO >= (3, 5))

    def test_a_configuration_that_took_effect_is_seen(self, tmp_path):
        configuration = tmp_path / "openssl.cnf"
        configuration.write_text(
            "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nGroups = P-384:P-256\n"
        )
        code = "from thebes.https.certificates import *; print(key_exchange_groups())"
        environment = {**os.environ, "OPENSSL_CONF": str(configuration)}
        told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        assert told.stdout.split() == [b"(24,", b"23)"]


@pytest.mark.requirement("TLS-01")
def test_a_context_speaks_1_2_and_1_3_without_compression_or_renegotiation(tmp_path):
    key = new_key()
    files = write(tmp_path, key, sign(key, "example.com"))
    context = server_context(files.certificate, files.key)
    modern = server_context(files.certificate, files.key, tls="modern")

    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.maximum_version is ssl.TLSVersion.MAXIMUM_SUPPORTED
    assert modern.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
