"""What really happens to a database, for tests of what the service does then.

Each ends with its `with` block. They are what another process or the system would do: no verb of a store is
replaced.
"""

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


def run(path: Path, *statements: str) -> None:
    """Execute statements as another process would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for statement in statements:
            other.execute(statement)


@contextmanager
def written_by_another(path: Path) -> Iterator[None]:
    """Hold the lock of the one who writes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def no_room_on_the_disk() -> Iterator[None]:
    """Let every write of this process to a file fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def unreadable(path: Path, table: str) -> Iterator[None]:
    """Take a table away, so that each statement about it fails."""
    run(path, f"ALTER TABLE {table} RENAME TO taken_away")
    try:
        yield
    finally:
        run(path, f"ALTER TABLE taken_away RENAME TO {table}")


@contextmanager
def slowly_updated(path: Path, table: str, *, rows: int = 220) -> Iterator[None]:
    """Let each update of a table take half a second and more, at work and holding the lock."""
    numbers = ", ".join(f"({number})" for number in range(rows))
    run(
        path,
        "CREATE TABLE some_numbers (n INTEGER)",
        f"INSERT INTO some_numbers VALUES {numbers}",
        f"CREATE TRIGGER slowly BEFORE UPDATE ON {table} BEGIN"
        " SELECT count(*) FROM some_numbers a, some_numbers b, some_numbers c WHERE a.n + b.n + c.n < 0; END",
    )
    try:
        yield
    finally:
        run(path, "DROP TRIGGER slowly", "DROP TABLE some_numbers")


def is_being_written(path: Path) -> bool:
    """Say whether somebody holds the lock of the one who writes."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        other.execute("ROLLBACK")
        return False
