"""The shared number: it rises before a revocation can be seen, never falls, and is never given twice."""

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.errors import StoreUnavailable
from thebes.stores.sqlite import SQLiteStore, revoking
from thebes.stores.sqlite.database import Database
from thebes.stores.sqlite.sequence import MAGIC, SharedSequence, locked
from thebes.testing.contract.rows import NOW
from thebes.testing.contract.session_rows import with_account, with_sessions

STEPS = st.lists(st.tuples(st.sampled_from(["following", "raise_to"]), st.booleans(), st.integers(0, 2**40)))


class TestNumber:
    @given(STEPS)
    def test_it_rises_for_all_who_share_it(
        self, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bool, int]]
    ) -> None:
        path = tmp_path_factory.mktemp("sequence") / "number"
        both = SharedSequence(path), SharedSequence(path)
        expected = 0
        for verb, which, least in steps:
            if verb == "following":
                expected += 1
                assert both[which].following() == expected
            else:
                expected = max(expected, least)
                both[which].raise_to(least)
            assert [one.current() for one in both] == [expected, expected]
        for one in both:
            one.close()
            assert one.current() == expected, "who asks after the end gets the last number"

    def test_it_outlives_its_processes(self, tmp_path: Path) -> None:
        path = tmp_path / "number"
        first = SharedSequence(path)
        first.raise_to(41)
        first.close()
        program = (
            "import pathlib, sys; from thebes.stores.sqlite.sequence import SharedSequence as Shared;"
            "print(Shared(pathlib.Path(sys.argv[1])).following())"
        )
        told = subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
        )
        assert told.stdout == "42\n"
        assert SharedSequence(path).current() == 42

    def test_a_file_that_was_removed_is_made_again_and_goes_on(self, tmp_path: Path) -> None:
        path = tmp_path / "number"
        one = SharedSequence(path)
        one.raise_to(7)
        path.unlink()
        assert one.following() == 8
        assert SharedSequence(path).current() == 8

    def test_a_file_that_was_replaced_is_followed(self, tmp_path: Path) -> None:
        path = tmp_path / "number"
        one = SharedSequence(path)
        path.unlink()
        other = SharedSequence(path)
        other.raise_to(100)
        assert one.following() == 101
        assert other.current() == 101


class TestFile:
    def test_only_its_owner_may_touch_it(self, tmp_path: Path) -> None:
        path = tmp_path / "number"
        SharedSequence(path).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o666)
        SharedSequence(path).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_its_octets_are_allocated(self, tmp_path: Path) -> None:
        SharedSequence(tmp_path / "number").close()
        assert (tmp_path / "number").stat().st_blocks > 0, "a hole ends a process on a full disk"

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").write_bytes(b"")
        (tmp_path / "number").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StoreUnavailable, match="cannot open"):
            SharedSequence(tmp_path / "number")
        assert (tmp_path / "elsewhere").read_bytes() == b""

    def test_a_pipe_is_refused_and_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "number")
        with pytest.raises(StoreUnavailable, match="not a plain file"):
            SharedSequence(tmp_path / "number")

    @pytest.mark.parametrize("content", [b"something else, and long", MAGIC[:-1] + b"\x02" + bytes(8)])
    def test_a_file_of_another_layout_is_refused_and_left(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "number").write_bytes(content)
        with pytest.raises(StoreUnavailable, match="no sequence file of this version"):
            SharedSequence(tmp_path / "number")
        assert (tmp_path / "number").read_bytes() == content

    def test_one_at_a_time_holds_its_lock(self, tmp_path: Path) -> None:
        path = tmp_path / "number"
        program = "import fcntl, sys;fcntl.flock(open(sys.argv[1], 'rb+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        command = [sys.executable, "-c", program, str(path)]
        with locked(path):
            assert b"BlockingIOError" in subprocess.run(command, capture_output=True, check=False).stderr
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0


