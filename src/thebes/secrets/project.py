"""Set a project up: files that keep secrets out of git and images first, the secrets themselves last.

Whatever is interrupted when, no secret lies in a file that git would take, and no line of an existing
file is lost: each file is written beside its place, synced, and put there in one step.

Does not protect: an `.env` that git already tracks (`sources.env_file_problems` says so); a file system
without modes.

Sources: OWASP Secrets Management Cheat Sheet; ASVS 11.5.1 (random source) and 13.3.1.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from thebes.encoding import encode, random_bytes, random_id
from thebes.errors import ConfigurationError
from thebes.secret import Secret
from thebes.secrets.scan import run_git
from thebes.secrets.sources import ENV_FILE
from thebes.secrets.strength import KEYS_VARIABLE, MIN_KEY_BYTES

STATE_DIRECTORY = ".thebes"
# Patterns for .gitignore: values, the state of development, keys and certificate stores (SEC-06).
IGNORED = (ENV_FILE, f"{STATE_DIRECTORY}/", "*.pem", "*.key", "*.p12", "*.pfx")

_KEYS_FILE = "secret_keys"
_HOOK_MARK = "# Made by `thebes secrets init`"
_HOOK_COMMAND = "python -m thebes secrets scan --staged"
# An assignment as python-dotenv reads it, at any of its three line ends. The last one in a file counts.
_ASSIGNMENT = re.compile(
    rb"(?:\A(?:\xef\xbb\xbf)?|(?<=[\r\n]))[ \t]*(?:export[ \t]+)?'?"
    + KEYS_VARIABLE.encode("ascii")
    + rb"'?[ \t]*=[ \t]*(?P<value>[^\r\n]*)"
)
_KEY_LIST = re.compile(rb"(?P<quote>['\"]?)(?P<keys>[A-Za-z0-9_:, -]*+)(?P=quote)[ \t]*(?:#.*)?")


@dataclass(frozen=True, slots=True)
class InitReport:
    """What `init_project` did; it holds no secret.

    Attributes:
        written: The files that were made or changed, in the order in which they were written.
        made: Names of settings that got a new value, or a new key in their list.
        kept: Names of settings that had a value and were not touched.
        key_ids: Ids of the new keys.
        notes: What was not done, and how to do it.
        hook_line: The line to add to a pre-commit hook that isn't ours; None when there is nothing to add.
    """

    written: tuple[Path, ...]
    made: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    key_ids: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    hook_line: str | None = None


def init_project(
    directory: Path, *, rotate: bool = False, pre_commit: bool = False, today: date | None = None
) -> InitReport:
    """Make what is missing: ignore files, then the hook if asked for, then `.env` with a strong value.

    An existing value is never replaced. Running it again changes nothing.

    Args:
        rotate: Append a new key to the list in `.env`: accepted everywhere, not yet in use (the first is).
        pre_commit: Install a git hook that scans what is staged.
        today: Names the new key; the date in UTC if None.

    Raises:
        ConfigurationError: `rotate`, but the value in `.env` isn't a plain list of keys on one line.
        OSError: A file can't be read or written. What was written before is complete and stays.
    """
    written = []
    if _cover(directory / ".gitignore", IGNORED, ""):
        written.append(directory / ".gitignore")
    if _wants_dockerignore(directory) and _cover(directory / ".dockerignore", IGNORED, "**/"):
        written.append(directory / ".dockerignore")
    hook, hook_line, notes = _install_hook(directory) if pre_commit else (None, None, ())
    if hook is not None:
        written.append(hook)
    key_id = _write_env(directory / ENV_FILE, rotate, today or datetime.now(UTC).date())
    if key_id is None:
        return InitReport(tuple(written), kept=(KEYS_VARIABLE,), notes=notes, hook_line=hook_line)
    return InitReport(
        (*written, directory / ENV_FILE),
        made=(KEYS_VARIABLE,),
        key_ids=(key_id,),
        notes=notes,
        hook_line=hook_line,
    )


def ensure_project_state(directory: Path) -> Path:
    """Return `.thebes/` in the project, made with mode 700, ignored by git and by image builds.

    Raises:
        OSError: It can't be made, or something else has its name.
    """
    state = directory / STATE_DIRECTORY
    state.mkdir(mode=0o700, exist_ok=True)
    _tighten(state, 0o700)
    # Its own ignore file: .thebes/ stays out of git even where the project has no .gitignore.
    _publish(state / ".gitignore", Secret("*\n"), mode=0o600, only_new=True)
    if _wants_dockerignore(directory):
        _cover(directory / ".dockerignore", [f"{STATE_DIRECTORY}/"], "**/")
    return state


def development_keys(state: Path) -> str:
    """Return the secret keys of this project's development, made at the first call.

    Processes that call it at once get the same text, since only one can put the file in its place.

    Args:
        state: What `ensure_project_state` returned.

    Raises:
        OSError: The file can't be read or made.
    """
    path = state / _KEYS_FILE
    if not path.exists():
        _, entry = _new_key(datetime.now(UTC).date(), taken=())
        _publish(path, Secret(entry.reveal() + b"\n"), mode=0o600, only_new=True)
    _tighten(path, 0o600)
    return path.read_text("ascii").strip()


# Contents are Secrets from here on: a full disk raises from these frames, and some tracebacks show locals.


def _new_key(today: date, *, taken: Collection[str]) -> tuple[str, Secret]:
    """Return id and entry of a new key of 256 random bits."""
    day = f"k{today:%Y%m%d}"
    key_id = next(one for one in (day, *(f"{day}-{n}" for n in range(2, len(taken) + 3))) if one not in taken)
    return key_id, Secret(f"{key_id}:{encode(random_bytes(MIN_KEY_BYTES))}")


def _write_env(path: Path, rotate: bool, today: date) -> str | None:
    """Give `.env` what it lacks; return the new key's id, or None when nothing was lacking."""
    if not path.exists():
        key_id, new = _appended(Secret(b""), today)
        if _publish(path, new, mode=0o600, only_new=True):
            return key_id
    _tighten(path, 0o600)
    old = Secret(path.read_bytes())
    place = _place_of_keys(old)
    if place is not None and not rotate:
        return None
    key_id, new = _appended(old, today) if place is None else _rotated(old, place, today)
    _publish(path, new, mode=0o600)
    return key_id


