"""A notebook on Litestar with its own session, CSRF cookie, error format and response headers."""

from dataclasses import dataclass, field

from litestar import Controller, Litestar, MediaType, Request, Response, delete, get, post, route
from litestar.config.csrf import CSRFConfig
from litestar.datastructures import State
from litestar.exceptions import HTTPException, NotFoundException
from litestar.middleware.session.client_side import CookieBackendConfig
from litestar.params import FromPath, FromQuery, JSONBody, URLEncodedBody


@dataclass
class Note:
    title: str
    lines: list[str] = field(default_factory=list)


class NotesController(Controller):
    path = "/notes"

    @get()
    async def index(self, state: State, tag: FromQuery[list[str] | None] = None) -> dict:
        return {"tags": tag or [], "titles": [note.title for note in state.notes.values()]}

    @post()
    async def create(self, data: JSONBody[Note], state: State) -> dict:
        number = state.notes_made = state.notes_made + 1
        state.notes[number] = data
        return {"number": number, "lines": data.lines}

    @delete("/{number:int}")
    async def remove(self, number: FromPath[int], state: State) -> None:
        if state.notes.pop(number, None) is None:
            raise NotFoundException("no such note")


@get("/", media_type=MediaType.HTML)
async def home(request: Request) -> str:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return f"<script>var visits = {request.session['visits']};</script><h1>Notebook</h1>"


@post("/quick", status_code=303)
async def quick(data: URLEncodedBody[dict[str, str]], state: State) -> Response[None]:
    state.notes_made += 1
    state.notes[state.notes_made] = Note(data["title"])
    return Response(None, status_code=303, headers={"Location": "/"})


@route("/echo", http_method=["GET", "POST", "PATCH"], exclude_from_csrf=True)
async def echo(request: Request) -> dict:
    return {"method": request.method, "body": (await request.body()).decode()}


@get("/crash")
async def crash() -> None:
    raise LookupError("page torn out")


def on_http_error(request: Request, error: HTTPException) -> Response[dict]:
    content = {"problem": error.detail, "status": error.status_code}
    return Response(content, status_code=error.status_code)


def on_crash(request: Request, error: Exception) -> Response[dict]:
    return Response({"problem": "sorry", "status": 500}, status_code=500)


async def open_notes(app: Litestar) -> None:
    app.state.notes = {1: Note("first")}
    app.state.notes_made = 1


def create_app() -> Litestar:
    return Litestar(
        route_handlers=[home, quick, echo, crash, NotesController],
        on_startup=[open_notes],
        middleware=[CookieBackendConfig(secret=b"notebook-secret!").middleware],
        csrf_config=CSRFConfig(secret="notebook-csrf", cookie_name="notebook_csrf"),
        exception_handlers={HTTPException: on_http_error, Exception: on_crash},
        response_headers={"Referrer-Policy": "origin", "X-Frame-Options": "ALLOWALL"},
        openapi_config=None,
        logging_config=None,
    )
