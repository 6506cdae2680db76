"""The example app in process, and what a browser would make of its pages."""

import importlib
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from starlette.testclient import TestClient

EXAMPLE = Path(__file__).parents[2] / "examples" / "notes"
OURS = ("main", "board")


class Board(TestClient):
    """A client of the note board, with short names for what many tests do."""

    def write(self, title: str = "A title", body: str = "A body") -> int:
        """Put a note on the board and return its id."""
        answer = self.post("/api/notes", json={"title": title, "body": body})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def titles(self, q: str = "") -> list[str]:
        """Return the titles of the notes that hold `q`, newest first."""
        return [note["title"] for note in self.get("/api/notes", params={"q": q}).json()]


class Outline(HTMLParser):
    """What a browser makes of a page: its elements, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def words(self) -> str:
        """The text with its white space collapsed, as it is shown."""
        return " ".join(self.text.split())

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]

    def attributes(self, tag: str, **wanted: str) -> dict[str, str | None]:
        """Return the attributes of the only element that has these."""
        (found,) = (
            attributes
            for name, attributes in self.elements
            if name == tag and wanted.items() <= attributes.items()
        )
        return found


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    """Import `main` and its package `board` as `--app-dir` does, and forget them afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        for name in loaded():
            patch.delitem(sys.modules, name)
        yield importlib.import_module("main")
        for name in loaded():
            del sys.modules[name]


@pytest.fixture
def board(example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    monkeypatch.setenv("NOTES_DATABASE", str(tmp_path / "state" / "notes.db"))
    with Board(example.app, base_url="https://testserver") as client:
        yield client


@pytest.fixture
def outline() -> type[Outline]:
    return Outline


def loaded() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in OURS]
