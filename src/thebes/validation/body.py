"""How large a body may be, in what coding, and no XML unless asked for.

Lengths are counted on the bytes that arrive, whatever was declared. A declared coding (`gzip`,
`deflate`) is inflated in a copy only to be counted, so a bomb ends at the limit; the app gets the bytes
as they were sent. XML is refused by default; where a route takes it, a document type declaration,
and with it every external entity and expansion, is refused before the app sees it.

Does not protect: content in other media types; an app that inflates again without a limit of its own.

Sources: RFC 9110, 8.4 and 15.5; RFC 6585; OWASP Denial of Service and XXE; HTTP-16, VAL-19.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from thebes.checks import Refuse
from thebes.errors import ConfigurationError
from thebes.facts import Denial, Message, Receive, RequestFacts
from thebes.validation.inflate import CODINGS, InflateError, Inflater
from thebes.validation.xml import XmlGuard, XmlRefused

BODY_LIMIT = 1024 * 1024  # HTTP-16: far above JSON that people write, far below what hurts
MULTIPART_LIMIT = 12 * 1024 * 1024  # a file of 10 MiB (VAL-25) and its form

MAX_REMEMBERED_TYPES = 100

TOO_LARGE = Denial(
    413,
    "body-too-large",
    "The body is too large",
    "Send less, or ask the service to raise its limit for this route.",
    # RFC 9110, 15.5.14: closing keeps the client from sending the rest.
    headers=((b"connection", b"close"),),
    hint="raise it with security.route('METHOD /path', body_limit=...)",
)
LENGTH_MALFORMED = Denial(
    400, "length-malformed", "The Content-Length is not usable", "Send one decimal number."
)
CODING_REFUSED = Denial(
    415,
    "coding-refused",
    "The content coding is not accepted",
    "Send the body without Content-Encoding.",
    hint="declare it with security.route('METHOD /path', codings=['gzip'])",
)
CODING_BROKEN = Denial(
    400, "coding-broken", "The body is not in the declared coding", "Check the Content-Encoding."
)
XML_REFUSED = Denial(
    415,
    "xml-refused",
    "XML is not accepted here",
    "Send JSON or a form.",
    hint="declare it with security.route('METHOD /path', xml=True)",
)
DOCTYPE_REFUSED = Denial(
    400,
    "xml-doctype-refused",
    "XML with a document type declaration is not accepted",
    "Send the document without DOCTYPE and entities, well formed, in UTF-8.",
)

_CHARSET = re.compile(rb"charset[ \t]*=[ \t]*[\"']?([^ \t\"';,]*)")
_USUAL_CHARSETS = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii", b"iso-8859-1", b"utf-16"})
_UNITS = {"": 1, "b": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3}


class BodyLimits:
    """Refuse bodies by declared length and coding at once, by their bytes as they come.

    Args:
        limit: Bytes of a body; routes may declare another.
        multipart_limit: Bytes of a `multipart/*` body.
    """

    name = "body"

    def __init__(self, *, limit: int = BODY_LIMIT, multipart_limit: int = MULTIPART_LIMIT) -> None:
        self._limit = limit
        self._multipart_limit = multipart_limit
        self._kinds: dict[bytes, _Kind] = {}

    def __call__(self, facts: RequestFacts) -> Denial | None:
        """Judge what is declared: 400, 413 or 415."""
        headers = facts.headers
        content_type = headers.get(b"content-type", b"")
        kind = self._kinds.get(content_type) or self._new_kind(content_type)
        length = headers.get(b"content-length")
        if length is not None:
            # 19 digits hold any length that exists; int() of more would only cost time.
            if not length.isdigit() or len(length) > 19:
                return LENGTH_MALFORMED
            if facts.surroundings.routes.is_empty:
                # With fewer digits than the limit it is smaller: reading it would be half of this check.
                is_too_large = len(length) >= kind.digits and int(length) > kind.limit
            else:
                is_too_large = int(length) > self._limit_of(facts, kind)
            if is_too_large:
                return TOO_LARGE
        if b"content-encoding" in headers and _coding(facts) not in ("", *facts.route.codings):
            accepted = ", ".join(sorted(facts.route.codings)) or "identity"
            return replace(CODING_REFUSED, headers=((b"accept-encoding", accepted.encode()),))
        if kind.is_xml and not (facts.route.xml and kind.has_usual_charset):
            return XML_REFUSED
        return None

    def guard(self, facts: RequestFacts, receive: Receive, refuse: Refuse) -> Receive:
        """Return a `receive` that counts; past the limit it refuses and reports a disconnect."""
        content_type = facts.headers.get(b"content-type", b"")
        kind = self._kinds.get(content_type) or self._new_kind(content_type)
        limit = kind.limit if facts.surroundings.routes.is_empty else self._limit_of(facts, kind)
        if kind.is_xml or b"content-encoding" in facts.headers:
            body = _Inspected(limit, _coding(facts), is_xml=kind.is_xml)
            return _inspected(receive, refuse, body)
        return _counted(receive, refuse, limit)

    def _limit_of(self, facts: RequestFacts, kind: _Kind) -> int:
        declared = facts.route.body_limit
        return kind.limit if declared is None else declared

    def _new_kind(self, content_type: bytes) -> _Kind:
        lower = content_type.lower()
        limit = self._multipart_limit if lower.startswith(b"multipart/") else self._limit
        kind = _Kind(limit, len(str(limit)), _is_xml(lower), _has_usual_charset(lower))
        # A service sees a handful; a client that invents more only has them worked out again.
        if len(self._kinds) < MAX_REMEMBERED_TYPES and len(content_type) < 100:
            self._kinds[content_type] = kind
        return kind


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a Content-Type means: the limit where no route declares another, with its count of digits."""

    limit: int
    digits: int
    is_xml: bool
    has_usual_charset: bool


