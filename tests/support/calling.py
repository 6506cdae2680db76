"""Call an ASGI app as a server does, message by message, and see each message that it sent."""

from dataclasses import dataclass, field
from typing import Any

from thebes.facts import ASGIApp


def http_scope(
    path: str = "/", method: str = "GET", headers: list[tuple[bytes, bytes]] | None = None, **more: Any
) -> dict[str, Any]:
    """Return the scope of one HTTP request to localhost; `more` are further keys of it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "headers": [(b"host", b"localhost"), *(headers or [])],
    } | more


async def call(app: ASGIApp, scope: Any, *chunks: bytes) -> list[Any]:
    """Return what the app sends for a request whose body comes in these chunks; then the client leaves."""
    pending: list[Any] = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks)}
        for number, chunk in enumerate(chunks or (b"",), 1)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return pending.pop(0) if pending else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def fields_of(sent: list[Any]) -> dict[bytes, bytes]:
    """Return the fields of the answer that was sent."""
    return dict(sent[0]["headers"])


@dataclass
class Reader:
    """An app that reads its body to the end, and tells afterwards what it saw.

    Attributes:
        received: The bytes of each request so far.
        ended: Whether the body of the last request came to its end.
    """

    received: list[bytes] = field(default_factory=list)
    ended: bool = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Read on until the body ends or the client is gone, and answer with the length in both cases."""
        self.received.append(b"")
        self.ended = False
        while not self.ended:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            self.received[-1] += message["body"]
            self.ended = not message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % len(self.received[-1])})
