"""The notes as HTML: plain forms, each answered by a redirect, complete without any script."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from pydantic import ValidationError

from board.dependencies import Before, NoteId, Store
from board.draft import (
    MAX_BODY_CHARACTERS,
    MAX_SEARCH_CHARACTERS,
    MAX_TITLE_CHARACTERS,
    NoteDraft,
)
from board.store import Page
from thebes import csp_nonce

router = APIRouter(include_in_schema=False)
static_files = StaticFiles(directory=Path(__file__).parent / "static")

Field = Annotated[str, Form()]
SearchField = Annotated[str, Form(max_length=MAX_SEARCH_CHARACTERS)]

# The address names what was done; what the page then says is ours, never text from the address.
_DONE = {
    "written": "Your note is on the board.",
    "deleted": "The note was deleted.",
    "gone": "That note was already gone.",
}
_COMPLAINTS = {
    ("title", "string_too_short"): "Give the note a title.",
    ("title", "string_too_long"): f"A title has room for {MAX_TITLE_CHARACTERS:,} characters.",
    ("title", "control_character"): "A title is one line of plain text.",
    ("title", "invisible"): "Give the note a title that can be seen.",
    ("body", "string_too_short"): "Write something first.",
    ("body", "string_too_long"): f"A note has room for {MAX_BODY_CHARACTERS:,} characters.",
    ("body", "control_character"): "A note is plain text, without control characters.",
    ("body", "invisible"): "Write something that can be seen.",
}


@router.get("/")
def show_board(
    request: Request, store: Store, q: str = "", before: Before = None, done: str = ""
) -> Response:
    """Show the notes, newest first, or those that hold the text `q`."""
    if len(q) > MAX_SEARCH_CHARACTERS:
        complaint = f"A search has room for {MAX_SEARCH_CHARACTERS} characters."
        return _board(request, store.search(), typed={"q": q}, complaints={"q": complaint})
    return _board(request, store.search(q, before=before), q=q, before=before, done=done)


@router.post("/")
def write_note(request: Request, store: Store, title: Field = "", body: Field = "") -> Response:
    """Put a note on the board, or show the form again with what was typed and what is wrong."""
    try:
        # Browsers send each line end of a text area as two characters, and count it as one.
        draft = NoteDraft(title=title, body=body.replace("\r\n", "\n"))
    except ValidationError as error:
        typed = {"title": title, "body": body}
        return _board(request, store.search(), typed=typed, complaints=_complaints(error))
    note = store.write(title=draft.title, body=draft.body)
    return RedirectResponse(f"/?done=written#note-{note.id}", status_code=303)


@router.post("/notes/{note_id}/delete")
def delete_note(store: Store, note_id: NoteId, q: SearchField = "") -> Response:
    """Take a note off the board and go back to the search that showed it."""
    done = "deleted" if store.delete(note_id) else "gone"
    query = {"q": q, "done": done} if q else {"done": done}
    return RedirectResponse(f"/?{urlencode(query)}", status_code=303)


def time_ago(then: datetime, now: datetime) -> str:
    """Say how long ago something was, in the words that people use; after a week the date."""
    age = now - then
    if age < timedelta(minutes=1):  # also when a clock was set back: never "in the future"
        return "just now"
    if age < timedelta(hours=1):
        return _count(age // timedelta(minutes=1), "minute") + " ago"
    if age < timedelta(days=1):
        return _count(age // timedelta(hours=1), "hour") + " ago"
    if age < timedelta(days=7):
        return _count(age // timedelta(days=1), "day") + " ago"
    return f"{then.day} {then:%B %Y}"


def _board(
    request: Request,
    page: Page,
    *,
    q: str = "",
    before: int | None = None,
    done: str = "",
    typed: Mapping[str, str] | None = None,
    complaints: Mapping[str, str] | None = None,
) -> Response:
    context = {
        "page": page,
        "now": datetime.now(UTC),
        "q": q,
        "before": before,
        "done": _DONE.get(done, ""),
        "typed": typed or {"q": q},
        "complaints": complaints or {},
        "older": urlencode({"q": q, "before": page.older}),
    }
    status = 422 if complaints else 200
    return _templates.TemplateResponse(request, "board.html", context, status_code=status)


def _complaints(error: ValidationError) -> dict[str, str]:
    found = ((str(problem["loc"][0]), problem["type"]) for problem in error.errors())
    return {field: _COMPLAINTS[field, kind] for field, kind in found}


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number:,} {noun}s"


def _nonce(request: Request) -> dict[str, str]:
    return {"csp_nonce": csp_nonce(request.scope)}


_templates = Jinja2Templates(Path(__file__).parent / "templates", context_processors=[_nonce])
_templates.env.filters["time_ago"] = time_ago
_templates.env.globals["count"] = _count
_templates.env.globals["limits"] = {"title": MAX_TITLE_CHARACTERS, "body": MAX_BODY_CHARACTERS}
