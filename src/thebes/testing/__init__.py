"""Tests of protected apps: test mode for pytest, and clients in which somebody is signed in by one line.

    with client(app) as browser:
        browser.sign_in("ada@example.com", roles=["admin"])
        assert browser.get("/notes").status_code == 200

Loading this as a plugin asks for test mode: `pytest -p thebes.testing`, or `thebes_mode = test` in the
ini file. Being installed doesn't: a package in the environment must not change how an app runs.

Does not open anything: outside test mode nobody is signed in without a password.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from thebes.testing.asynchronous import AsyncClient
    from thebes.testing.synchronous import Client

# https, so that cookies with the __Host- prefix and Secure work; the name is known in test mode only.
BASE_URL = "https://testserver"


def pytest_configure(config: pytest.Config) -> None:  # noqa: ARG001
    """Ask for test mode in this process and in what it starts."""
    use_test_mode()


def use_test_mode() -> None:
    """Set `THEBES_ENV=test` for this process, unless another mode was asked for already."""
    os.environ.setdefault("THEBES_ENV", "test")


def client(app: Any, *, base_url: str = BASE_URL, **options: Any) -> Client:
    """Return a client that speaks to the app in this process, over https as far as the app can tell.

    Args:
        app: A protected or wrapped application.
        base_url: Scheme and host of the requests.
        options: Passed on to `starlette.testclient.TestClient`.
    """
    from thebes.testing.synchronous import Client  # noqa: PLC0415 - needs the test tools of the user

    return Client(app, base_url=base_url, **options)


def async_client(app: Any, *, base_url: str = BASE_URL, **options: Any) -> AsyncClient:
    """Return such a client for tests that are coroutines. It runs no lifespan, as all of its kind.

    Args:
        app: A protected or wrapped application.
        base_url: Scheme and host of the requests.
        options: Passed on to `httpx2.AsyncClient`.
    """
    from thebes.testing.asynchronous import AsyncClient  # noqa: PLC0415 - needs the test tools of the user

    return AsyncClient(app, base_url=base_url, **options)
