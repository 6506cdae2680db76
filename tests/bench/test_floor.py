"""The floor runs and tells its figures; how large they are is for people to judge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the CPU clock of a process is Linux's"),
]

FLOOR = Path(__file__).parents[2] / "bench" / "floor.py"
TINY = ("--pairs", "1", "--rounds", "1", "--requests", "16")


def test_the_last_line_is_one_json_object_with_every_figure():
    done = subprocess.run(
        [sys.executable, str(FLOOR), *TINY, "--json"],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) == {"layer_ratio_starlette", "fields_ratio_starlette"}
    assert all(value > 0 for value in figures.values())


def test_the_layers_fields_are_those_of_the_pass(tmp_path):
    """Else the floor would lie deeper than it is."""
    code = (
        "import asyncio, os, harness\n"
        "os.environ.update(harness.production_environment())\n"
        "import apps, load, pass_profile\n"
        "app, _ = pass_profile.protected()\n"
        "said = []\n"
        "async def send(message): said.append(message)\n"
        "(scope,) = pass_profile.scopes(load.navigation('/notes'), 1)\n"
        "asyncio.run(app(scope, pass_profile.receive, send))\n"
        "added = [field for field in said[0]['headers'] if field not in pass_profile.HEADERS]\n"
        "assert sorted(added) == sorted(apps.MANDATED), added\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(FLOOR.parent)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
