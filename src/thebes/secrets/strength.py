"""Read the list of secret keys, and refuse keys that were not made by a random source.

Protects against short keys, typed passphrases, patterns, sample values copied from documentation, and
one value for two purposes. Does not protect against a key that looks random and isn't secret: nobody can
measure that.

Sources: ASVS 5.0.0, 11.2.3 (128 bits of security) and 13.2.3 (no default secrets); RFC 2104, section 3
(keys shorter than the hash output are discouraged).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from thebes.encoding import decode, encode
from thebes.errors import ConfigurationError
from thebes.secret import Secret

KEYS_VARIABLE = "THEBES_SECRET_KEYS"
MIN_KEY_BYTES = 32  # SEC-02; the output of SHA-256 (RFC 2104)
KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")  # no character that ends a field of a token, cookie or log line
MAX_KEY_BYTES = 1024  # far above any real key; keeps the pattern search below a millisecond
# 128 bits (ASVS 11.2.3) over the 32 bytes of the shortest key. Of 32 random bytes fewer than 1 in 6e10 show
# less: summed exactly over all ways in which 32 bytes can coincide, P(H < 4.0) = 1.46e-11. At 4.5 bits per
# byte it would be 1.4e-4, a false alarm every 7,000 keys. Longer keys lie lower still.
MIN_BITS_PER_BYTE = 4.0
# A typed phrase is letters of one case, mostly, between dashes; each case has 26 of 62 letters and digits.
# 32 bytes are 43 characters, the last of which isn't free: summed over the number of dashes, P < 6.5e-8.
MAX_SHARE_OF_ONE_CASE = 5 / 6
# All bytes printable ASCII: (95/256)**32 = 1.7e-14. Patterns: half of the values would have to repeat the
# other half, below 1e-36. All rules together: a random key is refused with P < 7e-8.

# Values that were printed somewhere. The first is the one that our documentation shows.
SAMPLE_KEYS = (
    "BFqfbg0xaNQKUzCe4Jssd2zNFrTmrG_4P__vHTOkrgg",
    # RFC 7515, A.1.1: the HS256 example
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    # FastAPI, tutorial on OAuth2 with JWT: thousands of public repositories hold it
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    # Flask, configuration handling, SECRET_KEY
    "192b9bdd22ab9ed4d12e236c78afcb9a393ec15f71bbf5dc987d54727823bcbf",
)

_HEX = re.compile(r"(?:[0-9a-f]{2}){32,}|(?:[0-9A-F]{2}){32,}")
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_MEND = "make a new one with `thebes secrets init --rotate`"
# What shorter values look like says nothing, and they occur inside others by chance: too short anyway.
_MIN_JUDGED_BYTES = 16


@dataclass(frozen=True, slots=True)
class SecretKey:
    """One key of the list: its public id, which stands in tokens, and its secret bytes."""

    id: str
    value: Secret


def parse_secret_keys(text: str) -> tuple[SecretKey, ...]:
    """Return the keys of `id:base64url,id:base64url`, in their order; the first is the one in use.

    Spaces around an entry are forgiven. Neither the errors nor the frames that raise them hold the text.

    Raises:
        ConfigurationError: One sentence for each entry that is wrong, by its position.
    """
    entries = [_entry(piece.strip(" \t")) for piece in text.strip().split(",")]
    is_blank = not text.strip()
    del text
    if is_blank:
        raise ConfigurationError(f"{KEYS_VARIABLE} is empty: run `thebes secrets init`")
    problems = [
        f"entry {position} of {KEYS_VARIABLE} {entry}"
        for position, entry in enumerate(entries, start=1)
        if isinstance(entry, str)
    ]
    keys = tuple(entry for entry in entries if isinstance(entry, SecretKey))
    if len({key.id for key in keys}) < len(keys):
        problems.append(f"two entries of {KEYS_VARIABLE} have the same id: give each its own")
    if problems:
        raise ConfigurationError(*problems)
    return keys


def _entry(piece: str) -> SecretKey | str:
    """Return the key, or what is wrong with it: in words that can't hold a part of a misplaced secret."""
    key_id, colon, encoded = piece.partition(":")
    if not colon:
        return "has no key id: write id:base64url, or run `thebes secrets init`"
    if not KEY_ID.fullmatch(key_id):
        return "has an id that isn't 1 to 32 of A-Z a-z 0-9 _ -"
    try:
        value = decode(encoded)
    except ValueError:
        return "has a value that isn't base64url without padding: run `thebes secrets init`"
    if not 0 < len(value) <= MAX_KEY_BYTES:
        return f"has a value of {len(value)} bytes, allowed are {MIN_KEY_BYTES} to {MAX_KEY_BYTES}"
    return SecretKey(key_id, Secret(value))


