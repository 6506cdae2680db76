"""The benchmark of sign-ins runs and tells its figure; how large it is is for people to judge."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="cores are Linux's"),
]

PROGRAM = Path(__file__).parents[2] / "bench" / "passwords.py"
TINY = ("--preset", "test", "--rounds", "2", "--sign-ins", "4", "--lanes", "2")


def run(*arguments: str) -> str:
    command = [sys.executable, str(PROGRAM), *TINY, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_last_line_is_one_json_object_with_the_figure():
    figures = json.loads(run("--json").splitlines()[-1])
    assert set(figures) == {"argon2_share_of_lanes"}
    assert math.isfinite(figures["argon2_share_of_lanes"])
    assert figures["argon2_share_of_lanes"] > 0


def test_for_people_it_is_a_table_with_the_aim():
    shown = run()
    assert "argon2_share_of_lanes  >= 0.95" in shown
    assert "test, 2 lanes" in shown
