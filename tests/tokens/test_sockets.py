"""Open WebSockets of a session end with it, whatever app and client do; others go on.

The task that looks every second isn't waited for: `look` is what it calls.
"""

import asyncio
import time
from dataclasses import replace

import pytest

from account_rows import ADA, BOB
from authenticating import a_club
from connecting import Connection
from database_troubles import unreadable
from thebes.tokens import sockets

DAY = 86400.0


class Echo:
    """Says again what it hears, and keeps it; ends with the disconnect."""

    def __init__(self) -> None:
        self.got = []

    async def __call__(self, scope, receive, send) -> None:
        while True:
            message = await receive()
            self.got.append(message)
            if message["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})
            elif message["type"] == "websocket.disconnect":
                return
            else:
                await send({"type": "websocket.send", "text": message["text"]})


@pytest.fixture
async def club():
    async with a_club(Echo()) as club:
        yield club


@pytest.fixture
def watch(club):
    return club.membership.authentication._sockets


async def connected(club, headers) -> Connection:
    connection = Connection(club, headers)
    await connection.until(1)
    assert connection.types == ["accept"]
    return connection


async def look(watch, now: float | None = None) -> None:
    """Let the task look, and everything happen that follows from it."""
    await watch.look(now)
    for _ in range(10):
        await asyncio.sleep(0)


async def end(club, signed_in) -> None:
    await club.membership.store.sessions.revoke(
        signed_in.account.id, signed_in.session.id, reason="signed_out"
    )


class TestEnd:
    @pytest.mark.requirement("CSR-11")
    @pytest.mark.parametrize("mode", ["cookie", "bearer", "renewed"])
    async def test_a_socket_of_an_ended_session_is_closed_and_its_app_gets_a_disconnect(
        self, club, watch, mode
    ):
        ada = await club.sign_in(mode="bearer" if mode == "bearer" else "cookie", ago=100)
        headers = {"cookie": ada.cookie(), "bearer": ada.bearer, "renewed": ada.late}[mode]
        connection = await connected(club, headers)
        await look(watch)
        assert connection.types == ["accept"]
        await end(club, ada)
        await look(watch)
        await connection.over()
        assert connection.heard[1] == {
            "type": "websocket.close",
            "code": 1008,
            "reason": "the session has ended",
        }
        assert club.app.got[-1] == {
            "type": "websocket.disconnect",
            "code": 1008,
            "reason": "the session has ended",
        }
        assert len(watch) == 0

    async def test_messages_pass_both_ways_until_then(self, club, watch):
        ada = await club.sign_in()
        connection = await connected(club, ada.cookie())
        for text in ("one", "two"):
            connection.says.put_nowait({"type": "websocket.receive", "text": text})
        heard = await connection.until(3)
        assert [message.get("text") for message in heard] == [None, "one", "two"]
        connection.says.put_nowait({"type": "websocket.disconnect", "code": 1001})
        await connection.over()
        assert connection.types == ["accept", "send", "send"]
        assert club.app.got[-1] == {"type": "websocket.disconnect", "code": 1001}

    async def test_what_the_client_says_afterwards_does_not_reach_the_app(self, club, watch):
        ada = await club.sign_in()
        connection = await connected(club, ada.cookie())
        await end(club, ada)
        await look(watch)
        connection.says.put_nowait({"type": "websocket.receive", "text": "late"})
        await connection.over()
        assert not any(message.get("text") for message in club.app.got)

    @pytest.mark.requirement("CSR-11")
    async def test_a_disabled_account_closes_all_of_its_sockets_and_nobody_elses(self, club, watch):
        ada, again, bob = [await club.sign_in(one) for one in (ADA, ADA, BOB)]
        of_ada = [await connected(club, one.cookie()) for one in (ada, again)]
        of_bob = await connected(club, bob.cookie())
        await club.membership.store.accounts.set_enabled(ADA.id, False)
        await look(watch)
        await asyncio.gather(*(one.task for one in of_ada))
        assert of_bob.types == ["accept"]
        assert len(watch) == 1
        of_bob.task.cancel()

    async def test_other_roles_close_it_since_it_was_opened_with_the_old_ones(self, club, watch):
        ada = await club.sign_in()
        connection = await connected(club, ada.cookie())
        await club.membership.store.accounts.revoke_grant(ADA.id, roles=["editor"])
        await look(watch)
        await connection.over()
        assert connection.types == ["accept", "close"]
        again = await connected(club, ada.cookie())
        await look(watch)
        assert again.types == ["accept"]
        again.task.cancel()

    @pytest.mark.requirement("CSR-11")
    @pytest.mark.parametrize(("seconds", "what"), [(7 * DAY, "idle"), (30 * DAY, "whole lifetime")])
    async def test_a_session_that_expires_takes_its_sockets_with_it(self, club, watch, seconds, what):
        ada = await club.sign_in()
        connection = await connected(club, ada.cookie())
        now = time.time()
        if what == "whole lifetime":
            refresh, token, steps = club.membership.refresh, ada.refresh, range(1, 6)
            for day in (6 * step for step in steps):  # used now and then, so that it isn't idle
                renewed = await refresh.renew(
                    refresh.read(token),
                    mode="cookie",
                    circumstances=club.circumstances,
                    now=now + day * DAY - 60,
                )
                token = renewed.token
        await look(watch, now + seconds - 60)
        assert connection.types == ["accept"]
        await look(watch, now + seconds + 60)
        await connection.over()
        assert connection.types == ["accept", "close"]

    async def test_a_handshake_of_nobody_is_not_watched(self, club, watch):
        connection = await connected(club, {"Origin": None})
        assert len(watch) == 0
        connection.task.cancel()

    @pytest.mark.parametrize("how", ["revoked", "gone", "disabled", "of another epoch"])
    async def test_what_the_list_does_not_know_is_seen_in_the_row_at_the_handshake(self, club, how):
        ada = await club.sign_in()
        tables = club.membership.store.sessions._tables
        if how == "revoked":
            row = tables.sessions[ada.session.id]
            tables.sessions[ada.session.id] = replace(row, revoked_at=time.time(), revoked_for="lost")
        elif how == "gone":
            del tables.sessions[ada.session.id]
        else:
            changes = {"is_enabled": False} if how == "disabled" else {"epoch": 7}
            tables.accounts[ADA.id] = replace(tables.accounts[ADA.id], **changes)
        connection = Connection(club, ada.cookie())
        await connection.over()
        assert connection.types == ["close"]
        assert club.app.got == []


class TestStubbornSides:
    async def test_an_app_that_only_talks_is_told_by_an_error_as_if_the_client_had_left(self):
        broken = asyncio.Event()

        async def app(scope, receive, send):
            await send({"type": "websocket.accept"})
            try:
                while True:
                    await send({"type": "websocket.send", "text": "tick"})
                    await asyncio.sleep(0)
            except OSError:
                broken.set()

        async with a_club(app) as club:
            ada = await club.sign_in()
            connection = Connection(club, ada.cookie())
            await connection.until(5)
            await end(club, ada)
            await look(club.membership.authentication._sockets)
            await connection.over()
        assert broken.is_set()
        assert connection.types[-1] == "close"

    async def test_an_app_that_closes_afterwards_closes_nothing_twice(self):
        async def app(scope, receive, send):
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                pass
            await send({"type": "websocket.close"})

        async with a_club(app) as club:
            ada = await club.sign_in()
            connection = await connected(club, ada.cookie())
            await end(club, ada)
            await look(club.membership.authentication._sockets)
            await connection.over()
        assert connection.types == ["accept", "close"]

    async def test_an_app_that_has_closed_already_is_left_alone(self):
        gate = asyncio.Event()

        async def app(scope, receive, send):
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})
            await gate.wait()

        async with a_club(app) as club:
            ada = await club.sign_in()
            connection = Connection(club, ada.cookie())
            await connection.until(2)
            await end(club, ada)
            await look(club.membership.authentication._sockets)
            gate.set()
            await connection.over()
        assert connection.types == ["accept", "close"]

    async def test_a_client_that_takes_no_close_frame_keeps_neither_the_app_nor_the_others(self, club, watch):
        ada, again = [await club.sign_in() for _ in range(2)]
        stuck = await connected(club, ada.cookie())
        other = await connected(club, again.cookie())
        gate = asyncio.Event()
        hear = stuck._hear

        async def slowly(message):
            await gate.wait()
            await hear(message)

        club_socket = next(one for one in watch._open if one.claims.sid == ada.session.id)
        club_socket._send = slowly
        await club.membership.store.accounts.set_enabled(ADA.id, False)
        await look(watch)
        await other.over()
        assert [one["type"] for one in club.app.got].count("websocket.disconnect") == 2
        gate.set()
        await stuck.over()

    async def test_an_app_that_gives_up_waiting_loses_no_message(self):
        got = []

        async def app(scope, receive, send):
            await send({"type": "websocket.accept"})
            await receive()
            for _ in range(3):
                try:
                    async with asyncio.timeout(0):
                        await receive()
                except TimeoutError:
                    pass
            await send({"type": "websocket.send", "text": "ready"})
            got.append(await receive())

        async with a_club(app) as club:
            ada = await club.sign_in()
            connection = Connection(club, ada.cookie())
            await connection.until(2)
            for _ in range(5):  # until its last wait has begun
                await asyncio.sleep(0)
            connection.says.put_nowait({"type": "websocket.receive", "text": "one"})
            await connection.over()
        assert got == [{"type": "websocket.receive", "text": "one"}]

    async def test_a_server_that_fails_to_close_does_not_end_the_watch(self, club, watch):
        ada, again = [await club.sign_in() for _ in range(2)]
        broken, other = [await connected(club, one.cookie()) for one in (ada, again)]

        async def fail(message):
            raise RuntimeError("the connection is gone")

        next(one for one in watch._open if one.claims.sid == ada.session.id)._send = fail
        for one in (ada, again):
            await end(club, one)
            await look(watch)
        await asyncio.gather(broken.task, other.task)
        assert other.types == ["accept", "close"]


