"""Each of our stores keeps the contract of `thebes.testing.contract`; the fixture `store` is in conftest.py."""

from operator import attrgetter

import pytest

from thebes.testing import contract
from thebes.testing.contract import *  # noqa: F403

# The rows of the matrix are ours: whoever else runs the contract has no such marker.
REQUIREMENTS = {
    "TestLookingAtTokens.test_a_reset_request_changes_nothing_on_the_account": "ACC-07",
    "TestUsingTokens.test_of_simultaneous_uses_exactly_one_succeeds": "ACC-06",
    "TestUsingTokens.test_a_new_one_voids_the_earlier_ones_of_its_purpose": "ACC-07",
}
for name, row_id in REQUIREMENTS.items():
    pytest.mark.requirement(row_id)(attrgetter(name)(contract))  # fails where there is no such test
