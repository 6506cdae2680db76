"""Find the value of a setting, secret or not, in one documented order.

1. the environment variable `THEBES_X`
2. the file that `THEBES_X_FILE` names (Docker and systemd hand secrets over as files)
3. a file named `THEBES_X`, `thebes_x` or `x` in the directory that `THEBES_SECRETS_DIR` names
4. further sources, such as a secret manager, in the order given
5. the file `.env` in the project directory

The first that has it wins; `THEBES_X` beside `THEBES_X_FILE` is an error, since one of them is a mistake.
An `.env` file travels into images and deployments, so what decides where we run or what else we read
(`THEBES_ENV`, `THEBES_SECRETS_DIR`, `THEBES_*_FILE`) counts only in the environment. `Sources.ignored`
lists such names found in `.env`.

Does not protect: values in the environment of a process that others may inspect. Files are safer.

Sources: OWASP Secrets Management Cheat Sheet; Docker's `_FILE` convention; ASVS 13.3.1.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from thebes.errors import ConfigurationError, SecretUnavailable
from thebes.secrets.scan import run_git

ENV_FILE = ".env"
MAX_FILE_BYTES = 1024 * 1024  # Kubernetes allows no larger Secret; /dev/zero ends here too
NEVER_FROM_FILES = frozenset({"THEBES_ENV", "THEBES_SECRETS_DIR"})

_NAME = re.compile(r"THEBES_[A-Z0-9_]+")


@dataclass(frozen=True, slots=True)
class Found:
    """A value and where it came from.

    Attributes:
        text: The value as text. Left out of the repr, since it may be a secret.
        origin: For people: "environment", "file /run/secrets/keys (THEBES_SECRET_KEYS_FILE)", ".env".
    """

    text: str = field(repr=False)
    origin: str


class SecretSource(Protocol):
    """What a secret manager offers, to stand in the list of sources.

    It is asked while the app starts, so it may block; it sets a deadline of its own. It keeps no copy
    that outlives a rotation, and logs names only, never values.
    """

    def find(self, name: str) -> Found | None:
        """Return the value of a setting, or None when this source doesn't hold it.

        Args:
            name: The environment variable's name, such as `THEBES_SECRET_KEYS`.

        Raises:
            SecretUnavailable: The source can't be asked. Never None in this case: a weaker source
                further down would then win unnoticed.
        """


class Sources:
    """All places where a setting may stand, asked in the order of this module.

    Nothing is read before `find()`, and nothing is kept: a file that was replaced counts at the next call.

    Args:
        environ: The environment variables, usually `os.environ`. Never written.
        directory: The project directory: `.env` lies in it, relative file names start in it.
        extra: Further sources, asked before `.env`.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        directory: Path,
        *,
        extra: Sequence[SecretSource] = (),
    ) -> None:
        self._environ = environ
        self._directory = directory
        self._extra = tuple(extra)

    def find(self, name: str) -> Found | None:
        """Return the value of a setting and its origin, or None when no source holds it.

        Args:
            name: `THEBES_` and capitals, digits or underscores.

        Raises:
            ValueError: Another kind of name.
            ConfigurationError: Both the variable and its `_FILE` twin are set, or `.env` needs python-dotenv.
            SecretUnavailable: A source was named but can't be read.
        """
        if not _NAME.fullmatch(name):
            raise ValueError("a setting's name is THEBES_ and A-Z, 0-9 or _")
        if name in NEVER_FROM_FILES:
            return self._from_environment(name)
        if name in self._environ and f"{name}_FILE" in self._environ:
            raise ConfigurationError(f"both {name} and {name}_FILE are set: keep one, run `unset {name}`")
        return (
            self._from_environment(name)
            or self._from_named_file(name)
            or self._from_directory(name)
            or self._from_extra(name)
            or self._from_env_file(name)
        )

    @property
    def ignored(self) -> Sequence[str]:
        """Names in `.env` that don't count there, sorted; `thebes audit` lists them.

        Raises:
            ConfigurationError, SecretUnavailable: As `find()`.
        """
        return sorted(name for name in self._env_file() if _is_ignored(name))

    def _from_environment(self, name: str) -> Found | None:
        # An empty variable is a value: it switches off what stands further down, visibly.
        return Found(self._environ[name], "environment") if name in self._environ else None

    def _from_named_file(self, name: str) -> Found | None:
        if f"{name}_FILE" not in self._environ:
            return None
        path = self._named_path(f"{name}_FILE")
        if path is None:
            raise SecretUnavailable(f"the file that {name}_FILE names", "no such file")
        source = f"file {path} ({name}_FILE)"
        return Found(_without_newline(read_text(path, source)), source)

    def _named_path(self, variable: str) -> Path | None:
        """Return the path in a variable, but None for a relative one that leads nowhere.

        Such a "path" is often the secret itself, set in the wrong variable: it must not reach a message.
        """
        given = self._environ[variable]
        if not given or "\0" in given:
            return None
        path = Path(given)
        if path.is_absolute():
            return path
        # os.path.exists, unlike Path.exists, is False for a name that is too long.
        return self._directory / path if os.path.exists(self._directory / path) else None  # noqa: PTH110

    def _from_directory(self, name: str) -> Found | None:
        if not self._environ.get("THEBES_SECRETS_DIR"):
            return None
        directory = self._named_path("THEBES_SECRETS_DIR")
        if directory is None or not os.path.isdir(directory):  # noqa: PTH112 (never raises)
            raise SecretUnavailable("THEBES_SECRETS_DIR", "no such directory")
        for file_name in (name, name.lower(), name.lower().removeprefix("thebes_")):
            path = directory / file_name
            source = f"file {path} (THEBES_SECRETS_DIR)"
            if not _is_absent(path):
                return Found(_without_newline(read_text(path, source)), source)
        return None

    def _from_extra(self, name: str) -> Found | None:
        found = (source.find(name) for source in self._extra)
        return next((one for one in found if one is not None), None)

    def _from_env_file(self, name: str) -> Found | None:
        text = None if _is_ignored(name) else self._env_file().get(name)
        return None if text is None else Found(text, ENV_FILE)

    def _env_file(self) -> Mapping[str, str | None]:
        path = self._directory / ENV_FILE
        if _is_absent(path):
            return {}
        return _parse_env(read_text(path, str(path)))


