"""What `thebes passwords calibrate` measures and says."""

import json
import subprocess
import sys

import pytest

from thebes.passwords import Machine
from thebes.passwords.calibration import Measurement, _advice, calibrate

pytestmark = [pytest.mark.slow, pytest.mark.alone]

MIB = 2**20


def thebes(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "thebes", "passwords", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.requirement("PWD-20")
def test_the_command_reports_the_measured_time_and_which_preset_to_choose():
    done = thebes("calibrate", "--json", "--workers", "2")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    large, small = told["measurements"]
    assert (large["preset"], small["preset"], told["workers"]) == ("64MiB", "19MiB", 2)
    assert large["lanes"] == max(2, told["machine"]["cores"] - 2)
    assert large["memory_mib"] == large["lanes"] * 64
    assert 0.05 < large["seconds"] < 1
    assert small["seconds"] < large["seconds"]
    assert small["sign_ins_per_second"] > large["sign_ins_per_second"] > 1
    assert told["choice"] == "64MiB"
    assert 'passwords="64MiB"' in told["advice"]


def test_for_people_it_is_a_table():
    done = thebes("calibrate")
    assert done.returncode == 0, done.stderr
    head, _, columns, large, small, _, advice = done.stdout.splitlines()
    assert "workers: 1, " in head
    assert columns.split() == ["preset", "one", "sign-in", "lanes", "memory", "sign-ins/s"]
    assert large.startswith("64MiB")
    assert small.startswith("19MiB")
    assert "choose" in advice


async def test_a_preset_that_needs_too_much_memory_is_not_chosen():
    told = await calibrate(machine=Machine(2, 128 * MIB))
    large, small = told.measurements
    assert (large.fits, large.sign_ins_per_second) == (False, None)
    assert small.fits
    assert told.choice == "19MiB"


async def test_where_none_fits_it_says_so():
    told = await calibrate(machine=Machine(2, 16 * MIB))
    assert told.choice is None
    assert "more memory" in told.advice


def test_where_a_hash_is_quick_more_passes_are_advised():
    quick = Measurement("64MiB", 0.02, lanes=1, memory_mib=64, fits=True, sign_ins_per_second=50)
    assert "Argon2(memory_kib=65536, passes=6)" in _advice(quick)
