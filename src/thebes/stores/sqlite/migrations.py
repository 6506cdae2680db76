"""Bring a database's schema up to date: numbered SQL files, each applied once, in their order.

A file and the note that it was applied are one transaction, so a crash leaves the schema before it or behind
it. Whoever calls `migrate` holds the lock of the start. A database that a newer version has changed is
refused: an older one would write rows of which the newer schema promises something else.

Does not protect: a change made by hand.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

from thebes.errors import ConfigurationError

NOTES = """
CREATE TABLE IF NOT EXISTS thebes_migrations (
    number     INTEGER NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    applied_at REAL    NOT NULL
) STRICT
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema.

    Attributes:
        number: Its place, from 1.
        name: What it is about, from the file's name.
        text: SQL statements, without BEGIN and COMMIT.
    """

    number: int
    name: str
    text: str

    def statements(self) -> Iterator[str]:
        """Yield the statements one by one: `executescript` would commit between them."""
        statement = ""
        for line in self.text.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                yield statement
                statement = ""


def known() -> Sequence[Migration]:
    """Return the migrations of this version, in their order."""
    found = []
    for file in (files("thebes") / "stores" / "migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name):
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.number)


def applied(connection: sqlite3.Connection) -> Sequence[int]:
    """Return the numbers of the migrations that a database has had."""
    query = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'thebes_migrations'"
    if not connection.execute(query).fetchone()[0]:
        return ()
    return [
        number for (number,) in connection.execute("SELECT number FROM thebes_migrations ORDER BY number")
    ]


def pending(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> Sequence[Migration]:
    """Return what has still to be applied.

    Raises:
        ConfigurationError: The database has had one that this version doesn't know.
    """
    had = applied(connection)
    newest = migrations[-1].number if migrations else 0
    if had and had[-1] > newest:
        raise ConfigurationError(
            f"the database has schema {had[-1]}, this version of thebes knows {newest}: "
            "run the version that upgraded it, or restore the copy made before"
        )
    return [migration for migration in migrations if migration.number not in had]


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    """Apply what is pending.

    Raises:
        ConfigurationError: The database's schema is newer.
    """
    for migration in pending(connection, migrations):
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(NOTES)
            for statement in migration.statements():
                connection.execute(statement)
            connection.execute(
                "INSERT INTO thebes_migrations (number, name, applied_at) VALUES (?, ?, ?)",
                (migration.number, migration.name, time.time()),
            )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
