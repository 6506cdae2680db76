"""Bodies stream both ways, and clients that go away are noticed and leave nothing behind."""

import gc
import socket
from contextlib import contextmanager

import pytest

from live import PATIENCE_SECONDS, eventually
from thebes.facts import RequestFacts

pytestmark = pytest.mark.slow


@contextmanager
def dialled(served):
    """A bare connection to the server."""
    with socket.create_connection(served.address, timeout=PATIENCE_SECONDS) as wire:
        yield wire


def read_until(wire, mark):
    """Read until the mark has come."""
    received = b""
    while mark not in received:
        chunk = wire.recv(65536)
        assert chunk, f"the connection ended after {received!r}"
        received += chunk
    return received


def living(kind):
    """Count what the garbage collector still finds of a kind."""
    gc.collect()
    return sum(type(thing) is kind for thing in gc.get_objects())


class TestRequestBodies:
    @pytest.mark.parametrize("framing", ["chunked", "counted"])
    def test_pieces_reach_the_app_before_the_body_has_ended(self, served, stage, framing):
        is_chunked = framing == "chunked"
        header = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: 8"

        def framed(piece):
            return b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece

        with dialled(served) as wire:
            wire.sendall(b"POST /upload HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n\r\n")
            wire.sendall(framed(b"first"))
            eventually(lambda: "received 5" in stage.notes)
            wire.sendall(framed(b"two") + (b"0\r\n\r\n" if is_chunked else b""))
            answer = read_until(wire, b"\r\n\r\n8")

        assert answer.startswith(b"HTTP/1.1 200")

    def test_a_client_that_expects_100_continue_gets_it_before_it_sends(self, served):
        with dialled(served) as wire:
            wire.sendall(b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n")
            wire.sendall(b"Expect: 100-continue\r\n\r\n")
            assert read_until(wire, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
            wire.sendall(b"12345")
            assert read_until(wire, b"\r\n\r\n5").startswith(b"HTTP/1.1 200")


class TestAnswers:
    def test_pieces_reach_the_client_before_the_app_is_done(self, ask, stage):
        with ask.stream("GET", "/drip") as answer:
            lines = answer.iter_lines()
            assert next(lines) == "first"
            assert "dripped" not in stage.notes
            stage.gate.set()
            assert list(lines) == ["last"]
        assert "dripped" in stage.notes

    def test_server_sent_events_arrive_as_they_are_sent(self, ask, stage):
        fields = {"Accept": "text/event-stream", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
        with ask.stream("GET", "/events", headers=fields) as answer:
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert "content-length" not in answer.headers
            lines = answer.iter_lines()
            assert [next(lines), next(lines)] == ["data: first", ""]
            stage.gate.set()
            assert list(lines) == ["data: last", ""]


class TestClientsThatLeave:
    @pytest.mark.parametrize(
        "request_",
        [
            pytest.param(b"GET /until-left HTTP/1.1\r\nHost: localhost\r\n\r\n", id="after the request"),
            pytest.param(
                b"POST /until-left HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc",
                id="in the middle of a body",
            ),
        ],
    )
    def test_the_app_sees_the_disconnect(self, served, stage, request_):
        with dialled(served) as wire:
            wire.sendall(request_)
            eventually(lambda: "waiting" in stage.notes)
            assert "left" not in stage.notes

        eventually(lambda: "left" in stage.notes)

    def test_nothing_of_an_aborted_request_stays_behind(self, served, stage):
        before = living(RequestFacts)
        for _ in range(20):
            with dialled(served) as wire:
                wire.sendall(b"POST /until-left HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc")
        eventually(lambda: stage.notes.count("left") == 20)

        eventually(lambda: living(RequestFacts) <= before)

    def test_others_are_served_meanwhile(self, served, stage, ask):
        with dialled(served) as wire:
            wire.sendall(b"GET /until-left HTTP/1.1\r\nHost: localhost\r\n\r\n")
            eventually(lambda: "waiting" in stage.notes)
            assert ask.get("/state").json() == "anubis"
        eventually(lambda: "left" in stage.notes)
