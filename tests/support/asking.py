"""Make the facts of a request for tables of rules, without a server."""

from collections.abc import Mapping
from typing import Any

from thebes.facts import RequestFacts, Surroundings


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
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "headers": [
            (name.lower().encode(), value.encode("latin-1")) for name, value in pairs if value is not None
        ],
    }
    return RequestFacts(complete | scope, surroundings or Surroundings())
