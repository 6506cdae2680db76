"""One SQLite file: a single thread that writes, and readers that never wait for it.

A transaction is a plain function over a connection. It is put into a queue, and the writer's thread runs it
between BEGIN IMMEDIATE and COMMIT: one hop each, and no two of this process ever wait for SQLite's lock at
the same time. Those that wait together share one commit, each inside a savepoint of its own: one that fails
leaves no trace, and none is answered before the commit is on the disk (`synchronous=FULL`). So a disk that
syncs 1,000 times a second answers more than 1,000 refreshes.

Other processes use the same file: SQLite has one writer at a time, and who finds it busy tries again for 5 s.

Does not protect: against a disk that says it has written what it hasn't; against other machines (`files`).

Sources: https://www.sqlite.org/wal.html, https://www.sqlite.org/lang_transaction.html, lang_savepoint.html.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypeVar

from thebes.errors import StoreUnavailable
from thebes.stores.sqlite.files import prepared
from thebes.stores.sqlite.migrations import known, migrate
from thebes.stores.sqlite.sequence import SharedSequence, locked
from thebes.stores.sqlite.writer import BUSY_SECONDS, Ticket, Work, Writer, is_trouble

Answer = TypeVar("Answer")

# Readers are never kept waiting by a writer. What is left is the recovery of a log whose writer was killed:
# some milliseconds, once.
READ_BUSY_SECONDS = 0.1


class Database:
    """A file, its writer's thread, and a read-only connection for each thread that reads.

    Attributes:
        path: Where the file lies.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: Writer | None = None
        self._sequence: SharedSequence | None = None
        # The number of the last revocation of any process on this machine; no system call. Every signed-in
        # request asks, so it is the bound verb itself; StoreUnavailable where the database was never opened.
        self.sequence: Callable[[], int] = self._no_sequence
        self._readers = threading.local()
        self._open_readers: list[sqlite3.Connection] = []
        self._is_closed = False

    async def start(self) -> None:
        """Open the file, bring its schema up to date, and start the writer's thread.

        Raises:
            StoreUnavailable: It can't be opened.
            ConfigurationError: It must not lie there, or its schema is newer than this version.
        """
        if self._writer is not None:
            return
        self._is_closed = False
        # Apart from the event loop: another process may be migrating, and this one waits for it.
        connection = await asyncio.to_thread(self._open)
        self._writer = Writer(connection)
        self._writer.start()

    async def close(self) -> None:
        """Finish the transactions that have begun, refuse the others, and close."""
        writer, self._writer = self._writer, None
        self._is_closed = True
        if writer is None:
            return
        await asyncio.to_thread(writer.stop)
        for connection in self._open_readers:
            connection.close()
        self._open_readers.clear()
        self._readers = threading.local()
        if self._sequence is not None:
            self._sequence.close()

    async def write(self, work: Work[Answer], *, begin_within: float | None = None) -> Answer | None:
        """Run a transaction in the writer's thread, and return its answer when it is on the disk.

        Args:
            work: Called with a connection inside a transaction; what it raises undoes what it did. It may use
                the SQL function `thebes_following_sequence()`, and no BEGIN, COMMIT or ROLLBACK.
            begin_within: Seconds from now after which it is withdrawn if it hasn't begun; None waits for 5 s.

        Returns:
            What `work` returned, or None if it was withdrawn and nothing has happened.

        Raises:
            StoreUnavailable: It couldn't begin or be kept; nothing has happened.
        """
        if self._writer is None:
            raise StoreUnavailable(f"the database {self.path} is not open")
        if begin_within is None:
            within, error = BUSY_SECONDS, StoreUnavailable(f"the database is busy for {BUSY_SECONDS:.0f} s")
        else:
            within, error = begin_within, None
        ticket = Ticket(work, within=within, timeout_error=error)
        self._writer.put(ticket)
        timer = ticket.loop.call_later(within, ticket.withdraw)
        try:
            # A cancelled caller loses the answer alone. Who clicks "sign out" and leaves is signed out.
            return await ticket.future
        finally:
            timer.cancel()

    def read(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """Run a point read on this thread's own connection, at once.

        No hop to another thread: a row by its key is 10 to 40 us, a hop 60 to 200 under load. In WAL a reader
        never waits for a writer, so the event loop is held up by no lock; at worst by a page that isn't in
        the system's cache.

        Raises:
            StoreUnavailable: It can't be read.
        """
        connection = getattr(self._readers, "connection", None)
        try:
            return work(connection if connection is not None else self._reader())
        except sqlite3.Error as error:
            if is_trouble(error):
                raise StoreUnavailable(f"the database can't be read: {error}") from error
            raise

    async def scan(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """Run a read that may take long, in another thread, on a connection of its own.

        Raises:
            StoreUnavailable: It can't be read.
        """

        def scanned() -> Answer:
            connection = read_only(self.path)
            try:
                return work(connection)
            finally:
                connection.close()

        try:
            return await asyncio.to_thread(scanned)
        except sqlite3.Error as error:
            if is_trouble(error):
                raise StoreUnavailable(f"the database can't be read: {error}") from error
            raise

    def _no_sequence(self) -> int:
        raise StoreUnavailable(f"the database {self.path} is not open")

    def _open(self) -> sqlite3.Connection:
        self.path = prepared(self.path)
        beside = self.path.with_name(f"{self.path.name}-sequence")
        # Setting WAL takes an exclusive lock for which no busy_timeout waits: two workers that start at once
        # would meet "database is locked". So would two that migrate.
        with locked(beside), ExitStack() as undone:
            sequence = SharedSequence(beside)
            undone.callback(sequence.close)
            try:
                connection = undone.enter_context(closing(_read_write(self.path)))
                _prepare(connection, sequence)
            except sqlite3.Error as error:
                raise StoreUnavailable(f"cannot open the database {self.path}: {error}") from error
            undone.pop_all()
        self._sequence = sequence
        self.sequence = sequence.current
        return connection

    def _reader(self) -> sqlite3.Connection:
        if self._is_closed or self._writer is None:
            raise StoreUnavailable(f"the database {self.path} is not open")
        connection = read_only(self.path)
        self._readers.connection = connection
        self._open_readers.append(connection)
        return connection


def read_only(path: Path) -> sqlite3.Connection:
    """Open a connection that can't write."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=READ_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # closed by the thread that closes the store
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _read_write(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,  # BEGIN and COMMIT are ours alone
        check_same_thread=False,  # opened in one thread, used in the writer's
    )


def _prepare(connection: sqlite3.Connection, sequence: SharedSequence) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreUnavailable(f"the database stays in journal mode {mode}: WAL is needed")
    for pragma in ("synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    migrate(connection, known())
    query = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'thebes_revocations'"
    connection.execute("BEGIN IMMEDIATE")  # nobody is between raising the file's number and its commit
    sequence.raise_to(connection.execute(query).fetchone()[0])
    connection.execute("ROLLBACK")
    # The writer waits by itself, so that it can give up in time.
    connection.execute("PRAGMA busy_timeout = 0")
    connection.create_function("thebes_following_sequence", 0, sequence.following)
