"""What the TLS door never does: compress, renegotiate at a client's wish, take early data (TLS-05)."""

import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gated import LAST, Echo, Gated, gated, slower
from live import PATIENCE_SECONDS
from thebes.serve.accepting import Door

pytestmark = pytest.mark.slow

DEFLATE_FIRST = b"\2\1\0"  # RFC 3749: two methods, DEFLATE before none


@pytest.fixture(scope="module")
def served(loop, authority) -> Iterator[Gated]:
    with gated(
        Echo(), loop=loop, authority=authority, guards=slower(idle_seconds=5, header_seconds=5)
    ) as running:
        yield running


@pytest.fixture
def openssl() -> str:
    """OpenSSL's own client: what Python's can't be asked to do."""
    path = shutil.which("openssl")
    assert path, "these tests need the openssl command"
    return path


def s_client(openssl: str, served: Gated, *options: str, lines: bytes) -> str:
    """Return all that OpenSSL's client says; `lines` are its input."""
    address = f"127.0.0.1:{served.ports[Door.TLS]}"
    command = [openssl, "s_client", "-connect", address, "-servername", "localhost", *options]
    done = subprocess.run(command, input=lines, capture_output=True, check=False, timeout=PATIENCE_SECONDS)
    return (done.stdout + done.stderr).decode("latin-1")


def hello_with_compression() -> bytes:
    """Return a ClientHello of TLS 1.2 that offers to compress."""

    def vector(size: str, content: bytes) -> bytes:
        return struct.pack(size, len(content)) + content

    extensions = b"".join(
        struct.pack("!H", kind) + vector("!H", content)
        for kind, content in {
            10: vector("!H", struct.pack("!2H", 0x1D, 0x17)),  # X25519, P-256
            11: b"\1\0",
            13: vector("!H", struct.pack("!2H", 0x403, 0x804)),
            0xFF01: b"\0",
        }.items()
    )
    suites = vector("!H", struct.pack("!2H", 0xC02B, 0xC02F))
    body = b"\3\3" + os.urandom(32) + b"\0" + suites + DEFLATE_FIRST + vector("!H", extensions)
    message = b"\1" + struct.pack("!I", len(body))[1:] + body
    return b"\x16\3\1" + vector("!H", message)


@pytest.mark.requirement("TLS-05", by="live")
def test_compression_is_declined_when_it_is_offered(served):
    with socket.create_connection(("127.0.0.1", served.ports[Door.TLS]), PATIENCE_SECONDS) as connection:
        connection.sendall(hello_with_compression())
        with connection.makefile("rb") as stream:
            header = stream.read(5)
            content = stream.read(int.from_bytes(header[3:], "big"))
    assert (header[0], content[0]) == (0x16, 2), "no ServerHello"
    after_session = 39 + content[38]
    assert content[after_session + 2] == 0


@pytest.mark.requirement("TLS-05", by="live")
def test_a_client_that_wants_to_renegotiate_is_refused(served, openssl):
    # "R" on a line of its own makes this client renegotiate.
    said = s_client(openssl, served, "-tls1_2", lines=b"R\n" + LAST)
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said
    assert "/last 0" not in said


@pytest.mark.requirement("TLS-05", by="live")
def test_no_ticket_allows_early_data(served, openssl, tmp_path: Path):
    session, request = tmp_path / "session.pem", tmp_path / "request"
    request.write_bytes(LAST)
    first = s_client(openssl, served, "-tls1_3", "-ign_eof", "-sess_out", str(session), lines=LAST)
    assert "/last 0" in first
    assert "Max Early Data: 0" in first
    second = s_client(
        openssl,
        served,
        *("-tls1_3", "-ign_eof", "-sess_in", str(session), "-early_data", str(request)),
        lines=LAST,
    )
    assert "Early data was not sent" in second or "Early data was rejected" in second
    assert "/last 0" in second


@pytest.mark.requirement("TLS-05", by="live")
def test_nothing_switches_early_data_on():
    from typer.testing import CliRunner

    from thebes.cli.app import app

    said = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200"}).output
    assert "--certificate" in said
    assert "early" not in said.lower()
