"""Requests that could be read in two ways, and those that are too large, over a socket (HTTP-13, HTTP-16)."""

import contextlib
import json

import pytest

from gated import GET, LAST, SECONDS, Echo, gated, read_answer, read_to_end, slower
from live import eventually
from thebes.serve.accepting import Door
from thebes.serve.protocol import HELD_BYTES

pytestmark = pytest.mark.slow

POST = b"POST /post HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
HANDSHAKE = (
    b"GET /socket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture(scope="module")
def running(loop, authority):
    # The end of a refused TLS connection is waited for so often here that it must come soon.
    with gated(Echo(), loop=loop, authority=authority, guards=slower(linger_seconds=0.05)) as running:
        yield running


@pytest.fixture
def served(running):
    running.app.forget()
    running.gate.events.flush()
    running.lines.clear()
    return running


@pytest.fixture
def app(served):
    return served.app


def with_field(field: bytes) -> bytes:
    return b"GET /x HTTP/1.1\r\nHost: localhost\r\n" + field + b"\r\n\r\n"


MALFORMED = {
    "coding and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "length and coding": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "the same length twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": POST + b"Content-Length: +3\r\n\r\nabc",
    "a negative length": POST + b"Content-Length: -3\r\n\r\nabc",
    "a hexadecimal length": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "a length that is no number": POST + b"Content-Length: three\r\n\r\nabc",
    "an empty length": POST + b"Content-Length:\r\n\r\nabc",
    "a length beyond every integer": POST + b"Content-Length: 99999999999999999999\r\n\r\nabc",
    "a folded line": with_field(b"X: a\r\n b"),
    "a line folded by a tab": with_field(b"X: a\r\n\tb"),
    "a folded first field": b"GET /x HTTP/1.1\r\n Host: localhost\r\n\r\n",
    "a folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": with_field(b"X : a"),
    "a tab before the colon": with_field(b"X\t: a"),
    "a space before the colon of a length": POST + b"Content-Length : 3\r\n\r\nabc",
    "a bare LF after a field": with_field(b"X: a\nY: b"),
    "bare LFs only": GET.replace(b"\r\n", b"\n"),
    "a bare LF after the request line": GET.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
    "a bare CR in a field": with_field(b"X: a\rY: b"),
    "a bare CR in a name": with_field(b"X\rY: b"),
    "CR CR LF": with_field(b"X: a\r\r\nY: b"),
    "a NUL in a field": with_field(b"X: a\0b"),
    "a coding before chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding after chunked": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked in a list": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity as a coding": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "a coding with a parameter": POST + b"Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n",
    "a coding in HTTP/1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n",
    "a chunk size with a sign": CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n",
    "a chunk size with 0x": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "a chunk size with a space": CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n",
    "a bare LF after a chunk size": CHUNKED + b"3\nabc\r\n0\r\n\r\n",
    "a bare LF in a chunk extension": CHUNKED + b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
    "no method": b" / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an unknown method": GET.replace(b"GET", b"GOT"),
    "two spaces": GET.replace(b"GET ", b"GET  "),
    "HTTP/2 without its frames": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "CONNECT": b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a fragment": GET.replace(b"GET /", b"GET /#a"),
    "a byte above 127 in the target": GET.replace(b"GET /", b"GET /\xc3\xa4"),
    "a URL of another host": GET.replace(b"GET /", b"GET http://other.example/"),
    "a handshake with a body": HANDSHAKE + b"Content-Length: 3\r\n\r\nabc",
    "a handshake without a key": HANDSHAKE.replace(b"Sec-WebSocket-Key", b"X") + b"\r\n",
    "an upgrade to h2c with a body": POST
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
    "an old handshake": HANDSHAKE.replace(b": 13", b": 8") + b"\r\n",
    "many empty lines": b"\r\n\r\n" + GET,
    "TLS on a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.requirement("HTTP-13", by="live")
@pytest.mark.parametrize("door", [Door.PROXY, Door.TLS], ids=["plain", "tls"])
def test_what_could_be_read_in_two_ways_is_refused_and_ends_the_connection(served, app, door):
    for name, request in MALFORMED.items():
        app.reached.clear()
        # What follows would be answered with 200 if anybody read on.
        said = served.say(request + LAST, door=door)
        assert said.statuses == [400], name
        assert b"urn:thebes:problem:request-malformed" in said.raw, name
        assert said.seconds < 10 * SECONDS, name
        # The head of a broken body may be good, so its app may have been called; nothing else may.
        assert set(app.reached) <= {"/post"}, name


def test_the_bodies_of_refused_requests_never_reach_the_app_as_whole(served, app):
    for name, request in MALFORMED.items():
        app.outcomes.clear()
        served.say(request + LAST)
        assert set(app.outcomes) <= {"http.disconnect"}, name


@pytest.mark.parametrize("piece", [1, 2, 7, 64])
def test_the_same_holds_for_requests_that_come_in_pieces(served, app, piece):
    for name, request in MALFORMED.items():
        whole = request + LAST
        said = served.say(*(whole[at : at + piece] for at in range(0, len(whole), piece)))
        assert said.statuses == [400], name
        assert "/last" not in app.reached, name


@pytest.mark.parametrize("request_", ["bare LFs only", "TLS on a plain port", "a bare CR in a field"])
def test_what_can_not_become_good_is_refused_before_its_end(served, request_):
    said = served.say(MALFORMED[request_].removesuffix(b"\r\n\r\n"))
    assert said.statuses == [400]
    assert said.seconds < SECONDS / 2


@pytest.mark.requirement("HTTP-13", by="live")
def test_nothing_pipelined_past_a_refused_request_is_looked_at(served, app):
    said = served.say(GET + MALFORMED["coding and length"] + LAST)
    # The first answer stands; the refusal follows it in its order, and then the end.
    assert said.statuses == [200, 400]
    assert app.reached == ["/"]


@pytest.mark.requirement("HTTP-16", by="live")
@pytest.mark.parametrize("door", [Door.PROXY, Door.TLS], ids=["plain", "tls"])
class TestSizes:
    def test_a_header_section_of_16_kib_is_taken_and_one_byte_more_is_not(self, served, door):
        fields = b"Host: localhost\r\nConnection: close\r\nX: "
        for surplus, status in ((0, 200), (1, 431)):
            value = b"a" * (16 * 1024 - len(fields) - 2 + surplus)
            request = b"GET / HTTP/1.1\r\n" + fields + value + b"\r\n\r\n"
            assert served.say(request, door=door).statuses == [status]

    def test_a_hundred_fields_are_taken_and_one_more_is_not(self, served, door):
        head = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        for count, status in ((98, 200), (99, 431)):
            assert served.say(head + b"X: a\r\n" * count + b"\r\n", door=door).statuses == [status]

    def test_a_target_of_8000_octets_is_taken_and_one_more_is_not(self, served, door):
        for length, status in ((7999, 200), (8000, 414)):
            target = b"/" + b"a" * length
            assert served.say(LAST.replace(b"/last", target), door=door).statuses == [status]

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            pytest.param(b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000_000, 431, id="a header of 10 MB"),
            pytest.param(b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 100_000, 431, id="100,000 headers"),
            pytest.param(b"GET /" + b"a" * 10_000_000, 414, id="a target of 10 MB"),
            pytest.param(b"GET / HTTP/1.1\r\n" + b"X" * 10_000_000, 431, id="a name of 10 MB"),
        ],
    )
    def test_what_has_no_end_is_refused_long_before_it(self, served, app, door, request_, status):
        said = served.say(request_, door=door)
        # A client that sends on far past the refusal may see a reset before it reads.
        assert said.statuses == [status] or (said.was_reset and not said.statuses)
        assert app.reached == []
        eventually(lambda: served.open_connections == 0)


