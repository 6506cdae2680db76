"""Where a database may lie, who may read it, and how its schema gets up to date."""

import json
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.errors import ConfigurationError, StoreUnavailable
from thebes.stores.sqlite import SQLiteStore, files
from thebes.stores.sqlite.database import Database
from thebes.stores.sqlite.migrations import Migration, known, migrate, pending
from thebes.stores.sqlite.status import look
from thebes.testing.contract.rows import NOW
from thebes.testing.contract.session_rows import with_account, with_sessions

MOUNTINFO = r"""
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /srv rw shared:2 - nfs4 server:/export rw,vers=4.2
24 23 254:2 / /srv/local rw - xfs /dev/vdb rw
25 22 0:22 / /mnt/two\040words rw master:1 propagate_from:2 - cifs //server/share rw
26 22 0:23 / /home rw - ext4 /dev/vdc rw
27 22 0:24 / /home rw - fuse.sshfs host: rw
28 22 0:25 / /data rw - virtiofs data rw
29 22 0:26 / /fuse rw - fuse.ext4 /dev/vdd rw
"""


class TestPlace:
    async def test_all_its_files_are_the_owners_alone(self, sqlite_store: SQLiteStore) -> None:
        await with_account(sqlite_store)
        directory = sqlite_store._database.path.parent
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
        expected = ["thebes.db", "thebes.db-wal", "thebes.db-shm", "thebes.db-sequence"]
        assert modes == dict.fromkeys(expected, 0o600)

    async def test_a_file_that_others_could_read_is_closed_to_them(self, tmp_path: Path) -> None:
        (tmp_path / "thebes.db").touch(mode=0o644)
        await started_and_closed(tmp_path / "thebes.db")
        assert stat.S_IMODE((tmp_path / "thebes.db").stat().st_mode) == 0o600

    @pytest.mark.parametrize("mode", [0o777, 0o1777, 0o703])
    async def test_a_directory_that_everyone_may_write_into_is_refused(
        self, tmp_path: Path, mode: int
    ) -> None:
        directory = tmp_path / "open"
        directory.mkdir()
        directory.chmod(mode)
        with pytest.raises(ConfigurationError, match="writable by everyone"):
            await Database(directory / "thebes.db").start()
        assert list(directory.iterdir()) == []

    async def test_a_link_is_judged_by_where_it_leads(self, tmp_path: Path) -> None:
        directory = tmp_path / "open"
        directory.mkdir()
        directory.chmod(0o777)
        (tmp_path / "thebes.db").symlink_to(directory / "thebes.db")
        with pytest.raises(ConfigurationError, match="writable by everyone"):
            await Database(tmp_path / "thebes.db").start()

    async def test_a_missing_directory_is_made_for_the_owner_alone(self, tmp_path: Path) -> None:
        await started_and_closed(tmp_path / "state" / "thebes.db")
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700

    async def test_two_missing_directories_are_a_mistake(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailable, match="No such file or directory"):
            await Database(tmp_path / "no" / "where" / "thebes.db").start()

    async def test_what_is_no_database_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thebes.db").write_bytes(b"a diary, " * 1000)
        with pytest.raises(StoreUnavailable, match="not a database"):
            await Database(tmp_path / "thebes.db").start()
        assert (tmp_path / "thebes.db").read_bytes() == b"a diary, " * 1000
        (tmp_path / "directory.db").mkdir()
        with pytest.raises(StoreUnavailable, match="not a plain file"):
            await Database(tmp_path / "directory.db").start()

    @pytest.mark.parametrize(
        ("directory", "kind"),
        [
            ("/var/lib", "ext4"),
            ("/srv", "nfs4"),
            ("/srv/data/deep", "nfs4"),
            ("/srv/local/data", "xfs"),
            ("/srvother", "ext4"),
            ("/mnt/two words", "cifs"),
            ("/home/ada", "fuse.sshfs"),
        ],
    )
    def test_the_file_system_is_the_one_of_the_nearest_mount(self, directory: str, kind: str) -> None:
        assert files.filesystem_of(Path(directory), MOUNTINFO) == kind

    @pytest.mark.parametrize(
        ("directory", "is_remote"),
        [
            ("/srv", True),
            ("/mnt/two words", True),
            ("/home", True),
            ("/data", True),
            ("/", False),
            ("/srv/local", False),
            ("/fuse", False),
        ],
    )
    def test_a_remote_file_system_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: str, is_remote: bool
    ) -> None:
        listed(tmp_path, monkeypatch, MOUNTINFO)
        if is_remote:
            with pytest.raises(ConfigurationError, match="locks don't hold"):
                files.refuse_remote(Path(directory))
        else:
            files.refuse_remote(Path(directory))

    async def test_a_store_does_not_start_on_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        listed(tmp_path, monkeypatch, f"{MOUNTINFO}30 22 0:30 / {tmp_path} rw - nfs host:/ rw\n")
        with pytest.raises(ConfigurationError, match="locks don't hold"):
            await Database(tmp_path / "state" / "thebes.db").start()
        assert not (tmp_path / "state" / "thebes.db").exists()

    def test_without_a_list_of_mounts_nothing_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "MOUNTS", tmp_path / "missing")
        files.refuse_remote(Path("/srv"))

    @given(st.text())
    def test_no_list_of_mounts_breaks_the_reader(self, text: str) -> None:
        assert files.filesystem_of(Path("/srv"), text) is None or " - " in text


