"""Bodies over the limit, behind the pass and in front of it: 413 and 415 arrive, and the upload ends there."""

import contextlib
import gzip
import json
import socket
import ssl
import time

import pytest

from gated import GET, SECONDS, Echo, gated, read_answer, read_to_end, slower
from live import PATIENCE_SECONDS, eventually
from thebes import Security
from thebes.serve.accepting import Door

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
MULTIPART = b"Content-Type: multipart/form-data; boundary=x\r\n"
DOORS = pytest.mark.parametrize("door", [Door.PROXY, Door.TLS], ids=["plain", "tls"])


@pytest.fixture(scope="module")
def served(loop, authority):
    app = Echo()
    security = Security()
    security.route("POST /upload", body_limit="2MiB")
    security.route("POST /packed", codings=["gzip"])
    security.route("POST /early", body_limit="1GiB")
    guards = slower(body_seconds=30, header_seconds=30, linger_seconds=1)
    with gated(security.wrap(app), loop=loop, authority=authority, guards=guards) as running:
        running.app = app
        yield running


@pytest.fixture
def app(served):
    served.app.forget()
    return served.app


def declared(target: bytes, body: bytes, fields: bytes = b"") -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %d\r\n\r\n"
    return head % (target, fields, len(body)) + body


def chunked(target: bytes, body: bytes, fields: bytes = b"") -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\n%sTransfer-Encoding: chunked\r\n\r\n"
    pieces = [body[at : at + 65536] for at in range(0, len(body), 65536)]
    return (
        head % (target, fields)
        + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        + b"0\r\n\r\n"
    )


def answer_to(served, door, request: bytes) -> bytes:
    """Send, and stop as soon as there is an answer, as browsers do."""
    with served.connect(door) as connection:
        for at in range(0, len(request), 16384):
            with contextlib.suppress(OSError):
                connection.sendall(request[at : at + 16384])
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
                begun = connection.recv(65536)
                connection.settimeout(PATIENCE_SECONDS)
                return begun if begun.endswith(b"}") else begun + read_to_end(connection)[0]
            connection.settimeout(PATIENCE_SECONDS)
        return read_answer(connection)


def status(answer: bytes) -> int:
    return int(answer[9:12])


@pytest.mark.requirement("HTTP-16", by="live")
@DOORS
@pytest.mark.parametrize("framed", [declared, chunked], ids=["declared", "chunked"])
class TestTheLimits:
    @pytest.mark.parametrize(
        ("target", "fields", "limit"),
        [
            pytest.param(b"/post", b"", MIB, id="of any body: 1 MiB"),
            pytest.param(b"/post", MULTIPART, 12 * MIB, id="of multipart: 12 MiB"),
            pytest.param(b"/upload", b"", 2 * MIB, id="of a route: what it says"),
            pytest.param(b"/upload", MULTIPART, 2 * MIB, id="of a route, multipart too"),
        ],
    )
    def test_hold_to_the_byte(self, served, app, door, framed, target, fields, limit):
        answer = answer_to(served, door, framed(target, bytes(limit), fields))
        assert answer.endswith(b"%s %d" % (target, limit))
        answer = answer_to(served, door, framed(target, bytes(limit + 1), fields))
        assert status(answer) == 413
        assert b"connection: close" in answer
        # Only the first was whole for the app; of the other it was told that the client has gone, if anything.
        eventually(lambda: served.open_connections == 0)
        assert app.outcomes.count("http.request") == 1

    def test_a_coding_that_is_not_declared_is_refused(self, served, app, door, framed):
        body = gzip.compress(b"a" * 100)
        for coding in (b"gzip", b"br", b"deflate, gzip", b"x"):
            fields = b"Content-Encoding: " + coding + b"\r\n"
            assert status(answer_to(served, door, framed(b"/post", body, fields))) == 415
        assert app.reached == []

    def test_a_declared_coding_is_counted_as_it_unfolds(self, served, app, door, framed):
        fields = b"Content-Encoding: gzip\r\n"
        small, bomb = gzip.compress(bytes(MIB)), gzip.compress(bytes(MIB + 1))
        assert len(bomb) < 2048
        assert answer_to(served, door, framed(b"/packed", small, fields)).endswith(b"/packed %d" % len(small))
        assert status(answer_to(served, door, framed(b"/packed", bomb, fields))) == 413


@DOORS
class TestABodyThatGoesOn:
    def test_after_413_is_read_for_a_while_and_then_cut_off(self, served, app, door):
        """uvicorn alone would swallow all 200 MB."""
        head = declared(b"/post", b"").replace(b"Length: 0", b"Length: 200000000")
        sent, piece = 0, bytes(65536)
        with served.connect(door) as connection:
            connection.sendall(head)
            with contextlib.suppress(OSError):
                while sent < 200_000_000:
                    connection.sendall(piece)
                    sent += len(piece)
            assert sent < 20_000_000  # what is read, and what lies in the kernels' buffers
        eventually(lambda: served.open_connections == 0)
        assert app.reached == []

    def test_after_413_is_seen_by_a_client_that_sends_it_all_before_it_reads(self, served, app, door):
        body = bytes(MIB + 500_000)
        with served.connect(door) as connection:
            connection.sendall(chunked(b"/post", body))
            answer, was_reset = read_to_end(connection)
        assert status(answer) == 413
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "urn:thebes:problem:body-too-large"
        assert not was_reset

    def test_nothing_behind_a_refused_body_is_looked_at(self, served, app, door):
        with served.connect(door) as connection:
            connection.sendall(declared(b"/post", bytes(MIB + 1)) + GET * 5)
            answer, _ = read_to_end(connection)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert app.reached == []

    def test_slowly_after_413_is_cut_off_when_its_time_is_over(self, served, app, door):
        head = declared(b"/post", b"").replace(b"Length: 0", b"Length: 2000000")
        with served.connect(door) as connection:
            connection.sendall(head)
            assert status(read_answer(connection)) == 413
            began = time.monotonic()
            with contextlib.suppress(OSError):
                while time.monotonic() - began < 20:
                    connection.sendall(b"a")
                    time.sleep(SECONDS / 3)
            assert time.monotonic() - began < 5
        eventually(lambda: served.open_connections == 0)

    def test_after_an_early_answer_is_read_to_its_end_if_that_is_near(self, served, app, door):
        with served.connect(door) as connection:
            request = declared(b"/early", bytes(500_000))
            connection.sendall(request[:1000])
            assert read_answer(connection).endswith(b"/early 0")
            connection.sendall(request[1000:])
            connection.sendall(GET)
            assert read_answer(connection).endswith(b"/ 0")

    def test_after_an_early_answer_is_cut_off_if_its_end_is_far(self, served, app, door):
        head = declared(b"/early", b"").replace(b"Length: 0", b"Length: 200000000")
        sent, piece = 0, bytes(65536)
        with served.connect(door) as connection:
            connection.sendall(head)
            assert read_answer(connection).endswith(b"/early 0")
            with contextlib.suppress(OSError):
                while sent < 200_000_000 - len(piece):
                    connection.sendall(piece)
                    sent += len(piece)
            assert sent < 20_000_000
        eventually(lambda: served.open_connections == 0)


def test_a_body_that_breaks_off_is_no_whole_body(served, app):
    with served.connect() as connection:
        connection.sendall(chunked(b"/post", bytes(100))[:-5])
        eventually(lambda: app.reached == ["/post"])
        connection.shutdown(socket.SHUT_WR)
        read_to_end(connection)
    eventually(lambda: app.outcomes == ["http.disconnect"])
