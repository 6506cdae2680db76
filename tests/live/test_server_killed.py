"""A server that is killed again and again while sessions are renewed: none is lost, and none is doubled.

Whoever gets no answer asks again with what they have, as a browser does. The renewal may have been written
before the kill: then the same successor is handed out once more.
"""

import hashlib
import random
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from account_rows import ADA
from attack import strong_keys
from authenticating import REFRESH, SignedIn
from commanding import serving_command
from live import PATIENCE_SECONDS
from live_accounts import Beside, beside_the_server

pytestmark = pytest.mark.slow

APP = """
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from thebes import Security
from thebes.fastapi import OptionalPrincipal

app = FastAPI()

@app.get("/who", response_class=PlainTextResponse)
def who(who: OptionalPrincipal):
    return "nobody" if who is None else who.id

Security(hosts=["example.com"]).protect(app)
"""
# As many as one account may have (ACC-34).
SESSIONS_OF_ONE = 20
AT_ONCE = 16


@dataclass
class Browsers:
    """What each browser holds, by the id of its session."""

    port: int = 0
    answered: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    enough: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def ask(self, one: SignedIn) -> None:
        """Come back a while after the access token has expired; keep the tokens that the answer brings."""
        headers = {"Host": "example.com", "X-Forwarded-Proto": "https", **one.late}
        connection = HTTPConnection("127.0.0.1", self.port, PATIENCE_SECONDS)
        try:
            connection.request("GET", "/who", headers=headers)
            response = connection.getresponse()
            body = response.read().decode()
        except (OSError, HTTPException):
            return  # killed: the next one is asked
        finally:
            connection.close()
        set_cookies = [value for name, value in response.getheaders() if name.lower() == "set-cookie"]
        refresh = [each for each in set_cookies if each.startswith(f"{REFRESH}=")]
        if (response.status, body) != (200, one.account.id) or len(refresh) != 1:
            self.wrong.append(f"{response.status} {body} {len(set_cookies)}")
            return
        self.answered[one.session.id] = refresh[0].partition("=")[2].partition(";")[0]
        self.enough.release()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


@pytest.fixture
def shared(project: Path) -> dict[str, str]:
    return {
        "THEBES_SECRET_KEYS": strong_keys(),
        "THEBES_DATABASE_URL": f"sqlite:///{project / 'accounts.db'}",
    }


@pytest.fixture
def beside(shared: dict[str, str]) -> Iterator[Beside]:
    with beside_the_server(shared) as opened:
        yield opened


def opened_a_minute_ago(beside: Beside, count: int) -> list[SignedIn]:
    sessions: list[SignedIn] = []
    for number in range(-(-count // SESSIONS_OF_ONE)):
        email = f"member{number}@example.com"
        account = replace(ADA, id=f"{ADA.id[:-4]}{number:04d}", email=email, email_key=email)
        beside.register(account)
        sessions += [beside.sign_in(account, ago=60) for _ in range(SESSIONS_OF_ONE)]
    return sessions


def test_no_session_is_lost_and_none_is_renewed_twice(
    project: Path, shared: dict[str, str], beside: Beside, counts_are_full: bool
) -> None:
    count, lives = (1000, 12) if counts_are_full else (200, 4)
    sessions = opened_a_minute_ago(beside, count)
    chance = random.Random(9)
    chance.shuffle(sessions)
    browsers, outputs = Browsers(), []
    for life in range(lives + 1):
        left = [one for one in sessions if one.session.id not in browsers.answered]
        # Those that the kill has cut off come first again: an answer may be lost for 30 s, no longer.
        group = left if life == lives else left[: -(-count // lives)]
        outputs.append(live_and_die(project, shared, browsers, group, chance, kill=life < lives))
    assert browsers.wrong == []
    assert not [
        name for output in outputs for name in ("reuse_detected", "refresh_unconfirmed") if name in output
    ]
    rows = rows_of(project)
    assert len(rows) == count
    for one in sessions:
        generation, digest, revoked_at = rows[one.session.id]
        assert (generation, revoked_at) == (1, None)
        assert digest == hashlib.sha256(browsers.answered[one.session.id].encode()).digest()


def live_and_die(
    project: Path,
    shared: dict[str, str],
    browsers: Browsers,
    group: Sequence[SignedIn],
    chance: random.Random,
    *,
    kill: bool,
) -> str:
    """Start the server, let the group ask, and kill it after a random number of answers; return what it said."""
    options = ("--behind-proxy", "127.0.0.1", "--port", "0")
    with serving_command(project, *options, **shared) as serving, ThreadPoolExecutor(AT_ONCE) as threads:
        browsers.port = serving.port("plain HTTP from a proxy")
        asked = [threads.submit(browsers.ask, one) for one in group]
        if kill:
            for _ in range(chance.randint(1, len(group) - AT_ONCE)):
                assert browsers.enough.acquire(timeout=PATIENCE_SECONDS), browsers.wrong
            serving.process.kill()
        for each in asked:
            each.result()
    while browsers.enough.acquire(blocking=False):
        pass  # answered between the last count and the kill
    return serving.output


def rows_of(project: Path) -> dict[str, tuple[Any, ...]]:
    with closing(sqlite3.connect(project / "accounts.db")) as connection:
        columns = "id, generation, digest, revoked_at"
        found = connection.execute(f"SELECT {columns} FROM thebes_sessions").fetchall()
    return {name: tuple(rest) for name, *rest in found}