def listed(directory: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let the system's list of mounts be another one; to mount anything takes root."""
    (directory / "mountinfo").write_text(text)
    monkeypatch.setattr(files, "MOUNTS", directory / "mountinfo")


async def started_and_closed(path: Path) -> None:
    database = Database(path)
    await database.start()
    await database.close()


class TestMigrations:
    async def test_a_start_applies_each_of_them_once(self, tmp_path: Path) -> None:
        path = tmp_path / "thebes.db"
        for _ in range(2):
            await started_and_closed(path)
            with closing(sqlite3.connect(path)) as connection:
                noted = connection.execute("SELECT number, name FROM thebes_migrations").fetchall()
            assert noted == [(one.number, one.name) for one in known()]

    def test_their_numbers_run_from_one_without_a_gap(self) -> None:
        assert [one.number for one in known()] == list(range(1, len(known()) + 1))

    async def test_every_table_is_ours_by_name_and_strict(self, sqlite_store: SQLiteStore) -> None:
        query = (
            "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%'"
        )
        tables = sqlite_store._database.read(lambda connection: connection.execute(query).fetchall())
        assert len(tables) == 8
        assert [name for name, strict in tables if not (name.startswith("thebes_") and strict)] == []

    async def test_a_newer_schema_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "thebes.db"
        await started_and_closed(path)
        newer = known()[-1].number + 1
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT INTO thebes_migrations VALUES (?, 'to come', 1.0)", (newer,))
        with pytest.raises(ConfigurationError, match=f"has schema {newer}"):
            await Database(path).start()
        assert look(path).schema == newer

    def test_one_that_fails_leaves_the_schema_before_it(self) -> None:
        steps = [
            Migration(1, "good", "CREATE TABLE a (n) ;"),
            Migration(
                2, "bad", "CREATE TABLE b (n);\nINSERT INTO a VALUES (1);\nINSERT INTO nowhere VALUES (1);"
            ),
        ]
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            with pytest.raises(sqlite3.OperationalError, match="nowhere"):
                migrate(connection, steps)
            names = [
                name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            ]
            assert sorted(names) == ["a", "thebes_migrations"]
            assert connection.execute("SELECT * FROM a").fetchall() == []
            assert not connection.in_transaction
            assert [one.name for one in pending(connection, steps)] == ["bad"]
            migrate(connection, [steps[0], Migration(2, "mended", "CREATE TABLE b (n);")])
            assert connection.execute("SELECT count(*) FROM b").fetchone() == (0,)

    def test_a_statement_ends_where_sqlite_says_so(self) -> None:
        text = """
            -- a comment; with a semicolon
            CREATE TABLE a (n TEXT DEFAULT ';');
            CREATE TRIGGER t AFTER INSERT ON a BEGIN
                DELETE FROM a WHERE n = 1;
                DELETE FROM a WHERE n = 2;
            END;
        """
        statements = list(Migration(1, "x", text).statements())
        assert len(statements) == 2
        with closing(sqlite3.connect(":memory:")) as connection:
            for statement in statements:
                connection.execute(statement)

    def test_no_statement_of_a_file_is_left_out(self) -> None:
        for one in known():
            assert "".join(one.statements()).rstrip() == one.text.rstrip()


class TestStatus:
    async def test_it_counts_the_rows_of_a_database_in_use(self, sqlite_store: SQLiteStore) -> None:
        await with_account(sqlite_store)
        await with_sessions(sqlite_store, "a", "b", "c")
        await sqlite_store.sessions.revoke("ada", "a", reason="x", now=NOW)
        found = look(sqlite_store._database.path)
        assert dict(found.rows) == {
            "accounts": 1,
            "failures": 0,
            "jobs": 0,
            "keys": 0,
            "revocations": 1,
            "sessions": 3,
            "tokens": 0,
        }
        assert (found.schema, found.known, list(found.pending)) == (len(known()), len(known()), [])
        parts = [sqlite_store._database.path, Path(f"{sqlite_store._database.path}-wal")]
        assert found.size == sum(path.stat().st_size for path in parts) > 0

    def test_a_database_without_a_schema_has_all_of_it_pending(self, tmp_path: Path) -> None:
        path = tmp_path / "thebes.db"
        path.touch()
        found = look(path)
        assert (found.schema, dict(found.rows)) == (0, {})
        assert list(found.pending) == [f"{one.number:04} {one.name}" for one in known()]

    def test_it_makes_no_database(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="there is no database"):
            look(tmp_path / "thebes.db")
        assert list(tmp_path.iterdir()) == []

    def test_what_is_no_database_is_said_to_be_unreadable(self, tmp_path: Path) -> None:
        (tmp_path / "thebes.db").write_bytes(b"a diary, " * 1000)
        with pytest.raises(StoreUnavailable, match="not a database"):
            look(tmp_path / "thebes.db")


@pytest.mark.slow
class TestCommand:
    def status(self, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "thebes", "db", "status", *arguments]
        return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)

    async def test_it_prints_what_is_there(self, tmp_path: Path) -> None:
        await started_and_closed(tmp_path / "thebes.db")
        told = self.status(tmp_path)
        assert told.returncode == 0, told.stderr
        assert "pending  nothing" in told.stdout
        assert "sessions              0" in told.stdout
        printed = json.loads(self.status(tmp_path, "thebes.db", "--json").stdout)
        assert printed["path"] == str(tmp_path / "thebes.db")
        assert set(printed) == {"path", "schema", "known", "pending", "size", "rows"}

    async def test_a_schema_that_is_too_new_and_a_missing_file_are_failures(self, tmp_path: Path) -> None:
        await started_and_closed(tmp_path / "thebes.db")
        with closing(sqlite3.connect(tmp_path / "thebes.db")) as connection, connection:
            connection.execute("INSERT INTO thebes_migrations VALUES (9999, 'to come', 1.0)")
        told = self.status(tmp_path)
        assert (told.returncode, "refuses to start" in told.stdout) == (1, True)
        told = self.status(tmp_path, "other.db")
        assert told.returncode == 1
        assert told.stderr.startswith("thebes: there is no database at other.db")


def test_the_example_of_the_docs_runs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "stores.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert told.stdout == "[]\n"
    assert (tmp_path / "state" / "thebes.db").is_file()
