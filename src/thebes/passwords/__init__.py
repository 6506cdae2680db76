"""Passwords: hashed slowly beside the event loop, old hashes upgraded, weak ones refused before they are set.

Protects from: whoever gets a copy of the database and guesses (Argon2id, a salt each, an optional pepper that
is not in it); whoever signs in so often that hashing eats the server (lanes, a bounded queue, known devices
first); whoever measures which accounts exist (an unknown one costs the same work); passwords that everybody
guesses first (length, a bundled list, context words, breaches).

Does not protect from: phishing; a password that its owner uses elsewhere and that leaks there later; guessing
against the running service, which is what sign-in limits are for; who reads the process's memory.

Importing this loads no hash library: that happens when a `Passwords` is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thebes.passwords.breaches import BreachesUnavailable, BreachSource, PwnedFile, PwnedRanges
    from thebes.passwords.costs import PRESETS, Argon2, Bcrypt, Cost, Pbkdf2, Preset, Scrypt
    from thebes.passwords.hashing import Passwords, PasswordTooLong, Pepper, Verdict
    from thebes.passwords.lanes import Lanes, LanesBusy
    from thebes.passwords.machine import Machine
    from thebes.passwords.policy import PasswordPolicy, Refusal

_HOMES = {
    "breaches": ("BreachSource", "BreachesUnavailable", "PwnedFile", "PwnedRanges"),
    "costs": ("PRESETS", "Argon2", "Bcrypt", "Cost", "Pbkdf2", "Preset", "Scrypt"),
    "hashing": ("PasswordTooLong", "Passwords", "Pepper", "Verdict"),
    "lanes": ("Lanes", "LanesBusy"),
    "machine": ("Machine",),
    "policy": ("PasswordPolicy", "Refusal"),
}

__all__ = [
    "PRESETS",
    "Argon2",
    "Bcrypt",
    "BreachSource",
    "BreachesUnavailable",
    "Cost",
    "Lanes",
    "LanesBusy",
    "Machine",
    "PasswordPolicy",
    "PasswordTooLong",
    "Passwords",
    "Pbkdf2",
    "Pepper",
    "Preset",
    "PwnedFile",
    "PwnedRanges",
    "Refusal",
    "Scrypt",
    "Verdict",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            from importlib import import_module  # noqa: PLC0415 - loaded when first asked for

            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
