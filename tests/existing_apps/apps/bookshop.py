"""A catalogue search with list parameters, repeated form fields and the shop's own error format."""

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Form, Header, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException


class Filters(BaseModel):
    q: str = ""
    tag: list[str] = []
    year: list[int] = []
    sort: Literal["title", "price"] = "title"
    limit: int = Field(default=10, le=100)


class Review(BaseModel):
    stars: int = Field(ge=1, le=5)
    text: str
    tags: list[str] = []


def error(status: int, code: str, message: Any, **headers: str) -> JSONResponse:
    content = {"error": {"code": code, "message": message}}
    return JSONResponse(content, status_code=status, headers={"X-Error-Code": code, **headers})


async def on_http_error(request: Request, problem: StarletteHTTPException) -> JSONResponse:
    return error(problem.status_code, "http", problem.detail, **(problem.headers or {}))


async def on_invalid(request: Request, problem: RequestValidationError) -> JSONResponse:
    places = [".".join(str(part) for part in item["loc"]) for item in problem.errors()]
    return error(422, "invalid", places)


async def on_crash(request: Request, problem: Exception) -> JSONResponse:
    return error(500, "crash", type(problem).__name__)


def create_app() -> FastAPI:
    app = FastAPI(
        title="Bookshop",
        exception_handlers={
            StarletteHTTPException: on_http_error,
            RequestValidationError: on_invalid,
            Exception: on_crash,
        },
    )
    baskets: list[list[int]] = []

    @app.get("/search")
    async def search(filters: Annotated[Filters, Query()]) -> Filters:
        return filters

    @app.get("/compare")
    def compare(
        isbn: Annotated[list[str], Query(min_length=2)],
        x_shop: Annotated[list[str] | None, Header()] = None,
    ):
        return {"isbn": isbn, "shops": x_shop or []}

    @app.post("/baskets", status_code=201)
    async def fill(
        item: Annotated[list[int], Form()],
        gift: Annotated[bool, Form()] = False,
        note: Annotated[str, Form()] = "",
    ):
        baskets.append(item)
        return {"basket": len(baskets), "items": item, "gift": gift, "note": note}

    @app.post("/books/{isbn}/reviews", status_code=201)
    async def review(isbn: str, body: Review) -> Review:
        if isbn == "0":
            raise HTTPException(409, {"reason": "already reviewed"}, headers={"Retry-After": "60"})
        return body

    @app.get("/reports/broken")
    async def broken():
        raise ZeroDivisionError("secret detail of the report")

    @app.get("/reports/half")
    def half():
        return {"ratio": 1 / 0}

    return app
