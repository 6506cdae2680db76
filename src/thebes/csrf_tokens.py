"""Tokens in forms: the second stage, bound to the session that is known by then.

Where the first stage rests on what browsers say about a request, this one rests on what only a page of the
session can know. A token is random bits and their MAC together with the session's id, so a token of another
session, planted or stolen, is refused, and so is every token from before the last sign-in. Forms of nobody
bind to a cookie of their own, which is dropped at sign-in.

Does not protect: a page of yours that runs the attacker's script.

Sources: OWASP CSRF Prevention (signed, session-bound); ASVS 5.0.0, 3.5.1; CSR-04, CSR-07.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol
from urllib.parse import parse_qsl

from thebes.encoding import decode, encode, random_bytes
from thebes.facts import Denial, Message, Receive, RequestFacts

RANDOM_BYTES = 24  # CSR-04 asks for 128 bits
HEADER = b"x-csrf-token"
FIELD = "csrf_token"
# Larger forms, and multipart ones, bring the token in the header: so much is held back for each request.
MAX_FORM_BYTES = 64 * 1024
MAX_TOKEN = 256
MAX_FIELDS = 1000

When = Literal["forms", "always"]

MISSING = Denial(
    403,
    "csrf-token",
    "The form is out of date",
    "Load the page again and send it once more. Programs send the token as X-CSRF-Token.",
)


class MacKeys(Protocol):
    """MACs for this purpose alone; the keyring has them."""

    def mac(self, message: bytes) -> tuple[str, bytes]:
        """Return the id of the key in use, and the message's MAC under it."""
        ...

    def verify(self, key_id: str, message: bytes, tag: bytes) -> bool:
        """Say whether `mac` made the tag, in constant time."""
        ...


class CsrfTokens:
    """Make and judge tokens.

    Args:
        keys: MACs for this purpose.
    """

    def __init__(self, keys: MacKeys) -> None:
        self._keys = keys

    def issue(self, binding: str) -> str:
        """Return a new token for a session, or for the anonymous cookie of a form."""
        chance = random_bytes(RANDOM_BYTES)
        key_id, tag = self._keys.mac(_message(binding, chance))
        return f"{encode(chance)}.{key_id}.{encode(tag)}"

    def is_genuine(self, token: str, binding: str) -> bool:
        """Say whether this token was made for this binding."""
        parts = token.split(".")
        if len(token) > MAX_TOKEN or len(parts) != 3:
            return False
        try:
            chance, tag = decode(parts[0]), decode(parts[2])
        except ValueError:
            return False
        return len(chance) == RANDOM_BYTES and self._keys.verify(parts[1], _message(binding, chance), tag)


class FormTokens:
    """Judge the token of a request, reading it out of a small form where no header brings it.

    Args:
        tokens: Judge them.
        binding: Returns what a request's tokens are bound to: its session, else its anonymous cookie.
        when: `forms`: bodies that an HTML form can send. `always`: every unsafe request of a session.
    """

    name = "csrf_token"

    def __init__(
        self,
        tokens: CsrfTokens,
        *,
        binding: Callable[[RequestFacts], str | None],
        when: When = "forms",
    ) -> None:
        self._tokens = tokens
        self._binding = binding
        self._when = when

    def concerns(self, facts: RequestFacts) -> bool:
        """Say whether this request needs a token: unsafe, with what a browser adds by itself."""
        if facts.method in ("GET", "HEAD", "OPTIONS") or facts.credential == "bearer":
            return False
        if "csrf" in facts.route.exempt:
            return False
        if self._when == "always" and facts.claims is not None:
            return True
        if facts.claims is None and _is_program(facts):
            return False
        return media_type(facts) in _FORMS

    async def read(self, facts: RequestFacts, receive: Receive) -> tuple[Denial | None, Receive]:
        """Judge the token; return what to answer, and a `receive` that replays what was read."""
        binding = self._binding(facts)
        if binding is None:
            return MISSING, receive
        header = facts.headers.get(HEADER)
        if header is not None:
            return self._judge([header.decode("latin-1")], binding), receive
        if media_type(facts) != b"application/x-www-form-urlencoded":
            return MISSING, receive
        messages = await read_messages(receive, MAX_FORM_BYTES)
        replayed = replaying(messages or (), receive)
        if messages is None:
            return MISSING, receive
        body = b"".join(message.get("body", b"") for message in messages)
        return self._judge(form_values(body, FIELD), binding), replayed

    def _judge(self, values: Sequence[str], binding: str) -> Denial | None:
        # A doubled field is two opinions about which one counts.
        is_good = len(values) == 1 and self._tokens.is_genuine(values[0], binding)
        return None if is_good else MISSING


async def read_messages(receive: Receive, limit: int) -> Sequence[Message] | None:
    """Return the messages of a whole body, or None if it is larger or the client has gone."""
    messages: list[Message] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        messages.append(message)
        size += len(message.get("body", b""))
        if size > limit:
            return None
        if not message.get("more_body", False):
            return messages


def replaying(messages: Sequence[Message], receive: Receive) -> Receive:
    """Return a `receive` that yields these messages first."""
    pending = list(reversed(messages))

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


def form_values(body: bytes, name: str) -> Sequence[str]:
    """Return all values of a field of an urlencoded body."""
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        return ()
    return [value for key, value in pairs if key == name]


def media_type(facts: RequestFacts) -> bytes:
    """Return the media type of a request's body, without parameters."""
    return facts.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def _is_program(facts: RequestFacts) -> bool:
    """Say whether a token that no browser adds by itself is all that came: that of the app, say (CSR-05)."""
    headers = facts.headers
    credentials = headers.get(b"authorization", b"").lower()
    return b"cookie" not in headers and credentials.startswith((b"bearer ", b"dpop "))


def _message(binding: str, chance: bytes) -> bytes:
    # The random part has a fixed length, so no two pairs give one message.
    return chance + binding.encode()


_FORMS = frozenset({b"application/x-www-form-urlencoded", b"multipart/form-data", b"text/plain"})
