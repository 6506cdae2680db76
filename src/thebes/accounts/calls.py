"""One call of the account API: read strictly, answered strictly.

JSON and, for pages without script, urlencoded forms; each field named and typed, unknown ones refused, so
that nobody sets what isn't theirs to set (mass assignment). A form that a browser navigates with is answered
by a redirect to a page of this service, never elsewhere.

Sources: OWASP REST Security and Mass Assignment; RFC 9110, 15.4.4 (303); ASVS 5.0.0, 2.2.1 and 8.2.3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlsplit

import msgspec

from thebes.answers import API_POLICY, STRICT_FIELDS, render
from thebes.csrf_tokens import FIELD, FormTokens, media_type, read_messages
from thebes.encoding import with_each_name_once
from thebes.facts import Denial, Field, Receive, RequestFacts, Send, origin_of
from thebes.tokens.cookie_jar import CookieJar

MAX_BODY_BYTES = 64 * 1024
JSON = b"application/json"
FORM = b"application/x-www-form-urlencoded"
# Fields of a page's address that say what has just happened.
TOLD = ("problem", "done")
NEXT = "next"  # the field of a form that says where to go on

UNREADABLE = Denial(422, "bad-fields", "The fields are not as they should be", "See the API's description.")
WRONG_TYPE = Denial(
    415, "media-type", "Another media type is needed", "Send application/json, or a form with its token."
)
TOO_LARGE = Denial(413, "body-too-large", "The body is too large", "64 KiB are allowed here.")

# What `encoding.random_id` makes; a value that we didn't issue is never adopted (TOK-27).
_RANDOM_ID = re.compile(rb"[A-Za-z0-9_-]{24}")

Body = TypeVar("Body", bound=msgspec.Struct)


@dataclass(slots=True)
class Call:
    """One request to a route of the package.

    Attributes:
        facts: What is known of it.
        receive: Its body.
        form_tokens: Judge forms; None takes forms without a token, where no cookie is set.
        goes_to: Where a form wants to go on to.
    """

    facts: RequestFacts
    receive: Receive
    form_tokens: FormTokens | None
    goes_to: str | None = field(default=None)

    async def read(self, kind: type[Body]) -> Body | Denial:
        """Return the body as the wanted type, or what to answer."""
        media = media_type(self.facts)
        if media == FORM:
            return await self._read_form(kind)
        if media != JSON:
            return WRONG_TYPE
        raw = await self._bytes()
        return raw if isinstance(raw, Denial) else _from_json(raw, kind)

    async def read_or_none(self, kind: type[Body]) -> Body | Denial | None:
        """Return the body likewise, or None where the request has none; a form has its token at least."""
        media = media_type(self.facts)
        if media == FORM:
            return await self._read_form(kind)
        if media not in (JSON, b""):
            return WRONG_TYPE
        raw = await self._bytes()
        if isinstance(raw, Denial):
            return raw
        if not raw:
            return None
        return _from_json(raw, kind) if media == JSON else WRONG_TYPE

    @property
    def wants_page(self) -> bool:
        """Whether a person waits for the answer: a form was sent by a navigation."""
        mode = self.facts.headers.get(b"sec-fetch-mode")
        if media_type(self.facts) != FORM:
            return False
        return mode == b"navigate" or (
            mode is None and b"text/html" in self.facts.headers.get(b"accept", b"")
        )

    def back(self, problem: str | None) -> Field:
        """Return the Location of the page to go on to: a page of this service, never another one."""
        target = self.goes_to
        if problem is not None:
            page = _local(self._referring_page()) or "/"
            target = f"{page}{'&' if '?' in page else '?'}problem={quote(problem, safe='')}"
        return (b"location", (_local(target) or "/").encode("ascii", "replace"))

    async def _read_form(self, kind: type[Body]) -> Body | Denial:
        if self.form_tokens is not None:
            denial, self.receive = await self.form_tokens.read(self.facts, self.receive)
            if denial is not None:
                return denial
        raw = await self._bytes()
        return raw if isinstance(raw, Denial) else self._from_form(raw, kind)

    async def _bytes(self) -> bytes | Denial:
        messages = await read_messages(self.receive, MAX_BODY_BYTES)
        if messages is None:
            return TOO_LARGE
        return b"".join(message.get("body", b"") for message in messages)

    def _from_form(self, raw: bytes, kind: type[Body]) -> Body | Denial:
        try:
            pairs = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=50, errors="strict")
        except ValueError:
            return UNREADABLE
        values: dict[str, Any] = dict(pairs)
        if len(values) != len(pairs):
            return UNREADABLE
        values.pop(FIELD, None)
        self.goes_to = values.pop(NEXT, None)
        try:
            return msgspec.convert(values, kind, strict=False)
        except msgspec.ValidationError:
            return UNREADABLE

    def _referring_page(self) -> str | None:
        referer = self.facts.headers.get(b"referer", b"").decode("latin-1")
        host = self.facts.headers.get(b"host", b"").decode("latin-1")
        origin = origin_of(referer)
        if origin is None or origin != origin_of(f"{self.facts.scheme}://{host}"):
            return None
        parts = urlsplit(referer)
        # The page needs its query again, which may hold a mailed token, but not what it was told before.
        pieces = (piece for piece in parts.query.split("&") if piece.partition("=")[0] not in TOLD)
        query = "&".join(filter(None, pieces))
        return f"{parts.path}?{query}" if query else parts.path


@dataclass(frozen=True, slots=True)
class Result:
    """What a handler answers.

    Attributes:
        status: Of the answer to a program.
        document: Its JSON; None for an empty body.
        headers: Cookies and what else goes with it.
    """

    status: int
    document: Any = None
    headers: Sequence[Field] = ()


async def answer(call: Call, result: Result | Denial, send: Send) -> None:
    """Send a result: to a program as JSON, to a person's form as a redirect."""
    if call.wants_page:
        problem = result.kind if isinstance(result, Denial) else None
        kept = [pair for pair in result.headers if pair[0] != b"www-authenticate"]
        await _send(send, 303, [call.back(problem), *kept, *STRICT_FIELDS, API_POLICY], b"")
        return
    if isinstance(result, Denial):
        rendered = render(result, call.facts)
        await _send(send, rendered.status, list(rendered.headers), rendered.body)
        return
    body = b"" if result.document is None else msgspec.json.encode(result.document)
    kind = [] if result.document is None else [(b"content-type", JSON)]
    await _send(send, result.status, [*kind, *result.headers, *STRICT_FIELDS, API_POLICY], body)


