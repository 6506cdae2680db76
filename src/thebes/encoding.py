"""Bytes as text and back, comparison in constant time, and the one place that makes random values.

Sources: RFC 4648 section 5 (base64url), here always without padding; OWASP ASVS 11.5.1 (128 bits and more).
"""

from __future__ import annotations

import binascii
import os
import time
from base64 import urlsafe_b64encode
from typing import Any

# ASVS 11.5.1 asks for 128 bits. 144 are 24 characters of base64url with no padding to cut.
IDENTIFIER_BYTES = 18


def encode(raw: bytes) -> str:
    """Return base64url without padding.

    >>> encode(b"gate")
    'Z2F0ZQ'
    """
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes behind canonical base64url without padding.

    Raises:
        ValueError: Another alphabet, padding, an impossible length, or trailing bits that aren't zero
            (two texts for the same bytes would let one value pass as two).
    """
    try:
        raw = binascii.a2b_base64(
            text.encode("ascii").translate(_TO_STANDARD) + b"=" * (-len(text) % 4), strict_mode=True
        )
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64url") from error
    if encode(raw) != text:
        raise ValueError("not canonical base64url")
    return raw


def with_each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of a JSON object: the `object_pairs_hook` of a strict reading (RFC 8259, 4).

    Raises:
        ValueError: A name occurs twice, so that two readers could see two values.
    """
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name occurs twice in one object")
    return members


def is_equal(expected: bytes, given: bytes) -> bool:
    """Compare without telling by the time taken where the two differ."""
    import hmac  # noqa: PLC0415 - loads OpenSSL's hashes, which importing an app doesn't need

    return hmac.compare_digest(expected, given)


def random_id() -> str:
    """Return a new identifier of 144 random bits, 24 characters of base64url."""
    return encode(random_bytes(IDENTIFIER_BYTES))


def uuid7(now: float | None = None) -> str:
    """Return a UUID of version 7: sortable by time of making, never a secret (RFC 9562, 5.7).

    Args:
        now: Seconds since the epoch; the system clock if None.
    """
    milliseconds = int((time.time() if now is None else now) * 1000) & (1 << 48) - 1
    chance = int.from_bytes(random_bytes(10), "big")
    value = milliseconds << 80 | 7 << 76 | (chance >> 68) << 64 | 2 << 62 | chance & (1 << 62) - 1
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def random_bytes(count: int) -> bytes:
    """Return `count` bytes from the operating system's random source (what `secrets` takes too)."""
    return os.urandom(count)


# The standard alphabet's own characters map to one that no alphabet has, so that they are refused.
_TO_STANDARD = bytes.maketrans(b"-_+/=", b"+/???")
