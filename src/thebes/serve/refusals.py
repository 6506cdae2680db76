"""What the server itself answers, before a request is complete enough to be judged by the pass."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

from thebes.answers import render
from thebes.facts import Denial, Field

Report = Callable[[str, str | None], None]
"""Called with the kind of a refusal and the client's address."""

MALFORMED = Denial(
    400, "request-malformed", "The request is not valid HTTP", "Send a request as RFC 9112 describes it."
)
TOO_SLOW = Denial(
    408, "request-timeout", "The request took too long", "Send the whole request without long pauses."
)
TARGET_TOO_LONG = Denial(
    414, "target-too-long", "The request target is too long", "Send long values in the body."
)
HEADER_TOO_LARGE = Denial(
    431, "header-too-large", "The header section is too large", "Send fewer or smaller header fields."
)
STOPPING = Denial(
    503,
    "server-stopping",
    "The server is about to stop",
    "Connect again: another process may serve already.",
    headers=((b"retry-after", b"1"),),
)


def response(denial: Denial, *, hsts: bytes | None = None, with_body: bool = True) -> bytes:
    """Return the answer as it goes on the wire; nothing can follow it on the connection.

    Args:
        denial: What is refused.
        hsts: The value of Strict-Transport-Security; None leaves it out (plain HTTP, RFC 6797 7.2).
        with_body: False for an answer to HEAD.
    """
    rendered = render(denial)
    headers: list[Field] = [
        (b"date", formatdate(usegmt=True).encode()),
        (b"connection", b"close"),
        *rendered.headers,
    ]
    if hsts is not None:
        headers.append((b"strict-transport-security", hsts))
    status = HTTPStatus(rendered.status)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", rendered.body if with_body else b""])
