"""What `thebes db status` says of a database; it only reads, and makes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from thebes.errors import ConfigurationError, StoreUnavailable
from thebes.stores.sqlite.database import read_only
from thebes.stores.sqlite.migrations import applied, known

PREFIX = "thebes_"


@dataclass(frozen=True, slots=True)
class Status:
    """A database, as it is.

    Attributes:
        path: Where it lies.
        schema: The number of the last migration that it has had; 0 for none.
        known: The number of the last migration that this version knows.
        pending: Names of the migrations that the next start applies.
        size: Octets of the file and its log.
        rows: How many rows each table has, without the prefix.
    """

    path: str
    schema: int
    known: int
    pending: Sequence[str]
    size: int
    rows: Mapping[str, int]


def look(path: Path) -> Status:
    """Look at a database that may be in use.

    Raises:
        ConfigurationError: There is none.
        StoreUnavailable: It can't be read.
    """
    if not path.is_file():
        raise ConfigurationError(f"there is no database at {path}: the service makes it when it starts")
    try:
        with closing(read_only(path)) as connection:
            had = applied(connection)
            rows = _rows(connection)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"cannot read the database {path}: {error}") from error
    migrations = known()
    return Status(
        path=str(path.resolve()),
        schema=max(had, default=0),
        known=max((migration.number for migration in migrations), default=0),
        pending=[
            f"{migration.number:04} {migration.name}"
            for migration in migrations
            if migration.number not in had
        ],
        size=sum(file.stat().st_size for file in (path, Path(f"{path}-wal")) if file.is_file()),
        rows=rows,
    )


def _rows(connection: sqlite3.Connection) -> Mapping[str, int]:
    query = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'thebes_*' ORDER BY name"
    names = [name for (name,) in connection.execute(query).fetchall() if name != "thebes_migrations"]
    return {
        # A name can't be a parameter; these are the schema's, and quoted.
        name.removeprefix(PREFIX): connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # noqa: S608
        for name in names
    }
