"""Mails as jobs: ordered with a change, made and sent in the background.

Whoever asks for a reset is answered before any mail is made, and an unknown address costs the same: a job of
the same size, sealed and stored alike, that is dropped when it is taken (ACC-02).

Does not protect: against a mail that is sent twice, where a process ended before it said that it had sent it.
Both have one Message-ID.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

import msgspec

from thebes.accounts.jobs import JobFailed, JobSeals
from thebes.accounts.mail import Mailer, MailNotSent, Sender, UnsafeMail, message, wire_address
from thebes.accounts.templates import Order, Templates
from thebes.encoding import encode, random_bytes
from thebes.secret import Secret
from thebes.stores.jobs import Job, NewJob

# ACC-05: how long a link counts. Its mail is given up with it.
LIFETIMES: Mapping[str, timedelta] = {
    "verify": timedelta(hours=24),
    "invite": timedelta(hours=24),
    "reset": timedelta(minutes=30),
}
NOTICE_LIFETIME = timedelta(days=3)  # half of RFC 5321's four to five days: later it would alarm for nothing
AT_ONCE = 2
LEASE_S = 120.0  # well over the deadline of one mail in `smtp`
_NOBODY = Sender("", "no-reply@example.com")
_TOKEN_BYTES = 32  # of a real token: the decoy is as long


class _Content(msgspec.Struct, frozen=True):
    """What is sealed into the job."""

    kind: str
    to: str | None
    token: str | None
    facts: dict[str, str]
    account: str | None
    made_at: float


class Mailing:
    """Orders mails, and is the crew that sends them.

    Args:
        seals: For the contents of jobs.
        templates: What the mails say.
        mailer: Who sends them.
        address_of: Returns the address of an account, None if it is gone, for mails that were ordered where
            nobody knew it.
    """

    at_once = AT_ONCE
    lease_s = LEASE_S

    def __init__(
        self,
        seals: JobSeals,
        templates: Templates,
        mailer: Mailer,
        *,
        address_of: Callable[[str], Awaitable[str | None]] | None = None,
    ) -> None:
        self._seals = seals
        self._templates = templates
        self._mailer = mailer
        self._address_of = address_of

    def job(
        self,
        kind: str,
        *,
        to: str,
        now: float,
        token: Secret | None = None,
        account_id: str | None = None,
        facts: Mapping[str, str] | None = None,
        job_id: str | None = None,
    ) -> NewJob:
        """Return the job of a mail, to be stored with the change that it follows.

        Args:
            kind: One of `templates.KINDS`.
            to: The account's own address, never what somebody typed into a form for it.
            now: Seconds since the epoch.
            token: For the link, where the kind has one.
            account_id: For events.
            facts: `device` and `address`, for the owner.
            job_id: Of a mail that must be sent for one thing only once; random if None.

        Raises:
            ConfigurationError: An unknown kind or fact, or a token too many or too few.
            UnsafeMail: The address isn't one.
        """
        wire_address(to)
        return self._sealed(kind, to, now, token, account_id, facts or {}, job_id)

    def job_to_owner(
        self,
        kind: str,
        *,
        account_id: str,
        now: float,
        facts: Mapping[str, str] | None = None,
        job_id: str | None = None,
    ) -> NewJob:
        """Return the job of a mail to whatever address the account has when it is sent.

        For whoever knows a session and not its account, such as the judge of a refresh token. No link: a
        token belongs to the address that it was made for.

        Raises:
            ConfigurationError: An unknown kind or fact, or one that needs a token.
        """
        return self._sealed(kind, None, now, None, account_id, facts or {}, job_id)

    def nothing(self, *, now: float) -> NewJob:
        """Return a job that costs what that of a reset costs, and sends nothing."""
        content = _Content(
            kind="nothing",
            to="nobody.at.all@example.com",
            token=encode(random_bytes(_TOKEN_BYTES)),
            facts={},
            account=None,
            made_at=now,
        )
        expires_at = now + _lifetime("reset")
        return self._seals.new_job("mail", msgspec.json.encode(content), expires_at=expires_at)

    async def carry_out(self, job: Job) -> None:
        """Make and send the mail of a job.

        Raises:
            JobFailed: It wasn't sent, or can't be made.
        """
        content = self._content(job)
        if content.kind == "nothing":
            # Made and thrown away: whoever asks again meanwhile waits as long as for a real one (ACC-02).
            order = _order(msgspec.structs.replace(content, kind="reset"), content.to or "")
            message(self._templates.mail(order, mail_id=job.id), _NOBODY)
            return
        to = content.to or await self._owner(content.account)
        try:
            await self._mailer.send(self._templates.mail(_order(content, to), mail_id=job.id))
        except MailNotSent as failure:
            code = f"reply {failure.code}" if failure.code is not None else None
            detail = ", ".join(part for part in (code, failure.detail) if part)
            raise JobFailed(failure.reason, detail=detail, is_final=failure.is_final) from None
        except UnsafeMail as failure:
            raise JobFailed("unsafe", detail=failure.part, is_final=True) from None

    def describe(self, job: Job) -> Mapping[str, str | None]:
        """Return the account and the kind of a job's mail, nothing where it can't be opened."""
        try:
            content = self._content(job)
        except JobFailed:
            return {}
        return {"account": content.account, "detail": content.kind}

    async def close(self) -> None:
        """Close the mailer."""
        await self._mailer.close()

    async def _owner(self, account_id: str | None) -> str:
        if account_id is None or self._address_of is None:
            raise JobFailed("no_address", is_final=True)
        address = await self._address_of(account_id)
        if address is None:
            raise JobFailed("no_address", detail="the account is gone", is_final=True)
        return address

    def _sealed(
        self,
        kind: str,
        to: str | None,
        now: float,
        token: Secret | None,
        account_id: str | None,
        facts: Mapping[str, str],
        job_id: str | None,
    ) -> NewJob:
        content = _Content(
            kind=kind,
            to=to,
            token=None if token is None else token.reveal_text(),
            facts=dict(facts),
            account=account_id,
            made_at=now,
        )
        order = _order(content, to or "")  # refuses what makes no sense
        return self._seals.new_job(
            "mail", msgspec.json.encode(content), expires_at=order.expires_at, job_id=job_id
        )

    def _content(self, job: Job) -> _Content:
        raw = self._seals.open(job)
        try:
            return msgspec.json.decode(raw, type=_Content)
        except msgspec.DecodeError:
            pass  # raised below, outside: a chained error could carry the content
        raise JobFailed("unreadable")


def _order(content: _Content, to: str) -> Order:
    return Order(
        kind=content.kind,
        to=to,
        token=None if content.token is None else Secret(content.token),
        facts=content.facts,
        made_at=content.made_at,
        expires_at=content.made_at + _lifetime(content.kind),
    )


def _lifetime(kind: str) -> float:
    return LIFETIMES.get(kind, NOTICE_LIFETIME).total_seconds()
