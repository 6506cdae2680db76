"""What is kept of a session, and the verbs by which it changes.

A session is one row. Of its refresh tokens the row keeps the current one's digest and, for the length of
the grace, that same token sealed so that only the holder of its predecessor can open it. What a presented
token means is decided by a function that the caller passes in and the store calls inside its transaction:
so the rules stand in one place, and no two callers ever decide on the same state of a row.

Sources: ASVS 5.0.0, 7.4 and 10.4.5; RFC 9700, 4.14; TOK-17 to TOK-24, ACC-34.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from thebes.stores.jobs import NewJob

SessionMode = Literal["cookie", "bearer"]

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session. Instants are seconds since the epoch, on the store's clock.

    Attributes:
        id: Random, never secret: it stands in tokens and in lists for the owner.
        account_id: Whose it is.
        mode: Whether its tokens travel as cookies or in bodies and headers; never both.
        generation: Counts the refresh tokens, from 0.
        digest: SHA-256 of the current refresh token, exactly as it is sent (TOK-17).
        rotated_at: When the current token was made.
        presented_at: When it was first presented; None while its delivery is unconfirmed.
        successor: The current token, sealed for the holder of its predecessor; None for the first.
        network: Digest of the client's network (/24, /48) at that rotation.
        agent: Digest of the client's user agent at that rotation.
        strange_uses: How often a predecessor came from another network or user agent within the grace.
        grace: Seconds for which a predecessor, or a current token so young, is answered without rotating.
        created_at: When somebody signed in.
        used_at: The last renewal or refresh, for the idle limit.
        expires_at: The end, whatever the activity (TOK-22).
        idle_seconds: Unused for longer, it can't be refreshed (TOK-23).
        is_remembered: Whether its cookies outlive the browser.
        auth_time: The last real authentication (TOK-39).
        amr: How that was done (RFC 8176).
        epoch: The account's, when the session was last confirmed; another one means that it has ended.
        device: A label for the owner, from the user agent.
        address: The client's approximate address, for the owner.
        revoked_at: When it was ended before its time.
        revoked_for: Why, a word of a closed set.
    """

    id: str
    account_id: str
    mode: SessionMode
    generation: int
    digest: bytes
    rotated_at: float
    presented_at: float | None = None
    successor: str | None = None
    network: bytes
    agent: bytes
    strange_uses: int = 0
    grace: float
    created_at: float
    used_at: float
    expires_at: float
    idle_seconds: float
    is_remembered: bool = False
    auth_time: float
    amr: tuple[str, ...]
    epoch: int
    device: str
    address: str
    revoked_at: float | None = None
    revoked_for: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """What of an account decides about its sessions and stands in their tokens.

    Attributes:
        id: The account's.
        is_enabled: Whether it may be used at all.
        is_verified: Whether its address is confirmed.
        epoch: Raised by whatever makes earlier access tokens untrue.
        roles: Granted names.
        scopes: Granted names.
    """

    id: str
    is_enabled: bool
    is_verified: bool
    epoch: int
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict(Generic[Answer]):
    """What `settle` has to do, and what it returns to the caller.

    Attributes:
        answer: Returned as it is.
        session: The row as it shall be from now on; None leaves it. Its id, account, mode and `created_at`
            never change. With a `revoked_at` where there was none, a revocation row is written with it.
        jobs: Queued in the same transaction.
    """

    answer: Answer
    session: Session | None = None
    jobs: Sequence[NewJob] = ()


Judge = Callable[[Session | None, Owner | None, float], Verdict[Answer]]
"""Pure: called with the row, its owner and the store's clock, inside the store's transaction."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """One entry of the list of what must not be believed any longer, though its signature holds.

    Attributes:
        sequence: Rises from entry to entry; a reader remembers the last that it has applied.
        kind: `session`: the subject is a session's id. `account`: its id; tokens of an epoch below
            `epoch` are void.
        subject: Whose tokens are void.
        epoch: For `account`.
        until: When the last token that it concerns has expired by itself.
    """

    sequence: int
    kind: Literal["session", "account"]
    subject: str
    epoch: int
    until: float


class SessionStore(Protocol):
    """Sessions and revocations. Every verb is one transaction: it happens whole, once, or not at all.

    `now` is seconds since the epoch; None is the store's own clock, which is the only one in production.
    Revocation rows are written in the transaction that makes them true, and `sequence` has risen before
    that transaction is visible to any reader, so that nobody can see an ended session as alive and also
    believe to be up to date. It rises by one for each row, and no number is used twice, not even after its
    row was purged: a reader that meets a gap knows that a transaction is still under way.
    """

    async def open(
        self,
        session: Session,
        *,
        replaces: str | None = None,
        most: int,
        jobs: Sequence[NewJob] = (),
        now: float | None = None,
    ) -> bool:
        """Insert a session, and end the one that it replaces and the account's oldest beyond `most`.

        Args:
            session: Its epoch must be the account's.
            replaces: The id of the session that the client brought, of whatever account; it is revoked
                (`replaced`). An unknown one changes nothing.
            most: How many live sessions an account may have (ACC-34); the oldest are revoked (`crowded_out`).
            jobs: Queued with it.

        Returns:
            False, and nothing has happened, if the account is missing, disabled or has another epoch.

        Raises:
            ValueError: A session with this id is `there already`, in these words; nothing has happened.
        """

    async def find(self, session_id: str) -> tuple[Session, Owner] | None:
        """Return a session, ended or not, with its owner; a read that never waits for a writer."""

    async def settle(
        self,
        session_id: str,
        judge: Judge[Answer],
        *,
        begin_within: float | None = None,
        now: float | None = None,
    ) -> Answer | None:
        """Let `judge` decide on a row and do what it says, in one transaction.

        Args:
            session_id: An unknown one is judged as (None, None).
            judge: Pure and quick; it may be called in another thread.
            begin_within: Seconds after which a transaction that hasn't begun is withdrawn; None waits for
                its turn, up to the store's own limit. Once begun it is finished whatever the caller does:
                who is cancelled while waiting loses the answer, never the transaction.

        Returns:
            What the judge answered, or None if it was withdrawn and nothing has happened.

        Raises:
            StoreUnavailable: The store can't be written.
            ValueError: The `judge`, in this word, changed what never changes, or gave a row out of nothing.

        What the judge itself raises is raised here too. Either way nothing has happened.
        """

    async def of_account(self, account_id: str, *, now: float | None = None) -> Sequence[Session]:
        """Return the account's live sessions, the newest first."""

    async def revoke(
        self,
        account_id: str,
        session_id: str | None = None,
        *,
        besides: str | None = None,
        reason: str,
        jobs: Sequence[NewJob] = (),
        now: float | None = None,
    ) -> Sequence[str]:
        """End one session of an account, or all of them, or all besides one; return the ids of those ended.

        A session of another account is an unknown one (ACC-30).
        """

    async def revoke_everything(self, *, reason: str, now: float | None = None) -> int:
        """End the sessions of all accounts (ACC-31); return how many."""

    def sequence(self) -> int:
        """Return the sequence of the last revocation of any process on this machine; costs no I/O."""

    async def revocations(self, after: int, *, now: float | None = None) -> Sequence[Revocation]:
        """Return the entries behind `after` that still matter, in their order."""
