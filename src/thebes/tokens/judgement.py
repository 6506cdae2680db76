"""What a presented refresh token means: one pure function over a session's row, as a table.

Called twice for a request that renews in place. On arrival a row is read, and only the end of a session is
written, so theft and lost answers are judged there. When the answer begins, the token may have been overtaken
by another tab's: that is no theft, whatever the time that the handler took. `POST /auth/refresh` asks once,
for both.

| the token is | and | then |
|---|---|---|
| current | older than the grace | rotated |
| current | younger | kept: the same refresh token, a new access token |
| one generation old | inside the grace | the same successor again |
| one generation old, or older | its successor was presented | theft: the session ends |
| one generation old | its successor never was | a lost answer: the session ends, quietly |
| newer than the row, or its equal with another text | | the store was set back: refused |

Protects against a copied refresh token: once both copies were used, the session is over, whoever came first.
Does not protect inside the grace, where a copy is answered as another tab is; from another network or user
agent that is told, and the second time it costs the session its grace. Nor against a thief whose copy is used
while the owner never comes back: the limits of idleness and of the whole lifetime end that.

Sources: RFC 9700, 4.14.2; ASVS 5.0.0, 7.3.1, 7.3.2, 10.4.5, 10.4.8; TOK-18 to TOK-23, TOK-39.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from thebes.encoding import is_equal
from thebes.events import Severity
from thebes.stores.sessions import Owner, Session, SessionMode
from thebes.tokens.circumstances import Circumstances
from thebes.tokens.refresh_format import Presented

# 20 tabs that ask within one second are 20 judgements and one write: `used_at` may be as much too old.
USED_AT_SECONDS = 1.0
STRANGE_USES = 2  # the first may be a phone that left its network; the second costs the session its grace

Step = Literal["arrival", "renewal", "refresh"]
"""`arrival` only reads, or ends the session; `renewal` follows it; `refresh` is both in one."""

Kind = Literal["rotated", "kept", "successor", "refused"]
Reason = Literal[
    "unknown", "revoked", "mode", "disabled", "epoch", "expired", "idle", "rolled_back", "overtaken",
    "reused", "unconfirmed",
]  # fmt: skip
EventName = Literal["reuse_detected", "refresh_unconfirmed", "refresh_strange", "store_rolled_back"]

_SEVERITIES: dict[EventName, Severity] = {
    "reuse_detected": "error",
    "refresh_unconfirmed": "warning",
    "refresh_strange": "warning",
    "store_rolled_back": "error",
}


@dataclass(frozen=True, slots=True)
class RefreshEvent:
    """What is to be recorded of a judgement; whoever knows the request adds where it came from.

    Attributes:
        name: The event's.
        account_id: Whose session it is.
        session_id: Which one.
    """

    name: EventName
    account_id: str
    session_id: str

    @property
    def severity(self) -> Severity:
        """How serious it is."""
        return _SEVERITIES[self.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The token that follows if it comes to a rotation, made before the transaction begins.

    Attributes:
        token: As it will be sent.
        digest: SHA-256 of that.
        sealed: The same, for the holder of the presented token.
    """

    token: str
    digest: bytes
    sealed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is to be judged.

    Attributes:
        presented: The token, genuine by its MAC.
        mode: How it came; the session's own, or it counts for nothing.
        circumstances: Where it came from.
        step: What may be done about it.
        grace: Seconds of the present setting; a session may have less and never gets more.
        candidate: What a rotation puts in its place; None on arrival.
    """

    presented: Presented
    mode: SessionMode
    circumstances: Circumstances
    step: Step
    grace: float
    candidate: Candidate | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a token means.

    Attributes:
        kind: `rotated`: the candidate is its successor. `kept`: it stays. `successor`: it has one, sealed.
            `refused`: it is worth nothing.
        reason: Of a refusal.
        change: The row as it shall be; None leaves it.
        sealed: The successor, for the holder of the token.
        event: What is to be recorded.
    """

    kind: Kind
    reason: Reason | None = None
    change: Session | None = None
    sealed: str | None = None
    event: RefreshEvent | None = None


