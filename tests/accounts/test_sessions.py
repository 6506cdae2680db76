"""Sessions by the API: what their owner sees of them, who ends them, and what counts as one."""

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from account_api import PASSWORD, REFRESH, SESSION, Caller, Service, accounts, both, document
from thebes.encoding import decode, random_id

ADA, GRACE = "ada@example.com", "grace@example.com"
DAY = 86400

everywhere = pytest.mark.parametrize("service", ["memory", "sqlite", "socket"], indirect=True)


def sessions_of(caller: Caller) -> list[dict[str, Any]]:
    """Return what somebody sees of their sessions."""
    return list(document(caller.get("sessions"))["sessions"])


class TestList:
    @both("ACC-29")
    def test_owners_see_their_sessions_without_tokens_and_end_one_or_all(self, service: Service):
        here = service.member()
        there = service.caller()
        there.fields["User-Agent"] = (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18 Safari/605"
        )
        there.sign_in(ADA)
        program = service.caller()
        tokens = document(program.sign_in(ADA, mode="bearer"))

        answer = here.get("sessions")
        listed = document(answer)["sessions"]

        assert len(listed) == 3
        assert [each["is_current"] for each in listed].count(True) == 1
        assert {each["mode"] for each in listed} == {"cookie", "bearer"}
        for each in listed:
            assert set(each) == {"id", "is_current", "mode", "device", "address", "created_at", "used_at"}
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", each["created_at"])
            assert each["device"] != ""
            assert each["address"] == "127.9.0.0/24"
        assert any("iPhone" in each["device"] or "iOS" in each["device"] for each in listed)
        secret = [*here.cookies.values(), *there.cookies.values(), *tokens.values()]
        pieces = {piece for value in secret for piece in str(value).split(".") if len(piece) > 30}
        assert not [piece for piece in pieces if piece in answer.body.decode()]
        stored = service.run(service.membership.store.sessions.of_account(service.account_id()))
        assert len(stored) == 3
        for each in stored:
            assert each.digest.hex() not in answer.body.decode()
            assert each.id not in answer.body.decode()
        other = next(each for each in listed if not each["is_current"] and each["mode"] == "cookie")

        assert here.ask("DELETE", f"sessions/{other['id']}").status == 204
        assert (there.get("/who").status, there.post("refresh").status) == (401, 401)
        assert len(sessions_of(here)) == 2
        assert here.post("logout-all").status == 204
        bearer = f"Bearer {tokens['access_token']}"
        assert (here.get("/who").status, program.get("/who", Authorization=bearer).status) == (401, 401)

    @pytest.mark.requirement("ACC-30", by="live")
    @pytest.mark.parametrize("service", ["socket"], indirect=True)
    def test_somebody_elses_session_is_answered_as_one_that_never_was(self, service: Service):
        mallory, grace = service.member(), service.member(GRACE)
        [foreign] = [each["id"] for each in sessions_of(grace)]

        for method, target in [
            ("DELETE", "sessions/{}"),
            ("POST", "sessions/{}/end"),
            ("GET", "sessions/{}"),
        ]:
            theirs = mallory.ask(method, target.format(foreign))
            nobodys = mallory.ask(method, target.format(random_id()))
            assert (theirs.status, theirs.kind) == (nobodys.status, nobodys.kind)
            assert len(theirs.body) == len(nobodys.body)
            assert theirs.status == (405 if method == "GET" else 404)
        assert grace.get("/who").status == 200
        assert foreign not in mallory.get("sessions").body.decode()

    @everywhere
    def test_an_ended_session_is_gone_too(self, service: Service):
        caller, other = service.member(), service.caller()
        other.sign_in(ADA)
        [ended] = [each["id"] for each in sessions_of(caller) if not each["is_current"]]

        assert [caller.ask("DELETE", f"sessions/{ended}").status for _ in range(2)] == [204, 404]

    @everywhere
    def test_ending_ones_own_session_leaves_nothing_that_renews(self, service: Service):
        caller = service.member()
        [mine] = [each["id"] for each in sessions_of(caller)]
        caller.forget(SESSION)  # so that this very request renews in place

        assert caller.ask("DELETE", f"sessions/{mine}").status == 204

        assert caller.get("/who").status == 401
        assert caller.post("refresh").status == 401

    @everywhere
    @pytest.mark.parametrize("path", ["reauthenticate", "password", "logout-all", "me"])
    def test_what_replaces_a_session_is_not_overwritten_by_its_renewal(self, service: Service, path: str):
        """The access token has expired, so the request is served by the refresh cookie."""
        caller = service.member()
        caller.forget(SESSION)
        bodies = {
            "reauthenticate": {"password": PASSWORD},
            "password": {"current_password": PASSWORD, "password": "moonlight over gates"},
        }
        answer = caller.ask("DELETE", path) if path == "me" else caller.post(path, bodies.get(path))

        names = [field.partition("=")[0] for field in answer.every("set-cookie")]
        assert answer.status in (200, 204)
        assert names.count(SESSION) == names.count(REFRESH) == 1
        assert caller.get("/who").status == (200 if path in bodies else 401)


