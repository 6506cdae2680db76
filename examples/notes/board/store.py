"""Notes in one SQLite file, safe to use from many threads and processes at once.

Every call opens a connection of its own, since sqlite3 connections don't like to change threads
and opening one takes about 0.1 ms. Values reach SQL as bound parameters only.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

PAGE_SIZE = 50
BUSY_TIMEOUT_S = 5.0
MAX_ID = 2**63 - 1  # SQLite's largest integer

# AUTOINCREMENT never hands out an id twice: a late click on "delete" can't hit a newer note.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS notes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    written_at REAL NOT NULL
)
"""
_INDEX = "CREATE INDEX IF NOT EXISTS notes_of_account ON notes (account, id)"
_INSERT = """
INSERT INTO notes (account, title, body, written_at) VALUES (:account, :title, :body, :written_at)
"""
# Every statement names the account: a note of somebody else is not there.
_DELETE = "DELETE FROM notes WHERE id = :id AND account = :account"
_COUNT = r"""
SELECT count(*) FILTER (WHERE title LIKE :pattern ESCAPE '\' OR body LIKE :pattern ESCAPE '\'),
       count(*)
FROM notes
WHERE account = :account
"""
_SEARCH = r"""
SELECT id, title, body, written_at
FROM notes
WHERE account = :account AND id < :before
  AND (title LIKE :pattern ESCAPE '\' OR body LIKE :pattern ESCAPE '\')
ORDER BY id DESC
LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class Note:
    """A note in the book."""

    id: int
    title: str
    body: str
    written_at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the notes that match a search, newest first.

    Attributes:
        matching: Number of notes that match, on this page and on others.
        total: Number of notes of the account.
        older: What to pass as `before` for the next page; None on the last one.
    """

    notes: tuple[Note, ...]
    matching: int
    total: int
    older: int | None


class NoteStore:
    """The notes in the SQLite file at `path`; the file and its directory are made when missing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._connection() as connection:
            # Readers don't wait for a writer in this mode, and the file remembers it. Of two
            # processes that start at once one may be told "locked": the other one is doing it.
            with suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(_SCHEMA)
            connection.execute(_INDEX)

    def write(self, account: str, *, title: str, body: str, now: datetime | None = None) -> Note:
        """Keep a note of an account and return it; `now` is the system clock if None."""
        written_at = now or datetime.now(UTC)
        instant = written_at.timestamp()
        values = {"account": account, "title": title, "body": body, "written_at": instant}
        with self._connection() as connection:
            note_id = connection.execute(_INSERT, values).lastrowid
        if note_id is None:
            raise sqlite3.DatabaseError("the insert gave no row id")
        return Note(note_id, title, body, written_at)

    def search(self, account: str, text: str = "", *, before: int | None = None) -> Page:
        """Return up to 50 notes of an account that hold `text` in title or body, and how many there are.

        Args:
            account: Whose notes; nobody else's are counted or returned.
            text: Taken literally; case counts outside ASCII only. Every note holds the empty text.
            before: Only notes older than the one with this id.
        """
        values = {
            "account": account,
            "pattern": f"%{_escaped(text)}%",
            "before": MAX_ID if before is None else before,
            "limit": PAGE_SIZE + 1,  # one more tells whether there is another page
        }
        with self._connection() as connection:
            connection.execute("BEGIN")  # so that the counts and the notes are of one moment
            matching, total = connection.execute(_COUNT, values).fetchone()
            rows = connection.execute(_SEARCH, values).fetchall()
        notes = tuple(_note(*row) for row in rows[:PAGE_SIZE])
        older = notes[-1].id if len(rows) > PAGE_SIZE else None
        return Page(notes, matching, total, older)

    def delete(self, account: str, note_id: int) -> bool:
        """Remove a note of an account; False if it has none with this id, or no longer."""
        with self._connection() as connection:
            return connection.execute(_DELETE, {"id": note_id, "account": account}).rowcount == 1

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        with closing(connection):
            yield connection


def _note(note_id: int, title: str, body: str, written_at_s: float) -> Note:
    return Note(note_id, title, body, datetime.fromtimestamp(written_at_s, UTC))


def _escaped(text: str) -> str:
    # The backslash first: it would else escape the escapes.
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
