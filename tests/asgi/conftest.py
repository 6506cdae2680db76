"""Make and serve the same behaviour three ways; every suite here runs against each of them."""

import asyncio
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest

from live import PATIENCE_SECONDS, client, serving
from thebes import Events, Security

SERVINGS = Path(__file__).parent / "servings"
BY_PROTECT = ("fastapi_app", "starlette_app")
KINDS = (*BY_PROTECT, "plain_app")


@dataclass
class Stage:
    """What a test and the app that it serves share: notes of what happened, and a gate to wait at."""

    notes: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    broken_start: bool = False

    def note(self, what: str) -> None:
        """Write down that something happened."""
        self.notes.append(what)

    async def gate_opened(self) -> None:
        """Wait until the test opens the gate."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.gate.is_set():
                await asyncio.sleep(0.002)


@dataclass
class Made:
    """One app, as it was made and as a server gets it."""

    kind: str
    stage: Stage
    app: Any
    served: Any
    security: Security
    events: list[str]


@dataclass
class Served:
    """One running app."""

    url: str
    made: Made

    @property
    def stage(self) -> Stage:
        """The notes and the gate of the app."""
        return self.made.stage

    @property
    def websocket_url(self) -> str:
        """The base URL of its WebSockets."""
        return "ws" + self.url.removeprefix("http")

    @property
    def address(self) -> tuple[str, int]:
        """Where to open a bare socket."""
        return "127.0.0.1", int(self.url.rpartition(":")[2])


def secure(kind: str, app: Any, security: Security) -> Any:
    """Put an app behind the pass in the way that its kind is meant to."""
    return security.protect(app) if kind in BY_PROTECT else security.wrap(app)


def _load(kind: str) -> ModuleType:
    name = f"conformance_{kind}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, SERVINGS / f"{kind}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)  # annotations are looked up there
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def make(kind: str, *, own_handler: bool = False, **settings: Any) -> Made:
    """Make a fresh app of a kind and put it behind a pass."""
    stage = Stage()
    events: list[str] = []
    security = Security(events=Events(lambda _severity, line: events.append(line)), **settings)
    app = _load(kind).create(stage, own_handler=own_handler)
    return Made(kind, stage, app, secure(kind, app, security), security, events)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """One of the three servings."""
    return request.param


@pytest.fixture(scope="module", params=BY_PROTECT)
def framework(request: pytest.FixtureRequest) -> str:
    """One of the servings by `protect`."""
    return request.param


@pytest.fixture(scope="session", name="make")
def _make() -> Callable[..., Made]:
    return make


@pytest.fixture(scope="session", name="secure")
def _secure() -> Callable[..., Any]:
    return secure


@pytest.fixture(scope="module")
def served(kind: str) -> Iterator[Served]:
    """The app of this kind over a real socket."""
    made = make(kind, session_cookies=["sid"])
    with serving(made.served, lifespan="on") as url:
        yield Served(url, made)


@pytest.fixture
def ask(served: Served) -> Iterator[httpx2.Client]:
    """A client that is no browser."""
    with client(served.url) as asking:
        yield asking


@pytest.fixture
def stage(served: Served) -> Stage:
    """The notes of the served app, empty, and its gate, closed."""
    served.stage.notes.clear()
    served.stage.gate.clear()
    return served.stage