class TestStoreAway:
    @pytest.fixture
    async def in_a_file(self, tmp_path):
        """A club whose database is a file, and that file."""
        path = tmp_path / "accounts.db"
        async with a_club(Echo(), database_url=f"sqlite:///{path}") as club:
            yield club, path

    async def test_for_seconds_closes_the_sockets_since_nobody_knows(self, in_a_file):
        club, path = in_a_file
        watch = club.membership.authentication._sockets
        ada, bob = await club.sign_in(), await club.sign_in(BOB)
        connection = await connected(club, ada.cookie())
        await end(club, bob)  # a row that has to be read, and can't be
        with unreadable(path, "thebes_revocations"):
            now = time.time()
            await look(watch, now + sockets.PATIENCE_SECONDS - 1)
            assert connection.types == ["accept"]
            await look(watch, now + sockets.PATIENCE_SECONDS + 1)
            await connection.over()
        assert connection.heard[-1]["code"] == 1013

    async def test_at_the_handshake_lets_it_in_and_looks_again(self, in_a_file):
        """The access token says who it is, as on any request; the row is asked for at the next look."""
        club, path = in_a_file
        ada = await club.sign_in()
        await club.membership.revocations.catch_up()
        with unreadable(path, "thebes_sessions"):
            connection = await connected(club, ada.cookie())
        await end(club, ada)
        await look(club.membership.authentication._sockets)
        await connection.over()
        assert connection.types == ["accept", "close"]


class TestTask:
    async def test_runs_while_a_socket_is_open_and_ends_with_the_last(self, club, watch):
        ada, again = [await club.sign_in() for _ in range(2)]
        first, second = [await connected(club, one.cookie()) for one in (ada, again)]
        task = watch._watching
        for connection in (first, second):
            assert watch._watching is task
            connection.says.put_nowait({"type": "websocket.disconnect", "code": 1001})
            await connection.over()
        assert watch._watching is None
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    async def test_an_app_that_fails_leaves_nothing_behind(self):
        async def app(scope, receive, send):
            await send({"type": "websocket.accept"})
            raise ValueError("oops")

        async with a_club(app) as club:
            ada = await club.sign_in()
            connection = Connection(club, ada.cookie())
            with pytest.raises(ValueError, match="oops"):
                await connection.over()
            assert len(club.membership.authentication._sockets) == 0

    async def test_the_time_that_it_takes_is_within_what_is_promised(self):
        """One tick until an end is noticed; a store that is away as well: the patience and a tick."""
        assert sockets.TICK_SECONDS + sockets.PATIENCE_SECONDS < 5
