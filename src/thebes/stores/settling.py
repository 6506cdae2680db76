"""What every store demands of a verdict on a session, before it writes anything."""

from __future__ import annotations

from thebes.stores.sessions import Session


def refuse_another(before: Session | None, after: Session) -> None:
    """Raise ValueError if a judge answers with another session than it was shown.

    A row that moved to another account, or to the other mode, would hand somebody's session to somebody else.
    """
    kept = ("id", "account_id", "mode", "created_at")
    if before is None:
        raise ValueError("a judge answered with a session where there is none")
    for name in kept:
        if getattr(before, name) != getattr(after, name):
            raise ValueError(f"a judge changed the {name} of session {before.id}")
