"""What an operator may do to accounts: make, look, enable, disable, grant, end sessions.

No verb sets a password for somebody else: whoever is made by an operator chooses one by a link that works
once (PWD-27, PWD-28). No account exists that nobody made (ACC-03).

Sources: ASVS 5.0.0, 6.3.2, 6.4.1, 6.4.6, 7.4.5; ACC-03, ACC-31, PWD-27, PWD-28.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thebes.accounts.addresses import Address, parse_address
from thebes.accounts.credentials import INVITE_LIFETIME, RESET_LIFETIME, new_token
from thebes.accounts.notices import Notices
from thebes.encoding import uuid7
from thebes.errors import ConfigurationError, ThebesError
from thebes.events import Events
from thebes.passwords.hashing import Passwords
from thebes.stores.accounts import Account
from thebes.stores.sessions import Session
from thebes.stores.store import Store

ADMIN = "admin"


class NoSuchAccount(ThebesError):
    """There is no account of this address or id; `asked` is what was asked for."""

    def __init__(self, asked: str) -> None:
        super().__init__(f"there is no account {asked}")
        self.asked = asked


class AddressTaken(ThebesError):
    """There is an account of this address already."""


class AccountDisabled(ThebesError):
    """The account has to be enabled first."""


class WeakPassword(ThebesError):
    """The policy refuses this password; `reason` says why, and the message how to do better."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"the password is refused ({reason}): {advice}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Invited:
    """An account that was made, and the token by which its owner chooses a password, once.

    Attributes:
        account: The account.
        token: For the reset page; None where the caller chose a password of their own.
    """

    account: Account
    token: str | None


class Administration:
    """The operator's verbs.

    Args:
        store: Where accounts lie.
        passwords: Hash and judge the caller's own.
        notices: Makes mails and hook calls.
        events: Where each action is recorded (LOG-01).
    """

    def __init__(
        self,
        *,
        store: Store,
        passwords: Passwords,
        notices: Notices,
        events: Events,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._notices = notices
        self._events = events
        self._clock = clock

    async def create(
        self, email: str, *, password: str | None, roles: Sequence[str] = (), scopes: Sequence[str] = ()
    ) -> Invited:
        """Make an account whose address counts as confirmed.

        Args:
            password: The caller's own; None makes a token by which the owner chooses one.

        Raises:
            ConfigurationError: No address.
            WeakPassword: The policy refuses the password.
            AddressTaken: There is one already.
        """
        address = _address(email)
        now = self._clock()
        account = Account(
            id=uuid7(),
            email=address.text,
            email_key=address.key,
            password_hash=None if password is None else await self._hashed(password, address),
            verified_at=now,
            roles=tuple(roles),
            scopes=tuple(scopes),
            created_at=now,
        )
        token, record = new_token("invite", account, expires_at=now + INVITE_LIFETIME.total_seconds())
        jobs = self._notices.hook("registered", account.id)
        made = await self._store.accounts.create(
            account, token=None if password is not None else record, jobs=jobs
        )
        if not made:
            raise AddressTaken(f"{address.text} has an account already")
        self._tell("account_created", account)
        return Invited(account, None if password is not None else token)

    async def find(self, asked: str) -> Account:
        """Return the account of an address or id.

        Raises:
            NoSuchAccount: There is none.
        """
        address = parse_address(asked)
        found = None if address is None else await self._store.accounts.by_email(address.key)
        found = found or await self._store.accounts.by_id(asked)
        if found is None:
            raise NoSuchAccount(asked)
        return found

    async def page(self, *, after: str | None = None, most: int = 100) -> Sequence[Account]:
        """Return accounts in the order in which they were made, those behind an id."""
        return await self._store.accounts.page(after=after, most=most)

    async def sessions(self, account: Account) -> Sequence[Session]:
        """Return the live sessions of an account."""
        return await self._store.sessions.of_account(account.id)

    async def set_enabled(self, account: Account, is_enabled: bool) -> Account:
        """Enable or disable an account; disabling ends its sessions at once (ACC-31)."""
        name = "enabled" if is_enabled else "disabled"
        jobs = [*self._notices.hook(name, account.id)]
        if not is_enabled:
            jobs.append(self._notices.mail("account_disabled", account.email))
        changed = await self._store.accounts.set_enabled(account.id, is_enabled, jobs=jobs)
        return self._changed(f"account_{name}", account, changed)

    async def start_reset(self, account: Account) -> None:
        """Mail the owner a link to choose another password; until then the present one counts (PWD-27).

        Raises:
            AccountDisabled: Nobody could sign in with it.
        """
        if not account.is_enabled:
            raise AccountDisabled(f"{account.email} is disabled: enable it first (thebes accounts enable)")
        expires_at = self._clock() + RESET_LIFETIME.total_seconds()
        token, record = new_token("reset", account, expires_at=expires_at)
        mail = self._notices.mail("reset", account.email, token=token)
        await self._store.accounts.issue(record, jobs=(mail,))
        self._tell("reset_requested", account)

    async def grant(
        self, account: Account, *, roles: Sequence[str] = (), scopes: Sequence[str] = ()
    ) -> Account:
        """Add roles and scopes; they count from the next request on (TOK-40)."""
        jobs = self._notices.hook("granted", account.id)
        changed = await self._store.accounts.grant(account.id, roles=roles, scopes=scopes, jobs=jobs)
        return self._changed("granted", account, changed)

    async def revoke(
        self, account: Account, *, roles: Sequence[str] = (), scopes: Sequence[str] = ()
    ) -> Account:
        """Take roles and scopes away; they count no more from the next request on (TOK-40)."""
        jobs = self._notices.hook("revoked", account.id)
        changed = await self._store.accounts.revoke_grant(account.id, roles=roles, scopes=scopes, jobs=jobs)
        return self._changed("grant_revoked", account, changed)

    async def sign_out(self, account: Account) -> int:
        """End all sessions of an account, and return how many there were."""
        ended = await self._store.sessions.revoke(account.id, reason="ended_by_operator")
        self._tell("sessions_revoked", account)
        return len(ended)

    async def sign_out_everybody(self) -> int:
        """End the sessions of all accounts, and return how many there were (ACC-31)."""
        count = await self._store.sessions.revoke_everything(reason="ended_by_operator")
        self._events.emit("all_sessions_revoked", severity="warning", outcome="allowed")
        return count

    async def _hashed(self, password: str, address: Address) -> str:
        context = (address.text, address.text.partition("@")[0])
        refusal = await self._passwords.judge(password, context=context)
        if refusal is not None:
            raise WeakPassword(refusal.reason, refusal.advice)
        return await self._passwords.hash(password)

    def _changed(self, event: str, account: Account, changed: Account | None) -> Account:
        if changed is None:
            raise NoSuchAccount(account.id)
        self._tell(event, changed)
        return changed

    def _tell(self, event: str, account: Account) -> None:
        self._events.emit(event, outcome="allowed", account=account.id)


def _address(text: str) -> Address:
    address = parse_address(text)
    if address is None:
        raise ConfigurationError(f"{text!r} is no e-mail address; write it as name@example.com")
    return address
