"""The notes as JSON."""

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

router = APIRouter(prefix="/api/notes", tags=["notes"])


class NoteAnswer(BaseModel):
    """A note as clients see it: what isn't named here never leaves the server."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    title: str
    body: str
    written_at: datetime


@router.get("", response_model=list[NoteAnswer])
def search_notes(store: Store, q: SearchText = "", before: Before = None) -> tuple[Note, ...]:
    """Return the newest 50 notes that hold the text `q`; pass the last id as `before` for more."""
    return store.search(q, before=before).notes


@router.post("", status_code=201, response_model=NoteAnswer)
def write_note(draft: NoteDraft, store: Store) -> Note:
    """Put a note on the board."""
    return store.write(title=draft.title, body=draft.body)


@router.delete("/{note_id}", status_code=204, responses={404: {"description": "No such note"}})
def delete_note(note_id: NoteId, store: Store) -> None:
    """Take a note off the board."""
    if not store.delete(note_id):
        raise HTTPException(404, "no such note")


def explain(_request: Request, error: Exception) -> Response:
    """Answer 422 with what is wrong and where, but without the input, which FastAPI would repeat.

    NaN or half a surrogate pair can't be put into an answer: repeating it would be a 500.
    """
    assert isinstance(error, RequestValidationError)  # it is registered for nothing else
    problems: Sequence[Any] = error.errors()
    detail = [{key: problem[key] for key in ("type", "loc", "msg")} for problem in problems]
    return Response(json.dumps({"detail": detail}), 422, media_type="application/json")