def judge(case: Case, row: Session | None, owner: Owner | None, now: float) -> Judgement:
    """Return what a presented token means for a row, its owner and a time on the store's clock."""
    if row is None or owner is None:
        return Judgement("refused", "unknown")
    reason = _end_of(row, owner, case.mode, now)
    if reason is not None:
        return Judgement("refused", reason)
    generations = row.generation - case.presented.generation
    if generations < 0 or (generations == 0 and not is_equal(row.digest, case.presented.digest)):
        return Judgement("refused", "rolled_back", event=_event("store_rolled_back", row))
    # A clock that was set back makes a negative age; it counts as 0.
    is_young = max(0.0, now - row.rotated_at) < min(row.grace, case.grace)
    if generations == 0:
        if is_young or case.candidate is None:
            return _kept(case, row, now)
        return _rotated(case.candidate, case.circumstances, row, now)
    if generations == 1 and is_young:
        return _succeeded(case, row, now)
    if case.step == "renewal":
        return Judgement("refused", "overtaken")
    return _ended(case, row, now, generations)


def _end_of(row: Session, owner: Owner, mode: SessionMode, now: float) -> Reason | None:
    """Say why no token of this session counts any longer, whatever its generation."""
    if row.revoked_at is not None:
        return "revoked"
    if row.mode != mode:
        return "mode"
    if not owner.is_enabled:
        return "disabled"
    if row.epoch != owner.epoch:
        return "epoch"
    if now >= row.expires_at:
        return "expired"
    return "idle" if now - row.used_at > row.idle_seconds else None


def _rotated(candidate: Candidate, here: Circumstances, row: Session, now: float) -> Judgement:
    # Neither expires_at nor auth_time nor amr: activity is no authentication (TOK-22, TOK-39).
    change = replace(
        row,
        generation=row.generation + 1,
        digest=candidate.digest,
        rotated_at=now,
        presented_at=None,
        successor=candidate.sealed,
        network=here.network,
        agent=here.agent,
        used_at=max(row.used_at, now),
        device=here.device,
        address=here.address,
    )
    return Judgement("rotated", change=change)


def _kept(case: Case, row: Session, now: float) -> Judgement:
    if case.step == "arrival":
        return Judgement("kept")
    if row.presented_at is None:
        return Judgement("kept", change=replace(row, presented_at=now, used_at=max(row.used_at, now)))
    return Judgement("kept", change=_used(row, now))


def _succeeded(case: Case, row: Session, now: float) -> Judgement:
    if row.successor is None:
        return Judgement("refused", "overtaken")
    if case.step == "arrival":
        return Judgement("successor", sealed=row.successor)
    here = case.circumstances
    if here.are_of(row.network, row.agent):
        return Judgement("successor", change=_used(row, now), sealed=row.successor)
    # What was answered becomes the place to compare with: five requests of a phone that has just left its
    # network are one strange use, and its owner, still at the old place, is the next.
    uses = row.strange_uses + 1
    change = replace(
        row, strange_uses=uses, network=here.network, agent=here.agent, used_at=max(row.used_at, now)
    )
    if uses >= STRANGE_USES:
        change = replace(change, grace=0.0, successor=None)
    return Judgement("successor", change=change, sealed=row.successor, event=_event("refresh_strange", row))


def _ended(case: Case, row: Session, now: float, generations: int) -> Judgement:
    """End the session: a token was used twice, or nobody knows who has the one that followed it."""
    # A token two generations old has a successor that was exchanged for the current one, so it was presented.
    was_presented = generations > 1 or row.presented_at is not None
    is_theft = was_presented or not case.circumstances.are_of(row.network, row.agent)
    reason: Reason = "reused" if is_theft else "unconfirmed"
    change = replace(row, revoked_at=now, revoked_for=reason, successor=None)
    return Judgement(
        "refused",
        reason,
        change,
        event=_event("reuse_detected" if is_theft else "refresh_unconfirmed", row),
    )


def _used(row: Session, now: float) -> Session | None:
    return replace(row, used_at=now) if now - row.used_at >= USED_AT_SECONDS else None


def _event(name: EventName, row: Session) -> RefreshEvent:
    return RefreshEvent(name, row.account_id, row.id)
