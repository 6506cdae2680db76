"""A queue in memory and on SQLite, seals as the service has them, and events that can be read."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from account_api import Service, accounts
from recording import Sink
from thebes.accounts.jobs import JobSeals
from thebes.events import Events
from thebes.secret import Secret
from thebes.secrets.bound import BoundKeys
from thebes.secrets.keyring import Keyring, Purpose
from thebes.secrets.strength import SecretKey
from thebes.stores.jobs import JobStore
from thebes.stores.memory import MemoryStore
from thebes.stores.sqlite import SQLiteStore


@dataclass
class Told:
    """Events, and the lines that were written of them."""

    events: Events
    sink: Sink

    @property
    def names(self) -> list[tuple[str, str | None]]:
        return [(one["event"], one["reason"]) for one in self.sink.objects]


@pytest.fixture
def told() -> Told:
    """Events of which none is held back: each is an hour after the one before."""
    moments = iter(range(1_700_000_000, 2_000_000_000, 3600))
    sink = Sink()
    return Told(Events(sink, clock=lambda: float(next(moments))), sink)


@pytest.fixture
def seals() -> JobSeals:
    return JobSeals(BoundKeys(Keyring((SecretKey("k1", Secret(bytes(range(32)))),)), Purpose.JOBS))


@pytest.fixture(params=["memory", "sqlite"])
async def queue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[JobStore]:
    """The queue of a store, once for each kind of store."""
    store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "thebes.db")
    await store.start()
    yield store.jobs
    await store.close()


@pytest.fixture
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """An app with accounts, in this process and in memory unless a test asks for more."""
    with accounts(getattr(request, "param", "memory"), tmp_path) as served:
        yield served
