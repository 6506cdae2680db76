"""A fault between any two steps of a verb leaves the old state or the new one (ACC-35).

SQLite asks its authorizer about each step of each statement, COMMIT included, and a step that is denied fails.
So each verb is run again and again, and each time the next step is the one that fails, until none does.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from thebes.errors import StoreUnavailable
from thebes.stores.accounts import NewToken
from thebes.stores.failures import Failures, FailureVerdict
from thebes.stores.keys import StoredKey
from thebes.stores.sessions import Verdict
from thebes.stores.sqlite import SQLiteStore
from thebes.stores.sqlite.purging import RULES
from thebes.testing.contract.rows import DAY, NOW
from thebes.testing.contract.session_rows import account, job, session, with_account, with_sessions

LATER = NOW + 5

Verb = Callable[[SQLiteStore], Awaitable[object]]


def token(purpose: Any, digest: bytes) -> NewToken:
    return NewToken(
        digest=digest, purpose=purpose, account_id="ada", email_key="ada@example.com", expires_at=NOW + DAY
    )


def key(kid: str, status: Any = "published") -> StoredKey:
    return StoredKey(kid, "ES256", status, NOW, NOW if status == "promoted" else None, None, f"sealed {kid}")


async def furnished(store: SQLiteStore) -> None:
    """Put something into every table, so that each verb has much to do."""
    await with_account(store, roles=("admin",))
    await with_account(store, "bob")
    await with_sessions(store, "a", "b", "c")
    await with_sessions(store, "bobs", owner="bob")
    await store.sessions.open(session("over", expires_at=NOW - 9 * DAY), most=9, now=NOW)
    await store.sessions.revoke("ada", "over", reason="x", now=NOW - 9 * DAY)
    for purpose in ("verify", "reset", "invite"):
        await store.accounts.issue(token(purpose, purpose.encode()), now=NOW)
    await store.accounts.issue(
        replace(token("reset", b"expired"), account_id="bob", expires_at=NOW - DAY), now=NOW
    )
    await store.failures.settle(
        [b"f", b"g"], lambda rows, now: FailureVerdict(None, [Failures(count=3, last_at=NOW)] * 2)
    )
    await store.failures.settle(
        [b"old"], lambda rows, now: FailureVerdict(None, [Failures(count=3, last_at=NOW - 9 * DAY)])
    )
    await store.jobs.add([job("queued"), replace(job("expired"), expires_at=NOW - 1)], now=NOW)
    await store.keys.insert_first(key("k1", "promoted"))
    await store.keys.publish(key("k2"))


def judged(store: SQLiteStore) -> Awaitable[object]:
    def judge(before: Any, owner: Any, now: float) -> Verdict[str]:
        ended = replace(before, generation=1, revoked_at=now, revoked_for="reused")
        return Verdict("ended", ended, [job("theft"), job("hook")])

    return store.sessions.settle("a", judge, now=LATER)


def charged(store: SQLiteStore) -> Awaitable[object]:
    rows = [Failures(count=4, last_at=LATER, blocked_until=LATER + 9), Failures(count=0, last_at=LATER), None]
    return store.failures.settle(
        [b"f", b"g", b"h"], lambda found, now: FailureVerdict("wait", rows), now=LATER
    )


JOBS = [job("first"), job("second")]
VERBS: dict[str, Verb] = {
    "sessions.open": lambda store: store.sessions.open(
        session("new"), replaces="bobs", most=2, jobs=JOBS, now=LATER
    ),
    "sessions.settle": judged,
    "sessions.revoke one": lambda store: store.sessions.revoke("ada", "a", reason="x", jobs=JOBS, now=LATER),
    "sessions.revoke the others": lambda store: store.sessions.revoke(
        "ada", besides="b", reason="x", jobs=JOBS, now=LATER
    ),
    "sessions.revoke_everything": lambda store: store.sessions.revoke_everything(reason="x", now=LATER),
    "accounts.create": lambda store: store.accounts.create(
        account("eve"), token=replace(token("verify", b"eve"), account_id="eve"), jobs=JOBS, now=LATER
    ),
    "accounts.issue": lambda store: store.accounts.issue(token("reset", b"second"), jobs=JOBS, now=LATER),
    "accounts.confirm_email": lambda store: store.accounts.confirm_email(b"verify", jobs=JOBS, now=LATER),
    "accounts.reset_password": lambda store: store.accounts.reset_password(
        b"reset", "reset", "hash", failure_keys=[b"f", b"g"], jobs=JOBS, now=LATER
    ),
    "accounts.change_password": lambda store: store.accounts.change_password(
        "ada", account().password_hash or "", "hash", keeps="b", jobs=JOBS, now=LATER
    ),
    "accounts.upgrade_hash": lambda store: store.accounts.upgrade_hash(
        "ada", account().password_hash or "", "hash"
    ),
    "accounts.set_enabled": lambda store: store.accounts.set_enabled("ada", False, jobs=JOBS, now=LATER),
    "accounts.grant": lambda store: store.accounts.grant(
        "ada", roles=["r"], scopes=["s"], jobs=JOBS, now=LATER
    ),
    "accounts.revoke_grant": lambda store: store.accounts.revoke_grant(
        "ada", roles=["admin"], jobs=JOBS, now=LATER
    ),
    "accounts.mark_compromised": lambda store: store.accounts.mark_compromised("ada", now=LATER),
    "accounts.delete": lambda store: store.accounts.delete("ada", jobs=JOBS, now=LATER),
    "failures.settle": charged,
    "failures.clear": lambda store: store.failures.clear([b"f", b"g"]),
    "jobs.add": lambda store: store.jobs.add(JOBS, now=LATER),
    "jobs.take": lambda store: store.jobs.take("mail", most=5, lease=60, now=LATER),
    "jobs.done": lambda store: store.jobs.done("queued"),
    "jobs.postpone": lambda store: store.jobs.postpone("queued", seconds=60, now=LATER),
    "jobs.given_up": lambda store: store.jobs.given_up(now=LATER),
    "keys.publish": lambda store: store.keys.publish(key("k3")),
    "keys.promote": lambda store: store.keys.promote("k2", was="sealed k2", sealed="again", now=LATER),
    "keys.retire": lambda store: store.keys.retire("k2", was="sealed k2", sealed="again", retire_at=LATER),
    "keys.reseal": lambda store: store.keys.reseal("k1", was="sealed k1", sealed="again"),
}

Contents = dict[str, list[tuple[Any, ...]]]


def contents(connection: sqlite3.Connection) -> Contents:
    tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'thebes_*'"
    names: Iterable[tuple[str]] = connection.execute(tables).fetchall()
    return {
        name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for (name,) in names
    }


class Saboteur:
    """Denies one step, the n-th after it was armed."""

    def __init__(self) -> None:
        self._left = 0

    def arm(self, step: int) -> None:
        self._left = step

    def __call__(self, *what: object) -> int:
        self._left -= 1
        return sqlite3.SQLITE_DENY if self._left == 0 else sqlite3.SQLITE_OK


async def sabotaged(store: SQLiteStore, step: int, verb: Verb) -> tuple[bool, object]:
    """Return whether a verb was told to have happened though this step fails, and its answer."""
    saboteur = Saboteur()
    connection = await store._database.write(lambda connection: connection)
    assert connection is not None
    # Between two transactions: setting an authorizer makes SQLite prepare every statement anew, and ask about it.
    connection.set_authorizer(saboteur)
    saboteur.arm(step)
    try:
        return True, await verb(store)
    except StoreUnavailable:
        return False, None
    finally:
        connection.set_authorizer(None)


def without_sequences(found: Contents) -> Contents:
    """Leave out the numbers of revocations: those of failed transactions are never given again."""
    return found | {"thebes_revocations": [row[1:] for row in found["thebes_revocations"]]}


@pytest.mark.requirement("ACC-35")
@pytest.mark.parametrize("verb", VERBS)
async def test_a_fault_at_any_step_leaves_the_old_state_or_the_new(
    sqlite_store: SQLiteStore, verb: str
) -> None:
    await furnished(sqlite_store)
    database = sqlite_store._database
    old = without_sequences(database.read(contents))
    has_happened, step = False, 0
    while not has_happened:
        assert without_sequences(database.read(contents)) == old, f"a fault at step {step} left a mixture"
        step += 1
        has_happened, answer = await sabotaged(sqlite_store, step, VERBS[verb])
    assert step > 5, "BEGIN, SAVEPOINT, the verb's own steps, RELEASE and COMMIT have failed once each"
    assert answer is None or answer, "the undisturbed verb had something to do"
    assert without_sequences(database.read(contents)) != old


async def test_a_fault_at_any_step_of_a_purge_leaves_each_row_or_takes_it(sqlite_store: SQLiteStore) -> None:
    await furnished(sqlite_store)
    database = sqlite_store._database
    await sqlite_store.keys.promote("k2", was="sealed k2", sealed="again", now=NOW)
    await sqlite_store.keys.retire("k1", was="sealed k1", sealed="again", retire_at=NOW - 9 * DAY)
    before = database.read(contents)
    has_happened, step = False, 0
    while not has_happened:
        step += 1
        has_happened, _ = await sabotaged(sqlite_store, step, lambda store: store.purge(now=NOW))
    after = database.read(contents)
    lost = {name: len(rows) - len(after[name]) for name, rows in before.items() if rows != after[name]}
    assert lost == {
        "thebes_sessions": 1,
        "thebes_tokens": 1,
        "thebes_revocations": 1,
        "thebes_failures": 1,
        "thebes_keys": 1,
    }
    assert step > 5


async def test_what_was_used_since_it_was_found_is_not_purged(sqlite_store: SQLiteStore) -> None:
    await furnished(sqlite_store)
    await sqlite_store.sessions.revoke("ada", "a", reason="x", now=NOW)
    keys = {"sessions": "a", "tokens": b"reset", "revocations": 2, "failures": b"f", "keys": "k1"}
    counts = await sqlite_store._database.write(
        lambda connection: {
            rule.table: connection.execute(rule.delete, {"key": keys[rule.table], "now": NOW}).rowcount
            for rule in RULES
        }
    )
    assert counts == dict.fromkeys(keys, 0)
