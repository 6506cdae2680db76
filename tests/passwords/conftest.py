"""Passwords as a service has them, with a hash that costs next to nothing where its cost isn't the point."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from thebes.facts import Mode
from thebes.passwords import Lanes, Passwords

Make = Callable[..., Passwords]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Make a room with the cheap preset and one lane, unless said; all are closed when the test ends."""
    made: list[Passwords] = []

    def build(**settings: Any) -> Passwords:
        defaults: dict[str, Any] = {"cost": "test", "mode": Mode.TEST, "lanes": Lanes(1)}
        made.append(Passwords(**(defaults | settings)))
        return made[-1]

    yield build
    for passwords in made:
        await passwords.close()


@pytest.fixture
def passwords(make: Make) -> Passwords:
    """The cheap one."""
    return make()
