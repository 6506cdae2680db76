"""How much to simulate: in full for a release, a tenth of it else. And a clock that tests set."""

import os
from dataclasses import dataclass

import pytest

IS_FULL = os.environ.get("THEBES_TEST_COUNTS") == "full"


@pytest.fixture(scope="session")
def hits() -> int:
    """How many simulated hits a model test makes."""
    return 200_000 if IS_FULL else 20_000


@pytest.fixture(scope="session")
def strangers() -> int:
    """How many distinct addresses a flood has."""
    return 1_000_000 if IS_FULL else 200_000


@dataclass(slots=True)
class Clock:
    """Nanoseconds that pass when a test says so."""

    now: int = 0

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * 1_000_000_000)


@pytest.fixture
def clock() -> Clock:
    return Clock()
