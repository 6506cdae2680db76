"""What the account API answers when the store is away or the hashing lanes are full."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from account_api import (
    OTHER_PASSWORD,
    PASSWORD,
    REFRESH,
    SESSION,
    Service,
)
from live import PATIENCE_SECONDS, eventually

ADA = "ada@example.com"
# Each of the package's own paths with the methods that it answers, and a body that is right in form.
BODIES: dict[str, dict[str, Any] | None] = {
    "register": {"email": "new@example.com", "password": PASSWORD},
    "verify": {"token": "t"},
    "verify/resend": {"email": ADA},
    "login": {"email": ADA, "password": PASSWORD},
    "refresh": {"refresh_token": "t"},
    "logout": {},
    "logout-all": {},
    "password": {"current_password": PASSWORD, "password": OTHER_PASSWORD},
    "forgot": {"email": ADA},
    "reset": {"token": "t", "password": OTHER_PASSWORD},
    "reauthenticate": {"password": PASSWORD},
    "sessions/x/end": {},
}
READ = ("me", "sessions", "csrf", "/.well-known/jwks.json")
ALLOWED = {
    **dict.fromkeys(BODIES, "POST"),
    "token": "POST",
    "me": "DELETE, GET, HEAD",
    "sessions": "GET, HEAD",
    "csrf": "GET, HEAD",
    "/.well-known/jwks.json": "GET, HEAD",
    "sessions/x": "DELETE",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND")


@contextmanager
def all_lanes_taken(service: Service) -> Iterator[None]:
    """Keep each lane at work, and let nobody wait in line, until the block ends."""
    lanes, gate = service.membership.passwords.lanes, threading.Event()
    queue, lanes.queue = lanes.queue, 0
    works = [
        asyncio.run_coroutine_threadsafe(lanes.run(lambda: gate.wait(PATIENCE_SECONDS)), service.loop)
        for _ in range(lanes.count)
    ]
    eventually(lambda: lanes._busy == lanes.count)
    yield
    gate.set()
    assert all(work.result(PATIENCE_SECONDS) for work in works)
    lanes.queue = queue


class TestTrouble:
    """What is away is told apart from what is wrong: 503, with Retry-After, and no cookie touched."""

    @pytest.mark.parametrize("service", ["sqlite"], indirect=True)
    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            *(("POST", path, body) for path, body in BODIES.items() if path != "refresh"),
            ("POST", "refresh", None),
            ("GET", "me", None),
            ("DELETE", "me", None),
            ("GET", "sessions", None),
            ("DELETE", "sessions/x", None),
        ],
    )
    def test_a_store_that_is_away_is_503(
        self,
        service: Service,
        method: str,
        path: str,
        body: dict[str, Any] | None,
    ):
        caller = service.member()
        before = dict(caller.cookies)
        caller.get("/who")  # so that the pass is up to date, and it is the route that meets the trouble
        service.run(service.membership.store.close())

        answer = caller.post(path, body) if method == "POST" else caller.ask(method, path)

        assert (answer.status, answer.kind) == (503, "store-unavailable")
        assert int(answer.only("retry-after")) >= 1
        assert caller.cookies == before

    @pytest.mark.parametrize("path", ["register", "login", "password", "reset", "reauthenticate"])
    def test_full_hashing_lanes_are_503_and_charge_nobody(self, service: Service, path: str):
        caller = service.member()
        caller.post("forgot", {"email": ADA})
        body = {**(BODIES[path] or {})}
        if path == "reset":
            body["token"] = service.token("reset", ADA)

        with all_lanes_taken(service):
            answers = [caller.post(path, body) for _ in range(8)]

        assert {(answer.status, answer.kind) for answer in answers} == {(503, "sign-in-busy")}
        assert min(int(answer.only("retry-after")) for answer in answers) >= 1
        assert caller.post(path, body).status in (200, 202, 204)

    def test_a_refresh_that_fails_for_good_takes_the_cookies_back(self, service: Service):
        caller = service.member()
        caller.cookies[REFRESH] = caller.cookies[REFRESH][:-1] + (
            "A" if caller.cookies[REFRESH][-1] != "A" else "B"
        )

        answer = caller.post("refresh")

        assert (answer.status, answer.kind) == (401, "session-ended")
        assert not {SESSION, REFRESH} & caller.cookies.keys()