class TestBesideADatabase:
    async def test_it_has_risen_before_the_row_can_be_seen(self, sqlite_store: SQLiteStore) -> None:
        database = sqlite_store._database
        seen = await database.write(
            lambda connection: (
                revoking.revoke_session(connection, "one", NOW),
                sqlite_store.sessions.sequence(),
                SharedSequence(Path(f"{database.path}-sequence")).current(),
            )
        )
        assert seen == (None, 1, 1)

    async def test_a_reader_that_is_up_to_date_has_seen_every_ending(self, sqlite_store: SQLiteStore) -> None:
        """While sessions end one by one, each look finds: number risen, or nothing ended beyond it."""
        await with_account(sqlite_store)
        names = [f"s{number}" for number in range(40)]
        await with_sessions(sqlite_store, *names)
        ending = asyncio.gather(*(sqlite_store.sessions.revoke("ada", name, reason="x") for name in names))
        looks = 0
        while not ending.done():
            live = {one.id for one in await sqlite_store.sessions.of_account("ada", now=NOW)}
            number = sqlite_store.sessions.sequence()
            assert number >= len(names) - len(live)
            looks += 1
            await asyncio.sleep(0)
        await ending
        assert looks > 1
        assert sqlite_store.sessions.sequence() == 40

    async def test_a_number_whose_transaction_failed_is_not_given_again(
        self, sqlite_store: SQLiteStore
    ) -> None:
        def failing(connection: object) -> None:
            revoking.revoke_session(connection, "lost", NOW)  # type: ignore[arg-type]
            raise RuntimeError("after the row")

        with pytest.raises(RuntimeError, match="after the row"):
            await sqlite_store._database.write(failing)
        lost = sqlite_store.sessions.sequence()
        await with_account(sqlite_store)
        await with_sessions(sqlite_store, "one")
        await sqlite_store.sessions.revoke("ada", "one", reason="x", now=NOW)
        entries = await sqlite_store.sessions.revocations(0, now=NOW)
        assert [(entry.sequence, entry.subject) for entry in entries] == [(lost + 1, "one")]

    async def test_it_is_set_from_the_table_where_the_file_is_gone(self, sqlite_store: SQLiteStore) -> None:
        await with_account(sqlite_store)
        await with_sessions(sqlite_store, "a", "b")
        await sqlite_store.sessions.revoke("ada", reason="x", now=NOW)
        await sqlite_store.purge(now=NOW + 10_000)  # the rows are gone, their numbers aren't free
        await sqlite_store.close()
        Path(f"{sqlite_store._database.path}-sequence").unlink()
        again = SQLiteStore(sqlite_store._database.path)
        await again.start()
        assert again.sessions.sequence() == 2
        await again.close()

    async def test_a_restored_copy_never_takes_it_back(self, sqlite_store: SQLiteStore) -> None:
        path = sqlite_store._database.path
        await sqlite_store.close()
        copy = path.read_bytes()
        await sqlite_store.start()
        await with_account(sqlite_store)
        await with_sessions(sqlite_store, "a")
        await sqlite_store.sessions.revoke("ada", reason="x", now=NOW)
        await sqlite_store.close()
        path.write_bytes(copy)
        await sqlite_store.start()
        assert sqlite_store.sessions.sequence() == 1

    async def test_stores_of_two_owners_share_it(self, sqlite_store: SQLiteStore) -> None:
        other = SQLiteStore(sqlite_store._database.path)
        await other.start()
        await with_account(other)
        await with_sessions(other, "a")
        await sqlite_store.sessions.revoke("ada", reason="x", now=NOW)
        assert other.sessions.sequence() == 1
        await other.close()
        assert sqlite_store.sessions.sequence() == 1

    async def test_it_can_be_asked_after_the_store_was_closed_but_not_before_it_was_opened(
        self, tmp_path: Path
    ) -> None:
        database = Database(tmp_path / "thebes.db")
        with pytest.raises(StoreUnavailable, match="not open"):
            database.sequence()
        await database.start()
        await database.close()
        assert database.sequence() == 0
