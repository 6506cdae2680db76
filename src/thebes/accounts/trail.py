"""What visitors do, as audit events: who, from where, how, and in which session (LOG-01, 02).

An id of a session stands in access tokens, so outside of them it is shown as a keyed digest only: in events,
in lists for its owner, and in the path by which one is ended, which every log of requests repeats (LOG-03).
"""

from __future__ import annotations

from collections.abc import Callable

from thebes.accounts.results import Visitor
from thebes.events import Events, Outcome

# The events of a password that was looked at.
_WITH_PASSWORD = frozenset({"sign_in", "password_check"})


class Trail:
    """Writes down what happens in the account service.

    Args:
        events: Where security events go.
        session_name: Returns the digest under which a session appears.
    """

    def __init__(self, events: Events, session_name: Callable[[str], str]) -> None:
        self._events = events
        self.session_name = session_name

    def tell(
        self,
        event: str,
        visitor: Visitor,
        *,
        account: str | None = None,
        session: str | None = None,
        outcome: Outcome = "allowed",
        reason: str | None = None,
    ) -> None:
        """Write one event.

        Args:
            session: The id of the session that it is about; the one that the visitor brought if None.
        """
        session = session or visitor.session_id
        self._events.emit(
            event,
            severity="info" if outcome == "allowed" else "warning",
            outcome=outcome,
            reason=reason,
            account=account,
            session=None if session is None else self.session_name(session),
            client=visitor.address,
            request_id=visitor.request_id,
            method=visitor.method,
            route=visitor.route,
            factor="pwd" if event in _WITH_PASSWORD else None,
        )
