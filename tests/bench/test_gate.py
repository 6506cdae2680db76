"""The gate lets through what costs as much as before, stops what costs more, and never leaves out in silence."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux", reason="valgrind, and the cores a process may use, are Linux's"
    ),
]

BENCH = Path(__file__).parents[2] / "bench"
GATE = BENCH / "gate.py"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
ACCEPTED = {"get": 10.0, "post": 20.0, "signed_get": 30.0}


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return bench/gate.py as a module."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("gate")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Return a directory for PATH with a valgrind that must not be asked to count."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "valgrind"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    return directory


@pytest.fixture
def accepted(tmp_path: Path) -> Path:
    """Return a file of accepted values that does not exist yet."""
    return tmp_path / "gate.json"


def run_gate(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the gate as a program, without the caller's CI unless it is given."""
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, str(GATE), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        env=inherited | environment,
    )


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        pytest.param(10.51, "dearer", id="over 5 % above is dearer"),
        pytest.param(10.49, "as accepted", id="just under 5 % above passes"),
        pytest.param(10.0, "as accepted", id="the same passes"),
        pytest.param(9.51, "as accepted", id="just under 5 % below passes"),
        pytest.param(9.49, "cheaper", id="over 5 % below is a gain"),
    ],
)
def test_a_value_may_lie_5_percent_off_the_accepted_one(gate: ModuleType, value: float, verdict: str):
    assert gate.verdict(value, 10.0) == verdict


def test_the_value_is_what_the_pass_adds_in_units_of_the_bare_app(gate: ModuleType):
    assert gate.Cost(bare=1000, protected=8500).value == 7.5


class TestReport:
    def test_one_value_over_5_percent_above_fails_and_names_both_numbers(self, gate: ModuleType, capsys):
        costs = {
            "get": gate.Cost(100, 1100),
            "post": gate.Cost(100, 2300),
            "signed_get": gate.Cost(100, 3100),
        }

        assert gate.report(costs, ACCEPTED, as_json=False) == 1

        told = capsys.readouterr().out
        assert "post: measured 22.0000, accepted 20.0000" in told
        assert "raising it is a commit of its own with the reason" in told
        assert "get: " not in told

    def test_values_within_5_percent_pass_without_a_remark(self, gate: ModuleType, capsys):
        costs = {"get": gate.Cost(100, 1149), "post": gate.Cost(100, 2001)}

        assert gate.report(costs, ACCEPTED, as_json=False) == 0

        assert "measured 1" not in capsys.readouterr().out

    def test_a_value_over_5_percent_below_passes_with_a_hint_to_record_the_gain(
        self, gate: ModuleType, capsys
    ):
        costs = {"get": gate.Cost(100, 1000), "post": gate.Cost(100, 2100)}

        assert gate.report(costs, ACCEPTED, as_json=False) == 0

        told = capsys.readouterr().out
        assert "get: measured 9.0000, accepted 10.0000" in told
        assert "make bench-gate ARGS=--write" in told

    def test_a_gain_on_one_method_does_not_pay_for_a_loss_on_the_other(self, gate: ModuleType):
        costs = {"get": gate.Cost(100, 600), "post": gate.Cost(100, 2300)}

        assert gate.report(costs, ACCEPTED, as_json=False) == 1

    def test_the_last_line_is_one_json_object_if_asked_for(self, gate: ModuleType, capsys):
        costs = {name: gate.Cost(100, 100 + 100 * value) for name, value in ACCEPTED.items()}

        gate.report(costs, ACCEPTED, as_json=True)

        assert json.loads(capsys.readouterr().out.splitlines()[-1]) == ACCEPTED

    @pytest.mark.parametrize(
        ("in_ci", "status"),
        [
            pytest.param("false", 0, id="passes"),
            pytest.param("true", 1, id="fails in CI"),
        ],
    )
    def test_a_value_for_which_none_was_accepted_is_told_and(
        self, gate: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys, in_ci: str, status: int
    ):
        monkeypatch.setenv("CI", in_ci)
        costs = {"get": gate.Cost(100, 1100), "signed_get": gate.Cost(100, 4100)}

        assert gate.report(costs, {"get": 10.0}, as_json=False) == status

        assert "signed_get: measured 40.0000, none accepted" in capsys.readouterr().out


