"""`thebes db status`: what is in a database, while a service has it open."""

import re
import sqlite3

import pytest

from account_api import accounts
from operating import KEYS, Operator

pytestmark = pytest.mark.slow


def test_it_counts_what_a_running_service_keeps(tmp_path):
    operator = Operator.beside(tmp_path / "accounts.db")
    with accounts("socket", tmp_path, secret_keys=KEYS) as service:
        ada = service.member()
        told = operator.told("db", "status", "accounts.db")
        assert (told["rows"]["accounts"], told["rows"]["sessions"]) == (1, 1)
        assert (told["schema"], told["pending"]) == (told["known"], [])
        assert told["path"] == str(tmp_path / "accounts.db")
        screen = operator.run("db", "status", "accounts.db").stdout
        assert re.search(r"^  accounts +1$", screen, re.MULTILINE)
        assert re.search(r"^  pending  nothing$", screen, re.MULTILINE)
        assert ada.get("/who").status == 200


def test_it_fails_where_the_schema_is_newer(tmp_path):
    operator = Operator.beside(tmp_path / "thebes.db")
    operator.told("accounts", "list")
    with sqlite3.connect(tmp_path / "thebes.db") as connection:
        connection.execute("INSERT INTO thebes_migrations VALUES (999, 'later', 0)")
    connection.close()
    done = operator.run("db", "status")
    assert (done.returncode, "a newer version of thebes" in done.stdout) == (1, True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "there is no database at thebes.db", id="none"),
        pytest.param(b"no database at all" * 100, "cannot read the database", id="another file"),
    ],
)
def test_it_says_what_is_wrong(tmp_path, content, said):
    if content is not None:
        (tmp_path / "thebes.db").write_bytes(content)
    assert said in Operator(tmp_path).refused("db", "status")
    assert [path.name for path in tmp_path.iterdir()] == ([] if content is None else ["thebes.db"])