class TestEnds:
    @both("ACC-31")
    def test_operators_end_the_sessions_of_one_or_of_all(self, service: Service):
        ada, grace = service.member(), service.member(GRACE)
        store = service.membership.store

        service.run(store.sessions.revoke(service.account_id(ADA), reason="ended_by_operator"))

        assert (ada.get("/who").status, ada.post("refresh").status) == (401, 401)
        assert grace.get("/who").status == 200
        assert ada.sign_in(ADA).status == 200
        for account in service.run(store.accounts.page()):
            service.run(store.sessions.revoke(account.id, reason="ended_by_operator"))
        assert (ada.get("/who").status, grace.get("/who").status) == (401, 401)
        assert (ada.post("refresh").status, grace.post("refresh").status) == (401, 401)

    @both("ACC-31")
    @pytest.mark.parametrize("how", ["disable", "delete"])
    @pytest.mark.parametrize("mode", ["cookie", "bearer"])
    def test_disabling_or_deleting_an_account_ends_its_sessions_at_once(
        self, service: Service, how: str, mode: str
    ):
        caller = service.member(mode=mode)
        tokens = document(service.caller().sign_in(ADA, mode="bearer"))
        fields = {"Authorization": f"Bearer {tokens['access_token']}"} if mode == "bearer" else {}
        store = service.membership.store.accounts
        assert caller.get("/who", **fields).status == 200

        if how == "disable":
            service.run(store.set_enabled(service.account_id(), False))
        else:
            service.run(store.delete(service.account_id()))

        assert caller.get("/who", **fields).status == 401
        assert caller.get("me", **fields).status == 401
        if mode == "cookie":
            assert caller.post("refresh").status == 401
        assert service.caller().post("refresh", {"refresh_token": tokens["refresh_token"]}).status == 401
        assert service.caller().sign_in(ADA).status == 401

    @both("ACC-34", store="sqlite")
    def test_idle_and_absolute_limits_and_the_number_of_sessions_hold(self, service: Service):
        page = (Path(__file__).parents[2] / "docs" / "accounts.md").read_text("utf-8")
        for words in ("30 days", "7 days", "20 sessions"):
            assert words in page
        idle, old, active = service.member(), service.caller(), service.caller()
        old.sign_in(ADA)
        active.sign_in(ADA)

        service.age(7 * DAY - 60, "sessions.used_at")
        assert [each.post("refresh").status for each in (old, active)] == [204, 204]
        service.age(61, "sessions.used_at")
        assert idle.forget(SESSION).post("refresh").status == 401
        assert old.post("refresh").status == 204
        service.age(30 * DAY, "sessions.expires_at")
        assert old.post("refresh").status == 401
        assert old.forget(SESSION).get("/who").status == 401

        browsers = [service.caller() for _ in range(21)]
        for browser in browsers:
            assert browser.sign_in(ADA).status == 200
        assert browsers[0].get("/who").status == 401
        assert browsers[0].post("refresh").status == 401
        assert [browser.get("/who").status for browser in browsers[1:]] == [200] * 20
        assert len(sessions_of(browsers[-1])) == 20

    @pytest.mark.parametrize("service", ["sqlite", "socket"], indirect=True)
    def test_a_used_refresh_token_ends_the_session_and_its_owner_is_mailed(self, service: Service):
        service.membership.runner._poll_s = 600  # the mail goes out at once, not with the next look
        caller = service.member()
        stolen = service.caller()
        stolen.cookies = {REFRESH: caller.cookies[REFRESH]}
        for _ in range(2):
            service.age(31, "sessions.rotated_at")
            assert caller.post("refresh").status == 204

        assert stolen.post("refresh").status == 401

        assert caller.get("/who").status == 401
        assert service.mailed(ADA)[-1] == "session_reused"
        assert "reuse_detected" in [event["event"] for event in service.events]

    @pytest.mark.parametrize("service", ["sqlite", "socket"], indirect=True)
    def test_so_does_one_that_comes_to_any_page(self, service: Service):
        service.membership.runner._poll_s = 600  # the mail goes out at once, not with the next look
        caller = service.member()
        stolen = service.caller()
        stolen.cookies = {REFRESH: caller.cookies[REFRESH]}
        for _ in range(2):
            service.age(31, "sessions.rotated_at")
            caller.forget(SESSION).get("/who")

        assert stolen.get("/who").status == 401

        [event] = [each for each in service.events if each["event"] == "reuse_detected"]
        assert event["account"] == service.account_id()
        assert event["session"]
        assert event["session"] != caller.cookies[REFRESH].partition(".")[0]
        assert service.mailed(ADA)[-1] == "session_reused"


