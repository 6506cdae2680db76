"""The thread that writes: transactions from a queue, one group to a commit.

Protects the promise of `begin_within`: whether a transaction begins or is withdrawn is decided once, under a
lock, by whoever comes first of the writer and the clock.

Does not protect: the others of a group, when the disk fails in the middle of it; all of them are told so.

Sources: https://www.sqlite.org/lang_savepoint.html; https://www.sqlite.org/lang_transaction.html, 3 (errors
that end a whole transaction).
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from thebes.encoding import random_bytes
from thebes.errors import StoreUnavailable

Answer = TypeVar("Answer")
Work = Callable[[sqlite3.Connection], Answer]

BUSY_SECONDS = 5.0  # then the caller answers 503
MOST_IN_GROUP = 64  # how long the first of a group waits for the last: some 64 x 100 us
# Between two tries for a lock that another process holds. SQLite's own pauses grow to 100 ms, twice what a
# renewal in place has; random, so that processes don't keep step.
BUSY_PAUSE_SECONDS = 0.0005  # up to ten of these


class Ticket(Generic[Answer]):
    """One transaction on its way through the queue.

    Attributes:
        future: Gets the answer, in the event loop of the caller.
        loop: That loop.
        work: The transaction.
        outcome: What it returned.
        error: What it raised instead.
    """

    __slots__ = (
        "_deadline",
        "_is_decided",
        "_lock",
        "_timeout_error",
        "error",
        "future",
        "loop",
        "outcome",
        "work",
    )

    def __init__(self, work: Work[Answer], *, within: float, timeout_error: Exception | None) -> None:
        """Ask for a transaction, which counts from now.

        Args:
            work: The transaction.
            within: Seconds after which it doesn't begin any more.
            timeout_error: What the caller gets then; None answers with None.
        """
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Answer | None] = self.loop.create_future()
        self.work = work
        self.outcome: Answer | None = None
        self.error: BaseException | None = None
        self._timeout_error = timeout_error
        self._deadline = time.monotonic() + within
        self._lock = threading.Lock()
        self._is_decided = False

    def begin(self) -> bool:
        """Say that it begins now; False if it was withdrawn, or is too late and will be."""
        with self._lock:
            if not self.is_waiting():
                return False
            self._is_decided = True
            return True

    def is_waiting(self) -> bool:
        """Say whether it may still begin."""
        return not self._is_decided and time.monotonic() <= self._deadline

    def withdraw(self) -> None:
        """Answer the caller, in its own loop, if it hasn't begun by now."""
        if self.refuse(self._timeout_error):
            self.settle()

    def refuse(self, error: Exception | None) -> bool:
        """Decide that it never begins; False if that was decided already."""
        with self._lock:
            if self._is_decided:
                return False
            self._is_decided = True
        self.error = error
        return True

    def settle(self) -> None:
        """Hand outcome or error to the caller, in its own loop."""
        if self.future.done():  # cancelled: nobody waits for it
            return
        if isinstance(self.error, StopIteration):  # which no future can carry
            self.future.set_exception(RuntimeError("the transaction raised StopIteration"))
        elif self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.outcome)


class Writer:
    """Runs transactions on one connection, in one thread, in the order in which they were asked for."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queue: SimpleQueue[Ticket[Any] | None] = SimpleQueue()
        self._is_stopping = False
        # A daemon: a process that ends without closing the store must not wait for a queue that nobody reads.
        # What had begun then is rolled back or finished by the next process, as after a crash.
        self._thread = threading.Thread(target=self._serve, name="thebes-sqlite-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what has begun, refuse the rest, close the connection; returns when that is done."""
        self._is_stopping = True
        self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def put(self, ticket: Ticket[Any]) -> None:
        """Take a transaction into the queue."""
        self._queue.put(ticket)

    def _serve(self) -> None:
        while not self._is_stopping:
            first = self._queue.get()
            if first is not None:
                self._run([first, *self._waiting(MOST_IN_GROUP - 1)])
        self._refuse(self._waiting(None), StoreUnavailable("the store is closing"))

    def _waiting(self, most: int | None) -> list[Ticket[Any]]:
        found: list[Ticket[Any]] = []
        with suppress(Empty):
            while most is None or len(found) < most:
                if (ticket := self._queue.get_nowait()) is not None:
                    found.append(ticket)
        return found

    def _run(self, group: list[Ticket[Any]]) -> None:
        """Run a group in one transaction; if SQLite ends it early, go on with those that hadn't begun."""
        while group and self._begin(group):
            begun: list[Ticket[Any]] = []
            while group and self._connection.in_transaction:
                ticket = group.pop(0)
                if ticket.begin():
                    begun.append(ticket)
                    self._run_one(ticket)
            self._commit(begun)
            _deliver(begun)

    def _begin(self, group: Sequence[Ticket[Any]]) -> bool:
        """Take the write lock, as long as anyone waits for it."""
        while any(ticket.is_waiting() for ticket in group):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                if not is_busy(error):
                    self._refuse(group, unavailable(error))
                    return False
            else:
                return True
            if self._is_stopping:
                self._refuse(group, StoreUnavailable("the store is closing"))
                return False
            time.sleep(BUSY_PAUSE_SECONDS * (1 + random_bytes(1)[0] * 9 / 255))
        return False

    def _run_one(self, ticket: Ticket[Any]) -> None:
        execute = self._connection.execute
        try:
            execute("SAVEPOINT one")
            ticket.outcome = ticket.work(self._connection)
            execute("RELEASE one")
        except BaseException as error:  # the caller's, whatever it is: this thread goes on
            ticket.error = unavailable(error) if is_trouble(error) else error
            with suppress(sqlite3.Error):  # a transaction that is gone altogether is noticed by `_run`
                execute("ROLLBACK TO one")
                execute("RELEASE one")

    def _commit(self, begun: Sequence[Ticket[Any]]) -> None:
        error = StoreUnavailable("the transaction was ended by an error of another one in its group")
        if self._connection.in_transaction:
            try:
                self._connection.execute("COMMIT")
            except sqlite3.Error as failure:
                error = unavailable(failure)
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            else:
                return
        for ticket in begun:
            ticket.error = ticket.error or error

    def _refuse(self, group: Sequence[Ticket[Any]], error: StoreUnavailable) -> None:
        _deliver([ticket for ticket in group if ticket.refuse(error)])


def _deliver(tickets: Sequence[Ticket[Any]]) -> None:
    """Settle tickets in their loops, waking each loop once."""
    for loop, its in groupby(tickets, lambda ticket: ticket.loop):
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(_settle_all, list(its))


def _settle_all(tickets: Sequence[Ticket[Any]]) -> None:
    for ticket in tickets:
        ticket.settle()


def is_busy(error: sqlite3.Error) -> bool:
    """Say whether another connection holds a lock that this one needs."""
    return (error.sqlite_errorcode & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_trouble(error: BaseException) -> bool:
    """Say whether an error is the disk's, the file's or the lock's, and not a caller's mistake.

    A constraint that was violated and a statement that is wrong are for whoever wrote the statement.
    """
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error, (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.NotSupportedError)
    )


def unavailable(error: BaseException) -> StoreUnavailable:
    """Return what a caller is told when SQLite can't do it."""
    told = StoreUnavailable(f"the database can't be written: {error}")
    told.__cause__ = error
    return told
