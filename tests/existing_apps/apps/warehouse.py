"""A warehouse behind a proxy that strips /v1: a legacy WSGI part, a mounted API with docs, static files.

Run with `uvicorn warehouse:app --root-path /v1`.
"""

from pathlib import Path
from urllib.parse import parse_qs

from a2wsgi import WSGIMiddleware
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "warehouse_static"


def legacy(environ, start_response):
    """The part from 2009 that nobody dares to rewrite."""
    if environ["REQUEST_METHOD"] == "POST":
        form = parse_qs(environ["wsgi.input"].read().decode())
        shelves = ",".join(form["shelf"])
        start_response("302 Found", [("Location", f"{environ['SCRIPT_NAME']}/moved?to={shelves}")])
        return []
    lines = [environ["SCRIPT_NAME"], environ["PATH_INFO"], environ.get("QUERY_STRING", "")]
    cookies = [("Set-Cookie", "legacy=1; Path=/v1/legacy"), ("Set-Cookie", "seen=yes")]
    start_response("200 OK", [("Content-Type", "text/plain; charset=latin-1"), *cookies])
    return [line.encode("latin-1") + b"\n" for line in lines]


def stock_api() -> FastAPI:
    api = FastAPI(title="Stock", version="3")
    stock = {"bolt": 40, "nut": 12}

    @api.get("/stock")
    def read_all():
        return stock

    @api.put("/stock/{part}")
    def set_one(part: str, count: int):
        stock[part] = count
        return {part: count}

    return api


class Items(HTTPEndpoint):
    async def get(self, request: Request):
        number = request.path_params["number"]
        link = str(request.url_for("item", number=number))
        style = request.url_for("static", path="/site.css").path
        return HTMLResponse(f'<link rel="stylesheet" href="{style}"><a href="{link}">{number}</a>')

    async def post(self, request: Request):
        form = await request.form()
        location = request.url_for("item", number=request.path_params["number"]).path
        return JSONResponse({"name": form["name"]}, 201, headers={"Location": location})


async def healthz(request: Request):
    return PlainTextResponse("ok")


async def files(request: Request):
    """Paths below this one may hold dots, colons and encoded slashes."""
    return PlainTextResponse(request.path_params["rest"])


def create_app() -> Starlette:
    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/items/{number:int}", Items, name="item"),
            Route("/files/{rest:path}", files),
            Mount("/legacy", app=WSGIMiddleware(legacy)),
            Mount("/api", app=stock_api()),
            Mount("/static", app=StaticFiles(directory=STATIC), name="static"),
        ]
    )
