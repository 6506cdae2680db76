"""Programs that some tests need: find them, install them, never leave them out in silence.

Run as a program it installs the named ones that are missing, where apt and root are there:

    python tools/system_packages.py chromium slowhttptest

As a pytest plugin it gives tests a fixture for each test program and marks its users: `browser`,
`slowhttptest`. Where the program is missing these tests are skipped, and the last lines of the run say
so; with CI=true the run fails. bench/gate.py says for itself that it was not run.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from functools import cache

import pytest


@dataclass(frozen=True, slots=True)
class Program:
    """A program, the Debian package that brings it, and what is not run without it."""

    package: str
    names: tuple[str, ...]
    marker: str
    not_run: str


PROGRAMS = {
    "chromium": Program(
        "chromium",
        ("chromium", "chromium-browser", "google-chrome"),
        "browser",
        "browser tests (no Chromium: install the Debian package chromium, or Google Chrome)",
    ),
    "slowhttptest": Program(
        "slowhttptest",
        ("slowhttptest",),
        "slowhttptest",
        "slowhttptest (install the Debian package slowhttptest)",
    ),
    "valgrind": Program("valgrind", ("valgrind",), "", "the instruction gate (install valgrind)"),
}
_LEFT_OUT = pytest.StashKey[set[str]]()
# Travels with a test's report, so that it arrives from a process of pytest-xdist too.
_LACKS = "lacks a program"


@cache
def find(name: str) -> str | None:
    """Return the path of a program that starts, or None."""
    found = (shutil.which(spelling) for spelling in PROGRAMS[name].names)
    return next((path for path in found if path and _starts(path)), None)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of the Chromium executable, for Playwright's `executable_path`."""
    return _path_or_skip("chromium")


@pytest.fixture(scope="session")
def slowhttptest() -> str:
    """Return the path of slowhttptest."""
    return _path_or_skip("slowhttptest")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    """Mark the users of each program, then skip what this run has selected of a missing one."""
    marked = {name: program.marker for name, program in PROGRAMS.items() if program.marker}
    for item in items:
        for name, marker in marked.items():
            if name in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
    yield
    for name, marker in marked.items():
        selected = [item for item in items if item.get_closest_marker(marker)]
        if selected and find(name) is None:
            for item in selected:
                item.user_properties.append((_LACKS, name))
                item.add_marker(pytest.mark.skip(reason=f"no {name}"))


def pytest_configure(config: pytest.Config) -> None:
    """Begin with nothing left out."""
    config.stash[_LEFT_OUT] = set()
    config.pluginmanager.register(_Reports(config))


class _Reports:
    """Notes what was left out: in the process that writes the summary, where reports arrive."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take down the programs that a test has lacked."""
        lacking = {str(value) for name, value in report.user_properties if name == _LACKS}
        self._config.stash[_LEFT_OUT].update(lacking)


# Outermost, so that the lines come after pytest's own last line.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """Say what was not run; in CI that is a failure."""
    left_out: set[str] = session.config.stash[_LEFT_OUT]
    if left_out and os.environ.get("CI") == "true" and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    yield
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    for name in sorted(left_out):
        session.config.get_terminal_writer().line(f"NOT RUN: {PROGRAMS[name].not_run}")


def install(names: list[str]) -> list[str]:
    """Install what is missing and may be installed; return what is missing still."""
    missing = [name for name in names if find(name) is None]
    apt_get = shutil.which("apt-get")
    if missing and apt_get is not None and os.geteuid() == 0:
        packages = [PROGRAMS[name].package for name in missing]
        command = [apt_get, "install", "-qq", "-y", "--no-install-recommends", *packages]
        # The package list of a new machine may be empty or old: fetch it, and try once more.
        if not _run(command) and _run([apt_get, "update", "-qq"]):
            _run(command)
        find.cache_clear()
    return [name for name in missing if find(name) is None]


def _path_or_skip(name: str) -> str:
    path = find(name)
    if path is None:
        pytest.skip(f"no {name}")
    return path


def _starts(path: str) -> bool:
    """Say whether a program is more than a placeholder that asks to install something."""
    # slowhttptest knows no --version, and any answer but "no such program" shows that it is there.
    option = "-h" if path.endswith("slowhttptest") else "--version"
    try:
        # The path is that of a program on PATH, found by a fixed name.
        answer = subprocess.run([path, option], capture_output=True, timeout=60, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 or option == "-h"


def _run(command: list[str]) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # On standard error: a target's standard output may be read by a program.
    return subprocess.run(command, env=environment, stdout=sys.stderr, check=False).returncode == 0  # noqa: S603


if __name__ == "__main__":
    for absent in install(sys.argv[1:]):
        print(f"no {absent}: {PROGRAMS[absent].not_run} will not run", file=sys.stderr)