class TestWhatIsCounted:
    def test_an_app_without_the_pass_is_not_counted_as_protected(self, gate: ModuleType):
        profile = importlib.import_module("pass_profile")

        with pytest.raises(importlib.import_module("load").WrongAnswerError, match="hostile"):
            gate.require_guarded(profile.bare, profile.REQUESTS["GET"])

    def test_a_stranger_is_not_counted_as_signed_in(
        self, gate: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        profile = importlib.import_module("pass_profile")
        monkeypatch.chdir(tmp_path)
        for name, value in importlib.import_module("harness").production_environment().items():
            monkeypatch.setenv(name, value)
        app, signed_get = profile.protected()

        gate.require_guarded(app, signed_get)

        with pytest.raises(importlib.import_module("load").WrongAnswerError, match="signed in: True"):
            gate.require_guarded(app, profile.REQUESTS["GET"])


class TestWithoutValgrind:
    def test_it_says_so_and_passes(self, tmp_path: Path):
        run = run_gate(PATH=str(tmp_path))

        assert (run.returncode, run.stdout) == (
            0,
            "NOT RUN: no valgrind: install the Debian package valgrind\n",
        )

    def test_it_fails_in_ci(self, tmp_path: Path):
        run = run_gate(PATH=str(tmp_path), CI="true")

        assert run.returncode == 1
        assert "NOT RUN: no valgrind" in run.stdout

    def test_recording_fails_and_leaves_the_file_alone(self, tmp_path: Path, accepted: Path):
        assert run_gate("--write", "--accepted", str(accepted), PATH=str(tmp_path)).returncode == 1
        assert not accepted.exists()


class TestWithoutAnAcceptedValue:
    @pytest.mark.parametrize(
        ("content", "in_ci", "status"),
        [
            pytest.param({"2.7": ACCEPTED}, "false", 0, id="another version's value passes"),
            pytest.param({"2.7": ACCEPTED}, "true", 0, id="another version's value passes in CI"),
            pytest.param({}, "false", 0, id="no value at all passes"),
            pytest.param({}, "true", 1, id="no value at all fails in CI"),
        ],
    )
    def test_values_of_another_python_are_not_compared(
        self, tools: Path, accepted: Path, content: dict[str, object], in_ci: str, status: int
    ):
        accepted.write_text(json.dumps(content))

        run = run_gate("--accepted", str(accepted), PATH=str(tools), CI=in_ci)

        assert (run.returncode, run.stdout) == (status, f"NOT RUN: no accepted value for Python {PYTHON}\n")

    def test_a_missing_file_fails_in_ci(self, tools: Path, accepted: Path):
        assert run_gate("--accepted", str(accepted), PATH=str(tools), CI="true").returncode == 1


def test_a_valgrind_that_does_not_count_ends_the_run_with_an_error(tools: Path, accepted: Path):
    accepted.write_text(json.dumps({PYTHON: ACCEPTED}))

    run = run_gate("--accepted", str(accepted), PATH=str(tools))

    assert run.returncode == 1
    assert "ended with 3" in run.stderr


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="no valgrind")
@pytest.mark.full  # a minute; `make bench-gate` itself is part of every check-in
def test_a_tiny_run_counts_every_request_and_records_them_beside_those_of_other_pythons(accepted: Path):
    accepted.write_text(json.dumps({"2.7": ACCEPTED}))

    run = run_gate("--write", "--json", "--requests", "20", "--accepted", str(accepted))

    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout.splitlines()[-1])
    assert set(figures) == {"get", "post", "signed_get"}
    assert all(value > 0 for value in figures.values())
    assert figures["signed_get"] > figures["get"]
    assert json.loads(accepted.read_text()) == {"2.7": ACCEPTED, PYTHON: figures}
