"""Who a WebSocket handshake is signed in for, and from where it may come with a session."""

import pytest

from account_rows import ADA
from authenticating import a_club
from connecting import Connection
from thebes.guards import principal_of


@pytest.mark.requirement("CSR-10")
class TestHandshake:
    @pytest.fixture
    async def seen(self):
        seen = []

        async def app(scope, receive, send):
            seen.append(principal_of(scope))
            await send({"type": "websocket.close"})

        async with a_club(app) as club:
            club.seen = seen
            yield club

    @pytest.mark.parametrize("mode", ["cookie", "bearer"])
    async def test_is_authenticated_by_the_session_or_a_bearer_token(self, seen, mode):
        ada = await seen.sign_in(mode=mode)
        headers = ada.cookie() if mode == "cookie" else {**ada.bearer, "Origin": None}
        await Connection(seen, headers).over()
        assert [one.id for one in seen.seen] == [ADA.id]

    @pytest.mark.parametrize(
        "origin",
        ["https://evil.example", "null", "http://localhost.evil.example", None, "http://localhost:81"],
    )
    async def test_with_a_session_is_refused_from_elsewhere(self, seen, origin):
        ada = await seen.sign_in()
        connection = Connection(seen, {**ada.cookie(), "Origin": origin})
        await connection.over()
        assert connection.types == ["close"]
        assert seen.seen == []

    async def test_of_nobody_is_nobodys(self, seen):
        await Connection(seen, {"Origin": None}).over()
        assert seen.seen == [None]

    async def test_with_a_bad_bearer_token_is_refused(self, seen):
        ada = await seen.sign_in(mode="bearer")
        connection = Connection(seen, {"Authorization": f"Bearer {ada.expired}", "Origin": None})
        await connection.over()
        assert connection.types == ["close"]
        assert seen.seen == []
