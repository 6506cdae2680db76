"""Make the facts of a request for tables of rules, without a server."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thebes.facts import ASGIApp, RequestFacts, Surroundings


def request_facts(
    method: str = "GET",
    path: str = "/",
    headers: Mapping[str, str] | list[tuple[str, str]] | None = None,
    *,
    surroundings: Surroundings | None = None,
    **scope: Any,
) -> RequestFacts:
    """Return the facts of one request; `type="websocket"` makes a handshake.

    Args:
        headers: Beside `Host: localhost`, which stands unless it is given (None as a value leaves it out).
        scope: Further keys of the ASGI scope.
    """
    pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers or [])
    if not any(name.lower() == "host" for name, _ in pairs):
        pairs.insert(0, ("host", "localhost"))
    complete: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(errors="replace"),
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "headers": [
            (name.lower().encode(), value.encode("latin-1")) for name, value in pairs if value is not None
        ],
    }
    return RequestFacts(complete | scope, surroundings or Surroundings())


@dataclass(frozen=True, slots=True)
class Answered:
    """What an app sent for one request."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a field; None when it didn't come exactly once."""
        values = [value for known, value in self.headers if known == name]
        return values[0] if len(values) == 1 else None


async def ask(app: ASGIApp, facts: RequestFacts, body: bytes = b"") -> Answered:
    """Send one request to an app as a server would: no client in between tidies its target."""
    pending = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        return pending.pop() if pending else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(dict(facts.scope), receive, send)
    start = next(message for message in sent if message["type"] == "http.response.start")
    parts = [message.get("body", b"") for message in sent if message["type"] == "http.response.body"]
    return Answered(start["status"], list(start["headers"]), b"".join(parts))