async def _send(send: Send, status: int, headers: list[Field], body: bytes) -> None:
    if status != 204 and not any(name == b"content-length" for name, _ in headers):
        headers = [(b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def presession_of(facts: RequestFacts, jar: CookieJar) -> str | None:
    """Return the value of the cookie that the forms of nobody are bound to; None if none of ours came."""
    value = jar.value(facts.headers.get(b"cookie"), jar.presession_name)
    return value.decode("ascii") if value is not None and _RANDOM_ID.fullmatch(value) else None


def binding_of_nobody(presession: str) -> str:
    """Return what a form token of nobody is bound to: never the id of a session, whatever the cookie says."""
    return f"presession:{presession}"


def _from_json(raw: bytes, kind: type[Body]) -> Body | Denial:
    try:
        body = msgspec.json.decode(raw, type=kind)
        # Of a name that occurs twice msgspec takes the last one; whoever looked before us, perhaps the first.
        json.loads(raw, object_pairs_hook=with_each_name_once)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return UNREADABLE
    return body


def _local(target: str | None) -> str | None:
    """Return a path of this service, or None: `//host` and `/\\host` are other hosts to a browser."""
    if not target or not target.startswith("/") or target[1:2] in ("/", "\\"):
        return None
    if any(character < "!" or character in '\\"<>' or character > "~" for character in target):
        return None
    return target