def strength_problems(keys: Sequence[SecretKey], *, other_values: Mapping[str, str]) -> list[str]:
    """Say which keys must not protect anything (SEC-02).

    Args:
        other_values: The other environment variables by name (`THEBES_SECRET_KEYS` itself is skipped).

    Returns:
        One sentence a problem, naming key id and command; never the value.
    """
    return [
        f"secret key {key.id!r} {problem}: {_MEND}"
        for position, key in enumerate(keys)
        for problem in [
            *_weaknesses(key.value.reveal()),
            *_shared(key, keys[:position], other_values),
        ]
    ]


def _weaknesses(value: bytes) -> list[str]:
    problems = []
    if len(value) < MIN_KEY_BYTES:
        problems.append(f"is {len(value)} bytes long, at least {MIN_KEY_BYTES} are needed")
    if value in _SAMPLES:
        problems.append("is a sample value from published documentation")
    if len(value) >= _MIN_JUDGED_BYTES:
        problems += _visible_order(value, encode(value))
    return problems


def _visible_order(value: bytes, text: str) -> list[str]:
    """Return the one sentence that says best why the bytes don't look random."""
    if _is_patterned(value, 256) or _is_patterned([_ALPHABET.index(one) for one in text], 64):
        return ["repeats or counts, a random value does neither"]
    if all(0x20 <= byte < 0x7F for byte in value) or _looks_typed(text):
        return ["looks like typed text, not like random bytes"]
    bits = bits_per_byte(value)
    if len(value) >= MIN_KEY_BYTES and bits < MIN_BITS_PER_BYTE:
        return [f"shows {bits:.1f} bits of entropy a byte, {MIN_BITS_PER_BYTE} are the least"]
    return []


def bits_per_byte(value: bytes) -> float:
    """Return the Shannon entropy of the bytes' own frequencies, 0 to 8 bits; n bytes show at most log2(n).

    >>> bits_per_byte(bytes(32)), bits_per_byte(bytes(range(32)))
    (0.0, 5.0)
    """
    count = len(value)
    return math.log2(count) - sum(n * math.log2(n) for n in Counter(value).values()) / count


def _is_patterned(values: Sequence[int], modulus: int) -> bool:
    """Say whether the values, or the steps between them, repeat with a period of at most half."""
    steps = [(b - a) % modulus for a, b in pairwise(values)]
    return _repeats(values) or _repeats(steps)


def _repeats(values: Sequence[int]) -> bool:
    count = len(values)
    return any(values[p:] == values[:-p] for p in range(1, count // 2 + 1))


def _looks_typed(text: str) -> bool:
    """Judge the base64url text itself: a passphrase in its alphabet decodes to bytes that look random."""
    if _HEX.fullmatch(text):
        return False  # `openssl rand -hex 32` in the place of base64url: one case, yet 256 bits
    text = text.replace("-", "").replace("_", "")
    cases = (sum(map(str.islower, text)), sum(map(str.isupper, text)))
    return max(cases) > MAX_SHARE_OF_ONE_CASE * len(text)


def _shared(key: SecretKey, earlier: Sequence[SecretKey], other_values: Mapping[str, str]) -> list[str]:
    twins = [f"has the same value as key {o.id!r}" for o in earlier if o.value == key.value]
    names = [name for name, text in other_values.items() if _holds(text, key.value.reveal())]
    return twins + [f"is also used in {name}" for name in sorted(names) if name != KEYS_VARIABLE]


def _holds(text: str, value: bytes) -> bool:
    """Say whether the text holds the key in a form that people write: base64, base64url, hex or as it is."""
    if len(value) < _MIN_JUDGED_BYTES:
        return False
    url_safe, as_it_is = encode(value), value.decode("utf-8", "surrogateescape")
    forms = (url_safe, url_safe.replace("-", "+").replace("_", "/"), as_it_is)
    return any(form in text for form in forms) or value.hex() in text.lower()


def _forms(sample: str) -> set[bytes]:
    """Return the keys that a printed sample may become: decoded, as hex, or its characters."""
    is_hex = _HEX.fullmatch(sample) is not None
    return {decode(sample), sample.encode(), *([bytes.fromhex(sample)] if is_hex else [])}


_SAMPLES = frozenset().union(*map(_forms, SAMPLE_KEYS))
