"""A keyring for one purpose: what a room is given that knows of no other purposes.

Rooms don't import one another. One that needs MACs or seals names a Protocol with the verbs it uses, and this
meets it. So whoever joins the rooms decides which key serves which, and no room can ask for another's key.

Does not protect: a key that was given out for the wrong purpose by whoever joins the rooms.
"""

from __future__ import annotations

from dataclasses import dataclass

from thebes.secret import Secret
from thebes.secrets.keyring import Keyring, Purpose, sealed_under


@dataclass(frozen=True, slots=True)
class BoundKeys:
    """The verbs of `Keyring` for one purpose; what is said there of errors holds here.

    >>> from thebes.secrets.strength import SecretKey
    >>> keyring = Keyring((SecretKey("k1", Secret(bytes(range(32)))),))
    >>> keys = BoundKeys(keyring, Purpose.CSRF)
    >>> key_id, tag = keys.mac(b"session 7")
    >>> keys.verify(key_id, b"session 7", tag)
    True

    Attributes:
        keyring: Holds the keys.
        purpose: The only one that these verbs serve.
    """

    keyring: Keyring
    purpose: Purpose

    @property
    def in_use(self) -> str:
        """The id of the key under which new values are made."""
        return self.keyring.in_use

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all keys that count, the one in use first."""
        return tuple(status.id for status in self.keyring.statuses())

    def mac(self, message: bytes) -> tuple[str, bytes]:
        """Return the id of the key in use, and the message's HMAC-SHA256 under it."""
        return self.keyring.mac(self.purpose, message)

    def verify(self, key_id: str, message: bytes, tag: bytes) -> bool:
        """Say whether `mac` made the tag; False too for a key that isn't on the list."""
        return self.keyring.verify(self.purpose, key_id, message, tag)

    def seal(self, plaintext: bytes, associated_data: bytes, *, salt: bytes = b"") -> str:
        """Encrypt under the key in use, bound to an owner."""
        return self.keyring.seal(self.purpose, plaintext, associated_data, salt=salt)

    def open(self, sealed: str, associated_data: bytes, *, salt: bytes = b"") -> bytes:
        """Return what was sealed for this owner."""
        return self.keyring.open(self.purpose, sealed, associated_data, salt=salt)

    def is_current(self, sealed: str) -> bool:
        """Say whether a sealed value names the key in use; others must be sealed again before theirs goes."""
        return sealed_under(sealed) == self.keyring.in_use

    def derived(self, key_id: str | None = None) -> Secret:
        """Return the purpose's key itself, for a room that must compute with it."""
        return self.keyring.derived(self.purpose, key_id)
