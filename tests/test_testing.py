"""Test mode is asked for, never guessed: by `-p thebes.testing` or by the ini file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # each starts a pytest of its own

SHOW_MODE = "import os\ndef test_mode():\n    print('mode', os.environ.get('THEBES_ENV'))\n"


@pytest.mark.parametrize(
    ("options", "ini", "mode"),
    [
        pytest.param([], "", "None", id="being installed asks for nothing"),
        pytest.param(["-p", "thebes.testing"], "", "test", id="the plugin asks for it"),
        pytest.param([], "thebes_mode = test\n", "test", id="the ini file asks for it"),
    ],
)
def test_the_mode_of_a_test_run(tmp_path: Path, options: list[str], ini: str, mode: str):
    assert f"mode {mode}" in pytest_in(tmp_path, options, ini).stdout


def test_another_mode_in_the_ini_file_is_refused(tmp_path: Path):
    answer = pytest_in(tmp_path, [], "thebes_mode = production\n")
    assert "allowed is 'test'" in answer.stderr
    assert answer.returncode != 0


def test_a_mode_asked_for_before_is_kept(tmp_path: Path):
    answer = pytest_in(tmp_path, ["-p", "thebes.testing"], "", THEBES_ENV="development")
    assert "mode development" in answer.stdout


def pytest_in(
    directory: Path, options: list[str], ini: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    (directory / "pytest.ini").write_text(f"[pytest]\n{ini}")
    (directory / "test_mode.py").write_text(SHOW_MODE)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-sq", *options],
        cwd=directory,
        env={"PATH": os.environ["PATH"]} | environ,
        capture_output=True,
        text=True,
        check=False,
    )
