"""Real processes, ended in the middle: no session is lost, none is doubled, and what was answered holds."""

import hashlib
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import store_process
from thebes.stores.sqlite import SQLiteStore
from thebes.testing.contract.session_rows import session, with_account

pytestmark = pytest.mark.slow

PROCESSES = 8
EACH = 50


@contextmanager
def child(path: Path, what: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, store_process.__file__, str(path), what]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()


def asked(process: subprocess.Popen[str], names: list[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("".join(f"{name}\n" for name in names))
    process.stdin.flush()


def answers(process: subprocess.Popen[str], most: int | None = None) -> Iterator[tuple[str, str]]:
    assert process.stdout is not None
    for number, line in enumerate(process.stdout, 1):
        if line.endswith("\n"):  # a killed process may leave half a line, which tells nobody anything
            name, _, told = line.strip().partition(" ")
            yield name, told
        if number == most:
            return


async def test_sessions_renewed_under_kills_are_neither_lost_nor_doubled(
    tmp_path: Path, counts_are_full: bool
) -> None:
    count = 1000 if counts_are_full else 100
    names = [f"s{number}" for number in range(count)]
    store = SQLiteStore(tmp_path / "thebes.db")
    await store.start()
    await with_account(store)
    a_minute_ago = time.time() - 60
    for name in names:
        opened = session(
            name,
            created_at=a_minute_ago,
            used_at=a_minute_ago,
            rotated_at=a_minute_ago,
            expires_at=a_minute_ago + 1e6,
        )
        assert await store.sessions.open(opened, most=count, now=a_minute_ago)
    await store.close()

    told: dict[str, str] = {}
    chance = random.Random(20)
    kills = 0
    while len(told) < count:
        with child(tmp_path / "thebes.db", "renew") as process:
            left = [name for name in names if name not in told]
            chance.shuffle(left)
            group = left[: count // 10]
            asked(process, group)
            # Killed while some are answered, some are in a commit, and some wait.
            for name, token in answers(process, chance.randint(1, len(group))):
                assert told.setdefault(name, token) == token, "of one session there is one successor"
            process.kill()
            kills += 1
            for name, token in answers(process):  # what had left the process before it was killed
                assert told.setdefault(name, token) == token
    assert kills >= 10

    await store.start()
    for name in names:
        found = await store.sessions.find(name)
        assert found is not None, f"{name} is lost"
        assert found[0].generation == 1, f"{name} was renewed {found[0].generation} times"
        assert found[0].digest == hashlib.sha256(told[name].encode()).digest(), (
            f"what was told of {name} holds"
        )
    await store.close()
    with closing(sqlite3.connect(tmp_path / "thebes.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM thebes_sessions").fetchone() == (count,)


async def test_processes_at_once_are_judged_one_by_one(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "thebes.db")
    await store.start()
    await with_account(store)
    assert await store.sessions.open(session(), most=1)
    commands = [sys.executable, store_process.__file__, str(tmp_path / "thebes.db"), "count"]
    together = [
        subprocess.Popen(commands, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    told: list[int] = []
    try:
        for process in together:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
        for process in together:
            asked(process, ["one"] * EACH)
        for process in together:
            told.extend(int(answer) for _, answer in answers(process, EACH))
    finally:
        for process in together:
            process.communicate()
    assert sorted(told) == list(range(1, PROCESSES * EACH + 1))
    found = await store.sessions.find("one")
    assert found is not None
    assert found[0].generation == PROCESSES * EACH
    await store.close()


@pytest.mark.parametrize("round_number", range(3))
def test_processes_that_start_at_once_on_a_new_file_all_open_it(tmp_path: Path, round_number: int) -> None:
    command = [sys.executable, store_process.__file__, str(tmp_path / "thebes.db"), "start"]
    together = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    outcomes = [process.communicate() for process in together]
    assert outcomes == [("open\n", "")] * PROCESSES
    with closing(sqlite3.connect(tmp_path / "thebes.db")) as connection:
        assert connection.execute("SELECT count(*) FROM thebes_migrations WHERE number = 1").fetchone() == (
            1,
        )
