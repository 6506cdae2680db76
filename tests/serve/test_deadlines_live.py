"""Clients that take their time, over a socket: who is cut off, who isn't, and that the app is never blamed.

The deadlines are a third of a second here. A client is late when it is cut off within a few of them; that
the defaults are those of the requirement is checked by their value.
"""

import contextlib
import socket
import ssl
import time

import pytest

from gated import GET, LAST, QUICK, SECONDS, Echo, gated, read_answer, read_to_end, slower
from live import PATIENCE_SECONDS, eventually
from thebes.serve import accepting
from thebes.serve.accepting import Door
from thebes.serve.guards import Guards

pytestmark = [pytest.mark.slow, pytest.mark.alone]

POST = b"POST /post HTTP/1.1\r\nHost: localhost\r\n"
TICK = SECONDS / 6
# A busy machine may be late, but a client that is let be would stay for ever.
LATE = 10 * SECONDS
ANSWER_BYTES = 8 * 1024 * 1024
DOORS = pytest.mark.parametrize("door", [Door.PROXY, Door.TLS], ids=["plain", "tls"])


@pytest.fixture(scope="module")
def served(loop, authority):
    with pytest.MonkeyPatch.context() as patch:
        # The end of TLS has a time limit of its own, which must not cut off an answer that is being read.
        patch.setattr(accepting, "TLS_SHUTDOWN_SECONDS", SECONDS)
        with gated(Echo(), loop=loop, authority=authority) as running:
            yield running


@pytest.fixture(scope="module")
def hasty(loop, authority):
    """A server that gives a handshake as little time as the others give a request."""
    with gated(Echo(), loop=loop, authority=authority, guards=slower(handshake_seconds=SECONDS)) as running:
        yield running


@pytest.fixture(scope="module")
def demanding(loop, authority):
    """A server that grants next to no time for size."""
    with gated(Echo(), loop=loop, authority=authority, guards=slower(min_bytes_per_second=10**9)) as running:
        yield running


@pytest.fixture
def app(served):
    served.app.forget()
    return served.app


def trickle(request: bytes) -> list[bytes | float]:
    """Return the request byte by byte, with a pause after each, for longer than any deadline here."""
    return [part for byte in request for part in (bytes([byte]), TICK)]


@pytest.mark.requirement("HTTP-17", by="live")
def test_the_deadlines_are_those_of_the_requirement():
    defaults = Guards()
    assert (defaults.header_seconds, defaults.body_seconds, defaults.idle_seconds) == (10, 30, 15)
    assert defaults.handshake_seconds == 10


@pytest.mark.requirement("HTTP-17", by="live")
@DOORS
class TestTheHeaderSection:
    def test_who_says_nothing_is_cut_off_without_a_word(self, served, door):
        said = served.say(door=door)
        assert said.raw == b""
        assert SECONDS / 2 < said.seconds < LATE

    def test_who_stops_in_the_middle_is_told_so(self, served, app, door):
        said = served.say(GET[:30], door=door)
        assert said.statuses == [408]
        assert SECONDS / 2 < said.seconds < LATE
        assert app.reached == []

    def test_a_byte_now_and_then_gives_no_more_time(self, served, app, door):
        said = served.say(*trickle(GET), door=door)
        assert said.statuses in ([408], [])  # who still sends may see a reset before the answer
        assert app.reached == []
        eventually(lambda: served.open_connections == 0)

    def test_the_time_begins_anew_with_the_next_request(self, served, door):
        with served.connect(door) as connection:
            for _ in range(4):
                connection.sendall(GET[:20])
                time.sleep(SECONDS / 2)
                connection.sendall(GET[20:])
                assert read_answer(connection).startswith(b"HTTP/1.1 200")

    def test_the_second_request_has_the_same_deadline(self, served, door):
        with served.connect(door) as connection:
            connection.sendall(GET)
            read_answer(connection)
            connection.sendall(GET[:20])
            raw, _ = read_to_end(connection)
        assert raw.startswith(b"HTTP/1.1 408")


@pytest.mark.requirement("HTTP-17", by="live")
@DOORS
class TestTheBody:
    @pytest.mark.parametrize(
        "start", [b"Content-Length: 1000\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"]
    )
    def test_who_stops_in_the_middle_is_told_so_and_the_app_learns_it(self, served, app, door, start):
        said = served.say(POST + start, door=door)
        assert said.statuses == [408]
        assert SECONDS / 2 < said.seconds < LATE
        eventually(lambda: app.outcomes == ["http.disconnect"])

    def test_a_byte_now_and_then_gives_no_more_time(self, served, app, door):
        said = served.say(POST + b"Content-Length: 100\r\n\r\n", *trickle(b"a" * 40), door=door)
        assert said.statuses in ([408], [])
        eventually(lambda: app.outcomes == ["http.disconnect"])

    def test_who_sends_fast_enough_may_take_longer(self, served, door):
        # Ten times the least rate, for thrice the time that a body has in any case.
        piece = b"a" * int(10 * QUICK.min_bytes_per_second * TICK)
        pieces: list[bytes | float] = [piece, TICK] * 18
        length = 18 * len(piece)
        said = served.say(
            POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % length, *pieces, door=door
        )
        assert said.statuses == [200]
        assert said.seconds > 2 * SECONDS

    def test_time_in_which_the_app_does_not_read_is_not_counted(self, demanding, door):
        app = demanding.app
        app.forget()
        body = b"a" * 1_000_000
        with demanding.connect(door) as connection:
            head = POST.replace(b"/post", b"/slow") + b"Content-Length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body[:200_000])
            time.sleep(3.5 * SECONDS)
            app.gate.set()
            time.sleep(SECONDS / 2)  # its own time, of which it has used nothing so far
            connection.sendall(body[200_000:])
            assert read_answer(connection).endswith(b"/slow 1000000")

    def test_what_the_app_says_after_the_refusal_is_dropped(self, served, app, door):
        with served.connect(door) as connection:
            connection.sendall(POST.replace(b"/post", b"/late") + b"Content-Length: 10\r\n\r\na")
            assert read_answer(connection).startswith(b"HTTP/1.1 408")
            app.gate.set()
            raw, _ = read_to_end(connection)
        assert raw == b""

    def test_a_client_that_waits_for_a_slow_app_to_say_continue_is_not_late(self, served, app, door):
        with served.connect(door) as connection:
            head = POST.replace(b"/post", b"/slow") + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
            connection.sendall(head)
            time.sleep(3 * SECONDS)
            app.gate.set()
            assert connection.recv(65536).startswith(b"HTTP/1.1 100")
            connection.sendall(b"abc")
            assert read_answer(connection).endswith(b"/slow 3")

    def test_a_slow_answer_has_no_deadline(self, served, app, door):
        with served.connect(door) as connection:
            connection.sendall(GET.replace(b"GET /", b"GET /slow"))
            time.sleep(4 * SECONDS)
            app.gate.set()
            assert read_answer(connection).endswith(b"/slow 0")


