"""A server that is told to stop: who was let in is answered, who keeps silent holds nobody up."""

import asyncio
import contextlib
import ssl
import threading
import time

import pytest

from gated import GET, SECONDS, Echo, gated, read_answer, read_to_end, slower
from live import eventually, is_refused
from thebes.serve import accepting
from thebes.serve.accepting import HANDSHAKE_GRACE_SECONDS, Door
from thebes.serve.protocol import FIRST_BYTES_SECONDS

pytestmark = pytest.mark.slow

# Nothing but a stop ends a connection here: what ends sooner was ended by the rules of the stop.
PATIENT = slower(
    handshake_seconds=60,
    header_seconds=60,
    body_seconds=60,
    idle_seconds=60,
    stalled_seconds=60,
    linger_seconds=3,
    stop_seconds=60,
)
SLOW = GET.replace(b"GET /", b"GET /slow")
HANDSHAKE = (
    b"GET /socket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
# A busy machine may be late; 60 s would be the fault.
LATE = 10
DOORS = pytest.mark.parametrize("door", [Door.PROXY, Door.TLS], ids=["plain", "tls"])


class Noting(Echo):
    """An app that notes the end of its lifespan, and what it does for `/slow` after the answer."""

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                self.reached.append(step)
                await send({"type": f"lifespan.{step}.complete"})
            return
        await super().__call__(scope, receive, send)
        if scope["path"] == "/slow":
            await asyncio.sleep(SECONDS)
            self.reached.append("after the answer")


@pytest.fixture
def served(app, loop, authority):
    with gated(app, loop=loop, authority=authority, guards=PATIENT) as running:
        yield running


def accepted(served, door, count=1):
    """Return connections that the server has accepted, on which nothing was asked."""
    made = [served.connect(door) for _ in range(count)]
    eventually(lambda: len(served.server.server_state.connections) == count)
    return made


def stop(served):
    """Tell the server to stop, and return when it has begun to."""
    assert served.gate.listeners
    served.server.should_exit = True
    eventually(lambda: not served.gate.listeners)


def is_last(connection):
    """Say whether the answer is a good one, and the end of its connection announced and kept."""
    answer = read_answer(connection)
    return answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer and not connection.recv(1)


@DOORS
class TestWhoIsAnswered:
    def test_who_had_been_accepted_by_the_kernel_alone(self, served, door):
        is_deaf = threading.Event()
        for listener in served.gate.listeners:
            loop = listener.get_loop()
            loop.call_soon_threadsafe(loop.remove_reader, listener.sockets[0].fileno())
        loop.call_soon_threadsafe(is_deaf.set)
        assert is_deaf.wait(LATE)
        with served.connect_tcp(door) as plain:
            served.server.should_exit = True
            connection = plain
            if door is Door.TLS:
                connection = served.tls_context().wrap_socket(plain, server_hostname="localhost")
            with connection:
                connection.sendall(GET)
                assert is_last(connection)

    def test_who_was_let_in_and_had_not_asked_yet(self, served, door):
        [connection] = accepted(served, door)
        with connection:
            stop(served)
            connection.sendall(GET)
            assert is_last(connection)

    def test_who_was_in_the_middle_of_a_head(self, served, door):
        [connection] = accepted(served, door)
        with connection:
            connection.sendall(GET[:20])
            [protocol] = served.server.server_state.connections
            eventually(lambda: protocol._buffer == GET[:20])
            stop(served)
            time.sleep(1.5 * FIRST_BYTES_SECONDS)
            connection.sendall(GET[20:])
            assert is_last(connection)

    def test_who_has_begun_a_head_has_the_time_for_it(self, served, door):
        [connection] = accepted(served, door)
        with connection:
            stop(served)
            connection.sendall(GET[:20])
            time.sleep(1.5 * FIRST_BYTES_SECONDS)
            connection.sendall(GET[20:])
            assert is_last(connection)

    def test_who_sends_a_body(self, served, door):
        [connection] = accepted(served, door)
        with connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nab")
            eventually(lambda: served.app.reached == ["/"])
            stop(served)
            connection.sendall(b"cd")
            assert is_last(connection)

    def test_who_waits_for_the_app(self, served, door):
        [connection] = accepted(served, door)
        with connection:
            connection.sendall(SLOW)
            eventually(lambda: served.app.reached == ["/slow"])
            stop(served)
            served.app.gate.set()
            assert is_last(connection)

    def test_who_was_answered_early_and_still_sends_is_read_on_for_a_while(self, served, door):
        [connection] = accepted(served, door)
        with connection:
            connection.sendall(
                b"POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + b"a" * 1000
            )
            eventually(lambda: served.server.server_state.total_requests == 1)
            stop(served)
            for _ in range(3):
                connection.sendall(b"a" * 1000)  # fails once the other side has closed
                time.sleep(SECONDS / 3)
            raw, _ = read_to_end(connection)
        assert raw.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("spoken", [0, 100], ids=["before its first byte", "in its hello"])
def test_who_was_in_the_handshake_is_answered(served, spoken):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = served.tls_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with served.connect_tcp(Door.TLS) as connection:
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        hello = outgoing.read()
        connection.sendall(hello[:spoken])
        eventually(lambda: served.open_connections == 1)
        stop(served)
        connection.sendall(hello[spoken:])
        finish(client, incoming, outgoing, connection)
        client.write(GET)
        connection.sendall(outgoing.read())
        answer = read_decrypted(client, incoming, connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer
    assert answer.endswith(b"/ 0")


def finish(client, incoming, outgoing, connection):
    """Go on with a handshake whose hello was sent."""
    while True:
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            piece = connection.recv(65536)
            assert piece, "the server closed in the middle of the handshake"
            incoming.write(piece)
        else:
            connection.sendall(outgoing.read())
            return


def read_decrypted(client, incoming, connection) -> bytes:
    """Return all that the server still says."""
    answer = b""
    while piece := connection.recv(65536):
        incoming.write(piece)
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while part := client.read(65536):
                answer += part
    return answer


class TestWhoHoldsNobodyUp:
    @DOORS
    def test_who_says_nothing_is_dropped_after_a_grace(self, served, door):
        connections = accepted(served, door, 3)
        stop(served)
        began = time.monotonic()
        for connection in connections:
            with connection:
                assert read_to_end(connection)[0] == b""
        assert FIRST_BYTES_SECONDS / 2 < time.monotonic() - began < LATE

    @DOORS
    def test_who_was_answered_and_keeps_silent_is_closed_before_any_grace(self, served, door):
        idle, fresh = accepted(served, door, 2)
        with idle, fresh:
            idle.sendall(GET)
            read_answer(idle)
            stop(served)
            assert read_to_end(idle)[0] == b""
            # The other's grace isn't over, so this one had none.
            fresh.sendall(GET)
            assert is_last(fresh)

    @DOORS
    def test_who_has_not_read_its_last_answer_gets_all_of_it(self, served, door, monkeypatch):
        # The end of TLS has a time limit of its own, which must not cut off an answer.
        monkeypatch.setattr(accepting, "TLS_SHUTDOWN_SECONDS", SECONDS)
        [connection] = accepted(served, door)
        with connection:
            connection.sendall(GET.replace(b"GET /", b"GET /large?"))
            eventually(lambda: served.server.server_state.total_requests == 1)
            stop(served)
            time.sleep(3 * SECONDS)
            raw, was_reset = read_to_end(connection)
        assert len(raw) > 8 * 1024 * 1024
        assert not was_reset

    def test_a_handshake_that_does_not_end(self, app, loop, authority):
        with gated(app, loop=loop, authority=authority, guards=PATIENT) as served:
            connection = served.connect_tcp(Door.TLS)
            connection.sendall(b"\x16")
            eventually(lambda: served.open_connections == 1)
            stop(served)
            began = time.monotonic()
        assert HANDSHAKE_GRACE_SECONDS / 2 < time.monotonic() - began < LATE
        with connection:
            assert read_to_end(connection)[0] == b""
        assert served.open_connections == 0

    @DOORS
    def test_a_websocket_that_begins_now(self, served, door):
        [connection] = accepted(served, door)
        with connection:
            stop(served)
            connection.sendall(HANDSHAKE)
            answer = read_answer(connection)
            assert not connection.recv(1)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"urn:thebes:problem:server-stopping" in answer
        assert served.app.reached == []

    @DOORS
    def test_a_websocket_that_is_open(self, served, door):
        [connection] = accepted(served, door)
        with connection:
            connection.sendall(HANDSHAKE)
            assert connection.recv(4096).startswith(b"HTTP/1.1 101")
            stop(served)
            raw, _ = read_to_end(connection)
        assert raw[:4] == bytes((0x88, 2)) + (1012).to_bytes(2, "big")  # RFC 6455, 7.4: service restart


class TestTheAppsEnd:
    def test_waits_for_who_was_in_the_handshake(self, loop, authority):
        app = Noting()
        with gated(app, loop=loop, authority=authority, guards=PATIENT, lifespan="on") as served:
            plain = served.connect_tcp(Door.TLS)
            eventually(lambda: served.open_connections == 1)
            stop(served)
            time.sleep(SECONDS)  # all that uvicorn knows of is over by now
            with served.tls_context().wrap_socket(plain, server_hostname="localhost") as connection:
                connection.sendall(SLOW)
                eventually(lambda: app.reached[-1] == "/slow")
                time.sleep(SECONDS)
                app.gate.set()
                assert is_last(connection)
        assert app.reached == ["startup", "/slow", "after the answer", "shutdown"]

    def test_waits_for_a_running_request(self, loop):
        app = Noting()
        with gated(app, loop=loop, guards=PATIENT, lifespan="on") as served, served.connect() as connection:
            connection.sendall(SLOW)
            eventually(lambda: app.reached[-1] == "/slow")
            stop(served)
            app.gate.set()
            assert is_last(connection)
        assert app.reached == ["startup", "/slow", "after the answer", "shutdown"]


def test_who_comes_later_is_refused_while_others_are_still_served(served):
    [connection] = accepted(served, Door.PROXY)
    with connection:
        connection.sendall(SLOW)
        eventually(lambda: served.app.reached == ["/slow"])
        stop(served)
        eventually(lambda: is_refused(served.ports[Door.PROXY]))
        served.app.gate.set()
        assert is_last(connection)
