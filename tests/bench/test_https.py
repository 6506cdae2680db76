"""The benchmark runs and tells its figures; how large they are is for people to judge."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the CPU clock of a process is Linux's"),
]

HTTPS = Path(__file__).parents[2] / "bench" / "https.py"
FIGURES = {"tls_ratio_to_uvicorn", "handshake_ratio_to_uvicorn"}
TINY = ("--pairs", "1", "--rounds", "1", "--requests", "16", "--connections", "2")


def run_https(*arguments: str) -> str:
    """Return the standard output of a tiny run."""
    done = subprocess.run(
        [sys.executable, str(HTTPS), *TINY, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_last_line_is_one_json_object_with_every_figure():
    figures = json.loads(run_https("--json").splitlines()[-1])

    assert set(figures) == FIGURES
    assert all(math.isfinite(value) and value > 0 for value in figures.values())


def test_a_single_figure_is_measured_alone_and_shown_with_its_aim():
    shown = run_https("--only", "handshake_ratio_to_uvicorn", "--noise")

    assert "handshake_ratio_to_uvicorn  >= 0.90" in shown
    assert "tls_ratio_to_uvicorn" not in shown
