"""The notes as HTML: plain forms, each answered by a redirect, complete without any script."""

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError

from board.dependencies import Before, NoteId, Store
from board.draft import (
    MAX_BODY_CHARACTERS,
    MAX_SEARCH_CHARACTERS,
    MAX_TITLE_CHARACTERS,
    NoteDraft,
)
from board.rendering import page
from board.store import Page
from thebes.fastapi import CurrentPrincipal

router = APIRouter(include_in_schema=False)

Field = Annotated[str, Form()]
SearchField = Annotated[str, Form(max_length=MAX_SEARCH_CHARACTERS)]

# The address names what was done; what the page then says is ours, never text from the address.
_DONE = {
    "written": "Your note is in the book.",
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


@router.get("/notes")
def show_notes(
    request: Request,
    store: Store,
    who: CurrentPrincipal,
    q: str = "",
    before: Before = None,
    done: str = "",
) -> Response:
    """Show one's notes, newest first, or those that hold the text `q`."""
    if len(q) > MAX_SEARCH_CHARACTERS:
        complaint = f"A search has room for {MAX_SEARCH_CHARACTERS} characters."
        return _notes(request, store.search(who.id), typed={"q": q}, complaints={"q": complaint})
    return _notes(request, store.search(who.id, q, before=before), q=q, before=before, done=done)


@router.post("/notes")
def write_note(
    request: Request, store: Store, who: CurrentPrincipal, title: Field = "", body: Field = ""
) -> Response:
    """Keep a note, or show the form again with what was typed and what is wrong."""
    try:
        # Browsers send each line end of a text area as two characters, and count it as one.
        draft = NoteDraft(title=title, body=body.replace("\r\n", "\n"))
    except ValidationError as error:
        typed = {"title": title, "body": body}
        return _notes(request, store.search(who.id), typed=typed, complaints=_complaints(error))
    note = store.write(who.id, title=draft.title, body=draft.body)
    return RedirectResponse(f"/notes?done=written#note-{note.id}", status_code=303)


@router.post("/notes/{note_id}/delete")
def delete_note(store: Store, who: CurrentPrincipal, note_id: NoteId, q: SearchField = "") -> Response:
    """Tear out a note of one's own and go back to the search that showed it."""
    done = "deleted" if store.delete(who.id, note_id) else "gone"
    query = {"q": q, "done": done} if q else {"done": done}
    return RedirectResponse(f"/notes?{urlencode(query)}", status_code=303)


def _notes(
    request: Request,
    found: Page,
    *,
    q: str = "",
    before: int | None = None,
    done: str = "",
    typed: Mapping[str, str] | None = None,
    complaints: Mapping[str, str] | None = None,
) -> Response:
    return page(
        request,
        "notes.html",
        status=422 if complaints else 200,
        page=found,
        q=q,
        before=before,
        done=_DONE.get(done, ""),
        typed=typed or {"q": q},
        complaints=complaints or {},
        older=urlencode({"q": q, "before": found.older}),
        limits={"title": MAX_TITLE_CHARACTERS, "body": MAX_BODY_CHARACTERS},
    )


def _complaints(error: ValidationError) -> dict[str, str]:
    found = ((str(problem["loc"][0]), problem["type"]) for problem in error.errors())
    return {field: _COMPLAINTS[field, kind] for field, kind in found}
