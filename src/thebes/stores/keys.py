"""What is kept of a signing key, and the verbs by which its rotation goes on.

A row holds the private key, sealed: whoever reads the database signs nothing. The key's id, algorithm,
status and validity are bound to the seal, so that whoever writes into the database can't bring a retired key
back to life or pass one off as another. Hence each verb that changes them is given the newly sealed text, and
the text that the caller has read: it does nothing where the row is another by now (compare and swap). No verb
merely sets a row.

Sources: ASVS 5.0.0, 11.2.2 and 13.3.4; TOK-41, SEC-09.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

KeyState = Literal["published", "promoted", "retired"]


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One signing key. Instants are seconds since the epoch, and come back exactly as they were given.

    Attributes:
        kid: Random; it stands in the tokens and in the published set.
        alg: The one algorithm that the key is for, as JOSE calls it.
        status: `published`: verifies everywhere, signs nothing yet. `promoted`: the one promoted last signs,
            the others verify. `retired`: verifies until `retire_at`.
        created_at: When it was made.
        promoted_at: When it came into use; None before that.
        retire_at: From when on it verifies nothing; None while that isn't decided.
        sealed: The private key, sealed with all of the above bound to it.
    """

    kid: str
    alg: str
    status: KeyState
    created_at: float
    promoted_at: float | None
    retire_at: float | None
    sealed: str


class KeyStore(Protocol):
    """The signing keys of one service. Each verb is atomic, whoever else uses the store at the same time.

    Raises:
        StoreUnavailable: By any verb, when the store can't be asked.
    """

    async def insert_first(self, key: StoredKey) -> StoredKey:
        """Keep the key if the store holds none at all, and return the oldest key that it holds then.

        Of workers that start at the same time with an empty store, all are answered with the same key.
        """
        ...

    async def publish(self, key: StoredKey) -> None:
        """Keep a further key, whose status is `published`.

        Raises:
            ValueError: The status isn't `published`, or a key with this id `is there`, in these words.
        """
        ...

    async def promote(self, kid: str, *, was: str, sealed: str, now: float) -> bool:
        """Make a published key `promoted`, with `promoted_at` = now and the new sealed text.

        Args:
            was: The sealed text that the row must still hold.

        Returns:
            False, and nothing happened: no such key, its status isn't `published`, or it changed meanwhile.
        """
        ...

    async def retire(self, kid: str, *, was: str, sealed: str, retire_at: float) -> bool:
        """Make a key `retired`, with this `retire_at` and the new sealed text; a retired one gets a new end.

        Args:
            was: The sealed text that the row must still hold.

        Returns:
            False, and nothing happened: no such key, it changed meanwhile, or no *other* key is `promoted`:
            the service never loses its last key to sign with.
        """
        ...

    async def reseal(self, kid: str, *, was: str, sealed: str) -> bool:
        """Replace the sealed text alone, made under another master key.

        Args:
            was: The sealed text that the row must still hold.

        Returns:
            False, and nothing happened: no such key, or it changed meanwhile.
        """
        ...

    async def keys(self) -> Sequence[StoredKey]:
        """Return all keys, the oldest first (`created_at`, then `kid`)."""
        ...
