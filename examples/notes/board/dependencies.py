"""What the handlers ask FastAPI for."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, TypedDict

from fastapi import Depends, FastAPI, Query, Request
from fastapi import Path as PathParameter

from board.draft import MAX_SEARCH_CHARACTERS
from board.store import MAX_ID, NoteStore

DEFAULT_DATABASE = Path(".thebes", "notes.db")


class State(TypedDict):
    """What lives as long as the server does."""

    store: NoteStore


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
    """Open the SQLite file named by NOTES_DATABASE, else `.thebes/notes.db`."""
    yield {"store": NoteStore(Path(os.environ.get("NOTES_DATABASE") or DEFAULT_DATABASE))}


async def _store(request: Request) -> NoteStore:
    store: NoteStore = request.state.store
    return store


Store = Annotated[NoteStore, Depends(_store)]
NoteId = Annotated[int, PathParameter(ge=1, le=MAX_ID)]
Before = Annotated[int | None, Query(ge=1, le=MAX_ID, description="only notes older than this id")]
SearchText = Annotated[str, Query(max_length=MAX_SEARCH_CHARACTERS, description="taken literally")]
