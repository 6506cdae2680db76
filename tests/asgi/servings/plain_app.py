"""The behaviour as one plain ASGI function, by the letter of the specification."""

import json
from typing import Any
from urllib.parse import parse_qs

from thebes import csp_nonce


class Mine(Exception):
    """What the app's own handler catches."""


def create(stage: Any, *, own_handler: bool = False) -> Any:
    """Return the app; `own_handler` makes it answer every exception itself."""

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await lifespan(scope, receive, send)
        elif scope["type"] == "websocket":
            await websocket(scope, receive, send)
        elif own_handler:
            try:
                await http(scope, receive, send)
            except Exception as error:
                await answer(send, 418, "text/plain", f"mine: {error}".encode())
        else:
            await http(scope, receive, send)

    async def lifespan(scope, receive, send):
        await receive()
        if stage.broken_start:
            raise RuntimeError("the database is away")
        stage.note("started")
        scope["state"]["keeper"] = "anubis"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        stage.note("stopped")
        await send({"type": "lifespan.shutdown.complete"})

    async def http(scope, receive, send):
        mounted = scope["root_path"] + "/mounted"
        if scope["path"].startswith(mounted + "/"):
            await page({**scope, "root_path": mounted}, send)
            return
        stage.note(f"{scope['method']} {scope['path']}")
        match scope["path"].removeprefix(scope["root_path"]):
            case "/echo":
                await echo(scope, receive, send)
            case "/drip":
                await drip(send, "text/plain; charset=utf-8", b"first\n", b"last\n")
            case "/events":
                await drip(send, "text/event-stream; charset=utf-8", b"data: first\n\n", b"data: last\n\n")
            case "/upload":
                await upload(receive, send)
            case "/until-left":
                await until_left(receive)
            case "/state":
                await answer(send, 200, "application/json", json.dumps(scope["state"]["keeper"]).encode())
            case "/page":
                await page(scope, send)
            case "/before":
                raise RuntimeError("secret detail")
            case "/after":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"begun", "more_body": True})
                raise RuntimeError("secret detail")
            case _:
                await answer(send, 404, "application/json", b'{"detail": "nothing here"}')

    async def drip(send, content_type, first, last):
        headers = [(b"content-type", content_type.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        await stage.gate_opened()
        await send({"type": "http.response.body", "body": last, "more_body": False})
        stage.note("dripped")

    async def upload(receive, send):
        total = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            total += len(message["body"])
            stage.note(f"received {total}")
            if not message["more_body"]:
                break
        await answer(send, 200, "application/json", json.dumps(total).encode())

    async def until_left(receive):
        stage.note("waiting")
        while (await receive())["type"] != "http.disconnect":
            pass
        stage.note("left")

    async def websocket(scope, receive, send):
        await receive()
        if scope["path"] == "/ws/refuse":
            await send({"type": "websocket.close", "code": 4000})
            return
        if scope["path"] == "/ws/raise":
            raise RuntimeError("secret detail")
        chosen = "echo.v2" if "echo.v2" in scope["subprotocols"] else None
        await send({"type": "websocket.accept", "subprotocol": chosen})
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                stage.note(f"left with {message['code']}")
                return
            if message.get("text") == "quit":
                await send({"type": "websocket.close", "code": 4001, "reason": "bye"})
                return
            if message.get("text") is not None:
                await send({"type": "websocket.send", "text": message["text"]})
            else:
                await send({"type": "websocket.send", "bytes": message["bytes"]})

    return app


async def answer(send: Any, status: int, content_type: str, body: bytes, *more: tuple[bytes, bytes]) -> None:
    """Send a whole answer."""
    headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body)), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with what arrived."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = scope["headers"]
    seen = {
        "method": scope["method"],
        "query": scope["query_string"].decode(),
        "names": parse_qs(scope["query_string"].decode()).get("name", []),
        "probes": [value.decode("latin-1") for name, value in headers if name == b"x-probe"],
        "cookie": next((value.decode() for name, value in headers if name == b"cookie"), None),
        "body": body.decode("latin-1"),
        "root_path": scope["root_path"],
    }
    cookies = ((b"set-cookie", b"one=1; Path=/"), (b"set-cookie", b"two=2; Path=/"))
    own = (b"x-from-app", b"yes")
    await answer(send, 200, "application/json", json.dumps(seen).encode(), own, *cookies)


async def page(scope: Any, send: Any) -> None:
    """Answer with a page whose script has the nonce of this answer."""
    text = f'<script nonce="{csp_nonce(scope)}">1</script><p>{scope["root_path"]}</p>'
    await answer(send, 200, "text/html; charset=utf-8", text.encode())
