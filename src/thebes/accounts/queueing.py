"""What the account service is given for mails and hooks: it meets `notices.Notices`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from thebes.accounts.hooks import Hooks
from thebes.accounts.mailing import Mailing
from thebes.secret import Secret
from thebes.stores.jobs import NewJob


class QueuedNotices:
    """Makes jobs of mails and hooks, and wakes whoever works them off.

    Args:
        mailing: Orders mails.
        hooks: Knows the handlers.
        wake: Called when jobs were stored: `JobRunner.wake`.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        mailing: Mailing,
        hooks: Hooks,
        *,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._mailing = mailing
        self._hooks = hooks
        self._wake = wake
        self._clock = clock

    def mail(self, kind: str, to: str, *, token: str | None = None, **facts: str) -> NewJob:
        """Return a mail to an account's own address; a token becomes a link on the public URL."""
        link = None if token is None else Secret(token)
        return self._mailing.job(kind, to=to, token=link, facts=facts, now=self._clock())

    def mail_to_owner(self, kind: str, account_id: str, *, job_id: str | None = None, **facts: str) -> NewJob:
        """Return a mail to the address that the account has when it is sent.

        Args:
            job_id: Of a mail that must be sent for one thing only once, such as a session's end.
        """
        return self._mailing.job_to_owner(
            kind, account_id=account_id, facts=facts, now=self._clock(), job_id=job_id
        )

    def nothing(self) -> NewJob:
        """Return a job that costs as much as a mail and does nothing: an unknown address takes as long."""
        return self._mailing.nothing(now=self._clock())

    def hook(self, name: str, account_id: str, **facts: str) -> Sequence[NewJob]:
        """Return the calls of the handlers of an event, if it has any."""
        return self._hooks.jobs_for(name, account_id, facts=facts, now=self._clock())

    def wake(self) -> None:
        """Say that there is work."""
        self._wake()
