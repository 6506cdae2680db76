"""What a running server speaks: versions and suites, each refusal beside a server that accepts it.

The probes write TLS messages by hand, so that old versions and suites are really offered, whatever the
OpenSSL of this machine still knows. Where it still knows them, a permissive server is the control.
"""

import contextlib
import os
import socket
import ssl
import struct
import warnings
from base64 import encodebytes
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

import live
from thebes.https.certificates import server_context

pytestmark = pytest.mark.slow  # a real server

# asyncio and uvloop close a failed handshake without sending the alert, so clients see no reason.
REFUSED = (ssl.SSLError, ConnectionResetError)
X25519, P_256, P_384, P_521, FFDHE2048 = 0x1D, 0x17, 0x18, 0x19, 0x100
SIGNATURES = (0x403, 0x503, 0x603, 0x804, 0x805, 0x806, 0x401, 0x501, 0x201, 0x203)

AEAD_WITH_ECDHE = {
    "ecdsa": {0xC02B, 0xC02C, 0xCCA9},  # AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305 (RFC 5289, 7905)
    "rsa": {0xC02F, 0xC030, 0xCCA8},
}


@dataclass(frozen=True)
class Server:
    port: int
    root: Path


@dataclass(frozen=True)
class Answer:
    """What a server chose; nothing at all when it refused, by an alert or by closing at once."""

    version: int | None = None
    suite: int | None = None
    compression: int | None = None


REFUSAL = Answer()


def vector(size: str, content: bytes) -> bytes:
    return struct.pack(size, len(content)) + content


def words(*values: int) -> bytes:
    return struct.pack(f"!{len(values)}H", *values)


def client_hello(*suites: int, version: int = 0x0303, compression: bytes = b"\0") -> bytes:
    extensions = {
        0: vector("!H", b"\0" + vector("!H", b"localhost")),
        10: vector("!H", words(X25519, P_256, P_384, P_521, FFDHE2048)),
        11: b"\1\0",  # points are not compressed
        13: vector("!H", words(*SIGNATURES)),
        0xFF01: b"\0",  # secure renegotiation is understood
    }
    body = (
        words(version)
        + os.urandom(32)
        + b"\0"
        + vector("!H", words(*suites))
        + vector("!B", compression)
        + vector("!H", b"".join(words(kind) + vector("!H", value) for kind, value in extensions.items()))
    )
    message = b"\1" + struct.pack("!I", len(body))[1:] + body
    return b"\x16" + words(min(version, 0x0301)) + vector("!H", message)


def probe(port: int, hello: bytes) -> Answer:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(hello)
        header = content = b""
        with connection.makefile("rb") as file, contextlib.suppress(ConnectionResetError):
            header = file.read(5)
            content = file.read(int.from_bytes(header[3:]))
    if header[:1] in (b"", b"\x15"):
        return REFUSAL
    assert header[0] == 0x16, "neither a handshake message nor an alert"
    version, at = struct.unpack_from("!H", content, 4)[0], 39 + content[38]
    suite, compression = struct.unpack_from("!HB", content, at)
    return Answer(version=version, suite=suite, compression=compression)


async def empty_page(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


@contextlib.contextmanager
def serving(context: ssl.SSLContext) -> Iterator[int]:
    factory = {"ssl_context_factory": lambda _config, _default: context}
    with live.serving(empty_page, **factory, lifespan="off", ws="none") as url:
        yield urlsplit(url).port or 443


def connect(server: Server, *versions: ssl.TLSVersion) -> tuple[str | None, bytes]:
    """Return the version that a verifying client got, and the first line of the answer."""
    context = ssl.create_default_context(cafile=server.root)
    context.set_ciphers("ALL:@SECLEVEL=0")  # else OpenSSL would not offer the old versions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for version in versions:
            context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as secure,
    ):
        secure.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return secure.version(), secure.recv(4096).split(b"\r\n")[0]


