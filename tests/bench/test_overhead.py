"""The benchmark runs and tells its figures; how large they are is for people to judge."""

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
    pytest.mark.skipif(sys.platform != "linux", reason="the CPU clock of a process is Linux's"),
]

OVERHEAD = Path(__file__).parents[2] / "bench" / "overhead.py"
FIGURES = {
    "get_ratio_starlette",
    "get_ratio_fastapi",
    "post_ratio_fastapi",
    "ws_message_ratio",
    "import_ratio_starlette",
    "signed_get_ratio_starlette",
    "signed_get_ratio_fastapi",
    "signed_post_ratio_fastapi",
    "signed_get_fall_starlette",
    "signed_get_fall_fastapi",
    "bearer_miss_vs_raw_es256",
    "argon2_share",
    "flood_p99_ratio",
}
MAY_BE_ANYTHING = {"signed_get_fall_starlette", "signed_get_fall_fastapi"}  # differences, not ratios
TINY = ("--pairs", "1", "--rounds", "1", "--requests", "16")


def run_overhead(*arguments: str, cores: set[int] | None = None) -> str:
    """Return the standard output of a tiny run, on these cores if any are given."""
    done = subprocess.run(
        [sys.executable, str(OVERHEAD), *TINY, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_last_line_is_one_json_object_with_every_figure():
    figures = json.loads(run_overhead("--json").splitlines()[-1])

    assert set(figures) == FIGURES
    assert all(map(math.isfinite, figures.values()))
    assert all(value > 0 for name, value in figures.items() if name not in MAY_BE_ANYTHING)


def test_a_single_figure_is_measured_alone_and_shown_with_its_aim():
    shown = run_overhead("--only", "import_ratio_starlette")

    assert "import_ratio_starlette  <= 0.60" in shown
    assert not any(name in shown for name in FIGURES - {"import_ratio_starlette"})


def test_on_a_machine_with_one_core_it_runs_and_says_so():
    core = min(os.sched_getaffinity(0))

    shown = run_overhead("--only", "ws_message_ratio", cores={core})

    assert f"ONE CORE (number {core})" in shown
