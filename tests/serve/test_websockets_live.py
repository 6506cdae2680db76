"""WebSockets behind the accept loop: no HTTP deadline touches them, uvicorn's own pings do."""

import contextlib
import time

import pytest
import websockets.sync.client

from gated import SECONDS, Echo, gated, read_answer, read_to_end
from live import eventually
from thebes.serve.accepting import Door

pytestmark = pytest.mark.slow

HANDSHAKE = (
    b"GET /socket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TEXT = bytes((0x81, 0x82, 0, 0, 0, 0)) + b"hi"  # one masked frame; the mask is all zeros
ECHO = bytes((0x81, 2)) + b"hi"


@pytest.fixture(scope="module")
def served(loop, authority):
    with gated(
        Echo(), loop=loop, authority=authority, ws_ping_interval=4 * SECONDS, ws_ping_timeout=SECONDS
    ) as run:
        yield run


@contextlib.contextmanager
def talking(served, door):
    """Yield a connection after the handshake, and a client that never answers a ping."""
    with served.connect(door) as connection:
        connection.sendall(HANDSHAKE)
        answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101")
        yield connection


@pytest.mark.parametrize("door", [Door.PROXY, Door.TLS], ids=["plain", "tls"])
class TestAnOpenWebSocket:
    def test_outlives_every_deadline_of_http(self, served, door):
        with talking(served, door) as connection:
            for _ in range(2):
                time.sleep(1.5 * SECONDS)
                connection.sendall(TEXT)
                assert connection.recv(4096) == ECHO

    def test_a_client_that_answers_pings_is_kept(self, served, door):
        plain = served.connect_tcp(door)
        tls = {"ssl": served.tls_context()} if door is Door.TLS else {}
        url = f"ws{'s' if tls else ''}://localhost/socket"
        with websockets.sync.client.connect(url, sock=plain, proxy=None, **tls) as connection:
            time.sleep(6 * SECONDS)
            connection.send("hello")
            assert connection.recv() == "hello"

    def test_a_client_that_answers_no_ping_is_closed_and_no_longer_counted(self, served, door):
        with talking(served, door) as connection:
            began = time.monotonic()
            raw, _ = read_to_end(connection)
            assert raw[:1] == b"\x89"  # the ping that it didn't answer
            assert time.monotonic() - began < 30 * SECONDS
        eventually(lambda: served.open_connections == 0)

    def test_is_counted_while_it_is_open_and_not_afterwards(self, served, door):
        eventually(lambda: served.open_connections == 0)
        with talking(served, door):
            assert served.open_connections == 1
            assert served.gate.connections.by_address == {"127.0.0.1": 1}
        eventually(lambda: served.open_connections == 0)
        assert served.gate.connections.by_address == {}

    def test_can_begin_on_a_connection_that_was_used_before(self, served, door):
        with served.connect(door) as connection:
            connection.sendall(b"GET /first HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert read_answer(connection).endswith(b"/first 0")
            connection.sendall(HANDSHAKE)
            assert connection.recv(4096).startswith(b"HTTP/1.1 101")
            connection.sendall(TEXT)
            assert connection.recv(4096) == ECHO

    def test_comes_piece_by_piece_too(self, served, door):
        with served.connect(door) as connection:
            for at in range(0, len(HANDSHAKE), 10):
                connection.sendall(HANDSHAKE[at : at + 10])
            assert connection.recv(4096).startswith(b"HTTP/1.1 101")


def test_a_slow_handshake_has_the_deadline_of_every_header_section(served):
    said = served.say(HANDSHAKE[:50])
    assert said.statuses == [408]