def permissive_context(certificate: Path, key: Path, parameters: Path) -> ssl.SSLContext:
    """Speak all that this OpenSSL still knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    context.load_cert_chain(certificate, key)
    context.load_dh_params(parameters)
    return context


def write_pair(directory: Path, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "server.pem", directory / "server.key"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].touch(mode=0o600)
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


def ffdhe2048_pem() -> bytes:
    """Return the group of RFC 7919, A.1, from its definition: a prime around the digits of e."""
    precision, term, e = 2100, 1 << 2100, 0
    for count in range(1, 400):
        e += term
        term //= count
    prime = 2**2048 - 2**1984 + ((e >> (precision - 1918)) + 560316) * 2**64 - 1
    der = b"\x30\x82\x01\x08\x02\x82\x01\x01\0" + prime.to_bytes(256) + b"\x02\x01\x02"
    return b"-----BEGIN DH PARAMETERS-----\n" + encodebytes(der) + b"-----END DH PARAMETERS-----\n"


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[dict[str, Server]]:
    parameters = tmp_path_factory.mktemp("dh") / "dh.pem"
    parameters.write_bytes(ffdhe2048_pem())
    keys = {"ecdsa": ec.generate_private_key(ec.SECP256R1()), "rsa": rsa.generate_private_key(65537, 3072)}
    running: dict[str, Server] = {}
    with contextlib.ExitStack() as stack:
        for kind, key in keys.items():
            certificate, file = write_pair(tmp_path_factory.mktemp(kind), key)
            contexts = {
                kind: server_context(certificate, file, insecure_allow_self_signed=True),
                f"modern {kind}": server_context(
                    certificate, file, tls="modern", insecure_allow_self_signed=True
                ),
                f"permissive {kind}": permissive_context(certificate, file, parameters),
            }
            for name, context in contexts.items():
                running[name] = Server(stack.enter_context(serving(context)), certificate)
        yield running


OLD = [
    pytest.param(ssl.TLSVersion.TLSv1, "TLSv1", 0x0301, id="TLS 1.0"),
    pytest.param(ssl.TLSVersion.TLSv1_1, "TLSv1.1", 0x0302, id="TLS 1.1"),
]


@pytest.mark.requirement("TLS-01", by="live")
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
class TestVersions:
    def test_tls_1_3_is_picked_when_the_client_offers_it(self, servers, kind):
        assert connect(servers[kind]) == ("TLSv1.3", b"HTTP/1.1 200 OK")

    def test_a_client_that_ends_at_tls_1_2_is_served(self, servers, kind):
        assert connect(servers[kind], ssl.TLSVersion.TLSv1_2) == ("TLSv1.2", b"HTTP/1.1 200 OK")

    @pytest.mark.parametrize(("version", "name", "code"), OLD)
    def test_a_client_of_an_older_version_is_refused(self, servers, kind, version, name, code):
        assert connect(servers[f"permissive {kind}"], version) == (name, b"HTTP/1.1 200 OK")
        with pytest.raises(REFUSED):
            connect(servers[kind], version)

    @pytest.mark.parametrize(("version", "name", "code"), OLD)
    def test_the_first_message_of_an_older_version_is_refused(self, servers, kind, version, name, code):
        suites = {"ecdsa": (0xC009, 0xC00A), "rsa": (0xC013, 0xC014, 0x002F)}[kind]
        hello = client_hello(*suites, *AEAD_WITH_ECDHE[kind], version=code)

        assert probe(servers[f"permissive {kind}"].port, hello).version == code
        assert probe(servers[kind].port, hello) == REFUSAL

    def test_sslv3_is_refused(self, servers, kind):
        # No permissive server: OpenSSL is built without it. The control is a newer version number.
        suites = (*AEAD_WITH_ECDHE[kind], 0x002F, 0xC013, 0xC009)

        assert probe(servers[kind].port, client_hello(*suites)).version == 0x0303
        assert probe(servers[kind].port, client_hello(*suites, version=0x0300)) == REFUSAL


@pytest.mark.requirement("TLS-02", by="live")
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_the_modern_setting_refuses_a_client_that_ends_at_tls_1_2(servers, kind):
    modern = servers[f"modern {kind}"]

    assert connect(modern) == ("TLSv1.3", b"HTTP/1.1 200 OK")
    assert connect(servers[kind], ssl.TLSVersion.TLSv1_2) == ("TLSv1.2", b"HTTP/1.1 200 OK")
    with pytest.raises(REFUSED):
        connect(modern, ssl.TLSVersion.TLSv1_2)
    assert probe(modern.port, client_hello(*AEAD_WITH_ECDHE[kind])) == REFUSAL


# Code points of the IANA registry "TLS Cipher Suites". `control` is the certificate with which OpenSSL 3
# still speaks the suite; it is None for what has left OpenSSL, where nothing but the offer can be made.
BAD_SUITES = [
    pytest.param(0x009C, "rsa", id="static RSA with AES-128-GCM"),
    pytest.param(0x002F, "rsa", id="static RSA with CBC and SHA-1"),
    pytest.param(0x003C, "rsa", id="static RSA with CBC and SHA-256"),
    pytest.param(0x009E, "rsa", id="DHE-RSA with AES-128-GCM"),
    pytest.param(0xCCAA, "rsa", id="DHE-RSA with ChaCha20-Poly1305"),
    pytest.param(0x0033, "rsa", id="DHE-RSA with CBC"),
    pytest.param(0xC013, "rsa", id="ECDHE-RSA with CBC and SHA-1"),
    pytest.param(0xC028, "rsa", id="ECDHE-RSA with CBC and SHA-384"),
    pytest.param(0xC009, "ecdsa", id="ECDHE-ECDSA with CBC and SHA-1"),
    pytest.param(0xC023, "ecdsa", id="ECDHE-ECDSA with CBC and SHA-256"),
    pytest.param(0xC0AE, "ecdsa", id="ECDHE-ECDSA with CCM-8, a short tag"),
    pytest.param(0x003B, "rsa", id="NULL-SHA256"),
    pytest.param(0xC010, "rsa", id="ECDHE-RSA-NULL-SHA"),
    pytest.param(0xC006, "ecdsa", id="ECDHE-ECDSA-NULL-SHA"),
    pytest.param(0x00A6, "rsa", id="anonymous DH with AES-128-GCM"),
    pytest.param(0xC018, "rsa", id="anonymous ECDH with CBC"),
    pytest.param(0xC004, None, id="static ECDH-ECDSA with CBC"),
    pytest.param(0x0005, None, id="RC4-SHA"),
    pytest.param(0x0004, None, id="RC4-MD5"),
    pytest.param(0xC011, None, id="ECDHE-RSA-RC4-SHA"),
    pytest.param(0x000A, None, id="static RSA with 3DES"),
    pytest.param(0xC012, None, id="ECDHE-RSA with 3DES"),
    pytest.param(0x0003, None, id="EXPORT RC4-40"),
    pytest.param(0x0008, None, id="EXPORT DES-40"),
    pytest.param(0x0014, None, id="EXPORT DHE with DES-40"),
    pytest.param(0x0009, None, id="single DES"),
]


@pytest.mark.requirement("TLS-03", by="live")
class TestSuites:
    @pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
    def test_each_allowed_suite_is_accepted_alone(self, servers, kind):
        for suite in AEAD_WITH_ECDHE[kind]:
            assert probe(servers[kind].port, client_hello(suite)).suite == suite

    @pytest.mark.parametrize(("suite", "control"), BAD_SUITES)
    def test_a_suite_of_another_family_is_refused(self, servers, suite, control):
        hello = client_hello(suite)

        if control is not None:
            assert probe(servers[f"permissive {control}"].port, hello).suite == suite
        for kind in ("ecdsa", "rsa"):
            assert probe(servers[kind].port, hello) == REFUSAL

    @pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
    def test_of_all_65536_code_points_only_three_are_accepted(self, servers, kind):
        accepted = set()
        for start in range(0, 0x10000, 0x1000):
            # 0x00FF and 0x5600 are signals, no suites (RFC 5746, RFC 7507).
            offer = set(range(start, start + 0x1000)) - {0x00FF, 0x5600}
            while suite := probe(servers[kind].port, client_hello(*sorted(offer))).suite:
                accepted.add(suite)
                offer.discard(suite)

        assert accepted == AEAD_WITH_ECDHE[kind]


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_compression_is_declined_when_it_is_offered(servers, kind):
    hello = client_hello(*AEAD_WITH_ECDHE[kind], compression=b"\1\0")  # DEFLATE first (RFC 3749)
    assert probe(servers[kind].port, hello).compression == 0
