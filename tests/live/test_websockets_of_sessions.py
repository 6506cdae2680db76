"""WebSockets over a socket: who opens one, by which encryption, and for how long it stays open."""

import asyncio
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from account_rows import ADA, BOB
from attack import HTTPS, PLAIN
from authenticating import SESSION
from live import PATIENCE_SECONDS
from live_accounts import ORIGIN, live_club

WITHIN_SECONDS = 5.0


@pytest.fixture(scope="module")
def club():
    with live_club() as club:
        yield club


def handshake(club, fields, *, base=None) -> int:
    return club.served.handshake(list(fields), base=base).status


@pytest.mark.requirement("CSR-10", by="live")
class TestHandshake:
    @pytest.mark.parametrize("origin", ["https://example.com", "https://www.example.com"])
    def test_from_a_page_of_the_service_it_is_signed_in_by_the_cookie(self, club, origin):
        ada = club.sign_in()
        assert handshake(club, [*ada.cookie().items(), ("Origin", origin)]) == 101

    @pytest.mark.parametrize(
        "origin",
        [
            None,
            "null",
            "",
            "https://evil.example",
            "http://example.com",
            "https://example.com.evil.example",
            "https://example.com:8443",
            "https://sub.example.com",
        ],
    )
    @pytest.mark.parametrize("name", [SESSION, SESSION.lower(), "__Host-thebes-refresh"])
    def test_with_a_session_cookie_it_is_refused_from_anywhere_else(self, club, origin, name):
        ada = club.sign_in()
        fields = [("Cookie", f"{name}={ada.access}"), *([("Origin", origin)] if origin is not None else [])]
        assert handshake(club, fields) == 403

    @pytest.mark.parametrize("field", [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")])
    def test_a_browser_elsewhere_is_refused_without_a_cookie_too(self, club, field):
        assert handshake(club, [field]) == 403

    def test_a_program_opens_one_by_a_bearer_token_and_not_by_a_bad_one(self, club):
        program = club.sign_in(mode="bearer")
        assert handshake(club, program.bearer.items()) == 101
        assert handshake(club, [("Authorization", f"Bearer {program.expired}")]) in (401, 403)

    async def test_it_is_authenticated_once_by_what_the_handshake_brought(self, club):
        for fields, expected in (
            (club.sign_in().cookie() | dict([ORIGIN]), ADA.id),
            (club.sign_in(BOB, mode="bearer").bearer, BOB.id),
            ({}, "nobody"),
        ):
            async with connecting(club, fields) as socket:
                assert await socket.recv() == expected


def connecting(club, fields):
    """Open one; the address says where it goes, the name in the URL what is asked for."""
    port = int(club.served.url.rpartition(":")[2])
    headers = {"X-Forwarded-Proto": "https", **fields}
    return connect(
        "ws://example.com/socket",
        host="127.0.0.1",
        port=port,
        origin=headers.pop("Origin", None),
        additional_headers=headers,
        proxy=None,
        open_timeout=PATIENCE_SECONDS,
    )


@pytest.mark.slow
class TestEnd:
    @pytest.mark.requirement("CSR-11", by="live")
    @pytest.mark.parametrize("how", ["signed out", "ended by its owner", "disabled"])
    async def test_open_sockets_of_a_session_are_closed_within_5_seconds_and_no_others(self, club, how):
        other = club.sign_in(ADA)
        one = club.sign_in(BOB if how == "disabled" else ADA)
        async with (
            connecting(club, one.cookie() | dict([ORIGIN])) as socket,
            connecting(club, other.cookie() | dict([ORIGIN])) as bystander,
            connecting(club, {}) as stranger,
        ):
            for each in (socket, bystander, stranger):
                await each.recv()
            began = time.monotonic()
            await asyncio.to_thread(end, club, how, one, other)
            assert await closed(socket) == 1008
            took = time.monotonic() - began
            assert took < WITHIN_SECONDS
            for each in (bystander, stranger):
                await each.send("still here")
                assert await each.recv() == "still here"
        print(f"{how}: closed after {took:.2f} s")

    @pytest.mark.requirement("CSR-11", by="live")
    async def test_and_of_a_session_that_expires(self):
        with live_club(session_lifetime=2) as club:
            ada = club.sign_in()
            async with connecting(club, ada.cookie() | dict([ORIGIN])) as socket:
                await socket.recv()
                assert await closed(socket) == 1008
                assert 0 < time.time() - ada.session.expires_at < WITHIN_SECONDS


def end(club, how: str, one, other) -> None:
    """End the session of `one`, as somebody would."""
    if how == "disabled":
        club.run(club.membership.store.accounts.set_enabled(BOB.id, False))
        return
    who, method, target = one, "POST", "/auth/logout"
    if how == "ended by its owner":
        who, method, target = (
            other,
            "DELETE",
            f"/auth/sessions/{club.membership.session_name(one.session.id)}",
        )
    assert club.served.ask(method, target, [*who.cookie().items(), ORIGIN]).status == 204


async def closed(socket) -> int:
    """Wait until a connection is closed, and return the code of the close frame."""
    with pytest.raises(ConnectionClosed) as caught:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await socket.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


@pytest.mark.requirement("CSR-11", by="live")
@pytest.mark.parametrize("scheme", [[PLAIN], [], [PLAIN, HTTPS]])
def test_production_opens_none_without_tls(club, scheme):
    base = [("Host", "example.com"), *scheme]
    for fields in ([], [ORIGIN], [*club.sign_in().cookie().items(), ORIGIN]):
        assert handshake(club, fields, base=base) == 403


def test_and_one_with_it(club):
    assert handshake(club, [ORIGIN], base=[("Host", "example.com"), HTTPS]) == 101
