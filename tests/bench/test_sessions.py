"""The benchmark of refreshes runs and tells its figure; how large it is is for people to judge."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the cores a process may use are Linux's"),
]

SESSIONS = Path(__file__).parents[2] / "bench" / "sessions.py"
TINY = ("--pairs", "1", "--rounds", "1", "--refreshes", "2")


def run_sessions(*arguments: str) -> str:
    """Return the standard output of a tiny run."""
    done = subprocess.run(
        [sys.executable, str(SESSIONS), *TINY, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_last_line_is_one_json_object_and_the_table_shows_the_aim():
    shown = run_sessions("--json")

    figures = json.loads(shown.splitlines()[-1])
    assert set(figures) == {"sqlite_refresh_share"}
    assert math.isfinite(figures["sqlite_refresh_share"])
    assert figures["sqlite_refresh_share"] > 0
    assert "sqlite_refresh_share  >= 0.50" in shown


def test_the_databases_lie_where_they_are_told_to_and_are_gone_afterwards(tmp_path: Path):
    run_sessions("--directory", str(tmp_path))

    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_ends_the_run_with_an_error(tmp_path: Path):
    with pytest.raises(AssertionError, match="FileNotFoundError"):
        run_sessions("--directory", str(tmp_path / "missing"))


async def test_refreshes_that_write_nothing_are_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SESSIONS.parent))
    sessions = importlib.import_module("sessions").Sessions(tmp_path / "kept.db", grace=timedelta(seconds=30))
    await sessions.start()

    with pytest.raises(RuntimeError, match="a refresh was kept"):
        await sessions.renew_all(1)

    await sessions.close()
