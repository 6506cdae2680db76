"""Renewal in place: known on arrival, renewed when the answer begins, whatever happens in between.

Time isn't waited for: sessions were opened, and other tabs have asked, so many seconds ago.
"""

import asyncio
import time

import pytest

from account_rows import ADA, BOB
from asking import request_facts
from authenticating import REFRESH, SESSION, Noting, a_club, set_cookies, value_of
from calling import call
from database_troubles import is_being_written, no_room_on_the_disk, slowly_updated, written_by_another

OLD = 100.0  # seconds: older than the grace, so that a renewal rotates


@pytest.fixture
async def club():
    async with a_club() as club:
        yield club


@pytest.fixture
async def in_a_file(tmp_path):
    """A club whose database is a file, and that file."""
    path = tmp_path / "accounts.db"
    async with a_club(database_url=f"sqlite:///{path}") as club:
        yield club, path


@pytest.fixture
async def ada(club):
    return await club.sign_in(ago=OLD)


async def other_tab(club, signed_in, *, ago: float) -> str:
    """Let another tab of the same browser renew, so many seconds ago; return its refresh token."""
    refresh = club.membership.refresh
    renewed = await refresh.renew(
        refresh.read(signed_in.refresh),
        mode="cookie",
        circumstances=club.circumstances,
        now=time.time() - ago,
    )
    assert renewed.token is not None
    return renewed.token


def is_alive(row) -> bool:
    return row.revoked_at is None


class TestTwoSteps:
    async def test_on_arrival_nothing_is_written_and_at_the_start_both_cookies_are_set(self, club, ada):
        rows = []

        async def look():
            rows.append(await club.row(ada))

        club.app.work = look
        answered = await club.get(ada.late)
        assert answered.body.decode() == ADA.id
        assert rows[0].generation == 0
        assert rows[0] == ada.session
        assert (await club.row(ada)).generation == 1
        cookies = set_cookies(answered)
        assert set(cookies) == {SESSION, REFRESH}
        assert value_of(cookies[REFRESH]) != ada.refresh
        assert await club.who({"Cookie": f"{SESSION}={value_of(cookies[SESSION])}"}) == ADA.id

    @pytest.mark.parametrize("access", [None, "", "broken", "another's"])
    async def test_whatever_is_wrong_with_the_access_cookie(self, club, ada, access):
        answered = await club.get(ada.cookie(access=access))
        assert answered.body.decode() == ADA.id
        assert set(set_cookies(answered)) == {SESSION, REFRESH}

    async def test_a_young_refresh_token_is_kept_and_marked_as_presented(self, club):
        ada = await club.sign_in(ago=5)
        cookies = set_cookies(await club.get(ada.late))
        assert value_of(cookies[REFRESH]) == ada.refresh
        row = await club.row(ada)
        assert row.generation == 0
        assert row.presented_at is not None

    async def test_a_good_access_token_asks_for_nothing(self, club, ada):
        assert set_cookies(await club.get(ada.cookie())) == {}
        assert await club.row(ada) == ada.session

    async def test_the_cookies_of_a_remembered_session_last_as_long_as_it_does(self, club):
        ada = await club.sign_in(ago=OLD, is_remembered=True)
        cookies = set_cookies(await club.get(ada.late))
        left = ada.session.expires_at - time.time()
        for name in (SESSION, REFRESH):
            age = int(cookies[name].rpartition("Max-Age=")[2])
            assert left - 2 <= age <= left

    async def test_others_end_with_the_browser(self, club, ada):
        cookies = set_cookies(await club.get(ada.late))
        assert not any("Max-Age" in field for field in cookies.values())


