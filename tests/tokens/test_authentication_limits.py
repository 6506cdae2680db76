"""What requests cost, with and without credentials, good and bad: counted once, for whom it should be.

The limit is 30 at once and next to nothing after that; `left` is how many requests of nobody still pass.
"""

import pytest

from account_rows import ADA, BOB
from authenticating import REFRESH, SESSION, a_club
from thebes import Rate

BURST = 30
ELSEWHERE = ("127.0.0.9", 50000)


@pytest.fixture
async def club():
    async with a_club(limits=Rate("1/hour", burst=BURST)) as club:
        yield club


async def left(club, **more) -> int:
    """Return how many requests of nobody still pass; afterwards none does."""
    count = 0
    while (await club.get(client=ELSEWHERE, **more)).status == 200:
        count += 1
        assert count <= BURST
    return count


async def spend(club, headers, *, times: int = 1, status: int = 200) -> None:
    for _ in range(times):
        assert (await club.get(headers, client=ELSEWHERE)).status == status


class TestWhoPays:
    async def test_nobody_pays_by_address_and_once(self, club):
        await spend(club, {}, times=7)
        assert await left(club) == BURST - 7

    @pytest.mark.parametrize("mode", ["cookie", "bearer"])
    async def test_who_is_signed_in_pays_by_account_wherever_they_are(self, club, mode):
        ada = await club.sign_in(mode=mode)
        headers = ada.cookie() if mode == "cookie" else ada.bearer
        for number in range(BURST):
            assert (await club.get(headers, client=(f"127.0.1.{number}", 1))).status == 200
        assert (await club.get(headers, client=ELSEWHERE)).status == 429
        assert await left(club) == BURST

    async def test_two_accounts_at_one_address_do_not_pay_for_each_other(self, club):
        ada, bob = [await club.sign_in(one) for one in (ADA, BOB)]
        await spend(club, ada.cookie(), times=BURST)
        await spend(club, ada.cookie(), status=429)
        await spend(club, bob.cookie(), times=BURST)

    async def test_two_sessions_of_an_account_share_what_it_has(self, club):
        first, second = await club.sign_in(), await club.sign_in(mode="bearer")
        await spend(club, first.cookie(), times=BURST - 1)
        await spend(club, second.bearer)
        await spend(club, second.bearer, status=429)

    async def test_a_renewal_is_one_request_like_any_other(self, club):
        ada = await club.sign_in(ago=100)
        await spend(club, ada.late, times=BURST)
        await spend(club, ada.late, status=429)
        assert await left(club) == BURST

    @pytest.mark.parametrize("name", [SESSION, REFRESH])
    async def test_a_bad_cookie_costs_what_a_request_of_nobody_costs(self, club, name):
        await spend(club, {"Cookie": f"{name}=broken"}, times=3)
        assert await left(club) == BURST - 3


class TestBadBearerTokens:
    @pytest.mark.parametrize(
        ("spoil", "cost"),
        [
            pytest.param(lambda one: one.access[:-2] + "AA", 10, id="another signature"),
            pytest.param(lambda one: one.access + "A" * 9000, 10, id="malformed"),
            pytest.param(lambda one: one.expired, 1, id="expired"),
        ],
    )
    async def test_cost_their_senders_address(self, club, spoil, cost):
        ada = await club.sign_in(mode="bearer")
        await spend(club, {"Authorization": f"Bearer {spoil(ada)}"}, status=401)
        assert await left(club) == BURST - cost

    async def test_a_cookie_token_as_a_bearer_costs_as_much_as_a_forged_one(self, club):
        ada = await club.sign_in()
        await spend(club, {"Authorization": f"Bearer {ada.access}"}, status=401)
        assert await left(club) == BURST - 10

    async def test_of_an_ended_session_costs_as_much_as_an_expired_one(self, club):
        ada = await club.sign_in(mode="bearer")
        await club.membership.store.sessions.revoke(ADA.id, ada.session.id, reason="signed_out")
        await spend(club, ada.bearer, times=2, status=401)
        assert await left(club) == BURST - 2

    async def test_the_owner_of_the_account_pays_nothing_for_forgeries(self, club):
        ada = await club.sign_in(mode="bearer")
        await spend(club, {"Authorization": f"Bearer {ada.access[:-2]}AA"}, times=3, status=401)
        for _ in range(BURST):
            assert (await club.get(ada.bearer)).status == 200

    async def test_a_foreign_token_costs_what_a_request_of_nobody_costs(self, club):
        await spend(club, {"Authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x"}, times=3)
        assert await left(club) == BURST - 3


class TestSpentAddresses:
    async def test_no_signature_that_was_not_seen_before_is_verified_for_them(self, club, monkeypatch):
        """Verifying ES256 is the costly part; 429 comes before it."""
        ada = await club.sign_in(mode="bearer")
        forged = f"{ada.access[:-2]}AA"
        await left(club)
        verified = []
        whole = type(club.membership.bearer_tokens).verify

        def noted(self, token, *, now=None):
            verified.append(token)
            return whole(self, token, now=now)

        monkeypatch.setattr(type(club.membership.bearer_tokens), "verify", noted)
        await spend(club, {"Authorization": f"Bearer {forged}"}, times=5, status=429)
        await spend(club, ada.bearer, status=429)
        assert verified == []

    async def test_a_token_that_was_seen_goes_on_to_count_there(self, club):
        """Ada works behind the same address as the flood."""
        ada = await club.sign_in(mode="bearer")
        await spend(club, ada.bearer)
        await left(club)
        await spend(club, ada.bearer)

    async def test_cookies_go_on_to_count_there(self, club):
        ada = await club.sign_in()
        await left(club)
        await spend(club, ada.cookie())

    async def test_looking_costs_nothing(self, club):
        ada = await club.sign_in(mode="bearer")
        await spend(club, ada.bearer, times=3)
        assert await left(club) == BURST

    async def test_without_limits_nothing_is_asked(self):
        async with a_club(without=("limits",)) as club:
            ada = await club.sign_in(mode="bearer")
            await spend(club, ada.bearer)
            await spend(club, {"Authorization": f"Bearer {ada.expired}"}, status=401)
