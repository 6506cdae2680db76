"""The board behind the pass in each mode, fresh lists for every test."""

from collections.abc import Iterator

import pytest

from attack import Served, protecting
from board import make_board

APP_ORIGIN = "https://app.partner.example"


@pytest.fixture(scope="session")
def production() -> Iterator[Served]:
    """The board in production at example.com, behind a declared proxy on loopback."""
    with protecting(make_board(), origins=[APP_ORIGIN], session_cookies=["session"]) as served:
        yield served


@pytest.fixture(scope="session", params=["development", "test"])
def local(request: pytest.FixtureRequest) -> Iterator[Served]:
    """The board in development and in test mode, on plain HTTP as another server serves it."""
    with protecting(make_board(), mode=request.param, health="GET /healthz") as served:
        yield served


@pytest.fixture(autouse=True)
def _forget_earlier_requests(request: pytest.FixtureRequest) -> None:
    for name in {"production", "local"} & set(request.fixturenames):
        request.getfixturevalue(name).forget()