class TestSlowAnswers:
    async def test_one_that_is_slower_than_the_grace_sets_nothing_and_signs_nobody_out(self, club, ada):
        """Another tab renewed while the handler was at work, longer ago than the grace."""

        async def be_slow():
            await other_tab(club, ada, ago=40)

        club.app.work = be_slow
        answered = await club.get(ada.late)
        assert (answered.body.decode(), set_cookies(answered)) == (ADA.id, {})
        assert is_alive(await club.row(ada))
        assert club.told.objects == []

    async def test_two_other_tabs_may_have_been_quicker(self, club, ada):
        async def be_slow():
            refresh = club.membership.refresh
            first = await other_tab(club, ada, ago=68)
            await refresh.renew(
                refresh.read(first), mode="cookie", circumstances=club.circumstances, now=time.time() - 35
            )

        club.app.work = be_slow
        assert set_cookies(await club.get(ada.late)) == {}
        row = await club.row(ada)
        assert (row.generation, is_alive(row)) == (2, True)

    async def test_one_that_was_overtaken_within_the_grace_sets_the_same_successor(self, club, ada):
        successors = []

        async def be_slow():
            successors.append(await other_tab(club, ada, ago=5))

        club.app.work = be_slow
        cookies = set_cookies(await club.get(ada.late))
        assert value_of(cookies[REFRESH]) == successors[0]
        assert (await club.row(ada)).generation == 1

    async def test_a_late_answer_does_not_overwrite_the_cookies_of_who_signed_in_meanwhile(self, club, ada):
        """Bob signs in, in the same browser, which ends the session that it brought."""

        async def switch():
            await club.sign_in(BOB, replaces=ada.session.id)

        club.app.work = switch
        answered = await club.get(ada.late)
        assert set_cookies(answered) == {}

    async def test_a_late_answer_does_not_bring_back_who_has_signed_out(self, club, ada):
        async def sign_out():
            await club.membership.store.sessions.revoke(ADA.id, ada.session.id, reason="signed_out")

        club.app.work = sign_out
        assert set_cookies(await club.get(ada.late)) == {}

    @pytest.mark.parametrize("how", ["ended", "unknown", "not genuine", "stolen"])
    async def test_an_answer_to_nobody_deletes_no_cookie(self, club, ada, how):
        """It may be late, and the cookies those of a newer sign-in."""
        cookie = ada.late
        if how == "ended":
            await club.membership.store.sessions.revoke(ADA.id, ada.session.id, reason="signed_out")
        elif how == "unknown":
            async with a_club() as elsewhere:
                cookie = (await elsewhere.sign_in(ago=OLD)).late
        elif how == "not genuine":
            cookie = ada.cookie(access=ada.expired, refresh=ada.refresh[:-2] + "AA")
        else:
            await club.get({"Cookie": f"{REFRESH}={await other_tab(club, ada, ago=60)}"})
        answered = await club.get(cookie)
        assert (answered.status, answered.body, set_cookies(answered)) == (200, b"nobody", {})

    async def test_a_stolen_token_is_found_on_arrival_and_ends_the_session(self, club, ada):
        successor = await other_tab(club, ada, ago=60)
        await club.get({"Cookie": f"{REFRESH}={successor}"})
        assert await club.who(ada.late) == "nobody"
        assert (await club.row(ada)).revoked_for == "reused"
        event = next(one for one in club.told.objects if one["event"] == "reuse_detected")
        assert event["account"] == ADA.id
        assert event["session"] not in (None, ada.session.id)
        assert ada.session.id not in "".join(club.told.lines)
        assert await club.who({"Cookie": f"{REFRESH}={successor}"}) == "nobody"


class TestManyAtOnce:
    @pytest.mark.parametrize("count", [2, 20])
    async def test_get_the_same_successor(self, club, ada, count):
        answers = await asyncio.gather(*(club.get(ada.late) for _ in range(count)))
        assert {one.body.decode() for one in answers} == {ADA.id}
        assert len({value_of(set_cookies(one)[REFRESH]) for one in answers}) == 1
        assert len({value_of(set_cookies(one)[SESSION]) for one in answers}) == count
        assert (await club.row(ada)).generation == 1


