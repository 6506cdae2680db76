"""Live prices: a WebSocket, server-sent events, lifespan state and background tasks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.background import BackgroundTasks
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect


class Hub:
    """Everybody who listens, and what they were told."""

    def __init__(self):
        self.listeners: set[asyncio.Queue] = set()
        self.journal: list[str] = []
        self.departed = 0

    def publish(self, price: str) -> None:
        for queue in self.listeners:
            queue.put_nowait(price)


class State(TypedDict):
    hub: Hub
    greeting: str


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[State]:
    app.state.running = True
    yield {"hub": Hub(), "greeting": "opening bell"}
    app.state.running = False


async def events(request: Request):
    hub: Hub = request.state.hub

    async def stream():
        queue: asyncio.Queue = asyncio.Queue()
        hub.listeners.add(queue)
        try:
            yield f"event: hello\ndata: {request.state.greeting}\n\n"
            while True:
                yield f"data: {await queue.get()}\n\n"
        finally:
            hub.listeners.discard(queue)
            hub.departed += 1

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


async def countdown(request: Request):
    async def stream():
        for number in range(int(request.query_params.get("from", 3)), 0, -1):
            yield f"id: {number}\ndata: {number}\n\n"
            await asyncio.sleep(0)

    return StreamingResponse(stream(), media_type="text/event-stream")


async def publish(request: Request):
    hub: Hub = request.state.hub
    price = (await request.json())["price"]
    hub.publish(price)

    async def write_later():
        await asyncio.sleep(0.01)
        hub.journal.append(f"async {price}")

    tasks = BackgroundTasks()
    tasks.add_task(hub.journal.append, f"sync {price}")
    tasks.add_task(write_later)
    return PlainTextResponse("accepted", status_code=202, background=tasks)


async def stats(request: Request):
    hub: Hub = request.state.hub
    content = {"listeners": len(hub.listeners), "departed": hub.departed, "journal": hub.journal}
    return JSONResponse(content)


async def chat(websocket: WebSocket):
    if "chat.v2" not in websocket.scope["subprotocols"]:
        await websocket.close(code=1002)
        return
    await websocket.accept(subprotocol="chat.v2", headers=[(b"x-room", b"lobby")])
    try:
        await websocket.send_json({"greeting": websocket.state.greeting})
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"])
            if message.get("bytes") is not None:
                await websocket.send_bytes(message["bytes"][::-1])
            elif message["text"] == "quit":
                await websocket.close(code=4000, reason="bye")
                return
            else:
                await websocket.send_text(f"echo: {message['text']}")
    except WebSocketDisconnect as left:
        websocket.state.hub.journal.append(f"left with {left.code}")


routes = [
    Route("/events", events),
    Route("/countdown", countdown),
    Route("/prices", publish, methods=["POST"]),
    Route("/stats", stats),
    WebSocketRoute("/chat", chat),
]


def create_app() -> Starlette:
    return Starlette(routes=routes, lifespan=lifespan)
