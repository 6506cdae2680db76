"""`thebes accounts`: what an operator does in one process counts in the next request of another."""

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from account_api import OTHER_PASSWORD, PASSWORD, Service, accounts, document
from operating import KEYS, Operator

pytestmark = pytest.mark.slow

UUID7 = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
MISSING = ("THEBES_SECRET_KEYS", "THEBES_DATABASE_URL")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service over a socket, on an SQLite file that commands share."""
    with accounts("socket", tmp_path, secret_keys=KEYS) as served:
        yield served


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator.beside(tmp_path / "accounts.db")


class TestTheFirstAdministrator:
    @pytest.mark.requirement("ACC-03", by="live")
    def test_is_made_by_a_command_with_a_password_of_the_callers_own(self, service, operator):
        assert operator.told("accounts", "list") == []
        for name in ("admin", "root", "admin@example.com", "root@localhost"):
            for guess in ("admin", "password", "thebes", ""):
                assert service.caller().sign_in(name, guess).status in (401, 422)
        code, screen = operator.type(
            "accounts", "create", "ada@example.com", "--admin", typed=[PASSWORD, PASSWORD]
        )
        assert code == 0, screen
        ada = service.caller()
        assert document(ada.sign_in("ada@example.com"))["account"]["roles"] == ["admin"]
        assert [account["email"] for account in operator.told("accounts", "list")] == ["ada@example.com"]

    def test_types_a_password_that_nobody_sees(self, service, operator):
        _, screen = operator.type("accounts", "create", "ada@example.com", typed=[PASSWORD, PASSWORD])
        assert "Password: " in screen
        assert "Repeat for confirmation: " in screen
        assert PASSWORD not in screen
        database = operator.project / "accounts.db"
        written = b"".join(path.read_bytes() for path in operator.project.glob("accounts.db*"))
        assert database.exists()
        assert b"ada@example.com" in written
        assert PASSWORD.encode() not in written

    def test_types_it_twice(self, operator):
        code, screen = operator.type(
            "accounts", "create", "ada@example.com", typed=[PASSWORD, OTHER_PASSWORD, PASSWORD, PASSWORD]
        )
        assert "do not match" in screen
        assert code == 0
        assert PASSWORD not in screen
        assert OTHER_PASSWORD not in screen

    @pytest.mark.parametrize(
        ("password", "reason"),
        [
            pytest.param("short", "too_short", id="short"),
            pytest.param("passwordpassword", "blocklisted", id="guessed first"),
            pytest.param("ada@example.com", "context", id="the address itself"),
        ],
    )
    def test_keeps_to_the_rules_for_passwords(self, operator, password, reason):
        code, screen = operator.type("accounts", "create", "ada@example.com", typed=[password, password])
        assert code == 1
        assert f"the password is refused ({reason})" in screen
        assert "Traceback" not in screen
        assert operator.told("accounts", "list") == []


class TestInvitations:
    def test_print_a_link_by_which_the_owner_chooses_a_password_once(self, service, operator):
        made = operator.told("accounts", "create", "bob@example.com", "--link", "--role", "editor")
        assert re.fullmatch(UUID7, made["id"])
        assert made["roles"] == ["editor"]
        token = re.fullmatch(r"https://testserver/reset\?token=([\w-]{43})", made["link"])
        assert token
        bob = service.caller()
        assert bob.sign_in("bob@example.com", token[1]).status == 401
        assert bob.post("reset", {"token": token[1], "password": PASSWORD}).status == 204
        assert bob.post("reset", {"token": token[1], "password": OTHER_PASSWORD}).status == 400
        assert bob.sign_in("bob@example.com").status == 200

    def test_keep_a_digest_of_the_token_alone(self, operator):
        link = operator.told("accounts", "create", "bob@example.com", "--link")["link"]
        token = link.partition("token=")[2].encode()
        assert all(token not in path.read_bytes() for path in operator.project.glob("accounts.db*"))


class TestAResetByTheOperator:
    def test_is_mailed_to_the_owner_alone_by_the_running_service(self, service, operator):
        service.member()
        assert operator.told("accounts", "reset", "ada@example.com") == {"mailed": "ada@example.com"}
        older = service.token("reset", "ada@example.com")
        operator.told("accounts", "reset", "ada@example.com")
        token = service.token("reset", "ada@example.com")
        ada = service.caller()
        assert ada.sign_in("ada@example.com").status == 200  # until then the present one counts
        assert ada.post("reset", {"token": older, "password": OTHER_PASSWORD}).status == 400
        assert ada.post("reset", {"token": token, "password": OTHER_PASSWORD}).status == 204
        assert ada.sign_in("ada@example.com").status == 401
        assert ada.sign_in("ada@example.com", OTHER_PASSWORD).status == 200

    def test_tells_its_operator_no_token_and_takes_no_password(self, service, operator):
        service.member()
        done = operator.run("accounts", "reset", "ada@example.com")
        assert done.returncode == 0
        token = service.token("reset", "ada@example.com")
        assert token not in done.stdout + done.stderr
        assert operator.run("accounts", "reset", "ada@example.com", PASSWORD).returncode == 2

    def test_is_refused_for_a_disabled_account(self, service, operator):
        service.member()
        operator.told("accounts", "disable", "ada@example.com")
        assert "ada@example.com is disabled" in operator.refused("accounts", "reset", "ada@example.com")
        assert "reset" not in service.mailed("ada@example.com")


class TestARunningService:
    """Two processes, one SQLite file: nothing is restarted, and no access token has expired."""

    @pytest.mark.requirement("ACC-31", by="live")
    def test_refuses_somebody_who_was_disabled_at_the_next_request(self, service, operator):
        ada, bob = service.member(), service.member("bob@example.com")
        bearer = _bearer(service, "ada@example.com")
        operator.told("accounts", "disable", "ada@example.com")
        assert [ada.get("/who").status, bob.get("/who").status] == [401, 200]
        assert _who(service, bearer["access_token"]) == 401
        refresh = service.caller().post("refresh", {"refresh_token": bearer["refresh_token"]})
        assert refresh.status == 401
        assert service.caller().sign_in("ada@example.com").status == 401
        operator.told("accounts", "enable", "ada@example.com")
        assert ada.get("/who").status == 401
        assert service.caller().sign_in("ada@example.com").status == 200

    @pytest.mark.requirement("ACC-31", by="live")
    def test_refuses_somebody_who_was_deleted_at_the_next_request(self, service):
        ada = service.member()
        other = service.caller()
        assert other.sign_in("ada@example.com").status == 200
        assert other.ask("DELETE", "me").status == 204
        assert ada.get("/who").status == 401

    @pytest.mark.requirement("ACC-31", by="live")
    def test_ends_the_sessions_of_one_or_of_all(self, service, operator):
        ada, bob = service.member(), service.member("bob@example.com")
        bearer = _bearer(service, "ada@example.com")
        assert operator.told("accounts", "sign-out", "ada@example.com") == {"ended": 2}
        assert [ada.get("/who").status, bob.get("/who").status] == [401, 200]
        assert _who(service, bearer["access_token"]) == 401
        assert ada.sign_in("ada@example.com").status == 200
        assert operator.told("accounts", "sign-out", "--everybody") == {"ended": 2}
        assert [ada.get("/who").status, bob.get("/who").status] == [401, 401]

    def test_knows_roles_and_scopes_at_the_next_request(self, service, operator):
        ada = service.member()
        account_id = service.account_id()
        for command, roles, scopes in (
            ("grant", ["editor"], ["notes:write"]),
            ("grant", ["editor"], ["notes:write"]),
            ("revoke", [], []),
        ):
            told = operator.told(
                "accounts", command, account_id, "--role", "editor", "--scope", "notes:write"
            )
            assert (told["roles"], told["scopes"]) == (roles, scopes)
            account = document(ada.get("me"))["account"]
            assert (account["roles"], account["scopes"]) == (roles, scopes)
            assert ada.get("/who").status == 200

    def test_refuses_a_bearer_token_of_earlier_roles(self, service, operator):
        service.member()
        bearer = _bearer(service, "ada@example.com")
        operator.told("accounts", "grant", "ada@example.com", "--role", "editor")
        assert _who(service, bearer["access_token"]) == 401
        renewed = service.caller().post("refresh", {"refresh_token": bearer["refresh_token"]})
        assert _who(service, document(renewed)["access_token"]) == 200


class TestLooking:
    def test_shows_an_account_and_its_sessions_without_tokens(self, service, operator):
        ada = service.member()
        shown = operator.told("accounts", "show", "ADA@example.com")
        assert (shown["email"], shown["is_enabled"], shown["is_verified"]) == ("ada@example.com", True, True)
        (session,) = shown["sessions"]
        assert session["device"] == "Firefox on Linux"
        screen = operator.run("accounts", "show", "ada@example.com").stdout
        assert re.search(rf"^id +{UUID7}$", screen, re.MULTILINE)
        assert "Firefox on Linux" in screen
        for text in (screen, json.dumps(shown)):
            assert all(value not in text for value in ada.cookies.values())
            assert "argon2" not in text

    def test_lists_each_account_once_in_its_order(self, operator):
        for number in range(3):
            operator.told("accounts", "create", f"user{number}@example.com", "--link")
        _copy_accounts(operator.project / "accounts.db", 250)
        found = [account["id"] for account in operator.told("accounts", "list")]
        assert len(set(found)) == len(found) == 253
        assert found == sorted(found)
        assert operator.run("accounts", "list").stdout.endswith("\n253 accounts\n")


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """A project with one account, which no test changes."""
    operator = Operator.beside(tmp_path_factory.mktemp("settled") / "accounts.db")
    (operator.project / "bare.py").write_text("async def app(scope, receive, send): ...\n")
    operator.told("accounts", "create", "bob@example.com", "--link")
    return operator


class TestRefusals:
    def test_name_what_is_missing(self, tmp_path):
        said = Operator(tmp_path).refused("accounts", "list")
        assert all(f"{name} is missing" in said for name in MISSING)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            pytest.param(("show", "ada@example.com"), "there is no account ada@example.com", id="unknown"),
            pytest.param(("disable", "0"), "there is no account 0", id="an id that isn't"),
            pytest.param(("reset", "0"), "there is no account 0", id="nobody to mail"),
            pytest.param(("create", "ada", "--link"), "'ada' is no e-mail address", id="no address"),
            pytest.param(("create", "bob@example.com", "--link"), "has an account already", id="taken"),
            pytest.param(("create", "BOB@EXAMPLE.com", "--link"), "has an account already", id="other case"),
            pytest.param(("list", "--app", "nothing:app"), "no app at 'nothing:app'", id="no module"),
            pytest.param(("list", "--app", "bare:app"), "bare:app is not protected", id="not protected"),
        ],
    )
    def test_say_what_is_wrong(self, settled, arguments, said):
        assert said in settled.refused("accounts", *arguments)

    @pytest.mark.parametrize("arguments", [(), ("ada@example.com", "--everybody")])
    def test_never_guess_whose_sessions_to_end(self, settled, arguments):
        done = settled.run("accounts", "sign-out", *arguments)
        assert done.returncode == 2
        assert "name an account, or say --everybody" in done.stderr

    def test_a_store_of_another_version_is_left_alone(self, operator):
        operator.told("accounts", "create", "bob@example.com", "--link")
        with sqlite3.connect(operator.project / "accounts.db") as connection:
            connection.execute("INSERT INTO thebes_migrations VALUES (999, 'later', 0)")
        connection.close()
        assert "the database has schema 999" in operator.refused("accounts", "list")


def test_settings_are_those_of_the_app_that_is_named(tmp_path):
    (tmp_path / "main.py").write_text(
        "from fastapi import FastAPI\nfrom thebes import Security\n"
        "app = Security(database_url='sqlite:///here.db').protect(FastAPI())\n"
    )
    operator = Operator(tmp_path, {"THEBES_ENV": "test", "THEBES_SECRET_KEYS": KEYS})
    operator.told("accounts", "create", "ada@example.com", "--link", "--app", "main:app")
    assert (tmp_path / "here.db").exists()
    assert len(operator.told("accounts", "list", "--app", "main:app")) == 1


def _bearer(service: Service, email: str) -> dict[str, str]:
    answer = service.caller().sign_in(email, mode="bearer")
    assert answer.status == 200
    return dict(document(answer))


def _who(service: Service, token: str) -> int:
    return service.caller().get("/who", Authorization=f"Bearer {token}").status


def _copy_accounts(database: Path, count: int) -> None:
    """Insert accounts like the first one, each with an address and an id of its own."""
    with sqlite3.connect(database) as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(thebes_accounts)")]
        row = dict(zip(names, connection.execute("SELECT * FROM thebes_accounts").fetchone(), strict=True))
        for number in range(count):
            other = row | {"id": f"{row['id'][:-4]}{number:04x}", "email_key": f"{number}@example.com"}
            marks = ",".join("?" * len(other))
            connection.execute(f"INSERT INTO thebes_accounts VALUES ({marks})", [*other.values()])
    connection.close()