def read_text(path: Path, source: str) -> str:
    """Return a file's UTF-8 text, unchanged.

    Args:
        source: What messages call it.

    Raises:
        SecretUnavailable: It can't be opened, is larger than `MAX_FILE_BYTES`, or isn't UTF-8. The error
            is raised outside the handlers below, so that no chained one carries the bytes.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) <= MAX_FILE_BYTES:
            return raw.decode()
        reason = f"larger than {MAX_FILE_BYTES} bytes"
    except OSError as error:
        raw, reason = b"", error.strerror or type(error).__name__
    except UnicodeDecodeError:
        reason = "not UTF-8 text"
    del raw
    raise SecretUnavailable(source, reason)


def env_file_problems(path: Path, *, served: Sequence[Path] = ()) -> list[str]:
    """Say what is wrong with where an `.env` file lies and who can read it (SEC-05).

    Args:
        path: The file; when it doesn't exist there is no problem.
        served: Directories that the app hands out as static files.

    Returns:
        One sentence a problem, with the command that mends it. Without git, or in a repository that git
        refuses to read (another owner), nothing is said about tracking. Modes count on POSIX only.
    """
    if not path.exists():
        return []
    quoted = shlex.quote(str(path))
    problems = []
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & 0o077:
        problems.append(f"{path} can be used by group or others (mode {mode:04o}): run `chmod 600 {quoted}`")
    for directory in served:
        if _lies_in(path, directory):
            target = shlex.quote(str(directory.resolve().parent))
            problems.append(f"{path} lies in the served directory {directory}: run `mv {quoted} {target}`")
    if _is_tracked(path):
        problems.append(
            f"{path} is tracked by git: run `git rm --cached {quoted}`, then make new secrets with"
            " `thebes secrets init --rotate`, since the history keeps the old ones"
        )
    return problems


def _lies_in(path: Path, directory: Path) -> bool:
    # The name and what it leads to: a link that lies there is served, and so is the file behind it.
    places = (path.parent.resolve() / path.name, path.resolve())
    return any(place.is_relative_to(directory.resolve()) for place in places)


def _is_tracked(path: Path) -> bool:
    arguments = ("--literal-pathspecs", "ls-files", "--error-unmatch", "--", path.name)
    asked = run_git(path.absolute().parent, *arguments)
    return asked is not None and asked.returncode == 0


def _is_ignored(name: str) -> bool:
    return name in NEVER_FROM_FILES or (name.startswith("THEBES_") and name.endswith("_FILE"))


def _is_absent(path: Path) -> bool:
    """Say whether there is no such file. One that can't be looked at is there: reading it says why not."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _parse_env(text: str) -> Mapping[str, str | None]:
    """Return the assignments of an `.env` file as they stand: nothing interpolated, nothing exported."""
    try:
        from dotenv import dotenv_values  # noqa: PLC0415 (an extra; most servers never need it)
    except ImportError:
        is_ours = any(_sets_our_name(line) for line in text.splitlines())
    else:
        return dotenv_values(stream=io.StringIO(text), interpolate=False)
    del text
    if is_ours:
        raise ConfigurationError(
            ".env holds THEBES_ settings but python-dotenv is missing: run `pip install 'thebes[standard]'`"
        )
    return {}


def _sets_our_name(line: str) -> bool:
    return line.lstrip().removeprefix("export").lstrip().startswith("THEBES_")


def _without_newline(text: str) -> str:
    """Take off the one newline that editors and `echo` leave."""
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
