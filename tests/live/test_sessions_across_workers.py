"""One service, several processes: what ends a session in one of them is true at the next request in each."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from account_rows import ADA, BOB
from attack import strong_keys
from authenticating import SignedIn
from commanding import Serving, serving_command
from live import PATIENCE_SECONDS, eventually
from live_accounts import Beside, beside_the_server

pytestmark = pytest.mark.slow

APP = """
import os
import time
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from thebes import Security
from thebes.fastapi import OptionalPrincipal

app = FastAPI()

@app.get("/who", response_class=PlainTextResponse)
def who(who: OptionalPrincipal):
    roles = "" if who is None else " ".join(sorted(who.roles))
    return f"{os.getpid()} {'nobody' if who is None else who.id} {roles}"

@app.get("/busy")
async def busy():
    time.sleep(1)

Security(hosts=["example.com"]).protect(app)
"""
ORIGIN = {"Origin": "https://example.com"}


@dataclass
class Workers:
    """Two worker processes, a connection to each, and this process, on one store."""

    first: HTTPConnection
    second: HTTPConnection
    beside: Beside

    @property
    def store(self) -> Any:
        return self.beside.membership.store

    def run(self, work: Any) -> Any:
        return self.beside.run(work)

    def sign_in(self, account: Any = ADA, **more: Any) -> SignedIn:
        return self.beside.sign_in(account, **more)


def request(
    connection: HTTPConnection, method: str, path: str, fields: dict[str, str]
) -> tuple[int, list[str]]:
    headers = {"Host": "example.com", "X-Forwarded-Proto": "https", **fields}
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    text = response.read().decode()
    return response.status, text.split(" ")


def who(connection: HTTPConnection, fields: dict[str, str]) -> str:
    """Return who a worker takes somebody for; the status if it refuses."""
    status, words = request(connection, "GET", "/who", fields)
    return words[1] if status == 200 else str(status)


def connections(serving: Serving, stack: ExitStack) -> list[HTTPConnection]:
    """Return a connection to each of two workers."""
    eventually(lambda: serving.output.count("Application startup complete") == 2, 30)
    port = serving.port("plain HTTP from a proxy")
    first, busy, second = (HTTPConnection("127.0.0.1", port, PATIENCE_SECONDS) for _ in range(3))
    for one in (first, busy, second):
        stack.callback(one.close)
    pids = {words[0] for _, words in (request(one, "GET", "/who", {}) for one in (first, busy))}
    if len(pids) == 1:
        # An idle worker takes whatever comes; so it is kept busy until the other one takes the next.
        busy.request("GET", "/busy", headers={"Host": "example.com", "X-Forwarded-Proto": "https"})
        pids.add(request(second, "GET", "/who", {})[1][0])
        busy.getresponse().read()
    else:
        second = busy
    assert len(pids) == 2
    return [first, second]


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    project: Path = tmp_path_factory.mktemp("project")
    (project / "main.py").write_text(APP)
    shared = {
        "THEBES_SECRET_KEYS": strong_keys(),
        "THEBES_DATABASE_URL": f"sqlite:///{project / 'accounts.db'}",
    }
    options = ("--behind-proxy", "127.0.0.1", "--port", "0", "--workers", "2")
    with ExitStack() as stack:
        serving = stack.enter_context(serving_command(project, *options, **shared))
        beside = stack.enter_context(beside_the_server(shared))
        beside.register(ADA, BOB)
        yield Workers(*connections(serving, stack), beside)


@pytest.mark.requirement("TOK-24", by="live")
@pytest.mark.parametrize("mode", ["cookie", "bearer"])
def test_a_session_that_is_ended_in_one_is_over_at_the_next_request_in_the_other(workers, mode):
    for number in range(20):
        one = workers.sign_in(mode=mode)
        fields = one.cookie() if mode == "cookie" else one.bearer
        here, there = (workers.first, workers.second) if number % 2 else (workers.second, workers.first)
        assert (who(here, fields), who(there, fields)) == (ADA.id, ADA.id)
        status, _ = request(here, "POST", "/auth/logout", {**fields, **(ORIGIN if mode == "cookie" else {})})
        assert status == 204
        expected = "nobody" if mode == "cookie" else "401"
        assert (who(there, fields), who(here, fields)) == (expected, expected)


@pytest.mark.requirement("TOK-24", by="live")
@pytest.mark.parametrize("mode", ["cookie", "bearer"])
def test_and_so_it_is_for_its_refresh_token(workers, mode):
    for _ in range(5):
        one = workers.sign_in(mode=mode, ago=100)
        workers.run(workers.store.sessions.revoke(ADA.id, one.session.id, reason="signed_out"))
        for connection in (workers.first, workers.second):
            if mode == "cookie":
                assert who(connection, one.late) == "nobody"
            else:
                body = b'{"refresh_token": "%s"}' % one.refresh.encode()
                headers = {"Host": "example.com", "X-Forwarded-Proto": "https"}
                headers |= {"Content-Type": "application/json"}
                connection.request("POST", "/auth/refresh", body, headers)
                response = connection.getresponse()
                response.read()
                assert response.status == 401


@pytest.mark.requirement("TOK-40", by="live")
def test_a_role_that_is_taken_away_is_gone_at_the_next_request_in_each(workers):
    """This process changes it, as a command does; the session goes on with what is true."""
    browser = workers.sign_in()
    program = workers.sign_in(mode="bearer")
    both = (workers.first, workers.second)
    for connection in both:
        assert "editor" in request(connection, "GET", "/who", browser.cookie())[1]
        assert "editor" in request(connection, "GET", "/who", program.bearer)[1]
    workers.run(workers.store.accounts.revoke_grant(ADA.id, roles=["editor"]))
    for connection in both:
        status, words = request(connection, "GET", "/who", browser.cookie())
        assert (status, words[1], "editor" in words) == (200, ADA.id, False)
        assert request(connection, "GET", "/who", program.bearer)[0] == 401
    workers.run(workers.store.accounts.grant(ADA.id, roles=["editor"]))


@pytest.mark.requirement("TOK-40", by="live")
def test_a_disabled_account_is_nobody_at_the_next_request_in_each(workers):
    browser, program = workers.sign_in(BOB), workers.sign_in(BOB, mode="bearer")
    both = (workers.first, workers.second)
    assert {who(one, browser.cookie()) for one in both} == {BOB.id}
    workers.run(workers.store.accounts.set_enabled(BOB.id, False))
    assert [who(one, browser.cookie()) for one in both] == ["nobody", "nobody"]
    assert [who(one, program.bearer) for one in both] == ["401", "401"]
