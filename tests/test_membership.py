"""Accounts from start to stop: what is missing, what is opened once, what is deleted in time."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI

from account_api import PASSWORD, Service, accounts, document
from asking import ask, request_facts
from attack import in_mode
from commanding import serve_to_the_end
from live import eventually
from thebes import ConfigurationError, Security
from thebes.errors import StoreUnavailable
from thebes.testing import client

OLD, NEW = (f"{name}:{secret}" for name, secret in (
    ("k1", "MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY"), ("k2", "dnV0c3JxcG9ubWxramloZ2ZlZGNiYTk4NzY1NDMyMTA"),
))  # fmt: skip

TWO_WORKERS = ("--behind-proxy", "127.0.0.1", "--port", "0", "--workers", "2")


class TestTheStart:
    @pytest.mark.parametrize(
        ("missing", "mends"),
        [
            pytest.param(("THEBES_DATABASE_URL",), "sqlite:////var/lib/app/thebes.db", id="a store"),
            pytest.param(("THEBES_MAIL_URL",), "smtps://user:password@host", id="a mail server"),
            pytest.param(("THEBES_DATABASE_URL", "THEBES_MAIL_URL"), "accounts=None", id="both at once"),
        ],
    )
    def test_in_production_names_what_is_missing(self, missing, mends):
        with in_mode("production") as patch:
            for name in missing:
                patch.delenv(name)
            with pytest.raises(ConfigurationError) as caught, client(made(hosts=["example.com"])):
                pass
        assert all(f"{name} is missing" in str(caught.value) for name in missing)
        assert mends in str(caught.value)

    def test_without_accounts_needs_neither(self):
        with in_mode("production") as patch:
            patch.delenv("THEBES_DATABASE_URL")
            patch.delenv("THEBES_MAIL_URL")
            with client(made(hosts=["example.com"], accounts=None)):
                pass

    def test_in_memory_is_refused_to_several_workers(self, monkeypatch):
        monkeypatch.setenv("WEB_CONCURRENCY", "2")
        with pytest.raises(ConfigurationError, match="several workers"), client(made(database_url="memory:")):
            pass

    @pytest.mark.slow
    def test_in_memory_is_refused_to_the_workers_of_a_real_server(self, tmp_path):
        (tmp_path / "main.py").write_text(
            "from fastapi import FastAPI\nfrom thebes import Security\n"
            "app = Security(hosts=['localhost']).protect(FastAPI())\n"
        )
        ended = serve_to_the_end(tmp_path, *TWO_WORKERS, THEBES_DATABASE_URL="memory:", WEB_CONCURRENCY="1")
        assert ended.returncode == 1
        assert ended.stderr == "thebes: database_url names memory, which several workers can't share\n"

    @pytest.mark.slow
    def test_tells_each_worker_how_many_they_are(self, tmp_path):
        (tmp_path / "main.py").write_text(
            "import os\nraise ValueError(os.environ['WEB_CONCURRENCY'] + ' of us')\n"
        )
        assert "ValueError: 2 of us" in serve_to_the_end(tmp_path, *TWO_WORKERS, WEB_CONCURRENCY="7").stderr

    @pytest.mark.parametrize("text", ["two", "0", "-1", "1.5", "٢"])
    async def test_with_an_unclear_number_of_workers_fails(self, text, monkeypatch):
        monkeypatch.setenv("WEB_CONCURRENCY", text)
        app = Security(passwords="test").wrap(FastAPI())
        with pytest.raises(
            ConfigurationError, match=r"WEB_CONCURRENCY is .*; allowed is the number of worker"
        ):
            await ask(app, request_facts(headers={"Host": "testserver"}, scheme="https"))

    async def test_of_many_at_once_is_one(self, tmp_path):
        security = Security(passwords="test", database_url=f"sqlite:///{tmp_path / 'a.db'}")
        security.protect(FastAPI())
        membership = security._join(security.settings(), None)
        await asyncio.gather(*(membership.start(lives=False) for _ in range(20)))
        assert len(await membership.store.keys.keys()) == 1
        assert len(membership.bearer_tokens.jwks()["keys"]) == 1
        await membership.close()

    async def test_that_failed_can_be_tried_again(self, tmp_path):
        path = tmp_path / "missing" / "a.db"
        security = Security(passwords="test", database_url=f"sqlite:///{path}")
        security.protect(FastAPI())
        membership = security._join(security.settings(), None)
        path.parent.write_text("a file where the directory has to be")
        for _ in range(2):
            with pytest.raises((StoreUnavailable, ConfigurationError)):
                await membership.start(lives=False)
        path.parent.unlink()
        path.parent.mkdir()
        await membership.start(lives=False)
        await membership.close()


class TestPurging:
    @pytest.fixture
    def quick(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
        """A service that cleans up many times a second instead of each five minutes."""
        monkeypatch.setattr("thebes.membership.PURGE_INTERVAL", timedelta(milliseconds=20))
        with accounts("sqlite", tmp_path) as service:
            yield service

    @pytest.mark.requirement("LOG-09")
    def test_happens_by_itself_and_takes_only_what_is_over(self, quick):
        ada = quick.member()
        bob = quick.member("bob@example.com")
        assert bob.post("forgot", {"email": "bob@example.com"}).status == 202
        assert quick.caller().sign_in("nobody@example.com").status == 401
        assert bob.post("logout").status == 204
        counted = ("sessions", "tokens", "failures", "revocations")
        assert all(rows(quick, table) for table in counted)

        month = 40 * 24 * 3600
        quick.age(month, "sessions.revoked_at", "tokens.expires_at", "failures.last_at", "revocations.until")

        eventually(lambda: [rows(quick, table) for table in counted] == [1, 0, 0, 0])
        assert ada.get("/who").status == 200

    def test_a_turn_that_fails_is_told_and_the_next_one_comes(self, quick):
        """Another program has put a table aside, and brings it back."""
        ada = quick.member()
        assert ada.post("logout").status == 204
        quick.age(40 * 24 * 3600, "revocations.until")
        with closing(sqlite3.connect(quick.database)) as connection, connection:
            connection.execute("ALTER TABLE thebes_tokens RENAME TO put_aside")
        eventually(
            lambda: [one["reason"] for one in quick.events if one["event"] == "chore_failed"][:1] == ["purge"]
        )
        with closing(sqlite3.connect(quick.database)) as connection, connection:
            connection.execute("ALTER TABLE put_aside RENAME TO thebes_tokens")
        assert quick.caller().post("forgot", {"email": "ada@example.com"}).status == 202
        quick.age(40 * 24 * 3600, "tokens.expires_at")
        eventually(lambda: rows(quick, "tokens") == 0)

    def test_goes_on_until_nothing_is_left(self, tmp_path):
        with accounts("sqlite", tmp_path) as service:
            with closing(sqlite3.connect(service.database)) as connection, connection:
                connection.executemany(
                    "INSERT INTO thebes_revocations (kind, subject, epoch, until) VALUES ('session', ?, 0, 1)",
                    [(f"s{number}",) for number in range(1234)],
                )
            service.run(service.membership._purge())
            assert rows(service, "revocations") == 0


class TestRolledKeys:
    def test_sessions_tokens_and_jobs_go_on_under_the_next_key(self, tmp_path):
        with accounts("sqlite", tmp_path, secret_keys=OLD) as service:
            cookies = service.member().cookies
            signed_in = service.caller().sign_in("ada@example.com", mode="bearer")
            token = document(signed_in)["access_token"]

        for keys in (f"{OLD},{NEW}", f"{NEW},{OLD}"):
            with accounts("sqlite", tmp_path, secret_keys=keys) as service:
                browser = service.caller()
                browser.cookies = dict(cookies)
                assert browser.get("/who").status == 200
                assert service.caller().get("/who", Authorization=f"Bearer {token}").status == 200
                assert service.caller().sign_in("ada@example.com", PASSWORD).status == 200
                browser.forget("__Host-thebes-session")
                assert browser.get("/who").status == 200

    def test_sessions_of_a_key_that_was_taken_off_are_nobodys(self, tmp_path):
        with accounts("sqlite", tmp_path, secret_keys=OLD) as service:
            cookies = service.member().cookies
        with accounts("sqlite", tmp_path, secret_keys=f"{NEW},{OLD}") as service:
            assert service.run(service.membership.key_rotation().reseal()) == 1
        with accounts("sqlite", tmp_path, secret_keys=NEW) as service:
            browser = service.caller()
            browser.cookies = dict(cookies)
            assert browser.get("/who").status == 401
            assert browser.sign_in("ada@example.com").status == 200
            assert browser.get("/who").status == 200


def made(**settings) -> FastAPI:
    return Security(**settings).protect(FastAPI())


def rows(service: Service, table: str) -> int:
    with closing(sqlite3.connect(service.database)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM thebes_{table}").fetchone()[0])
