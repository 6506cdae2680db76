"""An almanac as one plain ASGI function: routing, HEAD, OPTIONS and security headers by hand.

It knows http only: like the first example of every ASGI tutorial it does not speak lifespan.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

SECURITY_HEADERS = [
    (b"Content-Security-Policy", b"default-src 'self'; img-src *; frame-ancestors 'none'"),
    (b"X-Frame-Options", b"DENY"),
    (b"Strict-Transport-Security", b"max-age=300"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Permissions-Policy", b"geolocation=(self)"),
    (b"Cross-Origin-Opener-Policy", b"unsafe-none"),
    (b"Cross-Origin-Resource-Policy", b"cross-origin"),
]
FORM = "<form method='post' action='/notes'><input name='note'><button>Note</button></form>"
PAGES = {"/": f"<h1>Almanac</h1>{FORM}", "/moon": "<h1>Moon</h1><img src='//images.example/moon.png'>"}
ALLOWED = b"GET, HEAD, OPTIONS"


def create_app() -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    notes: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        path, method = scope["path"], scope["method"]
        if path == "/notes":
            await answer_notes(scope, receive, send, notes)
        elif path != "/" and path.endswith("/"):
            target = path.rstrip("/").encode() + (b"?" if scope["query_string"] else b"")
            await reply(send, 308, b"", (b"Location", target + scope["query_string"]))
        elif path not in PAGES:
            await reply(send, 404, b"no such day", (b"Content-Type", b"text/plain"))
        elif method == "OPTIONS":
            await reply(send, 204, None, (b"Allow", ALLOWED))
        elif method not in {"GET", "HEAD"}:
            await reply(send, 405, b"read only", (b"Allow", ALLOWED))
        else:
            body = PAGES[path].encode()
            cookies = [(b"Set-Cookie", b"b=2; Path=/"), (b"Set-Cookie", b"a=1; Path=/")]
            fields = [(b"Content-Type", b"text/html; charset=utf-8"), *cookies]
            await reply(send, 200, body, *fields, is_head=method == "HEAD")

    return app


async def answer_notes(scope: Scope, receive: Receive, send: Send, notes: list[str]) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["method"] == "POST":
        notes.append(body.decode())
    if b"crash" in scope["query_string"]:
        raise RuntimeError("the almanac fell off the shelf")
    content_type = (b"content-type", b"application/json")
    await reply(send, 200, json.dumps(notes).encode(), content_type)


async def reply(
    send: Send,
    status: int,
    body: bytes | None,
    *fields: tuple[bytes, bytes],
    is_head: bool = False,
) -> None:
    headers = [*SECURITY_HEADERS, *fields]
    if body is not None:
        headers.append((b"Content-Length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if is_head else body or b""})
