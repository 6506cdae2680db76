"""Hash passwords, verify them against whatever was stored, and judge new ones: the room's face.

Every public method turns the password into a `Secret` first and drops the text, so that an error report which
shows the locals of our frames shows no password.

Sources: ASVS 5.0.0, 6.2, 6.3.8, 11.4; NIST SP 800-63B-4, 3.1.1.2; OWASP Password Storage Cheat Sheet.
"""

from __future__ import annotations

import asyncio
import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol

from thebes.encoding import encode, random_bytes
from thebes.errors import ConfigurationError, ThebesError
from thebes.facts import Mode
from thebes.passwords.breaches import BreachesUnavailable
from thebes.passwords.common import common_passwords
from thebes.passwords.costs import (
    BCRYPT_KEY_BYTES,
    SALT_BYTES,
    Cost,
    Preset,
    chosen_cost,
    digest_length,
    new_salt,
    takes_whole,
)
from thebes.passwords.formats import FAST_HASHES, FastHash, Stored, Wrapping, read, write
from thebes.passwords.lanes import Lanes
from thebes.passwords.policy import (
    GREATEST_MAX_LENGTH,
    PasswordPolicy,
    Reason,
    Refusal,
    is_of_context,
    refusal,
)
from thebes.secret import Secret

# A code point of NFC is typed as at most four (Unicode Standard Annex 15, table 4). Sorting marks takes the
# square of the length, so what is longer is never composed.
MOST_TYPED_FOR_ONE = 4
MAX_FAST_SALT_BYTES = 128

Event = Literal["breaches_unavailable", "password_hash_unreadable", "pepper_key_unknown"]


class Report(Protocol):
    """What is called when something is wrong that no answer may tell."""

    def __call__(self, event: Event, *, reason: str) -> None:
        """Record it. The reason holds nothing of a password or hash."""


class Pepper(Protocol):
    """Keys outside the database, for HMAC-SHA-256 before the hash. It is called from several threads."""

    @property
    def in_use(self) -> str:
        """The id of the key for new hashes: 1 to 32 of A-Z a-z 0-9 _ -."""

    def mac(self, message: bytes) -> tuple[str, bytes]:
        """Return the id of the key in use, and the message's HMAC-SHA-256 under it."""

    def mac_with(self, key_id: str, message: bytes) -> bytes | None:
        """Return the message's HMAC-SHA-256 under a key in use or accepted, None if there is none such."""


class PasswordTooLong(ThebesError):
    """A password is longer than may be hashed, and is never cut; `judge` would have refused it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification came to.

    Attributes:
        new_hash: To be stored in place of the old one, in the same request: the password matched, and the
            stored string is of another function or cost, of an old pepper, or was brought along. Else None.
    """

    is_match: bool
    new_hash: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _Typed:
    """A password as UTF-8: composed (NFC), and as it was typed where that differs."""

    forms: tuple[Secret, ...]
    length: int

    @property
    def composed(self) -> Secret:
        return self.forms[0]


