"""What the rooms report, written down as security events: session ids as keyed digests only (LOG-03)."""

from __future__ import annotations

from collections.abc import Callable

from thebes.events import Events
from thebes.facts import RequestFacts
from thebes.tokens.circumstances import Circumstances
from thebes.tokens.judgement import RefreshEvent


class Reports:
    """The listeners that the rooms are given.

    Args:
        events: Where events go.
        session_name: Returns the digest under which a session appears in them.
    """

    def __init__(self, events: Events, session_name: Callable[[str], str]) -> None:
        self._events = events
        self._session_name = session_name

    def refresh(self, event: RefreshEvent, circumstances: Circumstances) -> None:
        """Record what a refresh token gave away."""
        self._events.emit(
            event.name,
            severity=event.severity,
            outcome="reported" if event.name == "refresh_strange" else "denied",
            account=event.account_id,
            session=self._session_name(event.session_id),
            client=circumstances.address,
        )

    def sign_in(self, event: str, account_id: str | None) -> None:
        """Record a delay, a spraying address, or a password that was switched off."""
        self._events.emit(event, severity="warning", outcome="denied", account=account_id, factor="pwd")

    def signing_key(self, kid: str | None, problem: str) -> None:
        """Record a signing key that can't be used, or keys that couldn't be read for a stranger's token."""
        detail = problem if kid is None else f"{kid}: {problem}"
        self._events.emit("signing_key_unusable", severity="error", outcome="failed", detail=detail)

    def chore(self, name: str, error: Exception) -> None:
        """Record that work which is done again and again failed this time: cleaning up, reading keys anew."""
        detail = f"{type(error).__name__}: {error}"
        self._events.emit("chore_failed", severity="error", outcome="failed", reason=name, detail=detail)

    def password(self, event: str, *, reason: str) -> None:
        """Record that a source of breaches is away, or that a stored hash or its pepper can't be read."""
        self._events.emit(event, severity="warning", outcome="failed", reason=reason)

    def token(self, facts: RequestFacts, reason: str) -> None:
        """Record a token of ours that counts for nothing."""
        self._events.emit(
            "token_refused",
            severity="warning",
            outcome="denied",
            reason=reason,
            client=facts.client.address,
            method=facts.method,
            route=facts.scope["path"],
        )
