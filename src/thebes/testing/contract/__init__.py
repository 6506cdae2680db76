"""The contract of a store as tests: whoever writes a store runs them against their own.

    # test_my_store.py
    import pytest

    from my_store import MyStore
    from thebes.testing.contract import *  # noqa: F403 - every test of the contract, with the fixture below


    @pytest.fixture
    async def store(tmp_path):
        made = MyStore(tmp_path / "my.db")
        await made.start()
        yield made
        await made.close()

Each test asks for the fixture `store`, a `thebes.stores.store.Store`, and wants it started and empty. They
need pytest-asyncio, with `asyncio_mode = auto` or the fixture made by `pytest_asyncio.fixture`.

Does not test: what a crash or a full disk leaves behind, several processes on one store, reads while somebody
writes, `begin_within`, and what `purge` takes beside sessions and revocations.
"""

from __future__ import annotations

import pytest

# Before they are imported: a module that is there already is not rewritten any more, and its asserts would
# fail without a word on what was found.
pytest.register_assert_rewrite(
    "thebes.testing.contract.accounts",
    "thebes.testing.contract.failures",
    "thebes.testing.contract.jobs",
    "thebes.testing.contract.keys",
    "thebes.testing.contract.rows",
    "thebes.testing.contract.session_ends",
    "thebes.testing.contract.session_rows",
    "thebes.testing.contract.sessions",
    "thebes.testing.contract.tokens",
)

from thebes.testing.contract.accounts import (
    TestChangingPasswords,
    TestCreatingAccounts,
    TestDeletingAccounts,
    TestDisablingAccounts,
    TestGranting,
    test_where_there_is_no_account_nothing_happens,
    test_without_a_time_the_store_has_its_own,
)
from thebes.testing.contract.failures import TestClearingFailures, TestParallelFailures, TestSettlingFailures
from thebes.testing.contract.jobs import TestGivingUpJobs, TestPostponingJobs, TestTakingJobs, TestTheNextJob
from thebes.testing.contract.keys import (
    TestPromotingKeys,
    TestPublishingKeys,
    TestResealingKeys,
    TestRetiringKeys,
    TestTheFirstKey,
)
from thebes.testing.contract.session_ends import (
    TestListsOfSessions,
    TestPurgingSessions,
    TestRevocations,
    TestRevokingSessions,
    test_a_deleted_account_takes_its_sessions_with_it,
)
from thebes.testing.contract.sessions import TestOpeningSessions, TestSettlingSessions
from thebes.testing.contract.tokens import (
    TestConfirmingAddresses,
    TestLookingAtTokens,
    TestResettingPasswords,
    TestUsingTokens,
    test_a_token_of_another_account_is_theirs,
)

__all__ = [
    "TestChangingPasswords",
    "TestClearingFailures",
    "TestConfirmingAddresses",
    "TestCreatingAccounts",
    "TestDeletingAccounts",
    "TestDisablingAccounts",
    "TestGivingUpJobs",
    "TestGranting",
    "TestListsOfSessions",
    "TestLookingAtTokens",
    "TestOpeningSessions",
    "TestParallelFailures",
    "TestPostponingJobs",
    "TestPromotingKeys",
    "TestPublishingKeys",
    "TestPurgingSessions",
    "TestResealingKeys",
    "TestResettingPasswords",
    "TestRetiringKeys",
    "TestRevocations",
    "TestRevokingSessions",
    "TestSettlingFailures",
    "TestSettlingSessions",
    "TestTakingJobs",
    "TestTheFirstKey",
    "TestTheNextJob",
    "TestUsingTokens",
    "test_a_deleted_account_takes_its_sessions_with_it",
    "test_a_token_of_another_account_is_theirs",
    "test_where_there_is_no_account_nothing_happens",
    "test_without_a_time_the_store_has_its_own",
]