class Passwords:
    """Hash and verify in lanes beside the event loop, and judge what may be set.

    Args:
        cost: Of new hashes: a preset, or a function with its parameters above OWASP's floors.
        lanes: Where the work is done; those of a single worker on this machine if None.
        pepper: Keys for an HMAC before the hash; none if None.
        policy: What is asked of new passwords; NIST's values if None.
        mode: The preset `test` is for test mode alone.
        report: Called when a source of breaches is away, a stored string can't be read, or a pepper's key
            is missing.

    Raises:
        ConfigurationError: A cost below the floors, a preset that isn't for this mode, or too little memory.
    """

    def __init__(
        self,
        *,
        cost: Preset | Cost = "64MiB",
        lanes: Lanes | None = None,
        pepper: Pepper | None = None,
        policy: PasswordPolicy | None = None,
        mode: Mode = Mode.PRODUCTION,
        report: Report | None = None,
    ) -> None:
        self.cost: Cost = chosen_cost(cost, mode)
        self.lanes = Lanes.of_worker(self.cost) if lanes is None else lanes
        self.policy = PasswordPolicy() if policy is None else policy
        self._pepper = pepper
        self._report = report

    async def hash(self, password: str, *, is_known_device: bool = False) -> str:
        """Return the string to store for a password that was judged.

        Raises:
            PasswordTooLong: Longer than the policy allows, or than bcrypt takes.
            LanesBusy: Too many wait.
        """
        typed = _typed(password, self.policy.max_length)
        del password
        if typed is None or not takes_whole(self.cost, typed.composed):
            raise PasswordTooLong("a password is longer than may be hashed")
        return await self.lanes.run(partial(self._hash, typed.composed), is_known_device=is_known_device)

    async def verify(self, password: str, stored: str | None, *, is_known_device: bool = False) -> Verdict:
        """Say whether a password is the one that was hashed, and return a better hash where there is one.

        Without a stored string, or with one that can't be read, a password is verified against a decoy of
        the same function and cost, so that the time tells nobody which accounts exist.

        Args:
            stored: What was stored for the account; None if there is no account or no password.

        Raises:
            LanesBusy: Too many wait.
        """
        # Not the policy's length: a hash that was brought along may be of a longer password.
        typed = _typed(password, GREATEST_MAX_LENGTH)
        del password
        if typed is None:
            return Verdict(is_match=False)  # whoever's account it is
        known = self._openable(stored) or self._decoy()
        return await self.lanes.run(
            partial(self._verify, typed, known),
            is_known_device=is_known_device,
            is_oversized=known.cost.memory_kib > self.cost.memory_kib,
        )

    async def judge(self, password: str, *, context: Sequence[str] = ()) -> Refusal | None:
        """Return why a password may not be set, None if it may.

        Args:
            context: Whose it will be: email address, user name, display name.

        Raises:
            BreachesUnavailable: The policy is strict, and breached passwords can't be looked up.
        """
        typed = _typed(password, self.policy.max_length)
        del password
        if typed is None:
            return refusal("too_long", self.policy)
        if not takes_whole(self.cost, typed.composed):
            return Refusal("too_long", f"Use at most {BCRYPT_KEY_BYTES} bytes, as many letters from A to Z.")
        if typed.length < self.policy.min_length:
            return refusal("too_short", self.policy)
        reason = await asyncio.to_thread(self._listed, typed.composed, (*self.policy.context, *context))
        if reason is None and await self._is_breached(typed.composed):
            reason = "breached"
        return None if reason is None else refusal(reason, self.policy)

    async def wrap_fast_hash(
        self, digest: str, *, algorithm: FastHash, salt: str | bytes = b"", is_salt_last: bool = False
    ) -> str:
        """Return the string to store in place of a fast hash, without its password being known.

        At the owner's next sign-in `verify` returns a hash of the password itself.

        Args:
            digest: Hexadecimal digits of the fast hash of salt and password.
            salt: What was hashed with the password; text counts as UTF-8.
            is_salt_last: The salt stood behind the password.

        Raises:
            ConfigurationError: No digest of this algorithm, a salt of over 128 bytes, or bcrypt with a
                digest that it would cut.
            LanesBusy: Too many wait.
        """
        raw = salt.encode() if isinstance(salt, str) else salt
        if algorithm not in FAST_HASHES or len(raw) > MAX_FAST_SALT_BYTES:
            raise ConfigurationError(
                f"fast hashes are {', '.join(FAST_HASHES)}, with salts of up to 128 bytes"
            )
        length = 2 * hashlib.new(algorithm, usedforsecurity=False).digest_size
        inner = Secret(digest.lower())
        if len(inner) != length or not _is_hexadecimal(inner):
            raise ConfigurationError(f"not a digest of {algorithm}: {length} hexadecimal digits are needed")
        if self._pepper is None and not takes_whole(self.cost, inner):
            raise ConfigurationError(f"bcrypt would cut a digest of {algorithm}: choose another cost")
        wrapping = Wrapping(algorithm, raw, is_salt_last)
        return await self.lanes.run(partial(self._hash, inner, wrapping))

    async def close(self) -> None:
        """Take nothing more, and wait until what was taken is done."""
        await self.lanes.close()

    def _openable(self, stored: str | None) -> Stored | None:
        """Return what a stored string says, None where no password could match it."""
        if stored is None:
            return None
        known = read(stored)
        if known is None:
            self._tell("password_hash_unreadable", "malformed")
        elif known.key_id is not None and not self._has_key(known.key_id):
            self._tell("pepper_key_unknown", known.key_id)
            return None
        return known

    def _has_key(self, key_id: str) -> bool:
        return self._pepper is not None and self._pepper.mac_with(key_id, b"") is not None

    def _decoy(self) -> Stored:
        """Return a hash of nothing, of the cost and under the key of a new one: a random digest."""
        digest = random_bytes(digest_length(self.cost))
        key_id = None if self._pepper is None else self._pepper.in_use
        return Stored(self.cost, new_salt(self.cost), digest, key_id=key_id)

    def _tell(self, event: Event, reason: str) -> None:
        if self._report is not None:
            self._report(event, reason=reason)

    # Below here: in a lane.

    def _hash(self, secret: Secret, wrapping: Wrapping | None = None) -> str:
        key_id = None
        if self._pepper is not None:
            key_id, tag = self._pepper.mac(secret.reveal())
            secret = Secret(encode(tag))  # text: bcrypt would end at a zero byte
        salt = new_salt(self.cost)
        digest = self.cost.derive(secret, salt, digest_length(self.cost))
        return write(Stored(self.cost, salt, digest, wrapping=wrapping, key_id=key_id))

    def _verify(self, typed: _Typed, stored: Stored) -> Verdict:
        # Hashes that were brought along may be of a password that nobody composed: then as it was typed.
        for form in typed.forms:
            if self._matches(stored, form):
                is_current = form is typed.composed and self._is_current(stored)
                can_be_new = not is_current and takes_whole(self.cost, typed.composed)
                return Verdict(is_match=True, new_hash=self._hash(typed.composed) if can_be_new else None)
        return Verdict(is_match=False)

    def _matches(self, stored: Stored, secret: Secret) -> bool:
        if stored.wrapping is not None:
            secret = stored.wrapping.digest(secret)
        if stored.key_id is not None:
            tag = None if self._pepper is None else self._pepper.mac_with(stored.key_id, secret.reveal())
            if tag is None:  # retired since `_openable` asked
                return False
            secret = Secret(encode(tag))
        return stored.matches(secret)

    def _is_current(self, stored: Stored) -> bool:
        """Say whether a hash is as a new one would be. A higher cost isn't: it would tell accounts apart."""
        return (
            stored.cost == self.cost  # so it has no prehash: those belong to bcrypt of others
            and stored.wrapping is None
            and stored.key_id == (None if self._pepper is None else self._pepper.in_use)
            and len(stored.salt) >= SALT_BYTES
            and len(stored.digest) >= digest_length(self.cost)
        )

    def _listed(self, secret: Secret, context: Sequence[str]) -> Reason | None:
        common = common_passwords(self.policy.min_length)  # may fail: before the text is a local
        text = secret.reveal().decode("utf-8", "surrogatepass")
        if is_of_context(text, context):
            return "context"
        return "blocklisted" if text in common else None

    async def _is_breached(self, secret: Secret) -> bool:
        if self.policy.breaches is None:
            return False
        sha1 = Secret(hashlib.sha1(secret.reveal(), usedforsecurity=False).hexdigest().upper())
        try:
            return await self.policy.breaches.knows(sha1)
        except BreachesUnavailable as error:
            self._tell("breaches_unavailable", error.reason)
            if self.policy.is_strict:
                raise
            return False


def _typed(password: str, most: int) -> _Typed | None:
    """Return a password as bytes, None if it has more code points than `most` after NFC."""
    if len(password) > MOST_TYPED_FOR_ONE * most:
        return None
    composed = unicodedata.normalize("NFC", password)
    if len(composed) > most:
        return None
    # A lone surrogate isn't UTF-8. It is hashed as if it were: an error would carry the password.
    texts = (composed,) if composed == password else (composed, password)
    return _Typed(tuple(Secret(text.encode("utf-8", "surrogatepass")) for text in texts), len(composed))


def _is_hexadecimal(secret: Secret) -> bool:
    return not secret.reveal().strip(b"0123456789abcdef")
