"""What the account service answers: a value for what went well, a `Denial` for what didn't.

One denial is shared by all that must look alike: a wrong password, an unknown address, an account that is
disabled, and an attempt that wasn't even made because too many had failed (ACC-01, RAT-09).

Sources: ASVS 5.0.0, 6.3.8; RFC 9457; RFC 9470, 3 (fresh authentication).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from thebes.answers import stale
from thebes.facts import Denial
from thebes.passwords.policy import Reason, Refusal
from thebes.stores.accounts import Account
from thebes.stores.sessions import Owner, Session
from thebes.tokens.circumstances import Circumstances

FRESH_SECONDS = 300  # ACC-11: five minutes

WRONG_CREDENTIALS = Denial(
    401,
    "wrong-credentials",
    "The address or the password is wrong",
    "Try again, or reset the password.",
    headers=((b"www-authenticate", b"Bearer"),),
)
UNVERIFIED = Denial(
    403,
    "email-unverified",
    "The e-mail address is not confirmed yet",
    "Follow the link in the message, or ask for another one.",
)
COMPROMISED = Denial(
    403,
    "password-compromised",
    "The password has to be changed",
    "It is known to others. Reset it to sign in again.",
)
NO_BROWSER = Denial(
    403,
    "origin-missing",
    "The request does not say where it comes from",
    'Cookies are for browsers; programs sign in with "mode": "bearer".',
)
NOT_FRESH = stale(timedelta(seconds=FRESH_SECONDS))
USED_TOKEN = Denial(
    400,
    "link-invalid",
    "The link is not valid any more",
    "It was used, it has expired, or a newer one was sent.",
)
SESSION_ENDED = Denial(
    401,
    "session-ended",
    "The session has ended",
    "Sign in again.",
    headers=((b"www-authenticate", b"Bearer"),),
)
NO_SESSION = Denial(404, "no-session", "There is no such session", "It has ended, or never was yours.")
UNCHECKED = Denial(
    503,
    "password-unchecked",
    "The password can't be checked right now",
    "Try again in a few seconds.",
    headers=((b"retry-after", b"5"),),
)
BAD_ADDRESS = Denial(422, "bad-address", "This is not an e-mail address", "Write it as name@example.com.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who calls, as far as the service has to know.

    Attributes:
        address: The client's address, found behind declared proxies only.
        circumstances: Where the request comes from.
        device: The value of the known-device cookie, as it came.
        session_id: The session that came with the request and is genuine, whether or not it still lives.
        request_id: Joins events to the answer.
        method: Of the request.
        route: Likewise.
    """

    address: str
    circumstances: Circumstances
    device: bytes | None = None
    session_id: str | None = None
    request_id: str | None = None
    method: str | None = None
    route: str | None = None

    @property
    def facts(self) -> dict[str, str]:
        """What a mail tells the owner of where it came from."""
        return {"device": self.circumstances.device, "address": self.circumstances.address}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A session that has just been opened.

    Attributes:
        account: Whose it is.
        session: The session.
        owner: What its tokens say of the account.
        refresh_token: Its first refresh token.
        device: The value of the known-device cookie from now on.
    """

    account: Account
    session: Session
    owner: Owner
    refresh_token: str
    device: str


@dataclass(frozen=True, slots=True)
class Done:
    """It is done, or nothing may be said about whether it is."""


DONE = Done()


def wait(denial: Denial, seconds: int) -> Denial:
    """Return the same denial with a Retry-After: its only difference from the ordinary one (RAT-09)."""
    return replace(denial, headers=(*denial.headers, (b"retry-after", b"%d" % max(1, seconds))))


def busy(seconds: int) -> Denial:
    """Return the answer of a service whose hashing lanes are full."""
    return Denial(
        503,
        "sign-in-busy",
        "Too many sign-ins at once",
        "Try again in a few seconds.",
        headers=((b"retry-after", b"%d" % max(1, seconds)),),
    )


def too_many_mails(seconds: int) -> Denial:
    """Return the answer to a client that asked for too many mails; it doesn't depend on their addresses."""
    return Denial(
        429,
        "too-many-mails",
        "Too many messages were asked for",
        "Try again later.",
        headers=((b"retry-after", b"%d" % max(1, seconds)),),
    )


def weak(refusal: Refusal) -> Denial:
    """Return the answer to a password that the policy refuses; it holds nothing of the password (PWD-09)."""
    return replace(_WEAK[refusal.reason], detail=refusal.advice)


def owner_of(account: Account) -> Owner:
    """Return what of an account decides about its sessions."""
    return Owner(
        id=account.id,
        is_enabled=account.is_enabled,
        is_verified=account.verified_at is not None,
        epoch=account.epoch,
        roles=account.roles,
        scopes=account.scopes,
    )


_WEAK: Mapping[Reason, Denial] = {
    "too_short": Denial(422, "password-too-short", "Choose a longer password", ""),
    "too_long": Denial(422, "password-too-long", "Choose a shorter password", ""),
    "blocklisted": Denial(422, "password-blocklisted", "Choose another password", ""),
    "breached": Denial(422, "password-breached", "Choose another password", ""),
    "context": Denial(422, "password-context", "Choose another password", ""),
}
