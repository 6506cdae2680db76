"""What every test run has: the requirement marker, the programs it needs, and Hypothesis set for a busy machine."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

pytest_plugins = ["requirements_plugin", "system_packages"]

COUNTS = os.environ.get("THEBES_TEST_COUNTS", "")
WAITING = ("serve", "live", "bench", "examples")
EXAMPLES = {"full": 1000, "few": 20}

# No deadline: on a busy machine an example may take any time, and a time-out would say nothing about the code.
settings.register_profile("thebes", settings(), deadline=None, max_examples=EXAMPLES.get(COUNTS, 100))
settings.load_profile("thebes")


@pytest.fixture(scope="session")
def counts_are_full() -> bool:
    """Whether the counts of a release are asked for, by `make test-full`."""
    return COUNTS == "full"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what needs a running server out of the fast loop, though each such test takes little."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if (
            item.path.parent.name == "live"
            or (callspec is not None and callspec.params.get("service") == "socket")
            or any(mark.kwargs.get("by") == "live" for mark in item.iter_markers("requirement"))
        ):
            item.add_marker("slow")
    # Of several processes none should be left alone with what mostly waits.
    items.sort(key=lambda item: item.path.parent.name not in WAITING)