def _counted(receive: Receive, refuse: Refuse, left: int) -> Receive:
    """Count the bytes down, and nothing more: the way of nearly all bodies."""

    async def receive_counted() -> Message:
        nonlocal left
        if left < 0:
            return {"type": "http.disconnect"}
        message = await receive()
        body = message.get("body")
        if body:
            left -= len(body)
            if left < 0:
                await refuse(TOO_LARGE)
                return {"type": "http.disconnect"}
        return message

    return receive_counted


def _inspected(receive: Receive, refuse: Refuse, body: _Inspected) -> Receive:
    async def receive_inspected() -> Message:
        if body.is_refused:
            return {"type": "http.disconnect"}
        message = await receive()
        if message["type"] == "http.request":
            denial = body.take(message.get("body", b""), more=message.get("more_body", False))
            if denial is not None:
                await refuse(denial)
                return {"type": "http.disconnect"}
        return message

    return receive_inspected


class _Inspected:
    """The bytes of one body so far, as sent and as inflated, and its XML prolog."""

    def __init__(self, limit: int, coding: str, *, is_xml: bool) -> None:
        self._limit = limit
        self._sent = 0
        self._inflated = 0
        self._inflater = Inflater(coding) if coding else None
        self._xml = XmlGuard() if is_xml else None
        self.is_refused = False

    def take(self, chunk: bytes, *, more: bool) -> Denial | None:
        denial = self._judge(chunk, more)
        self.is_refused = denial is not None
        return denial

    def _judge(self, chunk: bytes, more: bool) -> Denial | None:
        self._sent += len(chunk)
        if self._sent > self._limit:
            return TOO_LARGE
        if self._inflater is None:
            return self._judge_xml(chunk, more)
        try:
            for plain in self._inflater.take(chunk, self._limit - self._inflated):
                self._inflated += len(plain)
                if self._inflated > self._limit:
                    return TOO_LARGE
                denial = self._judge_xml(plain, True)
                if denial is not None:
                    return denial
            if not more:
                self._inflater.finish()
        except InflateError:
            return CODING_BROKEN
        return None if more else self._judge_xml(b"", False)

    def _judge_xml(self, chunk: bytes, more: bool) -> Denial | None:
        if self._xml is None:
            return None
        try:
            self._xml.take(chunk, is_final=not more)
        except XmlRefused:
            return DOCTYPE_REFUSED
        return None


def parse_codings(codings: Iterable[str]) -> frozenset[str]:
    """Return content codings in lower case.

    Raises:
        ConfigurationError: A coding that can't be inflated, and so not be counted.
    """
    names = codings.split(",") if isinstance(codings, str) else codings
    asked = frozenset(coding.strip().lower() for coding in names)
    if asked - CODINGS:
        raise ConfigurationError(
            f"codings has {', '.join(sorted(asked - CODINGS))}; allowed are {', '.join(sorted(CODINGS))}"
        )
    return asked


def parse_size(value: int | str) -> int:
    """Return bytes from a number, or from text such as `1MiB`, `512 KiB`, `1GiB`.

    Raises:
        ConfigurationError: Another unit, or a negative size.
    """
    match = re.fullmatch(r"\s*+([0-9]{1,15})\s*+([A-Za-z]*+)\s*+", str(value))
    if match is None or match[2].lower() not in _UNITS:
        raise ConfigurationError(
            f"{value!r} is no size: write bytes as a number, or KiB, MiB or GiB, such as '12MiB'"
        )
    return int(match[1]) * _UNITS[match[2].lower()]


def _coding(facts: RequestFacts) -> str:
    """Return the declared coding in lower case; empty for none and for `identity`."""
    coding = facts.headers.get(b"content-encoding", b"").strip(b" \t").lower().decode("latin-1")
    return "" if coding == "identity" else coding


def _has_usual_charset(content_type: bytes) -> bool:
    """Say whether the charset parameter, which wins over the document (RFC 7303, 3.1), hides nothing.

    Under UTF-7 and its kind a document type declaration is spelt in other bytes than the guard reads.
    """
    return all(name in _USUAL_CHARSETS for name in _CHARSET.findall(content_type))


def _is_xml(content_type: bytes) -> bool:
    """Say whether a media type in lower case is XML by name or by suffix (RFC 7303, 8)."""
    # A doubled field was joined with commas: whichever of them the app reads, XML counts.
    media_types = (piece.partition(b";")[0].strip(b" \t") for piece in content_type.split(b","))
    return any(
        media_type in (b"application/xml", b"text/xml")
        or media_type.startswith((b"application/xml-", b"text/xml-"))
        or media_type.endswith(b"+xml")
        for media_type in media_types
    )
