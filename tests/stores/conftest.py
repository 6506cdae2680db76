"""The stores that keep the contract: every test with the fixture `store` runs against each of them."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from thebes.stores.memory import MemoryStore
from thebes.stores.sqlite import SQLiteStore
from thebes.stores.store import Store

MAKERS: dict[str, Callable[[Path], Store]] = {
    "memory": lambda directory: MemoryStore(),
    "sqlite": lambda directory: SQLiteStore(directory / "thebes.db"),
}


@pytest.fixture(params=sorted(MAKERS))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made = MAKERS[request.param](tmp_path)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def sqlite_store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    made = SQLiteStore(tmp_path / "thebes.db")
    await made.start()
    yield made
    await made.close()
