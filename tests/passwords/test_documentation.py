"""The pages' code runs as it stands, and its numbers are those of the code."""

import gzip
import hashlib
import re
import sqlite3
from importlib.resources import files
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from thebes.facts import Mode
from thebes.passwords import Lanes, Passwords
from thebes.passwords.policy import FILLERS, LEAST_WORD, PasswordPolicy

PAGE = Path(__file__).parents[2] / "docs" / "passwords.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def example() -> dict[str, Any]:
    """The names that the migration defines."""
    (code,) = [block for block in BLOCKS if "wrap_all" in block]
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return names


class TestMigration:
    @pytest.fixture
    def database(self) -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:")
        connection.execute(
            "CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT, password TEXT, sha1 TEXT)"
        )
        by_bcrypt = bcrypt.hashpw(b"the password of bea", bcrypt.gensalt(10)).decode()
        rows = [
            (1, "ada@example.com", None, hashlib.sha1(b"the password of ada").hexdigest()),
            (2, "bea@example.com", by_bcrypt, None),
        ]
        connection.executemany("INSERT INTO users VALUES (?, ?, ?, ?)", rows)
        return connection

    async def test_both_kinds_of_users_sign_in_and_get_new_hashes(self, example, database, passwords):
        await example["wrap_all"](database, passwords)
        stored = dict(database.execute("SELECT id, password FROM users"))
        assert stored[1].startswith("thebes-wrapped$sha1$argon2id$")
        assert database.execute("SELECT count(*) FROM users WHERE sha1 IS NOT NULL").fetchone() == (0,)

        for account, name in ((1, "ada"), (2, "bea")):
            arguments = (database, passwords, f"{name}@example.com")
            assert await example["sign_in"](*arguments, "the password of eve") is None
            assert await example["sign_in"](*arguments, f"the password of {name}") == account
            (renewed,) = database.execute("SELECT password FROM users WHERE id = ?", (account,)).fetchone()
            assert renewed.startswith("$argon2id$")
            assert await example["sign_in"](*arguments, f"the password of {name}") == account
            assert database.execute("SELECT password FROM users WHERE id = ?", (account,)).fetchone() == (
                renewed,
            )

    async def test_nobody_signs_in_at_an_address_that_is_not_there(self, example, database, passwords):
        assert await example["sign_in"](database, passwords, "eve@example.com", "the password of ada") is None


@pytest.mark.parametrize("code", [block for block in BLOCKS if "pepper=pepper" not in block])
async def test_every_example_runs(code):
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    if isinstance(names.get("passwords"), Passwords):
        await names["passwords"].close()


def test_the_numbers_of_the_list_are_those_of_the_file():
    entries = (
        gzip.decompress((files("thebes.passwords") / "common.txt.gz").read_bytes()).decode().splitlines()
    )
    long = sum(len(entry) >= 15 for entry in entries)
    for number in (len(entries), long, len(entries) - long):
        assert f"{number:,}" in TEXT


def test_the_context_words_are_listed():
    assert all(f"`{filler}`" in TEXT for filler in FILLERS)
    assert f"at least {LEAST_WORD} characters" in TEXT
    policy = PasswordPolicy()
    assert f"{policy.min_length} code points" in TEXT
    assert f"{policy.max_length} code points" in TEXT


async def test_the_room_loads_no_hash_library_before_it_is_used():
    import subprocess
    import sys

    code = (
        "import sys, thebes.passwords\n"
        "assert not {'argon2', 'bcrypt', 'hashlib', 'ssl'} & set(sys.modules)\n"
        "from thebes.passwords import Passwords\n"
        "assert Passwords.__module__ == 'thebes.passwords.hashing'\n"
        "assert 'argon2' not in sys.modules\n"
        "try:\n"
        "    thebes.passwords.nothing\n"
        "except AttributeError:\n"
        "    print('lazy')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "lazy\n"


async def test_every_name_of_the_face_is_there():
    import thebes.passwords

    assert all(getattr(thebes.passwords, name) for name in thebes.passwords.__all__)
    made = Passwords(cost="test", mode=Mode.TEST, lanes=Lanes(1))
    await made.close()
