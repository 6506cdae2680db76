"""Where a request begins and ends: stricter than any parser in front of us or behind us may be.

Two programs that disagree on the end of a request let an attacker hide a second one in the first
(request smuggling). So what could be read in two ways isn't read at all: the connection is closed.

Sources: RFC 9112, 2.2 (bare CR and LF), 3 (request line), 5.1 (space before the colon), 5.2 (folded
lines), 6.1 and 6.3 (length); ASVS 4.2.1; HTTP-13, HTTP-16.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from thebes.facts import Denial, Field
from thebes.serve.guards import Guards
from thebes.serve.refusals import HEADER_TOO_LARGE, MALFORMED, TARGET_TOO_LONG

CHUNKED = -1
"""The length of a body that says itself where it ends."""

CR, SLASH = b"\r/"
_VERSIONS = (b"HTTP/1.1", b"HTTP/1.0")
# Around a target: the longest method that llhttp knows, the version, two spaces.
_LONGEST_REST_OF_LINE = 32
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def judge_head(head: bytes, guards: Guards) -> Denial | None:
    """Judge sizes and the form of the request line, in a head as it came, empty line included.

    What is in the fields the parser judges after us: bare CR and LF, folded lines, a space before the
    colon, two lengths. That it does is tried at each start.
    """
    # partition and split, since find and count parse their arguments for longer than they search.
    line, _, fields = head.partition(b"\r\n")
    parts = line.split(b" ")
    if len(line) > guards.target_bytes and len(parts) > 1 and len(parts[1]) > guards.target_bytes:
        return TARGET_TOO_LONG
    if len(fields) - 2 > guards.header_bytes:
        return HEADER_TOO_LARGE
    return None if len(parts) == 3 and parts[2] in _VERSIONS else MALFORMED


def judge_parsed(target: bytes, fields: Sequence[Field], guards: Guards) -> Denial | None:
    """Judge target and number of fields of a head that the parser has found good."""
    if len(fields) > guards.header_fields:
        return HEADER_TOO_LARGE
    # A fragment never travels (RFC 9110, 4.2.5); routers and proxies cut it off at different places.
    if b"#" in target or (target[0] != SLASH and not _is_good_target(target, fields)):
        return MALFORMED
    return None


def judge_part(part: bytes, guards: Guards) -> Denial | None:
    """Judge the beginning of a head whose end hasn't come: what can't become good is refused now."""
    end = part.find(b"\r\n")
    whole_lines = part[:-1] if part.endswith(b"\r") else part
    count = whole_lines.count(b"\r\n")
    if part[0] not in _TOKEN or whole_lines.count(b"\n") != count or whole_lines.count(b"\r") != count:
        return MALFORMED
    if end < 0:
        is_too_long = len(part) > guards.target_bytes + _LONGEST_REST_OF_LINE
        return TARGET_TOO_LONG if is_too_long else None
    # Two more bytes: the CR and LF of the last field may be followed by those of the empty line.
    return HEADER_TOO_LARGE if len(part) - end - 4 > guards.header_bytes else None


def body_length(fields: Sequence[Field], version: str) -> int | None:
    """Return the length of the body, `CHUNKED`, or None if it can't be told without doubt.

    Args:
        fields: Names in lower case.
        version: `1.1` or `1.0`.
    """
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if not codings:
        if not lengths:
            return 0
        # 18 digits hold any length that exists, and every parser's integers hold them.
        is_plain = len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) <= 18
        return int(lengths[0]) if is_plain else None
    # RFC 9112, 6.1: HTTP/1.0 has no codings; with both fields one of them is a lie. Any list of
    # codings, also one that ends in chunked, is one that somebody in front may have read otherwise.
    is_chunked = not lengths and len(codings) == 1 and codings[0].lower() == b"chunked"
    return CHUNKED if is_chunked and version == "1.1" else None


def judge_upgrade(head: bytes, fields: Sequence[Field], *, is_handshake: bool) -> Denial | None:
    """Judge a request for another protocol: WebSocket, or one that is ignored (RFC 9110, 7.8).

    The parser takes what follows for the other protocol's, so a body would be read as a request.

    Args:
        head: As it came.
        fields: Names in lower case.
        is_handshake: Whether the other protocol is one that we speak.
    """
    is_good = not is_handshake or is_good_handshake(head, fields)
    return None if is_good and body_length(fields, "1.1") == 0 else MALFORMED


def is_good_handshake(head: bytes, fields: Sequence[Field]) -> bool:
    """Say whether a request that asks for a WebSocket is one (RFC 6455, 4.2.1)."""
    line = head[: head.find(b"\r\n")]
    keys = [value for name, value in fields if name == b"sec-websocket-key"]
    versions = [value for name, value in fields if name == b"sec-websocket-version"]
    is_get = line.startswith(b"GET ") and line.endswith(b" HTTP/1.1")
    if not is_get or versions != [b"13"] or len(keys) != 1:
        return False
    try:
        return len(base64.b64decode(keys[0], validate=True)) == 16
    except binascii.Error:
        return False


def _is_good_target(target: bytes, fields: Sequence[Field]) -> bool:
    """Judge a target that doesn't begin with a slash: `*` of OPTIONS, or an absolute URL.

    RFC 9112, 3.2.2: the URL's host would win over Host, but who only reads Host must not be misled.
    """
    if target == b"*":
        return True
    scheme, separator, rest = target.partition(b"://")
    authority = rest.partition(b"/")[0].partition(b"?")[0]
    is_same_host = authority.lower() == dict(fields).get(b"host", b"").lower()
    return separator == b"://" and scheme.lower() in (b"http", b"https") and is_same_host