class TestKindsOfAnswers:
    """The app is any ASGI app; each answer of a renewed session carries both cookies and no-store."""

    @staticmethod
    def carries(start) -> bool:
        names = [value.partition(b"=")[0] for name, value in start["headers"] if name == b"set-cookie"]
        stores = [value for name, value in start["headers"] if name.lower() == b"cache-control"]
        return sorted(names) == [REFRESH.encode(), SESSION.encode()] and stores == [b"no-store"]

    @pytest.mark.parametrize("status", [204, 304, 301, 401, 404, 500])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    async def test_of_any_status_and_method(self, club, ada, status, method):
        club.app.status = status
        facts = request_facts(method, headers={**ada.late, "Origin": "http://localhost"})
        sent = await call(club.served, facts.scope)
        assert sent[0]["status"] == status
        assert self.carries(sent[0])

    @pytest.mark.parametrize("kind", [b"text/event-stream", b"application/octet-stream"])
    async def test_a_stream_begins_with_them_and_goes_on_chunk_by_chunk(self, kind):
        gate = asyncio.Event()
        sent = []

        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            await gate.wait()
            await send({"type": "http.response.body", "body": b"two"})

        async with a_club(app) as club:
            ada = await club.sign_in(ago=OLD)

            async def send(message):
                sent.append(message)

            async def receive():
                return {"type": "http.request", "body": b"", "more_body": False}

            serving = asyncio.create_task(club.served(request_facts(headers=ada.late).scope, receive, send))
            while len(sent) < 2:
                await asyncio.sleep(0)
            assert self.carries(sent[0])
            assert sent[1]["body"] == b"one"
            gate.set()
            await serving
        assert [message.get("body") for message in sent[1:]] == [b"one", b"two"]

    async def test_an_exception_that_nobody_caught(self):
        async def app(scope, receive, send):
            raise ValueError("oops")

        async with a_club(app) as club:
            ada = await club.sign_in(ago=OLD)
            sent = []

            async def send(message):
                sent.append(message)

            with pytest.raises(ValueError, match="oops"):
                await club.served(request_facts(headers=ada.late).scope, None, send)
        assert sent[0]["status"] == 500
        assert self.carries(sent[0])

    async def test_a_refusal_in_the_middle_of_the_body(self):
        async def app(scope, receive, send):
            while (await receive()).get("more_body"):
                pass

        async with a_club(app, body_limit=3) as club:
            ada = await club.sign_in(ago=OLD)
            headers = {**ada.late, "Origin": "http://localhost", "Transfer-Encoding": "chunked"}
            sent = await call(club.served, request_facts("POST", headers=headers).scope, b"12", b"34", b"56")
        assert sent[0]["status"] == 413
        assert self.carries(sent[0])

    async def test_the_pass_refuses_after_it_knows_who_asks(self):
        async with a_club(csrf_token="always") as club:
            ada = await club.sign_in(ago=OLD)
            headers = {**ada.late, "Origin": "http://localhost"}
            sent = await call(club.served, request_facts("POST", headers=headers).scope)
        assert sent[0]["status"] == 403
        assert self.carries(sent[0])

    async def test_a_websocket_is_accepted_with_them(self):
        async def app(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept", "headers": [(b"x-own", b"1")]})
            await send({"type": "websocket.send", "text": "hello"})

        async with a_club(app) as club:
            ada = await club.sign_in(ago=OLD)
            headers = {**ada.late, "Origin": "http://localhost"}
            sent = await call(club.served, request_facts(headers=headers, type="websocket").scope)
        assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send"]
        assert self.carries(sent[0])
        assert (b"x-own", b"1") in sent[0]["headers"]

    @pytest.mark.parametrize("name", [b"cache-control", b"Cache-Control"])
    async def test_no_store_wins_over_the_apps_own_word(self, club, ada, name):
        club.app.headers = [(name, b"public, max-age=600"), (b"x-own", b"1")]
        facts = request_facts(headers=ada.late)
        sent = await call(club.served, facts.scope)
        assert self.carries(sent[0])
        assert (b"x-own", b"1") in sent[0]["headers"]

    async def test_where_no_cookie_is_set_the_apps_own_word_stays(self, club, ada):
        club.app.headers = [(b"cache-control", b"public, max-age=600")]
        answered = await club.get(ada.cookie())
        assert answered.header(b"cache-control") == b"public, max-age=600"

    async def test_the_apps_own_cookies_stay(self, club, ada):
        club.app.headers = [(b"set-cookie", b"own=1; Path=/")]
        assert set(set_cookies(await club.get(ada.late))) == {"own", SESSION, REFRESH}

    async def test_an_app_that_sends_the_same_fields_again_and_again_gets_no_cookies_into_them(
        self, club, ada
    ):
        club.app.headers = headers = [(b"x-own", b"1")]
        await club.get(ada.late)
        assert headers == [(b"x-own", b"1")]

    async def test_a_token_too_large_for_a_cookie_is_an_error_with_an_answer(self, club, ada):
        roles = [f"role-{number:04}-of-a-long-name" for number in range(200)]
        await club.membership.store.accounts.grant(ADA.id, roles=roles)
        sent = []

        async def send(message):
            sent.append(message)

        with pytest.raises(Exception, match="4096"):
            await club.served(request_facts(headers=ada.late).scope, None, send)
        assert sent[0]["status"] == 500


class TestTroubles:
    async def test_a_client_that_leaves_cancels_its_answer_and_not_the_statement(self, in_a_file):
        club, path = in_a_file
        ada = await club.sign_in(ago=OLD)
        with slowly_updated(path, "thebes_sessions"):
            asking = asyncio.create_task(club.get(ada.late))
            while not is_being_written(path):
                assert not asking.done()
                await asyncio.sleep(0.001)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            while is_being_written(path):
                await asyncio.sleep(0.01)
        assert (await club.row(ada)).generation == 1

    async def test_a_store_that_can_not_be_written_sets_nothing_and_answers_all_the_same(self, in_a_file):
        club, _ = in_a_file
        ada = await club.sign_in(ago=OLD)
        with no_room_on_the_disk():
            answered = await club.get(ada.late)
        assert (answered.body.decode(), set_cookies(answered)) == (ADA.id, {})
        assert set(set_cookies(await club.get(ada.late))) == {SESSION, REFRESH}

    @pytest.mark.parametrize("grace", [0, 30])
    async def test_a_rotation_that_has_not_begun_within_50_ms_is_withdrawn(self, tmp_path, grace):
        """Another process writes into the database; the next request renews."""
        path = tmp_path / "accounts.db"
        async with a_club(database_url=f"sqlite:///{path}", refresh_grace=grace) as club:
            ada = await club.sign_in(ago=OLD)
            began = time.monotonic()
            with written_by_another(path):
                answered = await club.get(ada.late)
                took = time.monotonic() - began
            assert (answered.body.decode(), set_cookies(answered)) == (ADA.id, {})
            assert (await club.row(ada)).generation == 0
            assert took < 2  # and not the 5 s for which other statements wait
            cookies = set_cookies(await club.get(ada.late))
            assert set(cookies) == {SESSION, REFRESH}
            assert (await club.row(ada)).generation == 1


async def test_two_clubs_do_not_know_each_others_sessions():
    async with a_club(Noting()) as ours, a_club(Noting()) as theirs:
        ada = await ours.sign_in(ago=OLD)
        assert await ours.who(ada.late) == ADA.id
        assert await theirs.who(ada.late) == "nobody"