@pytest.mark.requirement("HTTP-17", by="live")
@DOORS
class TestBetweenRequests:
    def test_who_stays_idle_is_cut_off_without_a_word(self, served, door):
        said = served.say(GET, door=door)
        assert said.statuses == [200]
        assert SECONDS / 2 < said.seconds < LATE

    def test_each_request_begins_the_time_anew(self, served, door):
        with served.connect(door) as connection:
            for _ in range(10):
                connection.sendall(GET)
                assert read_answer(connection).startswith(b"HTTP/1.1 200")
                time.sleep(SECONDS / 5)


class TestTheHandshake:
    @pytest.mark.requirement("HTTP-17", by="live")
    def test_who_says_nothing_is_cut_off(self, hasty):
        with hasty.connect_tcp(Door.TLS) as connection:
            began = time.monotonic()
            assert read_to_end(connection)[0] == b""
            assert SECONDS / 2 < time.monotonic() - began < LATE

    @pytest.mark.requirement("HTTP-17", by="live")
    def test_a_byte_now_and_then_gives_no_more_time(self, hasty):
        outgoing = ssl.MemoryBIO()
        client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        hello = outgoing.read()
        with hasty.connect_tcp(Door.TLS) as connection:
            began = time.monotonic()
            with contextlib.suppress(ConnectionError):
                for byte in hello:
                    connection.sendall(bytes([byte]))
                    time.sleep(TICK)
            assert time.monotonic() - began < LATE
        eventually(lambda: hasty.open_connections == 0)

    def test_what_is_no_tls_is_cut_off_at_once(self, served):
        with served.connect_tcp(Door.TLS) as connection:
            began = time.monotonic()
            connection.sendall(GET)
            raw, _ = read_to_end(connection)
            assert b"HTTP/1.1 200" not in raw
            assert time.monotonic() - began < LATE


@DOORS
class TestTheReader:
    def narrow(self, served, door):
        """Return a connection with a small window, so that little is under way."""
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        plain.settimeout(PATIENCE_SECONDS)
        plain.connect(("127.0.0.1", served.ports[door]))
        if door is not Door.TLS:
            return plain
        return served.tls_context().wrap_socket(plain, server_hostname="localhost")

    @pytest.mark.parametrize("closes", [False, True], ids=["kept", "last"])
    def test_who_does_not_read_its_answer_is_broken_off(self, served, door, closes):
        request = (LAST if closes else GET).replace(b"GET /", b"GET /large?", 1)
        with self.narrow(served, door) as connection:
            connection.sendall(request)
            connection.recv(1)
            eventually(lambda: served.open_connections == 0)
        eventually(lambda: any("answer-unread" in line for line in served.lines))

    @pytest.mark.parametrize("closes", [False, True], ids=["kept", "last"])
    def test_who_reads_slowly_gets_it_all(self, served, door, closes):
        request = (LAST if closes else GET).replace(b"GET /", b"GET /large?", 1)
        received = 0
        with self.narrow(served, door) as connection:
            connection.sendall(request)
            began = time.monotonic()
            while received < ANSWER_BYTES:
                piece = connection.recv(65536)
                assert piece, f"cut off after {received} bytes and {time.monotonic() - began} s"
                received += len(piece)
                time.sleep(SECONDS / 150)
            assert time.monotonic() - began > 2 * SECONDS
            if closes:
                while received := len(connection.recv(65536)):
                    assert received < 1024  # the head's share of the bytes
                assert time.monotonic() - began < PATIENCE_SECONDS


def test_who_never_answers_the_end_of_tls_is_forgotten(served, monkeypatch):
    monkeypatch.setattr(accepting, "TLS_SHUTDOWN_SECONDS", 60)
    with served.connect(Door.TLS) as connection:
        connection.sendall(LAST)
        assert read_answer(connection).startswith(b"HTTP/1.1 200")
        # The client neither reads on nor closes.
        eventually(lambda: served.open_connections == 0)


def test_guards_must_be_greater_than_nothing():
    for name in ("header_seconds", "connections", "header_fields"):
        with pytest.raises(Exception, match=f"{name} is 0; allowed is more than 0"):
            slower(**{name: 0})
