"""What an operator may do to accounts, and what nobody may do for their owners."""

import base64
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from hashlib import sha256

import pytest

from account_api import OTHER_PASSWORD, PASSWORD
from thebes import ConfigurationError, Security
from thebes.accounts.administration import AddressTaken, NoSuchAccount, WeakPassword
from thebes.accounts.results import USED_TOKEN, WRONG_CREDENTIALS, Done, SignedIn, Visitor
from thebes.membership import Membership
from thebes.tokens.circumstances import Circumstances

EMAIL = "ada@example.com"
HERE = Visitor(
    address="127.0.0.1",
    circumstances=Circumstances(network=b"n" * 32, agent=b"a" * 32, device="Firefox", address="127.0.0.0/24"),
)
DAY = timedelta(days=1).total_seconds()


@pytest.fixture
async def membership() -> AsyncIterator[Membership]:
    """The accounts of a fresh installation."""
    security = Security(passwords="test")
    made = security._join(security.settings(), None)
    await made.start(lives=False)
    yield made
    await made.close()


@pytest.fixture
def sign_in(membership: Membership) -> Callable:
    return lambda password: membership.sign_ins.sign_in(EMAIL, password, mode="bearer", visitor=HERE)


class TestTheFirstAccount:
    @pytest.mark.requirement("ACC-03")
    async def test_is_there_when_somebody_makes_it_with_a_password_of_their_own(self, membership, sign_in):
        assert await membership.administration.page() == []
        assert await sign_in(PASSWORD) is WRONG_CREDENTIALS
        made = await membership.administration.create(EMAIL, password=PASSWORD, roles=["admin"])
        assert made.token is None
        assert [account.id for account in await membership.administration.page()] == [made.account.id]
        signed_in = await sign_in(PASSWORD)
        assert isinstance(signed_in, SignedIn)
        assert signed_in.account.roles == ("admin",)

    @pytest.mark.parametrize(
        ("email", "password", "error"),
        [
            pytest.param("ada", PASSWORD, ConfigurationError, id="no address"),
            pytest.param(EMAIL, "gates", WeakPassword, id="too short"),
            pytest.param(EMAIL, "passwordpassword", WeakPassword, id="guessed first"),
            pytest.param(EMAIL, EMAIL, WeakPassword, id="the address"),
        ],
    )
    async def test_is_not_made_where_something_is_wrong(self, membership, email, password, error):
        with pytest.raises(error) as caught:
            await membership.administration.create(email, password=password)
        assert await membership.administration.page() == []
        assert password not in str(caught.value)

    async def test_leaves_the_password_of_a_taken_address_alone(self, membership, sign_in):
        await membership.administration.create(EMAIL, password=PASSWORD)
        for password in (OTHER_PASSWORD, None):
            with pytest.raises(AddressTaken):
                await membership.administration.create("ADA@example.com", password=password)
        assert isinstance(await sign_in(PASSWORD), SignedIn)
        assert await sign_in(OTHER_PASSWORD) is WRONG_CREDENTIALS


@pytest.mark.requirement("PWD-28")
class TestInvitations:
    async def test_carry_256_random_bits(self, membership):
        tokens = [
            (await membership.administration.create(f"user{number}@example.com", password=None)).token
            for number in range(50)
        ]
        raw = [base64.urlsafe_b64decode(f"{token}=") for token in tokens]
        assert {len(each) for each in raw} == {32}
        # Each octet of each place differs somewhere: nothing in it is fixed, nor counted.
        assert all(len({each[place] for each in raw}) > 10 for place in range(32))

    async def test_work_once_and_not_as_a_password(self, membership, sign_in):
        token = (await membership.administration.create(EMAIL, password=None)).token
        assert await sign_in(token) is WRONG_CREDENTIALS
        reset = membership.credentials.reset
        assert isinstance(await reset(token, PASSWORD, visitor=HERE), Done)
        assert await reset(token, OTHER_PASSWORD, visitor=HERE) is USED_TOKEN
        assert isinstance(await sign_in(PASSWORD), SignedIn)
        assert await sign_in(token) is WRONG_CREDENTIALS

    async def test_end_after_24_hours(self, membership):
        made = await membership.administration.create(EMAIL, password=None)
        digest, since = sha256(made.token.encode()).digest(), made.account.created_at
        look = membership.store.accounts.look
        assert await look(digest, "invite", now=since + DAY - 1) is not None
        assert await look(digest, "invite", now=since + DAY) is None

    async def test_leave_no_account_without_a_password_open(self, membership, sign_in):
        await membership.administration.create(EMAIL, password=None)
        for guess in ("", "None", "null", PASSWORD):
            assert await sign_in(guess) is WRONG_CREDENTIALS


class TestLaterOn:
    async def test_an_account_is_found_by_address_or_id(self, membership):
        made = await membership.administration.create(EMAIL, password=None)
        for asked in (EMAIL, "ADA@Example.com", made.account.id):
            assert (await membership.administration.find(asked)).id == made.account.id
        for asked in ("bob@example.com", "", "0", made.account.id[:-1]):
            with pytest.raises(NoSuchAccount):
                await membership.administration.find(asked)

    async def test_sessions_end_and_are_counted(self, membership, sign_in):
        made = await membership.administration.create(EMAIL, password=PASSWORD)
        for _ in range(3):
            await sign_in(PASSWORD)
        assert len(await membership.administration.sessions(made.account)) == 3
        assert await membership.administration.sign_out(made.account) == 3
        assert await membership.administration.sign_out(made.account) == 0
        await sign_in(PASSWORD)
        assert await membership.administration.sign_out_everybody() == 1

    async def test_what_was_deleted_meanwhile_is_named(self, membership):
        made = await membership.administration.create(EMAIL, password=None)
        await membership.store.accounts.delete(made.account.id)
        for change in (
            membership.administration.set_enabled(made.account, False),
            membership.administration.grant(made.account, roles=["a"]),
            membership.administration.revoke(made.account, roles=["a"]),
        ):
            with pytest.raises(NoSuchAccount):
                await change
