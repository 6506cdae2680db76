"""What the service asks of mails and hooks: work that is queued with the change that it follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from thebes.stores.jobs import NewJob


class Notices(Protocol):
    """Makes the jobs; whoever takes them off the queue sends the mails and calls the hooks."""

    def mail(self, kind: str, to: str, *, token: str | None = None, **facts: str) -> NewJob:
        """Return a mail to an account's own address; a token becomes a link on the public URL."""

    def nothing(self) -> NewJob:
        """Return a job that costs as much as a mail and does nothing: an unknown address takes as long."""

    def hook(self, name: str, account_id: str, **facts: str) -> Sequence[NewJob]:
        """Return the calls of the handlers of an event, if it has any."""

    def wake(self) -> None:
        """Say that there is work."""
