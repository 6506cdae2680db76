"""Accounts: signing in and out, sessions, and the fresh look at a password before what can't be undone.

Nothing tells whether an account exists: the same answer, the same work and the same writes for every
address (ACC-01, 02). An attempt is charged before its password is evaluated, so parallel guesses can't
share one charge (RAT-08, 09). Each sign-in opens a new session and ends the one that the browser brought,
so no id that a stranger planted is ever signed in (TOK-27).

Does not protect: an owner whose mailbox is in other hands.

Sources: OWASP Authentication and Session Management; ASVS 5.0.0, 6.3, 7.2 to 7.5; NIST SP 800-63B-4.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from thebes.accounts.addresses import parse_address
from thebes.accounts.documents import OwnSession, own_session
from thebes.accounts.notices import Notices
from thebes.accounts.results import (
    COMPROMISED,
    DONE,
    FRESH_SECONDS,
    NO_SESSION,
    NOT_FRESH,
    SESSION_ENDED,
    UNVERIFIED,
    WRONG_CREDENTIALS,
    Done,
    SignedIn,
    Visitor,
    busy,
    owner_of,
    wait,
)
from thebes.accounts.trail import Trail
from thebes.answers import SIGN_IN_REQUIRED
from thebes.facts import Denial, SignedInClaims
from thebes.passwords.hashing import Passwords, Verdict
from thebes.passwords.lanes import LanesBusy
from thebes.ratelimit.bruteforce import Attempt, SignInProtection, Wait
from thebes.ratelimit.devices import DeviceCookies
from thebes.stores.accounts import Account
from thebes.stores.jobs import NewJob
from thebes.stores.sessions import Session, SessionMode
from thebes.stores.store import Store
from thebes.tokens.refresh import RefreshTokens, Renewed

PASSWORD = ("pwd",)  # RFC 8176, 2
# ACC-14: so many failures before a success are told to the owner.
MANY_FAILURES = 5


class SignIns:
    """Sign-ins and sessions of one service.

    Args:
        store: Where accounts and sessions lie.
        passwords: Hashes them, apart from the event loop.
        refresh: Opens and renews sessions.
        protection: Charges attempts before they are made.
        devices: Know the browsers in which somebody has signed in before.
        notices: Makes mails and hook calls.
        trail: Writes down what happens.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        *,
        store: Store,
        passwords: Passwords,
        refresh: RefreshTokens,
        protection: SignInProtection,
        devices: DeviceCookies,
        notices: Notices,
        trail: Trail,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._refresh = refresh
        self._protection = protection
        self._devices = devices
        self._notices = notices
        self._trail = trail
        self._clock = clock

    async def sign_in(
        self,
        email: str,
        password: str,
        *,
        mode: SessionMode,
        remember: bool = False,
        visitor: Visitor,
    ) -> SignedIn | Denial:
        """Open a session for whoever knows the password of an account whose address is confirmed."""
        address = parse_address(email)
        # An address that can't exist is an unknown one: it is charged and hashed like any other.
        key = email[:256].lower() if address is None else address.key
        account = None if address is None else await self._store.accounts.by_email(address.key)
        return await self._attempt(key, account, password, mode, remember, visitor, visitor.session_id)

    async def reauthenticate(
        self, claims: SignedInClaims, password: str, *, visitor: Visitor
    ) -> SignedIn | Denial:
        """Look at the password again, and go on in a new session that knows when that was (ACC-11)."""
        found = await self._present(claims)
        if found is None:
            return SIGN_IN_REQUIRED
        account, session = found
        return await self._attempt(
            account.email_key, account, password, session.mode, session.is_remembered, visitor, session.id
        )

    async def refresh(self, token: str | bytes, *, mode: SessionMode, visitor: Visitor) -> Renewed | Denial:
        """Renew a session by its refresh token, judged by the same table as the renewal in place."""
        presented = self._refresh.read(token)
        if presented is None:
            self._trail.tell("refresh", visitor, outcome="denied", reason="not_genuine")
            return SESSION_ENDED
        renewed = await self._refresh.renew(presented, mode=mode, circumstances=visitor.circumstances)
        session = renewed.session
        account = session.account_id if session is not None else None
        if renewed.token is None:
            self._trail.tell(
                "refresh",
                visitor,
                account=account,
                session=presented.session_id,
                outcome="denied",
                reason=renewed.reason,
            )
            return SESSION_ENDED
        self._trail.tell(
            "refresh", visitor, account=account, session=presented.session_id, reason=renewed.kind
        )
        return renewed

    async def sign_out(self, claims: SignedInClaims | None, token: bytes | None, *, visitor: Visitor) -> Done:
        """End what came: the sessions of the access and of the refresh token; nobody's changes nothing."""
        ending = {} if claims is None else {claims.sid: claims.sub}
        presented = self._refresh.read(token) if token is not None else None
        if presented is not None and presented.session_id not in ending:
            found = await self._store.sessions.find(presented.session_id)
            if found is not None and found[0].generation >= presented.generation:
                ending[found[0].id] = found[0].account_id
        for session_id, account_id in ending.items():
            await self._end(account_id, session_id, reason="signed_out")
            self._trail.tell("signed_out", visitor, account=account_id, session=session_id)
        return DONE

    async def sessions(self, claims: SignedInClaims) -> Sequence[OwnSession]:
        """Return the live sessions of an account, the newest first."""
        found = await self._store.sessions.of_account(claims.sub)
        return [own_session(each, claims, self._trail.session_name(each.id)) for each in found]

    async def end_session(self, claims: SignedInClaims, name: str, *, visitor: Visitor) -> Done | Denial:
        """End one session by the name that `sessions` gives; that of somebody else doesn't exist (ACC-30)."""
        denial = self.demand_fresh(claims)
        if denial is not None:
            return denial
        for session in await self._store.sessions.of_account(claims.sub):
            if self._trail.session_name(session.id) == name:
                break
        else:
            return NO_SESSION
        if not await self._store.sessions.revoke(claims.sub, session.id, reason="ended_by_owner"):
            return NO_SESSION
        self._trail.tell("session_revoked", visitor, account=claims.sub, session=session.id)
        return DONE

    async def sign_out_everywhere(self, claims: SignedInClaims, *, visitor: Visitor) -> Done | Denial:
        """End every session of an account, the present one too."""
        denial = self.demand_fresh(claims)
        if denial is not None:
            return denial
        await self._store.sessions.revoke(claims.sub, reason="ended_by_owner")
        self._trail.tell("sessions_revoked", visitor, account=claims.sub)
        return DONE

    async def account(self, claims: SignedInClaims) -> Account | None:
        """Return the account of whoever asks; one read."""
        return await self._store.accounts.by_id(claims.sub)

    def demand_fresh(self, claims: SignedInClaims, *, within: float = FRESH_SECONDS) -> Denial | None:
        """Return a denial unless somebody really authenticated so short a time ago (RFC 9470)."""
        return None if self._clock() - claims.auth_time <= within else NOT_FRESH

    async def check_password(self, account: Account, password: str, *, visitor: Visitor) -> Verdict | Denial:
        """Evaluate the password of a known account under the same limits as a sign-in."""
        attempt = await self._charge(account.email_key, account, visitor)
        if isinstance(attempt, Wait):
            return wait(WRONG_CREDENTIALS, attempt.seconds)
        try:
            verdict = await self._passwords.verify(
                password, account.password_hash, is_known_device=attempt.is_known_device
            )
        except LanesBusy as error:
            await self._protection.withdraw(attempt)
            return busy(error.retry_after)
        if not verdict.is_match or attempt.is_off:
            await self._tell_if_off(account, attempt, visitor)
            self._trail.tell("password_check", visitor, account=account.id, outcome="denied")
            return WRONG_CREDENTIALS
        await self._protection.succeeded(attempt)
        return verdict

    # Inside

    async def _attempt(
        self,
        key: str,
        account: Account | None,
        password: str,
        mode: SessionMode,
        remember: bool,
        visitor: Visitor,
        replaces: str | None,
    ) -> SignedIn | Denial:
        attempt = await self._charge(key, account, visitor)
        if isinstance(attempt, Wait):
            self._trail.tell("sign_in", visitor, outcome="denied", reason="too_many_failures")
            return wait(WRONG_CREDENTIALS, attempt.seconds)
        stored = account.password_hash if account is not None else None
        try:
            verdict = await self._passwords.verify(password, stored, is_known_device=attempt.is_known_device)
        except LanesBusy as error:
            await self._protection.withdraw(attempt)
            return busy(error.retry_after)
        if account is None or attempt.is_off or not verdict.is_match or not account.is_enabled:
            await self._tell_if_off(account, attempt, visitor)
            self._failed(account, verdict, attempt, visitor)
            return WRONG_CREDENTIALS
        await self._protection.succeeded(attempt)
        if account.verified_at is None:
            return UNVERIFIED
        if account.is_compromised:
            return COMPROMISED
        if verdict.new_hash is not None and account.password_hash is not None:
            await self._store.accounts.upgrade_hash(account.id, account.password_hash, verdict.new_hash)
        return await self._open(account, attempt, mode, remember, visitor, replaces)

    async def _charge(self, key: str, account: Account | None, visitor: Visitor) -> Attempt | Wait:
        return await self._protection.charge(
            key,
            address=visitor.address,
            account_id=None if account is None else account.id,
            device_id=None if account is None else self._device_id(account, visitor),
        )

    def _device_id(self, account: Account, visitor: Visitor) -> str | None:
        return self._devices.read(visitor.device, account.id, account.password_epoch)

    async def _open(
        self,
        account: Account,
        attempt: Attempt,
        mode: SessionMode,
        remember: bool,
        visitor: Visitor,
        replaces: str | None,
    ) -> SignedIn | Denial:
        opened = await self._refresh.open(
            account.id,
            account.epoch,
            mode=mode,
            amr=PASSWORD,
            is_remembered=remember,
            circumstances=visitor.circumstances,
            replaces=replaces,
            jobs=self._sign_in_jobs(account, attempt, visitor),
        )
        if opened is None:
            return WRONG_CREDENTIALS  # disabled, or another password, since it was read
        session, token = opened
        self._notices.wake()
        self._trail.tell("sign_in", visitor, account=account.id, session=session.id, reason=mode)
        device = self._devices.issue(
            account.id, account.password_epoch, device_id=self._device_id(account, visitor)
        )
        return SignedIn(
            account=account, session=session, owner=owner_of(account), refresh_token=token, device=device
        )

    def _sign_in_jobs(self, account: Account, attempt: Attempt, visitor: Visitor) -> Sequence[NewJob]:
        jobs = list(self._notices.hook("signed_in", account.id))
        if attempt.failures >= MANY_FAILURES:
            jobs.append(self._notices.mail("many_failures", account.email, **visitor.facts))
        elif not attempt.is_known_device:
            jobs.append(self._notices.mail("new_device", account.email, **visitor.facts))
        return jobs

    async def _tell_if_off(self, account: Account | None, attempt: Attempt, visitor: Visitor) -> None:
        """Mail the owner if this failure was the last that the password had, or had there (RAT-10)."""
        if not attempt.disables:
            return
        # As many writes for nobody's address (ACC-02).
        job = self._notices.nothing()
        if account is not None:
            # A device that is known has a count of its own: elsewhere the password still counts.
            kind = "device_off" if attempt.is_known_device else "password_off"
            job = self._notices.mail(kind, account.email, **visitor.facts)
        await self._store.jobs.add((job,))
        self._notices.wake()

    def _failed(self, account: Account | None, verdict: Verdict, attempt: Attempt, visitor: Visitor) -> None:
        reason = "wrong_password"
        if account is None:
            reason = "unknown_account"
        elif attempt.is_off:
            reason = "password_off"
        elif verdict.is_match:
            reason = "disabled"
        self._trail.tell(
            "sign_in",
            visitor,
            account=account.id if account is not None else None,
            outcome="denied",
            reason=reason,
        )

    async def _present(self, claims: SignedInClaims) -> tuple[Account, Session] | None:
        found = await self._store.sessions.find(claims.sid)
        account = await self._store.accounts.by_id(claims.sub)
        if found is None or account is None or found[0].revoked_at is not None:
            return None
        return account, found[0]

    async def _end(self, account_id: str, session_id: str, *, reason: str) -> None:
        jobs = self._notices.hook("signed_out", account_id)
        await self._store.sessions.revoke(account_id, session_id, reason=reason, jobs=jobs)
        self._notices.wake()
