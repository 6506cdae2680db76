"""An app that knows nothing of security, answers in every way there is, and keeps what reached it."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from thebes import csp_nonce

# Stands in the text of the exception, in its SQL and in its path; no client may ever see it.
CANARY = "canary-7f3a"
OWN_ERROR = {"own": "format", "field": 1}
# FastAPI's schema warns of a route with several methods.
_UNLISTED: dict[str, Any] = {"include_in_schema": False}


class BoardError(RuntimeError):
    """What the board raises where nobody catches it."""


def make_board(**options: Any) -> FastAPI:
    """Return a new board; `app.state.reached` lists the requests that reached it, as method and path.

    Args:
        options: For FastAPI, such as `debug=True`.
    """
    app = FastAPI(**options)
    app.state.reached = []
    app.add_middleware(_Recorder, reached=app.state.reached)
    _add_pages(app)
    _add_errors(app)
    return app


def _add_pages(app: FastAPI) -> None:
    @app.api_route("/page", methods=["GET", "HEAD", "POST"], response_class=HTMLResponse, **_UNLISTED)
    def page(request: Request) -> str:
        return f'<title>Board</title><script nonce="{csp_nonce(request.scope)}">1</script>'

    @app.api_route(
        "/notes", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"], **_UNLISTED
    )
    async def notes(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.api_route("/healthz", methods=["GET", "HEAD", "POST"], response_class=PlainTextResponse, **_UNLISTED)
    def healthz() -> str:
        return "ok"

    @app.get("/moved")
    def moved() -> Response:
        return RedirectResponse("/page")

    @app.get("/empty", status_code=204)
    def empty() -> None:
        return None

    @app.get("/stream")
    def stream() -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            for chunk in (b"one ", b"two"):
                yield chunk

        return StreamingResponse(chunks(), media_type="text/event-stream")

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()


def _add_errors(app: FastAPI) -> None:
    @app.get("/numbered")
    def numbered(number: int) -> int:
        return number

    @app.get("/own-error")
    def own_error() -> None:
        raise HTTPException(418, detail=OWN_ERROR)

    @app.api_route("/crash", methods=["GET", "HEAD"], **_UNLISTED)
    def crash() -> None:
        raise BoardError(f"SELECT * FROM users WHERE token = '{CANARY}' in /srv/board/{CANARY}.sqlite")

    @app.get("/late-crash")
    def late_crash() -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"begun "
            raise BoardError(CANARY)

        return StreamingResponse(chunks(), media_type="text/plain")

    @app.websocket("/crash-socket")
    async def crash_socket(websocket: WebSocket) -> None:
        raise BoardError(CANARY)


class _Recorder:
    """Innermost of the pass, outermost of the app: whatever is recorded got through."""

    def __init__(self, app: ASGIApp, reached: list[str]) -> None:
        self._app = app
        self._reached = reached

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            self._reached.append(f"{scope.get('method', 'WEBSOCKET')} {scope['path']}")
        await self._app(scope, receive, send)
