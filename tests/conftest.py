"""What every test run has: the requirement marker, the programs it needs, and Hypothesis set for a busy machine."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

pytest_plugins = ["requirements_plugin", "system_packages"]

ARE_FULL = os.environ.get("THEBES_TEST_COUNTS") == "full"

# No deadline: on a busy machine an example may take any time, and a time-out would say nothing about the code.
settings.register_profile(
    "thebes",
    settings(),
    deadline=None,
    max_examples=1000 if ARE_FULL else 100,
)
settings.load_profile("thebes")


@pytest.fixture(scope="session")
def counts_are_full() -> bool:
    """Whether the counts of a release are asked for, by `make test-full`."""
    return ARE_FULL
