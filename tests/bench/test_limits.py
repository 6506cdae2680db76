"""The benchmark of limiters runs and tells its figures; how large they are is for people to judge."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc, cores are Linux's"),
]

LIMITS = Path(__file__).parents[2] / "bench" / "limits.py"
FIGURES = {
    "decisions_ratio_to_best_python_peer",
    "bytes_ratio_to_best_python_peer",
    "longest_pause_over_idle_loop",
}
PEERS = ("limits fixed window", "limits moving window", "throttled-py GCRA", "pyrate-limiter GCRA")
TINY = ("--pairs", "1", "--rounds", "1", "--decisions", "1000", "--keys", "5000")


def run_limits(*arguments: str, cores: set[int] | None = None) -> str:
    """Return the standard output of a tiny run, on these cores if any are given."""
    done = subprocess.run(
        [sys.executable, str(LIMITS), *TINY, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=180,
        preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_last_line_is_one_json_object_with_every_figure():
    figures = json.loads(run_limits("--json").splitlines()[-1])

    assert set(figures) == FIGURES
    assert all(math.isfinite(value) and value > 0 for value in figures.values())


def test_a_single_figure_is_measured_alone_beside_every_peer_and_shown_with_its_aim():
    shown = run_limits("--only", "decisions_ratio_to_best_python_peer")

    assert "decisions_ratio_to_best_python_peer  >= 4.00" in shown
    assert not any(name in shown for name in FIGURES - {"decisions_ratio_to_best_python_peer"})
    assert all(f"{peer} " in shown for peer in PEERS)


def test_on_a_machine_with_one_core_it_runs_and_says_so():
    core = min(os.sched_getaffinity(0))

    shown = run_limits("--only", "longest_pause_over_idle_loop", cores={core})

    assert f"ONE CORE (number {core})" in shown
