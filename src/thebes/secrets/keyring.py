"""Give each purpose a key of its own, and let keys be exchanged while the service runs.

The master keys of `THEBES_SECRET_KEYS` protect nothing themselves. HKDF makes from each of them one key
for each purpose, so what leaks or is misused in one place opens no other (ASVS 11.2.2). The first master
key is in use: new MACs, seals and digests are made under it. The others are only accepted, so that what
was made before a rotation, or by a process that is ahead in one, still counts. A key that was taken off
the list is refused.

A sealed value is the text `v1.<key id>.<base64url of nonce, ciphertext and tag>`, without padding: it may
stand in a cookie, a URL or a column. The key id and the purpose are bound to it, and so is its owner, which
the caller names: in another row or for another account it doesn't open.

Does not protect: the master keys in the process's memory; an old value that is put back in the place of
a newer one of the same owner; the length of what is sealed. With random nonces one key may seal 2**32
values for one purpose, over all processes (SP 800-38D, 8.3): nobody counts them here.

Sources: RFC 5869 (HKDF); RFC 2104 (HMAC); NIST SP 800-38D (GCM); ASVS 5.0.0, 11.2.2, 11.3.2 to 11.3.4.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from thebes.encoding import decode, encode, is_equal, random_bytes
from thebes.errors import ConfigurationError, ThebesError
from thebes.secret import Secret
from thebes.secrets.strength import KEY_ID, KEYS_VARIABLE, MIN_KEY_BYTES, SecretKey

DERIVED_BYTES = 32  # of AES-256, and the output of SHA-256, the least for HMAC (RFC 2104, 3; TOK-09)
NONCE_BYTES = 12  # 96 bits, fresh and random for each value (SP 800-38D, 8.2.2)
TAG_BYTES = 16  # the whole tag; shorter ones are for protocols that count bits (SP 800-38D, 5.2.1.2)
# 96 bits: what a log reader needs to tell values apart, and 16 characters with nothing to pad. Without the
# key nobody can try values against it, so its shortness gives nothing away.
DIGEST_BYTES = 12

Verb = Literal["mac", "seal", "digest"]
KeyState = Literal["in use", "accepted"]

_FORMAT = "v1"
# Before each label and each sealed value's associated data: another product under the same master key,
# or a later scheme of ours, gets other keys.
_SCHEME = "thebes/1"


class Purpose(Enum):
    """What a derived key is for. Each has one label and one verb: no key serves two algorithms or two rooms.

    Labels are part of what is stored and sent: a changed one is a key that was lost.

    Attributes:
        label: Goes into HKDF's `info`, behind `thebes/1/`.
        verb: The one verb of `Keyring` that may use it.
    """

    TOKEN_SIGNING = ("token-signing", "mac")
    CSRF = ("csrf", "mac")
    PEPPER = ("pepper", "mac")
    COOKIE_SEALING = ("cookie-sealing", "seal")
    FIELD_ENCRYPTION = ("field-encryption", "seal")
    SIGNING_KEYS = ("signing-keys", "seal")
    REFRESH_TOKENS = ("refresh-tokens", "mac")
    REFRESH_SUCCESSORS = ("refresh-successors", "seal")
    CIRCUMSTANCES = ("circumstances", "mac")
    JOBS = ("jobs", "seal")
    KNOWN_DEVICES = ("known-devices", "mac")
    FAILURES = ("failures", "mac")
    EVENTS = ("events", "digest")
    RATELIMIT_PARTITION = ("ratelimit-partition", "digest")

    def __init__(self, label: str, verb: Verb) -> None:
        self.label = label
        self.verb = verb


class BrokenSeal(ThebesError):
    """A sealed value can't be opened and must not be trusted; `reason` is for logs, never for clients.

    Attributes:
        reason: `malformed`: no text of ours. `unknown_key`: its key isn't on the list, so either it was
            retired too early or the value isn't ours. `not_genuine`: changed, or sealed for another purpose
            or owner.
    """

    def __init__(self, reason: Literal["malformed", "unknown_key", "not_genuine"]) -> None:
        super().__init__(f"sealed value refused: {reason}")
        self.reason = reason


class UnknownKey(ThebesError):
    """No key on the list has this id; `key_id` is what was asked for."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"no key of {KEYS_VARIABLE} has the id that was asked for")
        self.key_id = key_id


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """Where one key stands in its rotation.

    Attributes:
        id: The key's public id.
        state: `in use`: new values are made under it. `accepted`: values made under it still count.
    """

    id: str
    state: KeyState


