"""Where a request ends: tables for the judges, and the promise that no input makes them raise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.serve.framing import CHUNKED, body_length, is_good_handshake, judge_head, judge_parsed, judge_part
from thebes.serve.guards import Guards
from thebes.serve.refusals import HEADER_TOO_LARGE, MALFORMED, TARGET_TOO_LONG

GUARDS = Guards()
HOST = (b"host", b"example.com")
KEY = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
VERSION = (b"sec-websocket-version", b"13")


@pytest.mark.parametrize(
    ("head", "verdict"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", None, id="an ordinary request"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", None, id="HTTP/1.0"),
        pytest.param(b"GET / HTTP/2.0\r\n\r\n", MALFORMED, id="HTTP/2 without its frames"),
        pytest.param(b"GET / HTTP/1.2\r\n\r\n", MALFORMED, id="a version that isn't there"),
        pytest.param(b"GET /\r\n\r\n", MALFORMED, id="HTTP/0.9"),
        pytest.param(b"GET / RTSP/1.0\r\n\r\n", MALFORMED, id="another protocol"),
        pytest.param(b"GET  / HTTP/1.1\r\n\r\n", MALFORMED, id="two spaces before the target"),
        pytest.param(b"GET /  HTTP/1.1\r\n\r\n", MALFORMED, id="two spaces behind it"),
        pytest.param(b"GET /a b HTTP/1.1\r\n\r\n", MALFORMED, id="a space in the target"),
        pytest.param(b"GET / HTTP/1.1 \r\n\r\n", MALFORMED, id="a space at the end"),
        pytest.param(b"GET /" + b"a" * 7999 + b" HTTP/1.1\r\n\r\n", None, id="a target of 8000 octets"),
        pytest.param(b"GET /" + b"a" * 8000 + b" HTTP/1.1\r\n\r\n", TARGET_TOO_LONG, id="of 8001"),
        pytest.param(b"GET / HTTP/1.1\r\nA: " + b"a" * 16379 + b"\r\n\r\n", None, id="fields of 16 KiB"),
        pytest.param(
            b"GET / HTTP/1.1\r\nA: " + b"a" * 16380 + b"\r\n\r\n", HEADER_TOO_LARGE, id="and one byte more"
        ),
    ],
)
def test_a_whole_head_is_judged_by_its_form_and_its_sizes(head, verdict):
    assert judge_head(head, GUARDS) is verdict


@pytest.mark.parametrize(
    ("part", "verdict"),
    [
        pytest.param(b"G", None, id="one byte"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r", None, id="half a line end"),
        pytest.param(b"GET / HTTP/1.1\n", MALFORMED, id="a bare LF"),
        pytest.param(b"GET / HTTP/1.1\r\nA: b\rc", MALFORMED, id="a bare CR"),
        pytest.param(b"\x16\x03\x01", MALFORMED, id="TLS on a plain port"),
        pytest.param(b" GET", MALFORMED, id="a space"),
        pytest.param(b"GET /" + b"a" * 8200, TARGET_TOO_LONG, id="a target that doesn't end"),
        pytest.param(
            b"GET / HTTP/1.1\r\nA: " + b"a" * 16500, HEADER_TOO_LARGE, id="a field that doesn't end"
        ),
    ],
)
def test_what_can_become_no_good_head_is_refused_before_its_end(part, verdict):
    assert judge_part(part, GUARDS) is verdict


@given(st.binary(min_size=1, max_size=300), st.booleans())
def test_no_bytes_make_the_judges_of_a_head_raise(raw, as_head):
    judge_part(raw, GUARDS)
    if as_head:
        judge_head(raw + b"\r\n\r\n", GUARDS)


# A request that ends is never refused half-way and taken as a whole, or the other way round.
@given(st.integers(1, 9000), st.integers(1, 17000), st.data())
def test_a_good_head_is_good_in_every_part(target, value, data):
    head = b"GET /" + b"a" * target + b" HTTP/1.1\r\nA: " + b"b" * value + b"\r\n\r\n"
    if judge_head(head, GUARDS) is None:
        end = data.draw(st.integers(1, len(head) - 1))
        assert judge_part(head[:end], GUARDS) is None


@pytest.mark.parametrize(
    ("fields", "version", "length"),
    [
        pytest.param([], "1.1", 0, id="no body"),
        pytest.param([(b"content-length", b"12")], "1.1", 12, id="a length"),
        pytest.param([(b"transfer-encoding", b"chunked")], "1.1", CHUNKED, id="chunked"),
        pytest.param([(b"transfer-encoding", b"Chunked")], "1.1", CHUNKED, id="chunked in any case"),
        pytest.param([(b"transfer-encoding", b"chunked")], "1.0", None, id="chunked in HTTP/1.0"),
        pytest.param([(b"transfer-encoding", b"gzip, chunked")], "1.1", None, id="gzip, chunked"),
        pytest.param([(b"transfer-encoding", b"chunked, chunked")], "1.1", None, id="chunked in a list"),
        pytest.param([(b"transfer-encoding", b"identity")], "1.1", None, id="identity"),
        pytest.param([(b"transfer-encoding", b"xchunked")], "1.1", None, id="xchunked"),
        pytest.param([(b"transfer-encoding", b"chunked")] * 2, "1.1", None, id="chunked twice"),
        pytest.param(
            [(b"transfer-encoding", b"chunked"), (b"content-length", b"3")], "1.1", None, id="both fields"
        ),
        pytest.param([(b"content-length", b"3")] * 2, "1.1", None, id="the same length twice"),
        pytest.param([(b"content-length", b"3, 3")], "1.1", None, id="a list of lengths"),
        pytest.param([(b"content-length", b"+3")], "1.1", None, id="a signed length"),
        pytest.param([(b"content-length", b"-3")], "1.1", None, id="a negative length"),
        pytest.param([(b"content-length", b"0x3")], "1.1", None, id="a hexadecimal length"),
        pytest.param([(b"content-length", b"3 ")], "1.1", None, id="a length with a space"),
        pytest.param([(b"content-length", b"")], "1.1", None, id="an empty length"),
        pytest.param([(b"content-length", b"9" * 19)], "1.1", None, id="a length beyond every integer"),
        pytest.param([(b"content-length", "\u0663".encode())], "1.1", None, id="a digit of another script"),
    ],
)
def test_the_length_of_a_body(fields, version, length):
    assert body_length([HOST, *fields], version) == length


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        (b"/path?query", None),
        (b"*", None),
        (b"http://example.com/path", None),
        (b"HTTPS://EXAMPLE.com?a=//b", None),
        (b"http://other.example/path", MALFORMED),
        (b"http://user@example.com/", MALFORMED),
        (b"http://example.com:80/", MALFORMED),
        (b"ftp://example.com/", MALFORMED),
        (b"example.com:443", MALFORMED),
        (b"path", MALFORMED),
        (b"/path#fragment", MALFORMED),
    ],
)
def test_a_target_in_absolute_form_speaks_of_the_host_that_is_named(target, verdict):
    assert judge_parsed(target, [HOST], GUARDS) is verdict


def test_a_hundred_fields_are_taken_and_one_more_is_not():
    assert judge_parsed(b"/", [HOST] * 100, GUARDS) is None
    assert judge_parsed(b"/", [HOST] * 101, GUARDS) is HEADER_TOO_LARGE


@pytest.mark.parametrize(
    ("line", "fields", "is_good"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n", [KEY, VERSION], True, id="a handshake"),
        pytest.param(b"POST / HTTP/1.1\r\n", [KEY, VERSION], False, id="POST"),
        pytest.param(b"GET / HTTP/1.0\r\n", [KEY, VERSION], False, id="HTTP/1.0"),
        pytest.param(b"GET / HTTP/1.1\r\n", [VERSION], False, id="no key"),
        pytest.param(b"GET / HTTP/1.1\r\n", [KEY, KEY, VERSION], False, id="two keys"),
        pytest.param(b"GET / HTTP/1.1\r\n", [(KEY[0], b"c2hvcnQ="), VERSION], False, id="a short key"),
        pytest.param(b"GET / HTTP/1.1\r\n", [(KEY[0], b"%%"), VERSION], False, id="a key that is none"),
        pytest.param(b"GET / HTTP/1.1\r\n", [KEY, (VERSION[0], b"8")], False, id="another version"),
        pytest.param(b"GET / HTTP/1.1\r\n", [KEY, VERSION, VERSION], False, id="two versions"),
    ],
)
def test_what_is_a_websocket_handshake(line, fields, is_good):
    assert is_good_handshake(line, [HOST, *fields]) is is_good
