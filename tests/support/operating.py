"""Run `thebes` as an operator does, beside a service that runs: a process of its own, maybe at a terminal."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEYS = "k1:MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY"


@dataclass
class Operator:
    """Somebody who types commands in a project's directory.

    Attributes:
        project: The directory.
        environ: Beside PATH.
    """

    project: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def beside(cls, database: Path) -> "Operator":
        """Return an operator whose project has the database of a service in test mode with `KEYS`."""
        settings = {"THEBES_DATABASE_URL": f"sqlite:///{database}", "THEBES_SECRET_KEYS": KEYS}
        return cls(database.parent, {"THEBES_ENV": "test", **settings})

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command without a terminal."""
        return subprocess.run(
            _command(arguments),
            cwd=self.project,
            env=self._environment() | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def told(self, *arguments: str) -> Any:
        """Run a command that succeeds, and return the JSON that it prints."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refused(self, *arguments: str, **environ: str) -> str:
        """Run a command that fails, and return what it says about that."""
        done = self.run(*arguments, **environ)
        assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stderr

    def type(self, *arguments: str, typed: Sequence[str]) -> tuple[int, str]:
        """Run a command at a terminal, type a line at each prompt, and return its code and the whole screen."""
        screen, terminal = pty.openpty()
        process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *_command(arguments)],  # so that /dev/tty is this terminal
            cwd=self.project,
            env=self._environment(),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        shown = _typed(screen, typed)
        os.close(screen)
        return process.wait(60), shown

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **self.environ}


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "thebes", *arguments]


def _typed(screen: int, lines: Sequence[str]) -> str:
    """Type each line once a prompt stands there, and return what was on the screen until the end."""
    shown, waiting = b"", list(lines)
    while True:
        try:
            piece = os.read(screen, 4096)
        except OSError:  # the other side is closed
            return shown.decode()
        if not piece:
            return shown.decode()
        shown += piece
        if waiting and shown.endswith(b": "):
            os.write(screen, waiting.pop(0).encode() + b"\n")
