"""The passwords that everybody guesses first: a list in the package, loaded when the first one is judged.

It holds 43,000 entries of at least 15 characters and 41,000 of 8 to 14: collected from breaches, and for the
long ones also generated. `tools/common_passwords.py` makes it and names the sources. The whole password is
compared, after case folding: one that merely contains an entry passes (NIST SP 800-63B-4, 3.1.1.2).
"""

from __future__ import annotations

import gzip
import unicodedata
from array import array
from bisect import bisect_left
from functools import cache
from importlib.resources import files


class CommonPasswords:
    """The entries of at least a length. Threads may share it.

    Of each entry only a hash of 64 bits is kept: a third of a megabyte instead of five. A password that is
    not on the list is taken for one that is about once in 4 * 10**14 times.
    """

    def __init__(self, least_length: int) -> None:
        packed = (files("thebes.passwords") / "common.txt.gz").read_bytes()
        entries = gzip.decompress(packed).decode().splitlines()
        # Python's own hash has a key of this process, so nobody can aim at another entry's.
        self._hashes = array("q", sorted(hash(entry) for entry in entries if len(entry) >= least_length))

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, password: str) -> bool:
        wanted = hash(folded(password))
        place = bisect_left(self._hashes, wanted)
        return place < len(self._hashes) and self._hashes[place] == wanted


@cache
def common_passwords(least_length: int) -> CommonPasswords:
    """Return the list for a length policy, loaded once: some 0.05 s, so call it in a thread."""
    return CommonPasswords(least_length)


def folded(text: str) -> str:
    """Return a text so that two which differ in case or composition only are equal (Unicode 15, D145)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
