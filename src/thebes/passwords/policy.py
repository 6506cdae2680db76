"""Which passwords may be set: length, the common ones, words of the context, breaches. Nothing else.

No character class is asked for and none is forbidden, nothing expires, and a part of a password never
decides: the whole is compared. Rules about characters make weaker what people can remember.

Does not protect from: a password that its owner uses elsewhere, unless a source of breaches is set.

Sources: NIST SP 800-63B-4, 3.1.1.2; ASVS 5.0.0, 6.1.2, 6.2.1 to 6.2.12.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from thebes.errors import ConfigurationError
from thebes.passwords.breaches import BreachSource
from thebes.passwords.common import folded

Reason = Literal["too_short", "too_long", "blocklisted", "breached", "context"]

MIN_LENGTH = 15  # code points, where a password is the only factor (NIST SP 800-63B-4, 3.1.1.2)
MIN_LENGTH_BESIDE_A_SECOND_FACTOR = 8
MAX_LENGTH = 256  # code points: above NIST's 64, and no work for the hash to speak of
LEAST_MAX_LENGTH = 64  # NIST: "SHOULD permit a maximum password length of at least 64 characters"
GREATEST_MAX_LENGTH = 1024

# What people put before, between and behind a word of the context to reach the length.
SEPARATORS = ("", " ", "-", "_", ".", "@")
FILLERS = ("password", "passwort", "secret", "login", "account", "my")
TAILS = (
    "",
    "!",
    "!!",
    "!!!",
    *("1234567890"[:count] for count in range(1, 11)),
    *("123456789"[:count] + "!" for count in (1, 2, 3, 4)),
    *(f"{year}{mark}" for year in range(1940, 2041) for mark in ("", "!")),
)
LEAST_WORD = 3  # characters: "a" or "io" is no word that says whose password it is

_ADVICE: Mapping[Reason, str] = {
    "too_short": "Use at least {least} characters. Several words in a row are easy to remember.",
    "too_long": "Use at most {most} characters.",
    "blocklisted": "This password is one of those that attackers try first. Choose another, such as several "
    "words that don't belong together.",
    "breached": "This password has been found in a data breach, so attackers know it. Choose another, and "
    "change it wherever else you use it.",
    "context": "This password is made of your name, your address or the name of this service. Choose "
    "another, such as several words that don't belong together.",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a password may not be set. It holds nothing of the password.

    Attributes:
        reason: For programs.
        advice: For the person, in English; translate by the reason.
    """

    reason: Reason
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordPolicy:
    """What is asked of a new password. The defaults are NIST's for a password as the only factor.

    Attributes:
        min_length: Code points after NFC, at least 15.
        max_length: Code points after NFC, from 64 to 1024; a longer one is refused, never cut.
        requires_second_factor: Every sign-in needs a second factor, so `min_length` may go down to 8.
        context: Words that are no password here: the service's name, its hosts.
        breaches: Where breached passwords are looked up; nowhere if None.
        is_strict: A password that can't be looked up is not set: `BreachesUnavailable`. Otherwise the
            outage is reported, and the rest of the policy decides.

    Raises:
        ConfigurationError: A length outside these bounds, or `is_strict` without a source.
    """

    min_length: int = MIN_LENGTH
    max_length: int = MAX_LENGTH
    requires_second_factor: bool = False
    context: Sequence[str] = ()
    breaches: BreachSource | None = None
    is_strict: bool = False

    def __post_init__(self) -> None:
        least = MIN_LENGTH_BESIDE_A_SECOND_FACTOR if self.requires_second_factor else MIN_LENGTH
        problems = []
        if self.min_length < least:
            problems.append(
                f"min_length is {self.min_length}, at least {least} is allowed; "
                f"{MIN_LENGTH_BESIDE_A_SECOND_FACTOR} only where requires_second_factor=True"
            )
        if not LEAST_MAX_LENGTH <= self.max_length <= GREATEST_MAX_LENGTH:
            problems.append(
                f"max_length is {self.max_length}, allowed are {LEAST_MAX_LENGTH} to {GREATEST_MAX_LENGTH}"
            )
        if self.min_length > self.max_length:
            problems.append(f"min_length {self.min_length} is above max_length {self.max_length}")
        if self.is_strict and self.breaches is None:
            problems.append("is_strict needs a source of breaches")
        if problems:
            raise ConfigurationError(*problems)


def refusal(reason: Reason, policy: PasswordPolicy) -> Refusal:
    """Return the refusal for a reason, with advice that fits the policy."""
    return Refusal(reason, _ADVICE[reason].format(least=policy.min_length, most=policy.max_length))


def is_of_context(password: str, words: Iterable[str]) -> bool:
    """Say whether the whole password is a word of the context or one of its simple derivations.

    These are, after case folding: the word itself; the word backwards; the word repeated; the word with what
    stands in `TAILS` behind it; two words, or a word and one of `FILLERS`, in any order, with one of
    `SEPARATORS` between and a tail behind. What the words are: `context_words`.
    """
    given = folded(password)
    bases = context_words(words)
    if any(given == base[::-1] or _is_repeated(given, base) for base in bases):
        return True
    # Which words it can begin with is soon said, so what follows has few to go through.
    parts = [part for part in (*bases, *FILLERS) if given.startswith(part)]
    for first in parts:
        rest = given[len(first) :]
        if first in bases and rest in TAILS:
            return True
        for separator, second in product(SEPARATORS, (*bases, *FILLERS)):
            is_named = first in bases or second in bases
            middle = separator + second
            if is_named and rest.startswith(middle) and rest[len(middle) :] in TAILS:
                return True
    return False


def context_words(words: Iterable[str]) -> tuple[str, ...]:
    """Return what each word of the context stands for, case-folded, of at least 3 characters.

    A name: itself; its parts at spaces, dots, hyphens and underscores, joined by each of `SEPARATORS` and
    each alone. A host: the same, with and without `www.`. An email address: itself, its local part with and
    without what stands behind a plus, and its host.
    """
    found: dict[str, None] = {}
    for word in words:
        for variant in _variants(folded(word).strip()):
            if len(variant) >= LEAST_WORD:
                found[variant] = None
    return tuple(found)


def _variants(word: str) -> Iterator[str]:
    yield word
    local, at, host = word.rpartition("@")
    if at:
        yield from _variants(local)
        yield from _variants(local.partition("+")[0])
        word = host
    parts = re.split(r"[\s._-]+", word.removeprefix("www."))
    yield word.removeprefix("www.")
    yield from (separator.join(parts) for separator in SEPARATORS)
    yield from parts


def _is_repeated(given: str, base: str) -> bool:
    count, rest = divmod(len(given), len(base))
    return count > 0 and not rest and given == base * count