class Keyring:
    """The keys of one service, by purpose.

    Keys are derived when they are first asked for, once for each key id and purpose; threads may share it.
    It can't be pickled or copied: each worker makes its own from the settings.

    >>> keyring = Keyring((SecretKey("k1", Secret(bytes(range(32)))),))
    >>> keyring
    Keyring(k1)
    >>> key_id, tag = keyring.mac(Purpose.CSRF, b"session 7")
    >>> keyring.verify(Purpose.CSRF, key_id, b"session 7", tag)
    True
    >>> keyring.open(Purpose.COOKIE_SEALING, keyring.seal(Purpose.COOKIE_SEALING, b"tea", b"ada"), b"ada")
    b'tea'

    Args:
        keys: What `parse_secret_keys` returned; the first is in use, the others are only accepted.

    Raises:
        ConfigurationError: No key, one of less than 32 bytes, an id that can't stand in a token, or two
            keys with one id or one value.
    """

    __slots__ = ("_derived", "_masters", "in_use")

    in_use: str
    """The id of the key under which new values are made."""

    def __init__(self, keys: Sequence[SecretKey]) -> None:
        self._masters: dict[str, Secret] = {}
        self._derived: dict[tuple[str, Purpose], Secret] = {}
        problems = _problems(keys)
        if problems:
            raise ConfigurationError(*problems)
        self._masters.update((key.id, key.value) for key in keys)
        self.in_use = keys[0].id

    def mac(self, purpose: Purpose, message: bytes) -> tuple[str, bytes]:
        """Return the id of the key in use and the message's HMAC-SHA256 under it, 32 bytes.

        Args:
            message: Join several parts so that no other parts give the same bytes.

        Raises:
            ConfigurationError: The purpose isn't for MACs.
        """
        _require(purpose, "mac")
        return self.in_use, _hmac(self.derived(purpose), message)

    def verify(self, purpose: Purpose, key_id: str, message: bytes, tag: bytes) -> bool:
        """Say whether `mac` made the tag for this purpose and message; False too for a key not on the list.

        The tag is compared in constant time. That a key id is unknown is no secret, and may show.

        Raises:
            ConfigurationError: The purpose isn't for MACs.
        """
        _require(purpose, "mac")
        _require_bytes(tag)
        key = self._find(purpose, key_id)
        return key is not None and is_equal(_hmac(key, message), tag)

    def seal(self, purpose: Purpose, plaintext: bytes, associated_data: bytes, *, salt: bytes = b"") -> str:
        """Encrypt with AES-256-GCM under the key in use; the text's form stands in this module's docstring.

        Args:
            plaintext: What nobody may read or change. The text is 4/3 of it and some 44 characters longer.
            associated_data: Whose it is and where it stands, such as `b"account 7, totp"`: what `open` must
                be given again. Not empty, since a value that belongs to nobody can be moved anywhere.
            salt: Where it is given, the key is derived with it (RFC 5869, 3.1), and `open` needs it too: a
                random value that is kept elsewhere makes the sealed one worthless without its holder.

        Raises:
            ConfigurationError: The purpose isn't for sealing, or no owner is named.
        """
        _require(purpose, "seal")
        if not associated_data:
            raise ConfigurationError("a sealed value needs associated data that says whose it is")
        nonce, bound = random_bytes(NONCE_BYTES), _bound(purpose, self.in_use, associated_data)
        key = _salted(self._masters[self.in_use], purpose, salt) if salt else self.derived(purpose)
        box = nonce + _encrypt(key, nonce, plaintext, bound)
        return f"{_FORMAT}.{self.in_use}.{encode(box)}"

    def open(self, purpose: Purpose, sealed: str, associated_data: bytes, *, salt: bytes = b"") -> bytes:
        """Return what was sealed for this purpose, owner and salt, under any key of the list.

        Raises:
            BrokenSeal: Whatever is wrong with it.
            ConfigurationError: The purpose isn't for sealing.
        """
        _require(purpose, "seal")
        parts = _split(sealed)
        if parts is None:
            raise BrokenSeal("malformed")
        key_id, box = parts
        key = self._find(purpose, key_id, salt)
        if key is None:
            raise BrokenSeal("unknown_key")
        plaintext = _decrypt(key, box, _bound(purpose, key_id, associated_data))
        if plaintext is None:
            raise BrokenSeal("not_genuine")
        return plaintext

    def digest(self, purpose: Purpose, text: str) -> str:
        """Return a short name for a text that must not be shown: 16 characters of base64url.

        The same text gives the same digest until another key comes into use. It is for people and counters
        to tell values apart, not for proving anything: use `mac` for that.

        Args:
            text: Any text, lone surrogates too.

        Raises:
            ConfigurationError: The purpose isn't for digests.
        """
        _require(purpose, "digest")
        tag = _hmac(self.derived(purpose), text.encode("utf-8", "surrogatepass"))
        return encode(tag[:DIGEST_BYTES])

    def derived(self, purpose: Purpose, key_id: str | None = None) -> Secret:
        """Return the 32 bytes of a purpose's key, for a room that must compute with it itself.

        Use it for the algorithm of the purpose's verb alone, and take it anew when keys were exchanged.

        Args:
            key_id: Of any key on the list; the one in use if None.

        Raises:
            UnknownKey: No key on the list has this id.
        """
        wanted = self.in_use if key_id is None else key_id
        key = self._find(purpose, wanted)
        if key is None:
            raise UnknownKey(wanted)
        return key

    def statuses(self) -> tuple[KeyStatus, ...]:
        """Return where each key stands, in the order of the list."""
        return tuple(KeyStatus(one, "in use" if one == self.in_use else "accepted") for one in self._masters)

    def _find(self, purpose: Purpose, key_id: str, salt: bytes = b"") -> Secret | None:
        if salt:
            master = self._masters.get(key_id)
            return None if master is None else _salted(master, purpose, salt)
        known = self._derived.get((key_id, purpose))
        if known is None and (master := self._masters.get(key_id)) is not None:
            # Two threads may both get here: they derive the same bytes.
            known = self._derived[key_id, purpose] = _hkdf(master, info=_info(purpose))
        return known

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._masters)})"

    def __getstate__(self) -> NoReturn:
        # copy and pickle of every protocol ask for the state, and so do other serializers.
        raise TypeError("a Keyring can't be pickled")