def _place_of_keys(content: Secret) -> slice | None:
    """Return where the value that counts stands, the last one that isn't empty."""
    places = [slice(*match.span("value")) for match in _ASSIGNMENT.finditer(content.reveal())]
    filled = [place for place in places if _listed(content, place) != ((), 0)]
    return filled[-1] if filled else None


def _listed(content: Secret, place: slice) -> tuple[tuple[str, ...], int] | None:
    """Return the ids in a value and how many bytes they and their keys take; None if it is no list."""
    match = _KEY_LIST.fullmatch(content.reveal()[place])
    if match is None:
        return None
    keys = match["keys"].rstrip(b" ,")
    ids = tuple(entry.partition(b":")[0].strip().decode("ascii") for entry in keys.split(b",") if keys)
    return ids, match.start("keys") + len(keys) if keys else 0


def _appended(old: Secret, today: date) -> tuple[str, Secret]:
    """Return the new key's id, and the old bytes with a line for it behind them."""
    key_id, entry = _new_key(today, taken=())
    newline = b"\r\n" if b"\r\n" in old.reveal() else b"\n"
    gap = b"" if not old or old.reveal().endswith((b"\n", b"\r")) else newline
    name = KEYS_VARIABLE.encode("ascii")
    return key_id, Secret(old.reveal() + gap + name + b"=" + entry.reveal() + newline)


def _rotated(old: Secret, place: slice, today: date) -> tuple[str, Secret]:
    """Return the new key's id, and the old bytes with its entry at the end of the list."""
    listed = _listed(old, place)
    if listed is None:
        raise ConfigurationError(
            f"{KEYS_VARIABLE} in .env isn't a plain list id:base64url,... on one line: write it as"
            " one, then run `thebes secrets init --rotate`"
        )
    taken, length = listed
    key_id, entry = _new_key(today, taken=taken)
    end = place.start + length
    return key_id, Secret(old.reveal()[:end] + b"," + entry.reveal() + old.reveal()[end:])


def _wants_dockerignore(directory: Path) -> bool:
    names = (".dockerignore", "Dockerfile", "Containerfile")
    return any((directory / name).exists() for name in names)


