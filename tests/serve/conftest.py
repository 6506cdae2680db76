"""Every suite here runs on both event loops; counts are those of a quick run unless asked for in full."""

import pytest

from gated import Echo
from issuing import Authority


@pytest.fixture(params=["uvloop", "asyncio"], scope="module")
def loop(request: pytest.FixtureRequest) -> str:
    """The kind of event loop."""
    return request.param


@pytest.fixture
def app() -> Echo:
    """An app that notes what reaches it."""
    return Echo()


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    """A root with a certificate for localhost that is good; a suite that changes it makes its own."""
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.issue()
    return made
