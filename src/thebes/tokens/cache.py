"""Verified tokens, kept so that a signature is checked once and not at each request.

Bounded, and kept by the exact bytes together with the keys that were in force: another text for the same
claims is verified by itself, and once a key is taken away, nothing that it verified counts. A hit still
checks the time.

Does not know of revocation: whoever asks must look that up for each request.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from thebes.tokens.claims import Claims, InvalidToken, Opened
from thebes.tokens.jws import as_bytes

# 2 KB each where little is granted: 20 MB. Only genuine tokens are kept, so a stranger fills nothing.
CACHED_TOKENS = 10_000

Keys = TypeVar("Keys")


class VerifiedTokens(Generic[Keys]):
    """The tokens that a verifier has opened, the least used forgotten first; threads may share it.

    Args:
        open_token: Returns what a token says that is genuine, or raises InvalidToken; errors aren't kept.
        max_bytes: A longer token is refused before anything else is done with it.
        size: How many tokens are kept.
    """

    __slots__ = ("_kept", "_max_bytes", "_open_token", "_size")

    def __init__(
        self, open_token: Callable[[bytes, Keys], Opened], *, max_bytes: int, size: int = CACHED_TOKENS
    ) -> None:
        self._open_token = open_token
        self._max_bytes = max_bytes
        self._size = size
        self._kept: OrderedDict[bytes, tuple[Opened, Keys]] = OrderedDict()

    def verify(self, token: str | bytes, keys: Keys, now: float | None) -> Claims:
        """Return the claims of a token that is genuine under these keys, and current.

        Args:
            keys: Told apart by what they are, not by what they hold: another object after each change.

        Raises:
            InvalidToken: Whatever is wrong.
        """
        if len(token) > self._max_bytes:
            raise InvalidToken("malformed")
        raw = token if isinstance(token, bytes) else as_bytes(token)
        try:
            (claims, earliest, latest), under = self._kept[raw]
            self._kept.move_to_end(raw)
        except KeyError:
            under = None
        if under is not keys:
            claims, earliest, latest = self._open(raw, keys)
        instant = time.time() if now is None else now
        if earliest <= instant < latest:
            return claims
        raise InvalidToken("expired" if instant >= latest else "not_yet")

    def holds(self, token: str | bytes, keys: Keys) -> bool:
        """Say whether a token was verified under these keys: then doing it again costs next to nothing."""
        kept = self._kept.get(as_bytes(token))
        return kept is not None and kept[1] is keys

    def __len__(self) -> int:
        return len(self._kept)

    def _open(self, raw: bytes, keys: Keys) -> Opened:
        opened = self._open_token(raw, keys)
        self._kept[raw] = opened, keys
        while len(self._kept) > self._size:
            with suppress(KeyError):  # another thread took the last one
                self._kept.popitem(last=False)
        return opened
