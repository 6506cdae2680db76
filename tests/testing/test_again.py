"""An app that is started again, as each test of a suite does with one app, is whole again."""

import pytest
from fastapi import FastAPI

from thebes import Security
from thebes.testing import client


@pytest.mark.parametrize("database", [None, "sqlite:///again.db"])
def test_an_app_hashes_and_stores_after_it_was_stopped(tmp_path, monkeypatch, database):
    monkeypatch.chdir(tmp_path)
    app = Security(passwords="test", database_url=database).protect(FastAPI())

    def register(browser, name: str) -> int:
        body = {"email": f"{name}@example.com", "password": "sunrise over seven gates"}
        return browser.post("/auth/register", json=body).status_code

    for name in ("ada", "bob"):
        with client(app) as browser:
            assert register(browser, name) == 202
            assert browser.mailbox.last_token(to=f"{name}@example.com")
    later = client(app)
    dan = later.sign_in("dan@example.com")
    assert later.get("/auth/me").json()["account"]["id"] == dan.id
    assert register(later, "carol") == 202


def test_each_lifespan_in_memory_begins_with_no_accounts():
    security = Security()
    app = security.protect(FastAPI())
    for _ in range(2):
        with client(app) as browser:
            ada = browser.sign_in("ada@example.com")
            assert browser._run(security.membership.administration.page) == [ada]
