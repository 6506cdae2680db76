"""The behaviour as a Starlette app."""

from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from thebes import csp_nonce

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def create(stage: Any, *, own_handler: bool = False) -> Starlette:
    """Return the app; `own_handler` gives it a handler for every exception."""

    @asynccontextmanager
    async def lifespan(_app):
        if stage.broken_start:
            raise RuntimeError("the database is away")
        stage.note("started")
        yield {"keeper": "anubis"}
        stage.note("stopped")

    def drip(content_type, first, last):
        async def pieces():
            yield first
            await stage.gate_opened()
            yield last
            stage.note("dripped")

        async def endpoint(request):
            return StreamingResponse(pieces(), media_type=content_type)

        return endpoint

    async def upload(request):
        total = 0
        async for chunk in request.stream():
            total += len(chunk)
            stage.note(f"received {total}")
        return JSONResponse(total)

    async def until_left(request):
        stage.note("waiting")
        while (await request.receive())["type"] != "http.disconnect":
            pass
        stage.note("left")
        return Response()

    async def noted_404(request, error):
        return JSONResponse({"detail": "nothing here"}, 404)

    return Starlette(
        lifespan=lifespan,
        exception_handlers={404: noted_404} | ({Exception: mine} if own_handler else {}),
        routes=[
            Route("/echo", noted(stage, echo), methods=METHODS),
            Route("/drip", noted(stage, drip("text/plain", "first\n", "last\n"))),
            Route("/events", noted(stage, drip("text/event-stream", "data: first\n\n", "data: last\n\n"))),
            Route("/upload", noted(stage, upload), methods=["POST"]),
            Route("/until-left", until_left, methods=["GET", "POST"]),
            Route("/state", state),
            Route("/page", page),
            Route("/before", before),
            Route("/after", after),
            Mount("/mounted", app=Starlette(routes=[Route("/page", page)])),
            WebSocketRoute("/ws", echo_socket(stage)),
            WebSocketRoute("/ws/refuse", refuse),
            WebSocketRoute("/ws/raise", raise_in_socket),
        ],
    )


def noted(stage: Any, endpoint: Any) -> Any:
    """Return the endpoint with a note of each call."""

    async def call(request):
        stage.note(f"{request.method} {request.scope['path']}")
        return await endpoint(request)

    return call


async def echo(request: Request) -> Response:
    """Answer with what arrived."""
    seen = {
        "method": request.method,
        "query": request.url.query,
        "names": request.query_params.getlist("name"),
        "probes": request.headers.getlist("x-probe"),
        "cookie": request.headers.get("cookie"),
        "body": (await request.body()).decode("latin-1"),
        "root_path": request.scope["root_path"],
    }
    response = JSONResponse(seen, headers={"x-from-app": "yes"})
    response.set_cookie("one", "1")
    response.set_cookie("two", "2")
    return response


async def state(request: Request) -> Response:
    """Answer with what the lifespan yielded."""
    return JSONResponse(request.state.keeper)


async def page(request: Request) -> Response:
    """Answer with a page whose script has the nonce of this answer."""
    nonce = csp_nonce(request.scope)
    return HTMLResponse(f'<script nonce="{nonce}">1</script><p>{request.scope["root_path"]}</p>')


async def before(request: Request) -> Response:
    """Raise before the answer began."""
    raise RuntimeError("secret detail")


async def after(request: Request) -> Response:
    """Raise when the answer has begun."""

    async def pieces():
        yield b"begun"
        raise RuntimeError("secret detail")

    return StreamingResponse(pieces())


async def mine(request: Request, error: Exception) -> Response:
    """Answer every exception in the app's own words."""
    return PlainTextResponse(f"mine: {error}", 418)


def echo_socket(stage: Any) -> Any:
    """Return the echo endpoint."""

    async def endpoint(socket: WebSocket) -> None:
        chosen = "echo.v2" if "echo.v2" in socket.scope["subprotocols"] else None
        await socket.accept(subprotocol=chosen)
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message["code"])
                if message.get("text") == "quit":
                    await socket.close(4001, "bye")
                    return
                if message.get("text") is not None:
                    await socket.send_text(message["text"])
                else:
                    await socket.send_bytes(message["bytes"])
        except WebSocketDisconnect as left:
            stage.note(f"left with {left.code}")

    return endpoint


async def refuse(socket: WebSocket) -> None:
    """Refuse the handshake."""
    await socket.close(4000)


async def raise_in_socket(socket: WebSocket) -> None:
    """Raise before the handshake was answered."""
    raise RuntimeError("secret detail")