class TestRefusedPlaces:
    @both("TOK-36")
    def test_no_token_counts_in_the_address(self, service: Service):
        caller = service.member()
        tokens = document(service.caller().sign_in(ADA, mode="bearer"))
        nobody = service.caller()
        mine = {"cookie": caller.cookies[SESSION], "bearer": tokens["access_token"]}

        for token in mine.values():
            for query in (f"access_token={token}", f"a=b&access_token={token}&c"):
                answer = nobody.get(f"/who?{query}")
                assert (answer.status, answer.kind) == (400, "token-in-query")
                assert nobody.get(f"me?{query}").status == 400
        for name in ("token", "authorization", "session", SESSION, "ACCESS_TOKEN", "access_token%20", "jwt"):
            for token in mine.values():
                assert nobody.get(f"/who?{name}={token}").status in (400, 401)
        for target in (
            f"refresh?refresh_token={tokens['refresh_token']}",
            f"refresh?{REFRESH}={caller.cookies[REFRESH]}",
            f"verify?token={random_id()}",
            f"reset?token={random_id()}&password=x",
            f"login?email=ada%40example.com&password={PASSWORD.replace(' ', '+')}",
        ):
            assert nobody.post(target).status == 415
            assert nobody.post(target, {}).status == 422
        assert nobody.cookies == {}
        assert caller.get("/who").status == 200  # none of it was used

    @both("TOK-44")
    def test_no_endpoint_trusts_an_identity_that_the_client_writes(self, service: Service):
        ada, grace = service.member(), service.member(GRACE)
        ada_id, ada_session = (document(ada.get("/who"))[key] for key in ("id", "session"))
        names = ("X-User-Id", "X-Account-Id", "X-Remote-User", "Remote-User", "X-Auth-Sub")
        claimed: dict[str, str | None] = dict.fromkeys(names, ada_id)
        claimed |= {"X-Session-Id": ada_session, "X-Email": ADA, "From": ADA}
        cookies = f"user_id={ada_id}; session={ada_session}; sub={ada_id}; email={ADA}"

        nobody = service.caller()
        for path in ("/who", "me", "sessions"):
            assert nobody.ask("GET", path, fields={**claimed, "Cookie": cookies}).status == 401
            own = grace.ask("GET", path, fields=claimed)
            assert own.status == 200
            assert ada_id not in own.body.decode()
            assert grace.ask("GET", f"{path}?user_id={ada_id}&sub={ada_id}").body == own.body
        for path, body in [
            ("reauthenticate", {"password": PASSWORD, "email": ADA}),
            ("password", {"current_password": PASSWORD, "password": "x" * 20, "account_id": ada_id}),
            ("logout-all", {"account_id": ada_id}),
            ("logout", {"session_id": ada_session}),
        ]:
            assert grace.post(path, body).status == 422
        assert ada.get("/who").status == 200

    @pytest.mark.requirement("TOK-42", by="live")
    @pytest.mark.parametrize("signing", ["ES256", "EdDSA"])
    def test_the_published_keys_are_public_ones(self, signing: Any, tmp_path: Path):
        with accounts("socket", tmp_path, signing=signing) as service:
            token = document(service.member(mode="bearer").sign_in(ADA, mode="bearer"))["access_token"]

            answer = service.caller().get("/.well-known/jwks.json")

            keys = document(answer)["keys"]
            parts = {"kty", "crv", "x", "kid", "alg", "use"} | ({"y"} if signing == "ES256" else set())
            assert answer.only("content-type") in ("application/json", "application/jwk-set+json")
            assert keys
            for key in keys:
                assert set(key) == parts
                assert (key["alg"], key["use"]) == (signing, "sig")
                assert key["kty"] in ("EC", "OKP")
            assert _header(token)["kid"] in {key["kid"] for key in keys}
            assert service.database is not None
            with sqlite3.connect(service.database) as database:
                stored = [kid for (kid,) in database.execute("SELECT kid FROM thebes_keys")]
            database.close()
            assert {key["kid"] for key in keys} <= set(stored)


def _header(token: str) -> Any:
    return json.loads(decode(token.partition(".")[0]))
