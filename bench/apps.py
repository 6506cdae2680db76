"""The applications under measurement, and the stock uvicorn that serves one of them.

`python bench/apps.py fastapi --protected` serves the app on a free loopback port, prints the port
on one line and runs until its standard input is closed. A parent that dies closes it too, so no
server outlives its benchmark.

Both variants run under the same settings. uvicorn's own proxy handling is off in both: the
protected app works out the client's address itself and pays for it, the bare one does without.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

import harness
import members
from least import least

APPS = (
    "starlette",
    "fastapi",
    "websocket",
    "starlette-layer",
    "starlette-fields",
    "starlette-least",
    "fastapi-least",
)
# What every answer of a protected app carries, JSON too (HTTP-01, 02, 05, TLS-11).
MANDATED = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"permissions-policy", b"browsing-topics=()"),
    (b"strict-transport-security", b"max-age=63072000"),
    (b"content-security-policy", b"frame-ancestors 'self'; object-src 'none'; base-uri 'none'"),
]


class Note(BaseModel):
    """The body of the POST: small, as most JSON bodies are."""

    title: str
    stars: int
    tags: list[str]


def starlette_app() -> Starlette:
    """Return a Starlette app with one JSON route."""

    async def notes(request: Request) -> JSONResponse:
        return JSONResponse({"notes": ["thebes", "gates"], "page": request.query_params["page"]})

    return Starlette(routes=[Route("/notes", notes)])


def fastapi_app() -> FastAPI:
    """Return a FastAPI app: a GET with a query parameter, a POST with a model."""
    app = FastAPI()

    @app.get("/notes")
    async def read(page: int) -> dict[str, object]:
        return {"notes": ["thebes", "gates"], "page": page}

    @app.post("/notes")
    async def write(note: Note) -> Note:
        return note

    return app


def websocket_app() -> Starlette:
    """Return a Starlette app that sends every text message back."""

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(await websocket.receive_text())
        except WebSocketDisconnect:
            return

    return Starlette(routes=[WebSocketRoute("/echo", echo)])


class Layer:
    """A middleware that judges nothing: it copies the scope, and adds fields to each answer."""

    def __init__(self, app: ASGIApp, fields: list[tuple[bytes, bytes]]) -> None:
        self._app = app
        self._fields = fields

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        def complete(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *self._fields]}
            return send(message)

        await self._app(dict(scope), receive, complete)


def inside(layer: Callable[[ASGIApp], ASGIApp], app: Starlette) -> Starlette:
    """Return an app with a layer around its whole stack, where the pass would be."""
    build = app.build_middleware_stack
    app.build_middleware_stack = lambda: layer(build())  # type: ignore[method-assign]
    return app


def build(name: str, *, protected: bool) -> Starlette:
    """Return the app called `name`, with every check on if `protected`, else without the package.

    What protects a `-least` one is one function instead of the package.

    Raises:
        KeyError: `name` is not one of `APPS`.
    """
    makers: dict[str, Callable[[], Starlette]] = {
        "starlette": starlette_app,
        "fastapi": fastapi_app,
        "websocket": websocket_app,
        "starlette-layer": lambda: inside(partial(Layer, fields=[]), starlette_app()),
        "starlette-fields": lambda: inside(partial(Layer, fields=MANDATED), starlette_app()),
        "starlette-least": starlette_app,
        "fastapi-least": fastapi_app,
    }
    app = makers[name]()
    if protected and name.endswith("-least"):
        inside(partial(least, mandated=MANDATED), app)
    elif protected:
        # Imported here: the bare server must not carry the package at all.
        from thebes import Security

        Security(hosts=["localhost"], proxies=["127.0.0.1/32"], limits=harness.UNREACHED_LIMIT).protect(app)
    return app


def serve(app: Starlette) -> None:
    """Serve `app` on a free loopback port until standard input is closed; the port is printed."""
    # IPPROTO_TCP: asyncio leaves Nagle's algorithm on for a socket that does not say it is TCP.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            ws_ping_interval=None,
        )
        server = uvicorn.Server(config)
        threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
        print(listener.getsockname()[1], flush=True)
        server.run(sockets=[listener])


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the app that the command line names."""
    parser = argparse.ArgumentParser(description="Serve one of the benchmark's apps.")
    parser.add_argument("app", choices=APPS)
    parser.add_argument("--protected", action="store_true", help="with every check on")
    parser.add_argument("--core", type=int, help="run on this core only")
    parser.add_argument("--cookies", type=int, default=0, help="people with a session in cookie mode")
    parser.add_argument("--bearers", type=int, default=0, help="tokens of a session in bearer mode")
    parser.add_argument("--passwords", type=int, default=0, help="people who have a password")
    options = parser.parse_args(arguments)
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    app = build(options.app, protected=options.protected)
    wanted = members.Wanted(options.cookies, options.bearers, options.passwords)
    if wanted != members.Wanted():
        from thebes.protection import owner_of

        asyncio.run(members.prepare(owner_of(app), wanted, Path.cwd()))
    serve(app)


def _stop_at_end_of_input(server: uvicorn.Server) -> None:
    sys.stdin.buffer.read()
    server.should_exit = True


if __name__ == "__main__":
    main()