def _cover(path: Path, patterns: Iterable[str], prefix: str) -> bool:
    """Append the patterns that an ignore file lacks; say whether it was written.

    Args:
        prefix: `**/` for .dockerignore, whose bare patterns count in the top directory only.
    """
    old = path.read_bytes() if path.exists() else b""
    lines = [line.strip() for line in old.splitlines()]
    missing = [one for one in patterns if not _is_covered(f"{prefix}{one}".encode("ascii"), lines)]
    if not missing:
        return False
    gap = b"" if not old or old.endswith(b"\n") else b"\n"
    added = "".join(f"{prefix}{pattern}\n" for pattern in missing).encode("ascii")
    _publish(path, Secret(old + gap + added))
    return True


def _is_covered(pattern: bytes, lines: list[bytes]) -> bool:
    """Say whether the pattern stands there and no later line takes it back."""
    last = [line for line in lines if line in (pattern, b"!" + pattern)][-1:]
    return last == [pattern]


def _install_hook(directory: Path) -> tuple[Path | None, str | None, tuple[str, ...]]:
    """Return the hook that was written, or the line for one that isn't ours, and what to know."""
    question = ("--path-format=absolute", "--git-common-dir", "--git-path", "hooks")
    asked = run_git(directory, "rev-parse", *question)
    if asked is None or asked.returncode != 0:
        note = "no git repository here: run `git init`, then `thebes secrets init --pre-commit`"
        return None, None, (note,)
    own, hooks = (Path(os.fsdecode(line)) for line in asked.stdout.splitlines())
    path = hooks / "pre-commit"
    if not hooks.resolve().is_relative_to(own.resolve()):
        # core.hooksPath: the directory may serve other repositories, or be tracked in this one.
        return None, _HOOK_COMMAND, (f"git takes its hooks from {hooks}: add the line there",)
    script = _hook_script().encode()
    old = path.read_bytes() if path.exists() else b""
    if old and _HOOK_MARK.encode("ascii") not in old:
        return None, _HOOK_COMMAND, (f"{path} isn't ours: add the line to it",)
    if old == script:
        return None, None, ()
    hooks.mkdir(parents=True, exist_ok=True)
    _publish(path, Secret(script), mode=0o755)
    return path, None, ()


def _hook_script() -> str:
    # Git runs hooks outside the virtual environment, so the interpreter of now is tried first.
    return f"""#!/bin/sh
{_HOOK_MARK}: refuses commits that hold secrets.
command -v {shlex.quote(sys.executable)} >/dev/null && exec {shlex.quote(sys.executable)} -m thebes secrets scan --staged
exec {_HOOK_COMMAND}
"""  # noqa: E501 (a line of shell)


def _tighten(path: Path, mode: int) -> None:
    if stat.S_IMODE(path.stat().st_mode) & ~mode:
        path.chmod(mode)


def _publish(path: Path, content: Secret, *, mode: int | None = None, only_new: bool = False) -> bool:
    """Put a whole file in its place in one step; say whether it was put.

    Args:
        mode: Of the file from its first moment. None: as before, else what the umask allows.
        only_new: Leave a file that is there (True for no other process can win by being later).
    """
    target = path.resolve()
    # Should the process die now, the remains have a name that `*.key` in .gitignore covers.
    temporary = target.with_name(f"{target.name}.{random_id()}.key")
    before = target.stat() if target.exists() else None
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    descriptor = os.open(temporary, flags, 0o666 if mode is None else mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.reveal())
            file.flush()
            os.fsync(file.fileno())
        if before is not None:
            _keep_attributes(temporary, before, mode)
        is_put = _put(temporary, target, only_new)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(target.parent)
    return is_put


def _put(temporary: Path, target: Path, only_new: bool) -> bool:
    if not only_new:
        temporary.replace(target)
        return True
    try:
        target.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError:
        # A file system without hard links: a moment remains in which two processes may both write.
        if target.exists():
            return False
        temporary.replace(target)
    return True


def _keep_attributes(temporary: Path, before: os.stat_result, mode: int | None) -> None:
    if mode is None:
        temporary.chmod(stat.S_IMODE(before.st_mode))
    if hasattr(os, "chown") and before.st_uid != temporary.stat().st_uid:
        # `sudo thebes secrets init` must not take the file from its owner.
        os.chown(temporary, before.st_uid, before.st_gid)


def _sync_directory(directory: Path) -> None:
    """Make the new name outlast a power cut; only POSIX can open a directory."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
