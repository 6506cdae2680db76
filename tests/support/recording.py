"""A clock and a sink for events that do what a test tells them."""

import json
from typing import Any


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Sink:
    """Keeps lines; breaks while told to."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.severities: list[str] = []
        self.is_broken = False

    def __call__(self, severity: str, line: str) -> None:
        if self.is_broken:
            raise OSError("no space left on device")
        self.lines.append(line)
        self.severities.append(severity)

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]
