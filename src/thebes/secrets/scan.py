"""Find secrets in what is about to be committed.

Protects against the commit by mistake: `.env` files, private keys, tokens whose form is public, passwords
in URLs. Does not protect against secrets without a form of their own, files above `MAX_BLOB_BYTES`, or
`git commit --no-verify`. A secret that was committed once is in the history: make a new one.

Every pattern has bounded repetitions only, so a hostile file costs linear time.

Sources: GitHub's and AWS's published token formats; RFC 7468 (PEM labels); OWASP Secrets Management.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from thebes.errors import ConfigurationError
from thebes.secrets.strength import SAMPLE_KEYS

GIT_TIMEOUT_SECONDS = 30.0  # a cold index of a large repository takes some seconds
MAX_BLOB_BYTES = 16 * 1024 * 1024  # text that people write is smaller; larger files aren't read


@dataclass(frozen=True, slots=True)
class Finding:
    """One likely secret, shown only by its public beginning.

    Attributes:
        path: The file, from the top of the repository; odd characters are escaped.
        line: Counted from 1.
        kind: What it seems to be.
        shown: The part that identifies it without giving it away, then `****`.
    """

    path: str
    line: int
    kind: str
    shown: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind} {self.shown}"


# Each pattern has a group `shown` (public) and a group `value` (judged, never shown).
_PATTERNS = (
    # Our keys: by their variable's name, or by the ids that `thebes secrets init` gives.
    (
        "secret key",
        rb"(?:THEBES_SECRET_KEYS[^A-Za-z0-9\n]{1,20}|(?<![A-Za-z0-9_-])(?=k20\d{6}))"
        rb"(?P<shown>[A-Za-z0-9_-]{1,32}:)(?P<value>[A-Za-z0-9_-]{43,2048})",
    ),
    # With the beginning of its base64 (Proc-Type, Version and quotes may stand between): a test that merely
    # names the label passes. The value is looked at, not taken, so that a second label inside is found too.
    (
        "private key",
        rb"(?P<shown>-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----)"
        rb"(?=[\s\S]{0,200}?(?P<value>[A-Za-z0-9+/]{32}))",
    ),
    # AWS IAM: AKIA for long-term keys, ASIA for temporary ones, then 16 characters of base32.
    (
        "AWS access key id",
        rb"(?<![A-Za-z0-9])(?P<shown>AKIA|ASIA)(?P<value>[A-Z2-7]{16})(?![A-Za-z0-9])",
    ),
    (
        "GitHub token",
        rb"(?<![A-Za-z0-9_])(?:(?P<shown>gh[pousr]_)(?P<value>[A-Za-z0-9]{36,255})"
        rb"|(?P<shown2>github_pat_)(?P<value2>[A-Za-z0-9_]{82}))",
    ),
    (
        "Slack token",
        rb"(?<![A-Za-z0-9])(?P<shown>xox[abeoprs]-|xapp-)(?P<value>[0-9][A-Za-z0-9-]{19,255})",
    ),
    (
        "password in a URL",
        rb"(?<![A-Za-z0-9+.-])(?P<shown>[A-Za-z][A-Za-z0-9+.-]{1,20}://)"
        rb"[^\s/:@\"'<>`]{0,64}:(?P<value>[^\s/@\"'<>`]{3,256})@[A-Za-z0-9\[]",
    ),
)
_COMPILED = tuple((kind, re.compile(pattern)) for kind, pattern in _PATTERNS)

# What documentation writes where a password stands: `${PASSWORD}`, `{password}`, `%s`, `****`, `password`.
_PLACEHOLDER = re.compile(
    rb"[$%{\[(].*|[*.xX]+|(?:your[-_]?)?(?:password|passwd|pass|pwd|secret|token|changeme)",
    re.IGNORECASE | re.DOTALL,
)
_TEMPLATE_SUFFIXES = (".example", ".sample", ".template", ".dist")
_AWS_DOCUMENTATION = b"EXAMPLE"  # AKIAIOSFODNN7EXAMPLE and its like
_SAMPLES = frozenset(sample.encode() for sample in SAMPLE_KEYS)


def scan_staged(directory: Path) -> list[Finding]:
    """Return what looks like a secret in the files that the next commit adds or changes.

    Args:
        directory: Any directory of the repository; all of the index is looked at.

    Raises:
        ConfigurationError: git is missing, failed, or the directory isn't in a repository.
    """
    return [
        finding
        for path, blob in _staged_blobs(directory)
        for finding in scan_bytes(path, _git(directory, "cat-file", "blob", blob))
    ]


def scan_bytes(path: str, data: bytes) -> list[Finding]:
    """Return what looks like a secret in one file, by line; one finding a line and kind.

    Args:
        path: Its name, relative and with slashes: an `.env` file is a finding whatever it holds.
    """
    shown_path = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in path)
    found = {(1, ".env file"): "****"} if _is_env_file(path) and data.strip() else {}
    for kind, pattern in _COMPILED:
        line, position = 1, 0
        for match in pattern.finditer(data):
            shown, value = _parts(match)
            if _is_sample(value):
                continue
            line += data.count(b"\n", position, match.start())
            position = match.start()
            found.setdefault((line, kind), f"{shown.decode('ascii')}****")
    return [Finding(shown_path, line, kind, text) for (line, kind), text in sorted(found.items())]


def run_git(
    directory: Path, *arguments: str, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes] | None:
    """Run git with a list of arguments, no shell; None when git is missing or takes too long.

    The repository's own `core.fsmonitor`, a program that git would start, is switched off.
    """
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(directory), "-c", "core.fsmonitor=false", *arguments]
    try:
        return subprocess.run(  # noqa: S603 (a list, no shell; the program is the user's git)
            command, input=stdin, capture_output=True, timeout=GIT_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _git(directory: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    result = run_git(directory, *arguments, stdin=stdin)
    if result is None:
        raise ConfigurationError("git is missing or does not answer: install it, or run `git fsck`")
    if result.returncode != 0:
        raise ConfigurationError(f"git failed in {directory}: run `git status` there to see why")
    return result.stdout


def _staged_blobs(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield path and object id of each staged file that isn't too large to read."""
    options = ("--raw", "--no-abbrev", "-z", "--no-color", "--no-renames", "--no-relative")
    raw = _git(directory, "diff", "--cached", *options, "--ignore-submodules", "--diff-filter=ACMRT")
    fields = raw.decode("utf-8", "surrogateescape").split("\0")
    # ":100644 100644 <old id> <new id> M", then the path; the last field is empty.
    paths_of: dict[str, list[str]] = {}
    for entry, path in zip(fields[0::2], fields[1::2], strict=False):
        paths_of.setdefault(entry.split(" ")[3], []).append(path)
    ids = "".join(f"{blob}\n" for blob in paths_of).encode("ascii")
    sizes = _git(directory, "cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=ids)
    for line in sizes.decode("ascii").splitlines():
        blob, size = line.split(" ")
        if size.isdigit() and int(size) <= MAX_BLOB_BYTES:
            yield from ((path, blob) for path in paths_of[blob])


def _is_env_file(path: str) -> bool:
    name = PurePosixPath(path).name
    is_template = name.endswith(_TEMPLATE_SUFFIXES)
    return name == ".env" or (name.startswith(".env.") and not is_template)


def _parts(match: re.Match[bytes]) -> tuple[bytes, bytes]:
    groups = match.groupdict()
    if groups["shown"] is None:
        return groups["shown2"], groups["value2"]
    return groups["shown"], groups["value"]


def _is_sample(value: bytes) -> bool:
    return (
        value in _SAMPLES or value.endswith(_AWS_DOCUMENTATION) or _PLACEHOLDER.fullmatch(value) is not None
    )
