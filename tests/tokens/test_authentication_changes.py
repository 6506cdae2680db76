"""Who is asking, when the store is away, grants have changed, or the package's own routes are asked.

The app behind the pass says who it was asked by; everything else is as in production, in memory.
"""

import time

import pytest
import pytest_asyncio

from account_rows import ADA
from authenticating import SESSION, a_club, set_cookies
from database_troubles import run

# Made by somebody else, for the app itself: HS256, no `kid`.
FOREIGN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJlIG9mIHNvbWVib2R5IGVsc2U"
CHALLENGE = b'Bearer error="invalid_token"'


# One app for all but those who change accounts or keys: tables of rules are long.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    async with a_club() as club:
        yield club


@pytest.fixture
def club(shared):
    return shared.forget()


@pytest_asyncio.fixture(loop_scope="module")
async def fresh():
    async with a_club() as club:
        yield club


@pytest_asyncio.fixture(loop_scope="module")
async def ada(club):
    return await club.sign_in()


class TestStoreAway:
    @pytest.fixture
    async def club(self, tmp_path):
        async with a_club(database_url=f"sqlite:///{tmp_path / 'accounts.db'}") as made:
            yield made

    @pytest.fixture
    async def away(self, club):
        """The same club, whose store is closed: it can be neither read nor written."""
        await club.membership.store.close()
        return club

    async def test_a_renewal_is_503_and_says_when_to_come_again(self, club, ada, away):
        answered = await club.get(ada.late)
        assert (answered.status, answered.header(b"retry-after")) == (503, b"2")

    async def test_a_good_cookie_is_503_once_nobody_knows_whether_it_was_revoked(self, club, ada, away):
        answered = await club.get(ada.cookie())
        assert (answered.status, answered.header(b"retry-after")) == (503, b"2")
        assert club.app.facts == []

    async def test_a_good_bearer_token_likewise(self, club):
        program = await club.sign_in(mode="bearer")
        await club.membership.store.close()
        assert (await club.get(program.bearer)).status == 503

    async def test_nobody_is_served_as_ever(self, club, away):
        assert await club.who() == "nobody"


class TestGrants:
    @pytest.mark.requirement("TOK-40")
    async def test_a_removed_role_is_gone_at_the_next_request(self, fresh):
        """The access token still says it, and is not believed; the session goes on."""
        ada = await fresh.sign_in()
        store = fresh.membership.store
        await store.accounts.revoke_grant(ADA.id, roles=["editor"])
        answered = await fresh.get(ada.cookie())
        assert answered.body.decode() == ADA.id
        assert "editor" not in fresh.app.facts[0].claims.roles
        assert SESSION in set_cookies(answered)

    async def test_a_removed_role_refuses_a_bearer_token_until_it_is_refreshed(self, fresh):
        program = await fresh.sign_in(mode="bearer")
        await fresh.membership.store.accounts.revoke_grant(ADA.id, roles=["editor"])
        assert (await fresh.get(program.bearer)).status == 401

    @pytest.mark.requirement("TOK-40")
    async def test_a_disabled_account_is_nobody_at_the_next_request(self, fresh):
        ada = await fresh.sign_in()
        await fresh.membership.store.accounts.set_enabled(ADA.id, False)
        answered = await fresh.get(ada.cookie())
        assert (answered.body, set_cookies(answered)) == (b"nobody", {})

    @pytest.mark.requirement("TOK-44")
    @pytest.mark.parametrize(
        "headers",
        [
            {"X-User": ADA.id},
            {"X-Remote-User": ADA.id},
            {"X-Account-Id": ADA.id},
            {"Remote-User": ADA.id},
            {"Cookie": f"account={ADA.id}; sub={ADA.id}; session={ADA.id}"},
            {"Authorization": f"Basic {ADA.id}"},
            {"Authorization": f"Bearer {ADA.id}"},
            {"X-Thebes-Account": ADA.id},
        ],
    )
    async def test_no_identity_that_a_client_states_is_believed(self, club, headers):
        assert await club.who(headers) == "nobody"

    @pytest.mark.requirement("TOK-44")
    async def test_the_store_check_asks_on_each_request(self, tmp_path):
        """It sees a row of which nobody told this process, such as one of another machine."""
        path = tmp_path / "accounts.db"
        async with a_club(revocation="store", database_url=f"sqlite:///{path}") as club:
            for _ in range(3):
                ada = await club.sign_in()
                assert await club.who(ada.cookie(refresh=None)) == ADA.id
                run(
                    path,
                    "INSERT INTO thebes_revocations (kind, subject, epoch, until)"
                    f" VALUES ('session', '{ada.session.id}', 0, {time.time() + 600})",
                )
                assert await club.who(ada.cookie(refresh=None)) == "nobody"


class TestOwnRoutes:
    @pytest.mark.parametrize("path", ["login", "refresh", "logout", "register", "csrf"])
    @pytest.mark.parametrize("token", ["", "broken", FOREIGN, "expired"])
    async def test_refuse_nothing_because_of_an_access_cookie(self, club, ada, path, token):
        """The answer is the same as without it."""
        method = "GET" if path == "csrf" else "POST"
        headers = {"Origin": "http://localhost", "Content-Type": "application/json"}
        value = ada.expired if token == "expired" else token
        without = await club.get(headers, method=method, path=f"/auth/{path}", body=b"{}")
        with_it = await club.get(
            {**headers, "Cookie": f"{SESSION}={value}"}, method=method, path=f"/auth/{path}", body=b"{}"
        )
        assert with_it.status == without.status
        assert with_it.status not in (400, 403, 404, 405)

    @pytest.mark.parametrize("path", ["login", "refresh", "logout"])
    @pytest.mark.parametrize("root", ["", "/api"])
    async def test_that_act_on_the_refresh_cookie_themselves_are_not_renewed_in_place(
        self, club, ada, path, root, monkeypatch
    ):
        arrived = []
        whole = club.membership.refresh.arrive

        async def noted(*args, **more):
            arrived.append(args)
            return await whole(*args, **more)

        monkeypatch.setattr(type(club.membership.refresh), "arrive", lambda self, *a, **m: noted(*a, **m))
        headers = {**ada.late, "Origin": "http://localhost", "Content-Type": "application/json"}
        full = f"{root}/auth/{path}"
        await club.get(headers, method="POST", path=full, root_path=root, body=b"{}")
        assert arrived == []