def sealed_under(sealed: str) -> str | None:
    """Return the id of the key that a sealed value names, None if it is no sealed value.

    It is read, not checked: for finding values that have to be sealed again before their key is retired.
    """
    parts = _split(sealed)
    return None if parts is None else parts[0]


def _problems(keys: Sequence[SecretKey]) -> list[str]:
    """Say what no rotation and no token format could survive; `strength` judges the values themselves."""
    if not keys:
        return [f"{KEYS_VARIABLE} holds no key: run `thebes secrets init`"]
    problems = [
        f"secret key {position} is {len(key.value)} bytes long, at least {MIN_KEY_BYTES} are needed"
        for position, key in enumerate(keys, start=1)
        if len(key.value) < MIN_KEY_BYTES
    ]
    if not all(KEY_ID.fullmatch(key.id) for key in keys):
        problems.append("a secret key has an id that isn't 1 to 32 of A-Z a-z 0-9 _ -")
    if len({key.id for key in keys}) < len(keys):
        problems.append("two secret keys have the same id: give each its own")
    if len({key.value for key in keys}) < len(keys):
        problems.append(
            "two secret keys have the same value: make a new one with `thebes secrets init --rotate`"
        )
    return problems


def _require(purpose: Purpose, verb: Verb) -> None:
    if not isinstance(purpose, Purpose):
        raise ConfigurationError("a purpose must be one of thebes.secrets.keyring.Purpose")
    if purpose.verb != verb:
        raise ConfigurationError(f"the purpose {purpose.label} is for {purpose.verb}, not for {verb}")


# Keys are Secrets in every frame below: an error from here shows no key, whoever prints its locals.


def _info(purpose: Purpose) -> bytes:
    return f"{_SCHEME}/{purpose.label}".encode("ascii")


def _hkdf(material: Secret, *, info: bytes, salt: bytes = b"", length: int = DERIVED_BYTES) -> Secret:
    # No salt: master keys are random already, and one that every service shares would add nothing.
    return Secret(HKDF(SHA256(), length, salt, info).derive(material.reveal()))


def _salted(master: Secret, purpose: Purpose, salt: bytes) -> Secret:
    return _hkdf(master, info=_info(purpose), salt=salt)


def _hmac(key: Secret, message: bytes) -> bytes:
    _require_bytes(message)
    return hmac.digest(key.reveal(), message, "sha256")


def _require_bytes(value: bytes) -> None:
    # Else the standard library raises, from a frame of its own whose locals are the key or the right tag.
    if not isinstance(value, bytes):
        raise TypeError(f"bytes are needed, not {type(value).__name__}")


def _bound(purpose: Purpose, key_id: str, associated_data: bytes) -> bytes:
    """Join what a sealed value is bound to; only the last part, the caller's, may hold a NUL itself."""
    ours = "\0".join((_SCHEME, purpose.label, key_id, ""))
    return ours.encode("ascii") + associated_data


def _encrypt(key: Secret, nonce: bytes, plaintext: bytes, bound: bytes) -> bytes:
    return AESGCM(key.reveal()).encrypt(nonce, plaintext, bound)


def _decrypt(key: Secret, box: bytes, bound: bytes) -> bytes | None:
    try:
        return AESGCM(key.reveal()).decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], bound)
    except InvalidTag:
        return None


def _split(sealed: str) -> tuple[str, bytes] | None:
    """Return the key id and the bytes of a sealed value, None if it isn't exactly one."""
    version, _, rest = sealed.partition(".")
    key_id, _, text = rest.partition(".")
    if version != _FORMAT or not KEY_ID.fullmatch(key_id):
        return None
    try:
        box = decode(text)
    except ValueError:
        return None
    return (key_id, box) if len(box) >= NONCE_BYTES + TAG_BYTES else None
