"""One's notes as JSON, for whoever is signed in: by cookie in a browser, by bearer token elsewhere."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict

from board.dependencies import Before, NoteId, SearchText, Store
from board.draft import NoteDraft
from board.store import Note
from thebes.fastapi import CurrentPrincipal

router = APIRouter(prefix="/api/notes", tags=["notes"])


class NoteAnswer(BaseModel):
    """A note as clients see it: what isn't named here never leaves the server."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    title: str
    body: str
    written_at: datetime


@router.get("", response_model=list[NoteAnswer])
def search_notes(
    store: Store, who: CurrentPrincipal, q: SearchText = "", before: Before = None
) -> tuple[Note, ...]:
    """Return one's newest 50 notes that hold the text `q`; pass the last id as `before` for more."""
    return store.search(who.id, q, before=before).notes


@router.post("", status_code=201, response_model=NoteAnswer)
def write_note(draft: NoteDraft, store: Store, who: CurrentPrincipal) -> Note:
    """Keep a note."""
    return store.write(who.id, title=draft.title, body=draft.body)


@router.delete("/{note_id}", status_code=204, responses={404: {"description": "No such note"}})
def delete_note(note_id: NoteId, store: Store, who: CurrentPrincipal) -> None:
    """Tear out a note; somebody else's is as good as none."""
    if not store.delete(who.id, note_id):
        raise HTTPException(404, "no such note")


def explain(_request: Request, error: Exception) -> Response:
    """Answer 422 with what is wrong and where, but without the input, which FastAPI would repeat.

    NaN or half a surrogate pair can't be put into an answer: repeating it would be a 500.
    """
    assert isinstance(error, RequestValidationError)  # it is registered for nothing else
    problems: Sequence[Any] = error.errors()
    detail = [{key: problem[key] for key in ("type", "loc", "msg")} for problem in problems]
    return Response(json.dumps({"detail": detail}), 422, media_type="application/json")
