"""Over a socket nothing tells which addresses have an account: neither the answer nor the time it takes."""

import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from account_api import OTHER_PASSWORD, PASSWORD, Service, accounts, shape
from thebes.encoding import uuid7
from thebes.stores.accounts import Account

ADA = "ada@example.com"
WRONG = "a wrong password, as guessed"
PAIRS = 50
# A shared machine hiccups for longer than the difference looked for: then it is measured again. A difference in
# the work is there each time, and in all of it together.
TRIES = 8
ALLOWED = 0.10
PAUSE_SECONDS = 0.03
STOPWATCH = Path(__file__).parents[1] / "support" / "stopwatch.py"


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An app over a socket, with cheap hashes: what differs by a fixed amount shows the more."""
    settings: dict[str, Any] = {"database_url": "memory:"} if request.param == "memory" else {}
    with accounts("socket", tmp_path_factory.mktemp("accounts"), **settings) as service:
        service.member()
        yield service


BODIES: dict[str, dict[str, str]] = {
    "login": {"password": WRONG},
    "register": {"password": PASSWORD},
    "forgot": {},
    "verify/resend": {},
}


class Registry:
    """Addresses, each used once: those with an account, confirmed or not, and those of nobody."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._numbers = itertools.count(1)
        self._stored = service.run(service.membership.passwords.hash(OTHER_PASSWORD))

    def pairs(self, path: str, count: int) -> list[tuple[str, str]]:
        """Return known and unknown addresses of one length; known ones can be mailed by that path."""
        verified_at = None if path == "verify/resend" else 1.0
        found = []
        for _ in range(count):
            number = f"{next(self._numbers):06}"
            known, unknown = f"known-{number}@example.com", f"stranger-{number}@example.com"[2:]
            account = Account(
                id=uuid7(),
                email=known,
                email_key=known,
                password_hash=self._stored,
                created_at=time.time(),
                verified_at=verified_at,
            )
            assert self._service.run(self._service.membership.store.accounts.create(account))
            found.append((known, unknown))
        return found


@pytest.fixture(scope="module")
def registry(served: Service) -> Registry:
    return Registry(served)


@pytest.mark.requirement("ACC-01", by="live")
class TestAnswers:
    @pytest.mark.parametrize("path", BODIES)
    def test_known_and_unknown_addresses_get_the_same_answer(
        self, served: Service, registry: Registry, path: str
    ):
        for known, unknown in registry.pairs(path, 2):
            answers = [
                served.caller().post(path, {"email": email, **BODIES[path]}) for email in (known, unknown)
            ]
            assert shape(answers[0]) == shape(answers[1])
            assert answers[0].status == (401 if path == "login" else 202)
            assert [len(answer.body) for answer in answers] == [len(answers[0].body)] * 2

    @pytest.mark.parametrize("path", BODIES)
    def test_so_do_they_when_they_have_been_tried_too_often(
        self, served: Service, registry: Registry, path: str
    ):
        [(known, unknown)] = registry.pairs(path, 1)
        for _ in range(7):
            answers = [
                served.caller().post(path, {"email": email, **BODIES[path]}) for email in (known, unknown)
            ]
            assert shape(answers[0]) == shape(answers[1])

    def test_the_owner_of_a_taken_address_is_mailed(self, served: Service, registry: Registry):
        [(known, unknown)] = registry.pairs("register", 1)

        for email in (known, unknown):
            served.caller().post("register", {"email": email, "password": PASSWORD})

        assert served.mailed(known) == ["already_registered"]
        assert served.mailed(unknown) == ["verify"]
        assert served.caller().sign_in(known, PASSWORD).status == 401
        assert served.caller().sign_in(known, OTHER_PASSWORD).status == 200


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.requirement("ACC-02", by="live")
class TestTimes:
    @pytest.mark.parametrize("path", BODIES)
    def test_known_and_unknown_addresses_take_as_long(
        self, served: Service, registry: Registry, path: str, capsys: pytest.CaptureFixture[str]
    ):
        known: list[float] = []
        unknown: list[float] = []
        differences = []
        for _ in range(TRIES):
            more = measure(served, path, registry.pairs(path, PAIRS))
            known += more[0]
            unknown += more[1]
            differences.append(min(difference(*more), difference(known, unknown)))
            with capsys.disabled():
                medians = [f"{statistics.median(times) * 1e3:.3f} ms" for times in more]
                print(f"\n{path}: known {medians[0]}, unknown {medians[1]}")
            if differences[-1] < ALLOWED:
                break

        assert differences[-1] < ALLOWED, differences


def difference(known: list[float], unknown: list[float]) -> float:
    """Return by how much two medians differ, as a part of the smaller."""
    medians = sorted((statistics.median(known), statistics.median(unknown)))
    return medians[1] / medians[0] - 1


def measure(service: Service, path: str, pairs: list[tuple[str, str]]) -> tuple[list[float], list[float]]:
    """Return the seconds for known and unknown addresses, one request each, interleaved."""
    order = [each if number % 2 else each[::-1] for number, each in enumerate(pairs)]
    requests = [request(service, path, email) for each in order for email in each]
    work = json.dumps({"port": int(service.origin.rpartition(":")[2]), "requests": requests})
    done = subprocess.run(
        [sys.executable, STOPWATCH], input=work, capture_output=True, text=True, check=True, timeout=60
    )
    times = dict(zip((email for each in order for email in each), json.loads(done.stdout), strict=True))
    return [times[known] for known, _ in pairs], [times[unknown] for _, unknown in pairs]


def request(service: Service, path: str, email: str) -> dict[str, Any]:
    """Return a request of somebody at an address that nobody has used."""
    return {
        "from": service.caller().address,
        "target": f"/auth/{path}",
        "body": json.dumps({"email": email, **BODIES[path]}),
        "fields": {"Origin": service.origin, "Content-Type": "application/json"},
        "status": 401 if path == "login" else 202,
        "pause": PAUSE_SECONDS,
    }
