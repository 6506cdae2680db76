"""Accounts: coming to be, proving an address, and changing or losing a password.

Whether an address is taken is told to its owner, by mail, and to nobody else: the answer, the work and the
writes are the same for every address (ACC-01, 02). A link in a mail opens a page; only a POST from there uses
its token, once (CSR-08, ACC-05). A completed reset signs nobody in (ACC-10).

Does not protect: against whoever reads the owner's mail.

Sources: OWASP Forgot Password and Email Validation; ASVS 5.0.0, 6.2 to 6.4; NIST SP 800-63B-4, 3.1.1.2.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Literal

from thebes.accounts.addresses import Address, parse_address
from thebes.accounts.notices import Notices
from thebes.accounts.results import (
    BAD_ADDRESS,
    DONE,
    UNCHECKED,
    USED_TOKEN,
    WRONG_CREDENTIALS,
    Done,
    SignedIn,
    Visitor,
    busy,
    owner_of,
    too_many_mails,
    weak,
)
from thebes.accounts.signing_in import PASSWORD, SignIns
from thebes.accounts.trail import Trail
from thebes.answers import SIGN_IN_REQUIRED
from thebes.encoding import encode, random_bytes, uuid7
from thebes.errors import ConfigurationError
from thebes.facts import Denial, SignedInClaims
from thebes.passwords.breaches import BreachesUnavailable
from thebes.passwords.hashing import Passwords
from thebes.passwords.lanes import LanesBusy
from thebes.ratelimit.bruteforce import SignInProtection, Wait
from thebes.ratelimit.devices import DeviceCookies
from thebes.ratelimit.mailquota import MailQuota
from thebes.stores.accounts import Account, NewToken, TokenPurpose
from thebes.stores.jobs import NewJob
from thebes.stores.store import Store
from thebes.tokens.refresh import RefreshTokens

VERIFY_LIFETIME = timedelta(hours=24)  # ACC-05
RESET_LIFETIME = timedelta(minutes=30)  # ACC-05
INVITE_LIFETIME = timedelta(hours=24)  # PWD-28
MAX_LIFETIME = timedelta(hours=24)
TOKEN_BYTES = 32  # ACC-05 asks for 128 bits; nothing is gained by taking so few
MAX_TOKEN = 64  # characters of a token worth hashing


class Credentials:
    """Registration, confirmation and passwords of one service.

    Args:
        store: Where accounts lie.
        passwords: Hashes and judges them.
        sign_ins: Evaluates present passwords.
        refresh: Opens sessions anew after a change.
        protection: Its failures are forgotten by a reset.
        devices: Know the browsers in which somebody has signed in before.
        quota: How many mails are sent.
        notices: Makes mails and hook calls.
        trail: Writes down what happens.
        context: Words that are no good as a password here: the service's name, its hosts (PWD-08).
        lifetimes: How long mailed tokens count, by purpose.

    Raises:
        ConfigurationError: A lifetime of more than 24 hours.
    """

    def __init__(
        self,
        *,
        store: Store,
        passwords: Passwords,
        sign_ins: SignIns,
        refresh: RefreshTokens,
        protection: SignInProtection,
        devices: DeviceCookies,
        quota: MailQuota,
        notices: Notices,
        trail: Trail,
        context: Sequence[str] = (),
        lifetimes: dict[TokenPurpose, timedelta] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._sign_ins = sign_ins
        self._refresh = refresh
        self._protection = protection
        self._devices = devices
        self._quota = quota
        self._notices = notices
        self._trail = trail
        self._context = tuple(context)
        self._lifetimes: dict[TokenPurpose, timedelta] = {
            "verify": VERIFY_LIFETIME,
            "reset": RESET_LIFETIME,
            "invite": INVITE_LIFETIME,
        }
        self._lifetimes |= lifetimes or {}
        if any(not timedelta(0) < each <= MAX_LIFETIME for each in self._lifetimes.values()):
            raise ConfigurationError("mailed tokens live for at most 24 hours")
        self._clock = clock

    async def register(self, email: str, password: str, *, visitor: Visitor) -> Done | Denial:
        """Make an account that waits for the confirmation of its address.

        If the address is taken its owner gets a mail, and the answer is the same.
        """
        address = parse_address(email)
        if address is None:
            return BAD_ADDRESS
        password_hash = await self._hash_new(password, address)
        if isinstance(password_hash, Denial):
            return password_hash
        may_mail = await self._quota.take(address.key, address=visitor.address)
        if isinstance(may_mail, Wait):
            return too_many_mails(may_mail.seconds)
        account = Account(
            id=uuid7(),
            email=address.text,
            email_key=address.key,
            password_hash=password_hash,
            created_at=self._clock(),
        )
        token, record = self._new_token("verify", account)
        mail = self._mail("verify", account, token) if may_mail else self._notices.nothing()
        jobs = (mail, *self._notices.hook("registered", account.id))
        if await self._store.accounts.create(account, token=record, jobs=jobs):
            self._trail.tell("registered", visitor, account=account.id)
        else:
            await self._tell_the_owner(address, is_muted=not may_mail)
            self._trail.tell("registered", visitor, outcome="denied", reason="address_taken")
        self._notices.wake()
        return DONE

    async def verify(self, token: str, *, visitor: Visitor) -> Done | Denial:
        """Confirm an address by the token that was mailed to it."""
        digest = _digest(token)
        account = await self._store.accounts.look(digest, "verify")
        jobs = self._notices.hook("verified", account.id) if account is not None else ()
        confirmed = await self._store.accounts.confirm_email(digest, jobs=jobs)
        if confirmed is None:
            self._trail.tell("email_verified", visitor, outcome="denied")
            return USED_TOKEN
        self._notices.wake()
        self._trail.tell("email_verified", visitor, account=confirmed.id)
        return DONE

    async def resend(self, email: str, *, visitor: Visitor) -> Done | Denial:
        """Mail another confirmation link to an address that waits for one."""
        return await self._mail_link(email, "verify", visitor)

    async def forgot(self, email: str, *, visitor: Visitor) -> Done | Denial:
        """Mail a link that lets its holder set another password; the account stays as it is (ACC-07)."""
        return await self._mail_link(email, "reset", visitor)

    async def reset(self, token: str, password: str, *, visitor: Visitor) -> Done | Denial:
        """Set a password by a mailed token, and end every session; nobody is signed in by it (ACC-10)."""
        digest = _digest(token)
        found = await self._holder(digest)
        if found is None:
            self._trail.tell("password_reset", visitor, outcome="denied")
            return USED_TOKEN
        account, purpose = found
        password_hash = await self._hash_new(password, Address(account.email, account.email_key))
        if isinstance(password_hash, Denial):
            return password_hash
        changed = await self._store.accounts.reset_password(
            digest,
            purpose,
            password_hash,
            failure_keys=self._protection.keys_of(account.email_key, account.id),
            jobs=(
                self._notices.mail("password_reset", account.email, **visitor.facts),
                *self._notices.hook("password_reset", account.id),
            ),
        )
        if changed is None:
            return USED_TOKEN
        self._notices.wake()
        self._trail.tell("password_reset", visitor, account=account.id)
        return DONE

    async def change_password(
        self, claims: SignedInClaims, current: str, password: str, *, visitor: Visitor
    ) -> SignedIn | Denial:
        """Set another password; the present one is evaluated, which is as fresh as it gets (PWD-24, ACC-11).

        All other sessions end, and the present one goes on as a new one (ACC-12, TOK-27).
        """
        account = await self._store.accounts.by_id(claims.sub)
        found = await self._store.sessions.find(claims.sid)
        if account is None or account.password_hash is None or found is None:
            return SIGN_IN_REQUIRED
        checked = await self._sign_ins.check_password(account, current, visitor=visitor)
        if isinstance(checked, Denial):
            return checked
        password_hash = await self._hash_new(password, Address(account.email, account.email_key))
        if isinstance(password_hash, Denial):
            return password_hash
        jobs = (
            self._notices.mail("password_changed", account.email, **visitor.facts),
            *self._notices.hook("password_changed", account.id),
        )
        changed = await self._store.accounts.change_password(
            account.id, account.password_hash, password_hash, keeps=claims.sid, jobs=jobs
        )
        if changed is None:
            return WRONG_CREDENTIALS  # somebody else has changed it meanwhile
        self._notices.wake()
        self._trail.tell("password_changed", visitor, account=account.id)
        session = found[0]
        opened = await self._refresh.open(
            changed.id,
            changed.epoch,
            mode=session.mode,
            amr=PASSWORD,
            is_remembered=session.is_remembered,
            circumstances=visitor.circumstances,
            replaces=session.id,
        )
        if opened is None:
            return SIGN_IN_REQUIRED
        return SignedIn(
            account=changed,
            session=opened[0],
            owner=owner_of(changed),
            refresh_token=opened[1],
            device=self._devices.issue(changed.id, changed.password_epoch),
        )

    async def delete(self, claims: SignedInClaims, *, visitor: Visitor) -> Done | Denial:
        """Delete the account of whoever asks, if the password was looked at just now."""
        denial = self._sign_ins.demand_fresh(claims)
        if denial is not None:
            return denial
        account = await self._store.accounts.by_id(claims.sub)
        if account is None:
            return SIGN_IN_REQUIRED
        jobs = (
            self._notices.mail("account_deleted", account.email),
            *self._notices.hook("deleted", account.id),
        )
        await self._store.accounts.delete(account.id, jobs=jobs)
        await self._protection.forget(account.email_key, account.id)
        self._notices.wake()
        self._trail.tell("account_deleted", visitor, account=account.id)
        return DONE

    # Inside

    async def _hash_new(self, password: str, address: Address) -> str | Denial:
        try:
            refusal = await self._passwords.judge(password, context=self._words(address))
            return weak(refusal) if refusal is not None else await self._passwords.hash(password)
        except LanesBusy as error:
            return busy(error.retry_after)
        except BreachesUnavailable:
            return UNCHECKED

    async def _mail_link(
        self, email: str, purpose: Literal["verify", "reset"], visitor: Visitor
    ) -> Done | Denial:
        address = parse_address(email)
        if address is None:
            return BAD_ADDRESS
        event = "reset_requested" if purpose == "reset" else "verification_requested"
        may_mail = await self._quota.take(address.key, address=visitor.address)
        if isinstance(may_mail, Wait):
            return too_many_mails(may_mail.seconds)
        account = await self._store.accounts.by_email(address.key)
        is_due = account is not None and account.is_enabled and may_mail
        if account is not None and is_due and (purpose == "reset" or account.verified_at is None):
            token, record = self._new_token(purpose, account)
            await self._store.accounts.issue(record, jobs=(self._mail(purpose, account, token),))
            self._trail.tell(event, visitor, account=account.id)
        else:
            # As many writes as for an account that gets its mail (ACC-02).
            await self._store.jobs.add((self._notices.nothing(),))
            reason = "no_such_account" if may_mail else "too_many_mails"
            self._trail.tell(event, visitor, outcome="denied", reason=reason)
        self._notices.wake()
        return DONE

    async def _tell_the_owner(self, address: Address, *, is_muted: bool) -> None:
        account = await self._store.accounts.by_email(address.key)
        job: NewJob = self._notices.nothing()
        if account is not None and account.is_enabled and not is_muted:
            job = self._notices.mail("already_registered", account.email)
        await self._store.jobs.add((job,))

    async def _holder(self, digest: bytes) -> tuple[Account, Literal["reset", "invite"]] | None:
        purposes: tuple[Literal["reset", "invite"], ...] = ("reset", "invite")
        for purpose in purposes:
            account = await self._store.accounts.look(digest, purpose)
            if account is not None:
                return account, purpose
        return None

    def _mail(self, kind: str, account: Account, token: str) -> NewJob:
        return self._notices.mail(kind, account.email, token=token)

    def _new_token(self, purpose: TokenPurpose, account: Account) -> tuple[str, NewToken]:
        expires_at = self._clock() + self._lifetimes[purpose].total_seconds()
        return new_token(purpose, account, expires_at=expires_at)

    def _words(self, address: Address) -> Sequence[str]:
        return (*self._context, address.text, address.text.partition("@")[0])


def new_token(purpose: TokenPurpose, account: Account, *, expires_at: float) -> tuple[str, NewToken]:
    """Return a token to be mailed to an account's owner, and what is kept of it (ACC-05)."""
    token = encode(random_bytes(TOKEN_BYTES))
    record = NewToken(
        digest=_digest(token),
        purpose=purpose,
        account_id=account.id,
        email_key=account.email_key,
        expires_at=expires_at,
    )
    return token, record


def _digest(token: str) -> bytes:
    return hashlib.sha256(token[:MAX_TOKEN].encode("utf-8", "replace")).digest()
