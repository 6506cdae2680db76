"""Both verifiers, with keys whose rows lie in memory."""

import pytest

from thebes.tokens.bearer_tokens import BearerTokens
from thebes.tokens.cookie_tokens import CookieTokens
from thebes.tokens.signing_keys import SigningKeys
from token_forging import Verifier
from token_making import ISSUER, NOW, KeysInMemory, mac_keys, seals


@pytest.fixture
def cookies() -> CookieTokens:
    return CookieTokens(mac_keys("old"), issuer=ISSUER)


@pytest.fixture
def store() -> KeysInMemory:
    return KeysInMemory()


@pytest.fixture
async def keys(store: KeysInMemory) -> SigningKeys:
    keys = SigningKeys(store, seals("old"))
    await keys.load(now=NOW)
    return keys


@pytest.fixture
def bearers(keys: SigningKeys) -> BearerTokens:
    return BearerTokens(keys, issuer=ISSUER)


@pytest.fixture
async def eddsa_bearers() -> BearerTokens:
    keys = SigningKeys(KeysInMemory(), seals("old"), algorithm="EdDSA")
    await keys.load(now=NOW)
    return BearerTokens(keys, issuer=ISSUER)


@pytest.fixture(params=["cookies", "bearers", "eddsa_bearers"])
def tokens(request: pytest.FixtureRequest) -> Verifier:
    """Each kind of verifier in turn."""
    verifier: Verifier = request.getfixturevalue(request.param)
    return verifier
