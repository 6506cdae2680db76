"""The tables of a store in memory: what one process keeps, and loses with its end.

For tests and for trying things out. One lock is the transaction: whoever holds it sees and changes everything
at once. A verb decides first and changes afterwards, in steps that can't fail, so there is nothing to undo.

Does not protect: anything from a crash; several workers (each would have sessions of its own).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from thebes.stores.accounts import Account, NewToken
from thebes.stores.failures import Failures
from thebes.stores.jobs import NewJob
from thebes.stores.keys import StoredKey
from thebes.stores.sessions import Revocation, Session


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """A job in the queue.

    Attributes:
        job: What was asked for.
        attempts: How often it was taken.
        due_at: From when on it may be taken (again), seconds since the epoch.
    """

    job: NewJob
    attempts: int = 0
    due_at: float


class MemoryTables:
    """All tables. Hold `lock` around whatever looks and changes.

    Attributes:
        lock: The transaction; one thread may take it again.
        accounts: By id.
        account_ids: The id of an account by its `email_key`.
        tokens: Unused single-use tokens, by digest.
        sessions: By id, in the order in which they were opened.
        sessions_of: The ids of an account's sessions, in the same order, as the keys of a dict.
        revocations: In the order of their sequence.
        sequence: The last one's.
        failures: By key.
        jobs: By id, in the order in which they were queued.
        keys: By kid.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.accounts: dict[str, Account] = {}
        self.account_ids: dict[str, str] = {}
        self.tokens: dict[bytes, NewToken] = {}
        self.sessions: dict[str, Session] = {}
        self.sessions_of: dict[str, dict[str, None]] = {}
        self.revocations: list[Revocation] = []
        self.sequence = 0
        self.failures: dict[bytes, Failures] = {}
        self.jobs: dict[str, QueuedJob] = {}
        self.keys: dict[str, StoredKey] = {}
