"""The browser tests: find Chromium, install it where possible, never leave them out in silence.

Run as a program it installs Chromium if there is none (Debian's package; apt and root are needed).
As a pytest plugin it gives tests the fixture `chromium` and marks its users `browser`. Without
Chromium these tests are skipped, and the last line of the run says so; with CI=true the run fails.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from functools import cache

import pytest

PACKAGE = "chromium"
NAMES = ("chromium", "chromium-browser", "google-chrome")
NOT_RUN = f"NOT RUN: browser tests (no Chromium: install the Debian package {PACKAGE}, or Google Chrome)"
_NOT_RUN = pytest.StashKey[bool]()


@cache
def find() -> str | None:
    """Return the path of a Chromium that starts, or None."""
    return next((path for name in NAMES if (path := shutil.which(name)) and _starts(path)), None)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of the Chromium executable, for Playwright's `executable_path`."""
    path = find()
    if path is None:
        pytest.skip("no Chromium")
    return path


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Mark the users of `chromium`, then skip what this run has selected if there is none."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
    yield
    selected = [item for item in items if item.get_closest_marker("browser")]
    if selected and find() is None:
        config.stash[_NOT_RUN] = True
        for item in selected:
            item.add_marker(pytest.mark.skip(reason="no Chromium"))


# Outermost, so that the line comes after pytest's own last line.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Say what was not run; in CI that is a failure."""
    is_left_out = session.config.stash.get(_NOT_RUN, False)
    if is_left_out and os.environ.get("CI") == "true" and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    yield
    if is_left_out:
        session.config.get_terminal_writer().line(NOT_RUN)


def install() -> bool:
    """Install Chromium if there is none and this user may; return whether there is one now."""
    apt_get = shutil.which("apt-get")
    if find() is None and apt_get is not None and os.geteuid() == 0:
        command = [apt_get, "install", "-qq", "-y", "--no-install-recommends", PACKAGE]
        # The package list of a new machine may be empty or old: fetch it, and try once more.
        if not _run(command) and _run([apt_get, "update", "-qq"]):
            _run(command)
        find.cache_clear()
    return find() is not None


def _starts(path: str) -> bool:
    """Say whether a program is more than a placeholder that asks to install something."""
    try:
        # The path is that of a browser on PATH, found by one of three fixed names.
        answer = subprocess.run([path, "--version"], capture_output=True, timeout=60, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


def _run(command: list[str]) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(command, env=environment, check=False).returncode == 0  # noqa: S603


if __name__ == "__main__" and not install():
    print("no Chromium: the browser tests will not run", file=sys.stderr)