def test_our_own_answers_are_problems_with_strict_fields(served):
    for door, hsts in ((Door.TLS, "max-age=63072000"), (Door.PROXY, None)):
        said = served.say(with_field(b"X : a"), door=door)
        head, _, body = said.raw.partition(b"\r\n\r\n")
        assert json.loads(body) == {
            "type": "urn:thebes:problem:request-malformed",
            "title": "The request is not valid HTTP",
            "status": 400,
            "detail": "Send a request as RFC 9112 describes it.",
        }
        assert said.fields["content-length"] == str(len(body))
        assert said.fields["content-type"] == "application/problem+json"
        assert said.fields["connection"] == "close"
        assert said.fields["x-content-type-options"] == "nosniff"
        assert said.fields["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert said.fields.get("strict-transport-security") == hsts
        assert "server" not in said.fields
        assert head.lower().count(b"strict-transport-security") == (hsts is not None)


def test_the_answer_to_head_has_no_body(served):
    said = served.say(with_field(b"X : a").replace(b"GET", b"HEAD"))
    assert said.statuses == [400]
    assert said.raw.endswith(b"\r\n\r\n")


def test_a_refusal_is_an_event_with_the_address(served):
    served.say(with_field(b"X : a"), source="127.0.0.3")
    [event] = [json.loads(line) for line in served.lines]
    assert (event["event"], event["reason"], event["client"]) == (
        "request_denied",
        "request-malformed",
        "127.0.0.3",
    )


class TestWhatIsGood:
    """The other half: strictness that breaks honest clients would protect nobody for long."""

    @pytest.mark.parametrize(
        ("request_", "answer"),
        [
            pytest.param(POST + b"Content-Length: 3\r\n\r\nabc", b"/post 3", id="a length"),
            pytest.param(POST + b"Content-Length: 0\r\n\r\n", b"/post 0", id="a length of 0"),
            pytest.param(CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"/post 5", id="chunks"),
            pytest.param(CHUNKED + b"3;a=b\r\nabc\r\n0\r\n\r\n", b"/post 3", id="a chunk extension"),
            pytest.param(CHUNKED + b"3\r\nabc\r\n0\r\nT: a\r\n\r\n", b"/post 3", id="a trailer"),
            pytest.param(CHUNKED + b"1\r\na\r\n" * 5000 + b"0\r\n\r\n", b"/post 5000", id="tiny chunks"),
            pytest.param(b"\r\n" + GET, b"/ 0", id="an empty line before the request"),
            pytest.param(GET.replace(b"/ ", b"http://localhost/a "), b"/a 0", id="a URL of our host"),
            pytest.param(GET.replace(b"Host:", b"HOST:\t"), b"/ 0", id="a tab after the colon"),
            pytest.param(
                GET[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", b"/ 0", id="an upgrade to h2c"
            ),
        ],
    )
    @pytest.mark.parametrize("piece", [1, 5, 1 << 20])
    def test_is_answered_and_the_connection_goes_on(self, served, request_, answer, piece):
        with served.connect() as connection:
            for _ in range(2):
                for at in range(0, len(request_), piece):
                    connection.sendall(request_[at : at + piece])
                assert read_answer(connection).endswith(b"\r\n\r\n" + answer)
            connection.sendall(LAST)
            assert read_answer(connection).endswith(b"/last 0")

    def test_pipelined_requests_are_answered_in_their_order(self, served, app):
        body = POST + b"Content-Length: 3\r\n\r\nabc"
        said = served.say(GET + body + GET + LAST)
        assert said.statuses == [200] * 4
        assert app.reached == ["/", "/post", "/", "/last"]

    def test_trailers_do_not_become_header_fields(self, served, app):
        served.say(CHUNKED + b"1\r\na\r\n0\r\nAuthorization: Basic YTpi\r\n\r\n", SECONDS / 2, LAST)
        assert b"authorization" not in dict(app.scopes[0]["headers"])

    def test_what_follows_a_chunked_body_in_one_piece_is_not_read_and_the_answer_says_so(self, served, app):
        said = served.say(CHUNKED + b"1\r\na\r\n0\r\n\r\n" + LAST + GET)
        assert said.statuses == [200]
        assert said.fields["connection"] == "close"
        assert app.reached == ["/post"]

    def test_who_sends_more_than_fits_behind_a_request_is_answered_and_cut_off(self, served, app):
        with served.connect() as connection:
            connection.sendall(b"GET /listen HTTP/1.1\r\nHost: localhost\r\n\r\n")
            eventually(lambda: app.reached == ["/listen"])
            with contextlib.suppress(TimeoutError):
                connection.settimeout(SECONDS)
                connection.sendall(GET * 10_000)
            app.gate.set()
            raw, _ = read_to_end(connection)
        # It ends with the first read that doesn't fit; one before may have brought just as much as fits.
        assert raw.count(b"HTTP/1.1 200") <= 2 + HELD_BYTES // len(GET)
        assert b"connection: close" in raw
        assert len(app.reached) == raw.count(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"1;" + b"a" * 300_000 + b"\r\na\r\n0\r\n\r\n", id="a chunk extension of 300 KB"),
        pytest.param(b"1\r\na\r\n0\r\nT: " + b"a" * 300_000 + b"\r\n\r\n", id="a trailer of 300 KB"),
        pytest.param(b"1\r\na\r\n0\r\n" + b"T: a\r\n" * 50_000 + b"\r\n", id="50,000 trailers"),
        pytest.param(b"1\r\na\r\n" * 100_000 + b"0\r\n\r\n", id="100,000 chunks of one byte"),
    ],
)
def test_a_body_that_is_mostly_framing_is_refused(served, app, body):
    said = served.say(*(CHUNKED + body)[:16000].split(b"\0"), SECONDS / 10, body[16000:] + LAST)
    assert said.statuses == [400] or (said.was_reset and not said.statuses)
    eventually(lambda: app.outcomes == ["http.disconnect"])
    assert app.reached == ["/post"]
