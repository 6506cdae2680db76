"""The behaviour as a FastAPI app, with what FastAPI adds: declared parameters and dependencies."""

from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Query, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse

from thebes import csp_nonce


def keeper() -> str:
    """Say who keeps the gate; tests override it."""
    return "the keeper"


def create(stage: Any, *, own_handler: bool = False) -> FastAPI:
    """Return the app; `own_handler` gives it a handler for every exception."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI):
        if stage.broken_start:
            raise RuntimeError("the database is away")
        stage.note("started")
        yield {"keeper": "anubis"}
        stage.note("stopped")

    app = FastAPI(lifespan=lifespan, title="The gate")
    app.state.keeper = keeper
    add_plain_routes(app, stage)
    add_streams(app, stage)
    add_sockets(app, stage)
    inner = FastAPI()
    inner.get("/page", response_class=HTMLResponse)(page)
    app.mount("/mounted", inner)
    if own_handler:

        @app.exception_handler(Exception)
        async def mine(request: Request, error: Exception):
            return PlainTextResponse(f"mine: {error}", 418)

    return app


async def page(request: Request) -> str:
    """Answer with a page whose script has the nonce of this answer."""
    return f'<script nonce="{csp_nonce(request.scope)}">1</script><p>{request.scope["root_path"]}</p>'


def add_plain_routes(app: FastAPI, stage: Any) -> None:
    """Add the routes that answer at once."""

    @app.api_route("/echo", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    async def echo(
        request: Request,
        name: Annotated[list[str], Query(default_factory=list)],
        x_probe: Annotated[list[str], Header(default_factory=list)],
        cookie: Annotated[str | None, Header()] = None,
    ):
        stage.note(f"{request.method} {request.scope['path']}")
        seen = {
            "method": request.method,
            "query": request.url.query,
            "names": name,
            "probes": x_probe,
            "cookie": cookie,
            "body": (await request.body()).decode("latin-1"),
            "root_path": request.scope["root_path"],
        }
        response = JSONResponse(seen, headers={"x-from-app": "yes"})
        response.set_cookie("one", "1")
        response.set_cookie("two", "2")
        return response

    @app.get("/state")
    async def state(request: Request) -> str:
        return request.state.keeper

    @app.get("/keeper")
    async def who(name: Annotated[str, Depends(keeper)]) -> str:
        return name

    @app.get("/before")
    async def before() -> None:
        raise RuntimeError("secret detail")

    app.get("/page", response_class=HTMLResponse)(page)


def add_streams(app: FastAPI, stage: Any) -> None:
    """Add the routes whose bodies take their time."""

    async def pieces(first: str, last: str):
        yield first
        await stage.gate_opened()
        yield last
        stage.note("dripped")

    @app.get("/drip")
    async def drip():
        return StreamingResponse(pieces("first\n", "last\n"), media_type="text/plain")

    @app.get("/events")
    async def events():
        return StreamingResponse(pieces("data: first\n\n", "data: last\n\n"), media_type="text/event-stream")

    @app.post("/upload")
    async def upload(request: Request) -> int:
        total = 0
        async for chunk in request.stream():
            total += len(chunk)
            stage.note(f"received {total}")
        return total

    @app.api_route("/until-left", methods=["GET", "POST"])
    async def until_left(request: Request) -> None:
        stage.note("waiting")
        while (await request.receive())["type"] != "http.disconnect":
            pass
        stage.note("left")

    @app.get("/after")
    async def after():
        async def broken():
            yield b"begun"
            raise RuntimeError("secret detail")

        return StreamingResponse(broken())


def add_sockets(app: FastAPI, stage: Any) -> None:
    """Add the WebSockets."""

    @app.websocket("/ws")
    async def echo_socket(socket: WebSocket):
        await socket.accept("echo.v2" if "echo.v2" in socket.scope["subprotocols"] else None)
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

    @app.websocket("/ws/refuse")
    async def refuse(socket: WebSocket):
        await socket.close(4000)

    @app.websocket("/ws/raise")
    async def raise_in_socket(socket: WebSocket):
        raise RuntimeError("secret detail")
