"""The local CA in use: what verifying clients accept, what a thief of its key can do, who wins a race."""

import asyncio
import contextlib
import ipaddress
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from thebes.https.certificates import server_context
from thebes.https.local_ca import AUTHORITY_FILE, ensure_local_certificate

TODAY = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture
def state(tmp_path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def project(tmp_path) -> Path:
    return tmp_path / "project" / ".thebes"


async def handshake(context: ssl.SSLContext, ca: Path, name: str) -> str | None:
    """Connect a verifying client to a server on loopback; return the version they agreed on."""

    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    client = ssl.create_default_context(cafile=ca)
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # the default of Python 3.13
    server = await asyncio.start_server(close, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        version = writer.get_extra_info("ssl_object").version()
        writer.close()
        return version


class TestWhatClientsMakeOfIt:
    @pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "app.localhost"])
    async def test_a_client_that_trusts_the_ca_accepts_local_names(self, state, project, name):
        local = ensure_local_certificate(project, authority_directory=state, names=["app.localhost"])
        context = server_context(local.certificate_path, local.key_path, hosts=["localhost", "127.0.0.1"])
        assert await handshake(context, local.ca_path, name) == "TLSv1.3"

    async def test_a_client_that_trusts_another_ca_does_not(self, state, project, tmp_path):
        local = ensure_local_certificate(project, authority_directory=state)
        other = ensure_local_certificate(tmp_path / "other", authority_directory=tmp_path / "state2")
        with pytest.raises(ssl.SSLCertVerificationError, match="verif"):
            await handshake(
                server_context(local.certificate_path, local.key_path), other.ca_path, "localhost"
            )

    @pytest.mark.parametrize(
        "name", ["example.com", "notlocalhost", "localhost.example.com", "10.0.0.1", "::2"]
    )
    async def test_a_certificate_that_a_thief_of_the_ca_key_signs_is_refused(self, state, project, name):
        local = ensure_local_certificate(project, authority_directory=state)
        forged = forge(state, project, name)
        with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
            await handshake(forged, local.ca_path, name)

    async def test_the_forgery_fails_by_its_name_alone(self, state, project):
        local = ensure_local_certificate(project, authority_directory=state)
        forged = forge(state, project, "127.9.9.9")
        assert await handshake(forged, local.ca_path, "127.9.9.9") == "TLSv1.3"


def forge(state: Path, directory: Path, name: str) -> ssl.SSLContext:
    """Return a server with a certificate for any name, signed by the key in the state directory."""
    stolen = (state / AUTHORITY_FILE).read_bytes()
    authority, key = x509.load_pem_x509_certificate(stolen), ec.generate_private_key(ec.SECP256R1())
    try:
        general = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        general = x509.DNSName(name)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    leaf = (
        x509.CertificateBuilder(
            authority.subject, x509.Name([]), key.public_key(), 7, TODAY - DAY, TODAY + DAY
        )
        .add_extension(x509.SubjectAlternativeName([general]), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(identifier, critical=False)
        .sign(load_pem_private_key(stolen, None), hashes.SHA256())
    )
    file = directory / "forged.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + leaf.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


RACER = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from thebes.https.local_ca import LocalAuthority, ensure_local_certificate

directory = Path(sys.argv[1])
print("ready", flush=True)
for days in (0, 710):
    sys.stdin.readline()
    now = datetime.now(UTC) + timedelta(days=days)
    print(LocalAuthority.open(directory / "state", now=now).fingerprint, flush=True)
sys.stdin.readline()
ensure_local_certificate(directory / "project", authority_directory=directory / "state")
"""


@contextlib.contextmanager
def racing(count: int, directory: Path) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-c", RACER, str(directory)]
    with contextlib.ExitStack() as stack:
        racers = []
        for _ in range(count):
            racer = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )
            stack.enter_context(racer)
            stack.callback(racer.kill)
            racers.append(racer)
        yield racers


@pytest.mark.slow
def test_eight_processes_at_once_end_with_one_ca_at_first_and_when_it_is_made_anew(tmp_path):
    with racing(8, tmp_path) as racers:

        def start_all() -> set[str]:
            for racer in racers:
                racer.stdin.write("go\n")
            return {racer.stdout.readline() for racer in racers}

        assert {racer.stdout.readline() for racer in racers} == {"ready\n"}
        first, second, nothing = start_all(), start_all(), start_all()
        assert [racer.wait() for racer in racers] == [0] * 8

    assert (len(first), len(second), nothing) == (1, 1, {""})
    assert first != second
    local = ensure_local_certificate(tmp_path / "project", authority_directory=tmp_path / "state")
    assert server_context(local.certificate_path, local.key_path)
