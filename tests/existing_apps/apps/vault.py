"""A file store: multipart and raw uploads of megabytes, ranges, streams, gzip and validators."""

import asyncio
import contextlib
import hashlib
import json
import tempfile
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

CATALOGUE = json.dumps([{"number": number, "name": f"item {number}"} for number in range(2000)])


@contextlib.asynccontextmanager
async def lifespan(app):
    with tempfile.TemporaryDirectory() as folder:
        app.state.folder = Path(folder)
        app.state.seen = {"aborted uploads": 0, "closed streams": 0, "bytes": 0}
        app.state.next_part = asyncio.Event()
        yield


async def upload_photos(request: Request):
    async with request.form() as form:
        photos = []
        for photo in form.getlist("photo"):
            digest = hashlib.sha256()
            while chunk := await photo.read(65536):
                digest.update(chunk)
            photos.append({"name": photo.filename, "size": photo.size, "type": photo.content_type})
            photos[-1]["sha256"] = digest.hexdigest()
        return JSONResponse({"album": form["album"], "photos": photos}, status_code=201)


async def put_file(request: Request):
    seen = request.app.state.seen
    digest, size = hashlib.sha256(), 0
    path = request.app.state.folder / request.path_params["name"]
    try:
        with path.open("wb") as file:
            async for chunk in request.stream():
                digest.update(chunk)
                size += len(chunk)
                seen["bytes"] += len(chunk)
                file.write(chunk)
    except ClientDisconnect:
        path.unlink()
        seen["aborted uploads"] += 1
        return Response(status_code=499)
    return JSONResponse({"sha256": digest.hexdigest(), "size": size})


async def get_file(request: Request):
    path = request.app.state.folder / request.path_params["name"]
    if not path.exists():
        return JSONResponse({"error": "no such file"}, status_code=404)
    headers = {"Cache-Control": "private, max-age=60"}
    return FileResponse(path, filename=f"résumé {path.name}", headers=headers)


async def catalogue(request: Request):
    tag = '"' + hashlib.sha256(CATALOGUE.encode()).hexdigest()[:16] + '"'
    headers = {"ETag": tag, "Cache-Control": "public, max-age=300", "Vary": "Accept-Language"}
    if request.headers.get("If-None-Match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(CATALOGUE, media_type="application/json", headers=headers)


async def export(request: Request):
    """Send one line, and the next only after somebody has posted to /export/next."""
    state = request.app.state

    async def lines():
        try:
            for number in range(int(request.query_params.get("lines", 1_000_000))):
                yield f"line {number}\n"
                await state.next_part.wait()
                state.next_part.clear()
        finally:
            state.seen["closed streams"] += 1

    disposition = {"Content-Disposition": 'attachment; filename="export.csv"'}
    return StreamingResponse(lines(), media_type="text/csv", headers=disposition)


async def export_next(request: Request):
    request.app.state.next_part.set()
    return Response(status_code=204)


async def seen(request: Request):
    return JSONResponse(request.app.state.seen)


def create_app():
    return Starlette(
        routes=[
            Route("/photos", upload_photos, methods=["POST"]),
            Route("/files/{name}", put_file, methods=["PUT"]),
            Route("/files/{name}", get_file),
            Route("/catalogue", catalogue),
            Route("/export", export),
            Route("/export/next", export_next, methods=["POST"]),
            Route("/seen", seen),
        ],
        middleware=[Middleware(GZipMiddleware, minimum_size=500)],
        lifespan=lifespan,
    )
