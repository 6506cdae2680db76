"""Sessions that live on by refresh tokens: opened, recognised, renewed.

    refresh = RefreshTokens(store.sessions, keys)
    session, token = await refresh.open(account.id, account.epoch, mode="cookie", ...)
    presented = refresh.read(token)
    renewed = await refresh.renew(presented, mode="cookie", circumstances=here)

What a token means is said in `judgement`. Here it is asked for at the right moment: in a read, where nothing
has to be written, and inside the store's transaction, where something has. The token that may follow is made
before that transaction begins, so no random bits and no sealing happen while others wait for their turn.

Does not protect: see `judgement`. A store that was set back to a backup refuses the tokens that it doesn't
know, and may take a token of the lost time for a stolen one, once the backup's own line has gone on.

Sources: RFC 9700, 4.14; ASVS 5.0.0, 7.2.3, 7.2.4, 10.4.5; NIST SP 800-63B-4, 2.1.3, 2.2.3; TOK-16 to TOK-27.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from thebes.encoding import random_id
from thebes.errors import ConfigurationError
from thebes.stores.jobs import NewJob
from thebes.stores.sessions import Owner, Session, SessionMode, SessionStore, Verdict
from thebes.tokens.circumstances import Circumstances
from thebes.tokens.judgement import Candidate, Case, Judgement, Reason, RefreshEvent, Step, judge
from thebes.tokens.refresh_format import Presented, RefreshKeys, make_token, read_token

__all__ = ["Circumstances", "Presented", "RefreshKeys", "RefreshTokens", "Renewed", "max_age"]

GRACE = timedelta(seconds=30)  # the most that TOK-21 allows; browsers re-send old cookies for seconds
LIFETIME = timedelta(days=30)  # TOK-22: NIST SP 800-63B-4, 2.1.3, one factor
IDLE = timedelta(days=7)  # TOK-23
MAX_LIFETIME = timedelta(days=400)  # RFC 6265bis, 5.5: browsers keep no cookie for longer (TOK-33)
MOST_SESSIONS = 20  # of one account (ACC-34)

Kind = Literal["rotated", "kept", "successor", "withdrawn", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """What came of a presented token.

    Attributes:
        kind: `rotated`, `kept` and `successor`: its holder is known. `withdrawn`: the store was too busy, and
            nothing has happened. `refused`: it counts for nothing.
        token: The refresh token that its holder is to have from now on; None on arrival, and where it is
            refused.
        session: The row as it is now; None if withdrawn or refused.
        owner: What of the account stands in access tokens; None if withdrawn or refused.
        reason: Of a refusal, a word of a closed set, for logs and never for clients.
        events: What came to light; `report` was told of each.
    """

    kind: Kind
    token: str | None = field(default=None, repr=False)
    session: Session | None = None
    owner: Owner | None = None
    reason: Reason | None = None
    events: Sequence[RefreshEvent] = ()


class RefreshTokens:
    """Open sessions, and judge the tokens by which they go on.

    Args:
        store: Holds the sessions.
        keys: MACs and seals of refresh tokens.
        grace: How long a token's predecessor is answered with it, and a current token with itself; 0 to 30
            seconds, 0 being what ASVS 10.4.5 asks for by the letter. Sessions opened with more get less.
        lifetime: The end of a session, whatever the activity; up to 400 days.
        idle: Unused for longer, it ends.
        most_sessions: How many an account may have at once; the oldest make room.
        theft_jobs: Returns what has to happen when a session ends because a token was used twice: the mail to
            its owner. Called inside the store's transaction, maybe in another thread: it must not wait.
        report: Called with what is to be recorded, and where the token came from; also when whoever asked has
            left without waiting for the answer.

    Raises:
        ConfigurationError: A setting outside its bounds.
    """

    __slots__ = (
        "_grace", "_idle", "_keys", "_lifetime", "_most_sessions", "_report", "_store", "_theft_jobs"
    )  # fmt: skip

    def __init__(
        self,
        store: SessionStore,
        keys: RefreshKeys,
        *,
        grace: timedelta = GRACE,
        lifetime: timedelta = LIFETIME,
        idle: timedelta = IDLE,
        most_sessions: int = MOST_SESSIONS,
        theft_jobs: Callable[[Session], Sequence[NewJob]] = lambda _: (),
        report: Callable[[RefreshEvent, Circumstances], None] = lambda event, circumstances: None,  # noqa: ARG005
    ) -> None:
        _require_bounds(grace, lifetime, idle, most_sessions)
        self._store = store
        self._keys = keys
        self._grace = grace.total_seconds()
        self._lifetime = lifetime.total_seconds()
        self._idle = idle.total_seconds()
        self._most_sessions = most_sessions
        self._theft_jobs = theft_jobs
        self._report = report

    def read(self, token: bytes | str) -> Presented | None:
        """Return what a token says that is genuine by its MAC, else None; it waits for nothing."""
        return read_token(self._keys, token)

    async def open(
        self,
        owner_id: str,
        epoch: int,
        *,
        mode: SessionMode,
        amr: Sequence[str],
        circumstances: Circumstances,
        auth_time: float | None = None,
        is_remembered: bool = False,
        replaces: str | None = None,
        jobs: Sequence[NewJob] = (),
        now: float | None = None,
    ) -> tuple[Session, str] | None:
        """Open a session for somebody who has just signed in, and return it with its first refresh token.

        Every value of it is new, whatever the client brought (TOK-27).

        Args:
            owner_id: The account.
            epoch: The account's, as it was when the sign-in was checked.
            mode: How its tokens travel.
            amr: How its holder authenticated (RFC 8176).
            circumstances: Where from.
            auth_time: When; now if None.
            is_remembered: Whether its cookies outlive the browser.
            replaces: The id of the session that the client brought; it ends with this.
            jobs: Queued in the same transaction.
            now: Seconds since the epoch; the clocks of this process and the store if None.

        Returns:
            None, and nothing has happened, if the account is gone, disabled or has another epoch by now.
        """
        began = time.time() if now is None else now
        first = make_token(self._keys, random_id(), 0)
        session = Session(
            id=first.session_id,
            account_id=owner_id,
            mode=mode,
            generation=0,
            digest=first.digest,
            rotated_at=began,
            network=circumstances.network,
            agent=circumstances.agent,
            grace=self._grace,
            created_at=began,
            used_at=began,
            expires_at=began + self._lifetime,
            idle_seconds=self._idle,
            is_remembered=is_remembered,
            auth_time=began if auth_time is None else auth_time,
            amr=tuple(amr),
            epoch=epoch,
            device=circumstances.device,
            address=circumstances.address,
        )
        is_open = await self._store.open(
            session, replaces=replaces, most=self._most_sessions, jobs=jobs, now=now
        )
        return (session, first.token) if is_open else None

    async def arrive(
        self,
        presented: Presented,
        *,
        mode: SessionMode,
        circumstances: Circumstances,
        now: float | None = None,
    ) -> Renewed:
        """Say who holds a token, when its request arrives; of the row nothing changes but its end.

        `kept` and `successor` say that the holder is known; `renew` follows when the answer begins.

        Raises:
            StoreUnavailable: It can't be read; or the session must end, and the store can't be written.
        """
        case = self._case(presented, mode, circumstances, "arrival")
        row, owner = await self._store.find(presented.session_id) or (None, None)
        judgement = judge(case, row, owner, time.time() if now is None else now)
        if judgement.change is None:
            return self._told(case, self._renewed(case, judgement, row, owner))
        # Between the read and the write another request may have come: judged again, on what is true then.
        return await self._settle(case, None, now)

    async def renew(
        self,
        presented: Presented,
        *,
        mode: SessionMode,
        circumstances: Circumstances,
        begin_within: float | None = None,
        after_arrival: bool = False,
        now: float | None = None,
    ) -> Renewed:
        """Give the holder of a token the one that it is to have from now on, in one transaction.

        Args:
            presented: What `read` returned.
            mode: How the token came.
            circumstances: Where from.
            begin_within: Seconds after which a transaction that hasn't begun is withdrawn; None waits.
            after_arrival: Whether `arrive` has judged this request's token already. Then it isn't judged
                again for theft: it may have been overtaken while the handler was at work.
            now: Seconds since the epoch; the store's clock if None.

        Raises:
            StoreUnavailable: The store can't be written.
        """
        step: Step = "renewal" if after_arrival else "refresh"
        case = self._case(presented, mode, circumstances, step, self._candidate(presented))
        return await self._settle(case, begin_within, now)

    def _case(
        self,
        presented: Presented,
        mode: SessionMode,
        circumstances: Circumstances,
        step: Step,
        candidate: Candidate | None = None,
    ) -> Case:
        return Case(
            presented=presented,
            mode=mode,
            circumstances=circumstances,
            step=step,
            grace=self._grace,
            candidate=candidate,
        )

    def _candidate(self, presented: Presented) -> Candidate:
        successor = make_token(self._keys, presented.session_id, presented.generation + 1)
        sealed = self._keys.seal_for(presented.random, successor.token.encode("ascii"), _bound(presented))
        return Candidate(token=successor.token, digest=successor.digest, sealed=sealed)

    async def _settle(self, case: Case, begin_within: float | None, now: float | None) -> Renewed:
        # A thief who hangs up in time would else keep what came to light out of the log.
        return await asyncio.shield(self._settle_whole(case, begin_within, now))

    async def _settle_whole(self, case: Case, begin_within: float | None, now: float | None) -> Renewed:
        def decide(row: Session | None, owner: Owner | None, at: float) -> Verdict[Renewed]:
            judgement = judge(case, row, owner, at)
            renewed = self._renewed(case, judgement, row, owner)
            if renewed.reason != judgement.reason:
                return Verdict(renewed)
            jobs = self._theft_jobs(row) if row and judgement.reason == "reused" else ()
            return Verdict(renewed, judgement.change, jobs)

        answer = await self._store.settle(
            case.presented.session_id, decide, begin_within=begin_within, now=now
        )
        return Renewed(kind="withdrawn") if answer is None else self._told(case, answer)

    def _told(self, case: Case, renewed: Renewed) -> Renewed:
        for event in renewed.events:
            self._report(event, case.circumstances)
        return renewed

    def _renewed(self, case: Case, judgement: Judgement, row: Session | None, owner: Owner | None) -> Renewed:
        events = () if judgement.event is None else (judgement.event,)
        if judgement.kind == "refused":
            return Renewed(kind="refused", reason=judgement.reason, events=events)
        token = self._token_of(case, judgement)
        if token is None and row is not None:
            # Genuine, one generation old, and yet not the one before the current: of a history that the
            # store has lost.
            lost = RefreshEvent("store_rolled_back", row.account_id, row.id)
            return Renewed(kind="refused", reason="rolled_back", events=(lost,))
        return Renewed(
            kind=judgement.kind,
            token=None if case.step == "arrival" else token,
            session=judgement.change or row,
            owner=owner,
            events=events,
        )

    def _token_of(self, case: Case, judgement: Judgement) -> str | None:
        if judgement.kind == "rotated" and case.candidate is not None:
            return case.candidate.token
        if judgement.sealed is None:
            return case.presented.token
        opened = self._keys.open_for(case.presented.random, judgement.sealed, _bound(case.presented))
        return None if opened is None else opened.decode("ascii")


def max_age(session: Session, *, now: float | None = None) -> int | None:
    """Return what a session's cookies state as Max-Age: what is left of it; None ends them with the browser.

    Rounded down, so that no cookie outlives its session; at most 400 days (TOK-33).
    """
    if not session.is_remembered:
        return None
    left = session.expires_at - (time.time() if now is None else now)
    return max(0, min(math.floor(left), int(MAX_LIFETIME.total_seconds())))


def _bound(presented: Presented) -> bytes:
    """Name the place of a sealed successor: another session's, or another generation's, doesn't open."""
    return f"{presented.session_id}.{presented.generation + 1}".encode("ascii")


def _require_bounds(grace: timedelta, lifetime: timedelta, idle: timedelta, most_sessions: int) -> None:
    problems = []
    if not timedelta(0) <= grace <= GRACE:
        problems.append(f"the refresh grace is {grace}: 0 to 30 seconds are allowed")
    if not timedelta(0) < lifetime <= MAX_LIFETIME:
        problems.append(f"sessions live for {lifetime}: up to 400 days are allowed")
    if idle <= timedelta(0):
        problems.append(f"sessions may be idle for {idle}: more than 0 is needed")
    if most_sessions < 1:
        problems.append(f"an account may have {most_sessions} sessions: at least 1 is needed")
    if problems:
        raise ConfigurationError(*problems)
