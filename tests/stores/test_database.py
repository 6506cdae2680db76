"""The engine: one writer, groups that share a commit, readers that never wait, and what was withdrawn."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from thebes.errors import StoreUnavailable
from thebes.stores.sqlite.database import Database, read_only


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(tmp_path / "thebes.db")
    await opened.start()
    await opened.write(lambda connection: connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY) STRICT"))
    yield opened
    await opened.close()


@pytest.fixture
def intruder(database: Database) -> Iterator[sqlite3.Connection]:
    """Another process's connection, as far as SQLite can tell."""
    with closing(sqlite3.connect(database.path, isolation_level=None)) as connection:
        yield connection


class Gate:
    """A transaction that has begun, and goes on when it is told to."""

    def __init__(self, database: Database) -> None:
        self._has_begun, self._may_end = threading.Event(), threading.Event()
        self.answer = asyncio.ensure_future(database.write(self._work))

    def _work(self, connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO t VALUES (1000)")
        self._has_begun.set()
        assert self._may_end.wait(30)
        return "done"

    async def begun(self) -> None:
        assert await asyncio.to_thread(self._has_begun.wait, 30)

    def open(self) -> None:
        self._may_end.set()


def insert(number: int) -> Any:
    return lambda connection: connection.execute("INSERT INTO t VALUES (?)", (number,)).rowcount


def rows(connection: sqlite3.Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT n FROM t ORDER BY n").fetchall()]


class TestSettings:
    async def test_a_commit_is_on_the_disk_and_references_hold(self, database: Database) -> None:
        asked = ("journal_mode", "synchronous", "foreign_keys", "trusted_schema", "busy_timeout")
        told = await database.write(
            lambda connection: [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in asked]
        )
        assert told == ["wal", 2, 1, 0, 0], "2 is FULL; the writer waits by itself"

    async def test_a_reader_can_not_write(self, database: Database) -> None:
        with pytest.raises(StoreUnavailable, match="readonly"):
            database.read(insert(1))
        assert database.read(rows) == []


class TestWriting:
    async def test_an_answer_is_given_when_others_can_read_the_row(
        self, database: Database, intruder: sqlite3.Connection
    ) -> None:
        async def one(number: int) -> bool:
            await database.write(insert(number))
            return number in rows(intruder)

        assert all(await asyncio.gather(*(one(number) for number in range(100))))

    async def test_those_that_wait_together_share_one_commit(self, database: Database) -> None:
        statements: list[str] = []
        await database.write(lambda connection: connection.set_trace_callback(statements.append))
        gate = Gate(database)
        await gate.begun()
        waiting = [asyncio.ensure_future(database.write(insert(number))) for number in range(10)]
        await asyncio.sleep(0)
        statements.clear()
        gate.open()
        await asyncio.gather(gate.answer, *waiting)
        assert statements.count("COMMIT") == 2, "the one that was under way, and one for the ten"
        assert statements.count("SAVEPOINT one") == 10

    async def test_a_group_is_bounded(self, database: Database) -> None:
        statements: list[str] = []
        await database.write(lambda connection: connection.set_trace_callback(statements.append))
        gate = Gate(database)
        await gate.begun()
        waiting = [asyncio.ensure_future(database.write(insert(number))) for number in range(130)]
        await asyncio.sleep(0)
        statements.clear()
        gate.open()
        await asyncio.gather(gate.answer, *waiting)
        assert statements.count("COMMIT") == 4

    async def test_one_that_raises_leaves_no_trace_of_itself_and_all_of_the_others(
        self, database: Database
    ) -> None:
        def failing(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO t VALUES (500)")
            raise KeyError("a bug")

        gate = Gate(database)
        await gate.begun()
        waiting = [
            asyncio.ensure_future(database.write(failing if number == 3 else insert(number)))
            for number in range(6)
        ]
        await asyncio.sleep(0)
        gate.open()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(answer) for answer in answers] == [int, int, int, KeyError, int, int]
        assert database.read(rows) == [0, 1, 2, 4, 5, 1000]

    @pytest.mark.parametrize(
        ("work", "error"),
        [
            pytest.param("INSERT INTO t VALUES (NULL), (1), (1)", sqlite3.IntegrityError, id="a constraint"),
            pytest.param("SELECT * FROM nowhere", StoreUnavailable, id="no such table"),
            pytest.param("INSERT INTO t VALUES ('text')", sqlite3.IntegrityError, id="a type"),
        ],
    )
    async def test_an_error_is_the_callers_or_the_stores(
        self, database: Database, work: str, error: type[Exception]
    ) -> None:
        with pytest.raises(error):
            await database.write(lambda connection: connection.execute(work))
        assert database.read(rows) == []

    async def test_even_what_no_future_can_carry_is_answered(self, database: Database) -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await database.write(lambda _: next(iter(())))
        with pytest.raises(SystemExit):
            await _exits(database)
        assert await database.write(insert(1)) == 1, "and the writer goes on"

    async def test_when_sqlite_ends_the_whole_transaction_nobody_of_it_is_told_that_it_was_kept(
        self, database: Database
    ) -> None:
        def ends_it(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR ROLLBACK INTO t VALUES (0)")

        gate = Gate(database)
        await gate.begun()
        works = [insert(0), insert(1), ends_it, insert(3), insert(4)]
        waiting = [asyncio.ensure_future(database.write(work)) for work in works]
        await asyncio.sleep(0)
        gate.open()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(answer) for answer in answers] == [
            StoreUnavailable,
            StoreUnavailable,
            sqlite3.IntegrityError,
            int,
            int,
        ]
        assert database.read(rows) == [3, 4, 1000]

    async def test_a_commit_that_fails_is_told_to_all_of_its_group(self, database: Database) -> None:
        def deferred(connection: sqlite3.Connection) -> None:
            connection.execute("PRAGMA defer_foreign_keys = ON")
            connection.execute("INSERT INTO thebes_tokens VALUES (x'00', 'reset', 'nobody', 'x', 1.0)")

        gate = Gate(database)
        await gate.begun()
        waiting = [asyncio.ensure_future(database.write(work)) for work in (insert(1), deferred, insert(2))]
        await asyncio.sleep(0)
        gate.open()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
        assert database.read(rows) == [1000]
        assert await database.write(insert(3)) == 1

    async def test_a_full_disk_is_told_and_what_was_kept_stays(self, database: Database) -> None:
        await database.write(insert(1))
        pages = await database.write(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
        await database.write(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}"))
        many = "INSERT INTO t SELECT value FROM generate"
        fill = f"WITH RECURSIVE generate (value) AS (SELECT 2 UNION ALL SELECT value + 1 FROM generate LIMIT 9999) {many}"
        with pytest.raises(StoreUnavailable, match="full"):
            await database.write(lambda connection: connection.execute(fill))
        await database.write(lambda connection: connection.execute("PRAGMA max_page_count = 1000000"))
        assert database.read(rows) == [1]


async def _exits(database: Database) -> None:
    def leave(connection: sqlite3.Connection) -> None:
        raise SystemExit(3)

    # Awaited through a thread of its own: SystemExit in a task would end the loop that runs the test.
    await asyncio.to_thread(lambda: asyncio.run(database.write(leave)))


class TestWithdrawing:
    async def test_what_has_not_begun_in_time_never_does(
        self, database: Database, intruder: sqlite3.Connection
    ) -> None:
        intruder.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert await database.write(insert(1), begin_within=0.05) is None
        assert time.monotonic() - began < 2
        intruder.execute("ROLLBACK")
        assert await database.write(insert(2)) == 1
        assert database.read(rows) == [2]

    async def test_the_time_counts_from_asking_and_not_from_its_turn(self, database: Database) -> None:
        gate = Gate(database)
        await gate.begun()
        assert await database.write(insert(1), begin_within=0.02) is None
        gate.open()
        assert await gate.answer == "done"
        assert database.read(rows) == [1000]

    async def test_a_loop_that_was_held_up_gets_no_late_beginning(self, database: Database) -> None:
        gate = Gate(database)
        await gate.begun()
        its_turn_is_over = threading.Event()
        waiting = asyncio.ensure_future(database.write(insert(1), begin_within=0.02))
        behind = asyncio.ensure_future(database.write(lambda connection: its_turn_is_over.set()))
        await asyncio.sleep(0)
        deadline = time.monotonic() + 0.03
        while time.monotonic() < deadline:
            pass
        gate.open()
        # Awaited without letting the loop go on: its timer can't be what withdraws it.
        assert its_turn_is_over.wait(30)
        assert await waiting is None
        await asyncio.gather(gate.answer, behind)
        assert database.read(rows) == [1000]

    async def test_what_has_begun_is_awaited_however_long_it_takes(self, database: Database) -> None:
        begun, may_end = threading.Event(), threading.Event()

        def work(connection: sqlite3.Connection) -> str:
            begun.set()
            assert may_end.wait(30)
            return "done"

        waiting = asyncio.ensure_future(database.write(work, begin_within=0.01))
        assert await asyncio.to_thread(begun.wait, 30)
        done, _ = await asyncio.wait({waiting}, timeout=0.05)
        assert not done
        may_end.set()
        assert await waiting == "done"

    async def test_who_is_cancelled_after_the_beginning_loses_only_the_answer(
        self, database: Database
    ) -> None:
        gate = Gate(database)
        await gate.begun()
        gate.answer.cancel()
        gate.open()
        await database.write(insert(1))
        assert gate.answer.cancelled()
        assert database.read(rows) == [1, 1000]

    async def test_who_is_cancelled_costs_the_others_of_the_group_nothing(self, database: Database) -> None:
        gate = Gate(database)
        await gate.begun()
        waiting = [asyncio.ensure_future(database.write(insert(number))) for number in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        gate.open()
        answers = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 30)
        assert [type(answer) for answer in answers] == [asyncio.CancelledError, int, int]
        assert database.read(rows) == [0, 1, 2, 1000]

    async def test_a_lock_that_is_given_up_in_time_is_taken(
        self, database: Database, intruder: sqlite3.Connection
    ) -> None:
        intruder.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(database.write(insert(1)))
        done, _ = await asyncio.wait({waiting}, timeout=0.02)
        assert not done
        intruder.execute("COMMIT")
        assert await waiting == 1

    @pytest.mark.slow
    async def test_after_five_seconds_of_another_process_the_store_is_unavailable(
        self, database: Database, intruder: sqlite3.Connection
    ) -> None:
        intruder.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="busy for 5 s"):
            await database.write(insert(1))
        assert 5 <= time.monotonic() - began < 8
        intruder.execute("ROLLBACK")
        assert await database.write(insert(2)) == 1
        assert database.read(rows) == [2]


class TestReading:
    async def test_a_reader_sees_the_state_before_a_transaction_and_does_not_wait_for_it(
        self, database: Database
    ) -> None:
        gate = Gate(database)
        await gate.begun()
        assert database.read(rows) == []
        assert await database.scan(rows) == []
        gate.open()
        await gate.answer
        assert database.read(rows) == [1000]

    async def test_each_thread_has_a_connection_of_its_own(self, database: Database) -> None:
        def which() -> int:
            return database.read(id)

        assert which() == which()
        assert await asyncio.to_thread(which) != which()

    async def test_a_wrong_statement_is_its_authors(self, database: Database) -> None:
        with pytest.raises(sqlite3.ProgrammingError):
            database.read(lambda connection: connection.execute("SELECT ?"))
        with pytest.raises(sqlite3.ProgrammingError):
            await database.scan(lambda connection: connection.execute("SELECT ?"))
        with pytest.raises(StoreUnavailable, match="nowhere"):
            await database.scan(lambda connection: connection.execute("SELECT * FROM nowhere"))

    @pytest.mark.parametrize("name", ["a b.db", "a?b.db", "a#b.db", "a%41.db", "ä.db"])
    async def test_any_file_name_names_that_file(self, tmp_path: Path, name: str) -> None:
        opened = Database(tmp_path / name)
        await opened.start()
        assert opened.read(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
        await opened.close()
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, f"{name}-sequence"])


class TestClosing:
    async def test_what_has_begun_is_finished_and_the_rest_refused(self, database: Database) -> None:
        gate = Gate(database)
        await gate.begun()
        waiting = [asyncio.ensure_future(database.write(insert(number))) for number in range(3)]
        await asyncio.sleep(0)
        closing_it = asyncio.ensure_future(database.close())
        await asyncio.sleep(0)
        gate.open()
        await closing_it
        assert await gate.answer == "done"
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(answer) for answer in answers] == ["the store is closing"] * 3, "told at once"
        with closing(read_only(database.path)) as connection:
            assert rows(connection) == [1000]

    async def test_one_that_waits_for_another_process_does_not_hold_up_the_end(
        self, database: Database, intruder: sqlite3.Connection
    ) -> None:
        has_tried = threading.Event()
        await database.write(lambda connection: connection.set_trace_callback(lambda _: has_tried.set()))
        has_tried.clear()
        intruder.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(database.write(insert(1)))
        assert await asyncio.to_thread(has_tried.wait, 30)
        await database.close()
        with pytest.raises(StoreUnavailable, match="closing"):
            await waiting

    async def test_a_closed_store_says_so_and_can_be_opened_again(self, database: Database) -> None:
        await database.write(insert(1))
        await database.close()
        await database.close()
        with pytest.raises(StoreUnavailable, match="not open"):
            await database.write(insert(2))
        with pytest.raises(StoreUnavailable, match="not open"):
            database.read(rows)
        await database.start()
        await database.start()
        assert database.read(rows) == [1]

    async def test_the_log_is_put_into_the_file(self, database: Database) -> None:
        await database.write(insert(1))
        await database.close()
        assert not Path(f"{database.path}-wal").exists()
