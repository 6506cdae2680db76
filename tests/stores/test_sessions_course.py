"""Whatever course the verbs of one session take, no row and no ending is lost or doubled."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thebes.stores.store import Store
from thebes.testing.contract.rows import NOW, found
from thebes.testing.contract.session_rows import noted, renewing, session, with_account

NUMBERS = itertools.count()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.sampled_from(["settle", "revoke", "open", "raise"]), max_size=12))
async def test_any_course_of_verbs_leaves_one_row_for_each_id_and_a_note_for_each_end(
    store: Store, course: list[str]
) -> None:
    if await store.accounts.by_id("ada") is None:
        await with_account(store)
    count = len(await noted(store))
    name = f"s{next(NUMBERS)}"
    await store.sessions.open(session(name), most=10_000, now=NOW)
    generation, is_ended = 0, False
    for number, step in enumerate(course):
        if step == "settle":
            generation = await store.sessions.settle(name, renewing(), now=NOW) or 0
        elif step == "revoke":
            ended = await store.sessions.revoke("ada", name, reason="signed_out", now=NOW)
            assert list(ended) == ([] if is_ended else [name])
            is_ended = True
        elif step == "open":
            with pytest.raises(ValueError, match="there already"):
                await store.sessions.open(session(name, generation=number), most=10_000, now=NOW)
        else:
            with pytest.raises(KeyError):
                await store.sessions.settle(name, lambda *_: {}["x"], now=NOW)
    one = await found(store, name)
    assert (one.generation, one.revoked_at is not None) == (generation, is_ended)
    assert len(await noted(store)) == count + is_ended
    await store.sessions.revoke("ada", name, reason="over", now=NOW)
