"""Pages without script: forms with their token, answered by a redirect to a page of this service."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from account_api import (
    OTHER_PASSWORD,
    PASSWORD,
    PRESESSION,
    REFRESH,
    SESSION,
    Caller,
    Service,
    accounts,
    document,
)
from attack import Answered
from thebes.accounts.calls import _local as local

ADA = "ada@example.com"
SIGN_IN = {"email": ADA, "password": PASSWORD}
BY_SCRIPT = {"Sec-Fetch-Mode": "cors"}

live = pytest.mark.parametrize("service", ["socket"], indirect=True)


def place(answer: Answered) -> str:
    """Return where a form's answer leads."""
    assert answer.status == 303
    assert answer.body == b""
    return answer.only("location")


class TestNobodysForms:
    @pytest.mark.requirement("CSR-07", by="live")
    @live
    @pytest.mark.parametrize("path", ["login", "register", "forgot", "reset", "verify", "verify/resend"])
    def test_they_pass_the_origin_check_and_carry_a_token(self, service: Service, path: str):
        service.member()
        values = {
            "login": SIGN_IN,
            "register": {"email": "new@example.com", "password": PASSWORD},
            "reset": {"token": "t", "password": PASSWORD},
            "verify": {"token": "t"},
        }.get(path, {"email": ADA})
        caller = service.caller()
        token = caller.csrf_token()

        for foreign in ("https://evil.example", "null", service.origin + ".evil.example"):
            refused = caller.form(
                path, values, {"Origin": foreign, "Sec-Fetch-Site": "cross-site"}, token=token
            )
            assert (refused.status, refused.every("set-cookie")) == (403, [])
        for wrong in (None, "x", token[:-1], service.caller().csrf_token()):
            assert place(caller.form(path, values, token=wrong)) == "/?problem=csrf-token"
            assert caller.form(path, values, BY_SCRIPT, token=wrong).status == 403
        assert "problem=csrf" not in place(caller.form(path, {**values, "next": "/done"}, token=token))

    @pytest.mark.requirement("CSR-07", by="live")
    @live
    def test_the_token_of_nobody_is_replaced_at_sign_in(self, service: Service):
        service.member()
        caller = service.caller()
        nobodys = caller.csrf_token()
        kept = caller.cookies[PRESESSION]

        assert place(caller.form("login", {**SIGN_IN, "next": "/who"}, token=nobodys)) == "/who"

        assert PRESESSION not in caller.cookies
        caller.cookies[PRESESSION] = kept
        assert place(caller.form("logout", {}, token=nobodys)) == "/?problem=csrf-token"
        assert caller.get("/who").status == 200
        assert place(caller.form("logout", {"next": "/bye"})) == "/bye"
        assert caller.get("/who").status == 401

    def test_one_cookie_serves_the_forms_of_several_tabs(self, service: Service):
        service.member()
        caller = service.caller()
        first, second = caller.csrf_token(), caller.csrf_token()

        assert first != second
        assert place(caller.form("forgot", {"email": ADA}, token=first)) == "/"
        assert place(caller.form("forgot", {"email": ADA}, token=second)) == "/"

    @pytest.mark.parametrize(
        "planted", ["", "x", "a" * 23, "a" * 25, "a" * 5000, "\xe4" * 24, "a" * 23 + "!"]
    )
    def test_a_cookie_that_we_did_not_make_is_replaced(self, service: Service, planted: str):
        caller = service.caller()
        caller.cookies[PRESESSION] = planted

        caller.csrf_token()

        assert caller.cookies[PRESESSION] != planted


class TestTokens:
    def test_a_token_of_another_session_or_from_before_the_sign_in_is_stale(self, service: Service):
        ada, grace = service.member(), service.member("grace@example.com")
        before = ada.csrf_token()
        foreign = grace.csrf_token()
        ada.sign_in(ADA)

        for token in (before, foreign, None):
            assert place(ada.form("logout", {}, token=token)) == "/?problem=csrf-token"
            assert ada.form("logout", {}, BY_SCRIPT, token=token).status == 403
        assert ada.get("/who").status == 200

    @pytest.mark.parametrize(
        "path", ["logout", "logout-all", "refresh", "reauthenticate", "password", "sessions/x/end"]
    )
    @pytest.mark.parametrize(
        "fields", [{}, BY_SCRIPT, {"Sec-Fetch-Mode": None}], ids=["page", "script", "old browser"]
    )
    def test_no_form_of_a_session_does_anything_without_one(
        self, service: Service, path: str, fields: dict[str, Any]
    ):
        caller = service.member()
        before = dict(caller.cookies)
        values = {
            "current_password": PASSWORD,
            "password": OTHER_PASSWORD if path == "password" else PASSWORD,
        }

        answer = caller.form(path, values, fields, token=None)

        assert answer.status == 403 or place(answer) == "/?problem=csrf-token"
        assert caller.cookies == before
        assert caller.get("/who").status == 200

    def test_signing_out_works_after_the_access_token_has_expired(self, service: Service):
        caller = service.member()
        token = caller.csrf_token()
        kept = caller.cookies[REFRESH]
        caller.forget(SESSION)

        assert place(caller.form("logout", {}, token=token)) == "/"

        copy = service.caller()
        copy.cookies = {REFRESH: kept}
        assert copy.get("/who").status == 401

    @pytest.mark.parametrize(
        "body",
        [
            b"email=ada%40example.com&email=x&password=p&csrf_token={}",
            b"email=ada%40example.com&password=p&csrf_token={}&csrf_token={}",
            b"email=ada%40example.com&password=p&csrf_token={}&csrf_token=x",
            b"email=ada%40example.com&password=p&next=/a&next=/b&csrf_token={}",
            b"email=ada%40example.com&password=p&role=admin&csrf_token={}",
            b"email=ada%40example.com&csrf_token={}",
            b"email=%ff&password=p&csrf_token={}",
            b"\xff=1&csrf_token={}",
            b"email=ada%40example.com&password=p&remember=perhaps&csrf_token={}",
            b"&".join(b"f%d=" % number for number in range(60)) + b"&csrf_token={}",
        ],
        ids=lambda body: ascii(body[:60]),
    )
    def test_what_can_be_read_in_two_ways_is_refused(self, service: Service, body: bytes):
        caller = service.caller()
        token = caller.csrf_token()

        answer = caller.form("login", body.replace(b"{}", token.encode()), BY_SCRIPT)

        assert (answer.status, answer.kind) in ((422, "bad-fields"), (403, "csrf-token"))


class TestNext:
    @pytest.mark.parametrize(
        ("wanted", "goes_to"),
        [
            ("/notes", "/notes"),
            ("/notes?a=b&c=%2F#top", "/notes?a=b&c=%2F#top"),
            ("/", "/"),
            ("", "/"),
            ("//evil.example", "/"),
            ("///evil.example", "/"),
            ("/\\evil.example", "/"),
            ("\\\\evil.example", "/"),
            ("/\t/evil.example", "/"),
            ("/\n/evil.example", "/"),
            ("\t//evil.example", "/"),
            (" //evil.example", "/"),
            ("https://evil.example", "/"),
            ("https:evil.example", "/"),
            ("javascript:alert(1)", "/"),
            ("data:text/html,x", "/"),
            ("evil.example", "/"),
            ("?next=x", "/"),
            ("/a\r\nSet-Cookie: a=b", "/"),
            ("/a\0b", "/"),
            ("/\u2028/evil.example", "/"),
            ("/\uff0fevil.example", "/"),
            ("/notes/\xe4", "/"),
            ("/a\\b", "/"),
            ('/"><script>', "/"),
        ],
        ids=ascii,
    )
    def test_only_a_page_of_this_service_is_gone_to(self, service: Service, wanted: str, goes_to: str):
        service.member()

        answer = service.caller().form("login", {**SIGN_IN, "next": wanted})

        assert place(answer) == goes_to
        assert answer.every("content-security-policy") == ["default-src 'none'; frame-ancestors 'none'"]

    @given(st.text(max_size=40) | st.text("/\\.:@?#%\t\r\nhtps evil", max_size=20))
    def test_no_text_leads_elsewhere(self, target: str):
        found = local(target)

        assert found is None or (
            found == target and urlsplit(f"https://own.example{found}").netloc == "own.example"
        )
        assert found is None or not found.startswith(("//", "/\\"))

    @pytest.mark.parametrize(
        ("referer", "goes_to"),
        [
            ("https://testserver/login", "/login?problem=wrong-credentials"),
            ("https://testserver/reset?token=t&problem=old", "/reset?token=t&problem=wrong-credentials"),
            ("https://testserver", "/?problem=wrong-credentials"),
            ("https://evil.example/login", "/?problem=wrong-credentials"),
            ("https://testserver.evil.example/login", "/?problem=wrong-credentials"),
            ("https://testserver@evil.example/login", "/?problem=wrong-credentials"),
            ("https://testserver//evil.example", "/?problem=wrong-credentials"),
            ("https://testserver/\\evil.example", "/?problem=wrong-credentials"),
            ("https://testserver/\xe4", "/?problem=wrong-credentials"),
            ("http://testserver/login", "/?problem=wrong-credentials"),
            ("https://testserver:444/login", "/?problem=wrong-credentials"),
            ("https://[::1/login", "/?problem=wrong-credentials"),
            ("https://testserver/[login", "/[login?problem=wrong-credentials"),
            ("login", "/?problem=wrong-credentials"),
        ],
    )
    def test_a_problem_is_told_on_the_page_that_the_form_was_on(
        self, service: Service, referer: str, goes_to: str
    ):
        answer = service.caller().form(
            "login", {**SIGN_IN, "next": "/notes"}, {"Referer": referer, "Sec-Fetch-Site": "none"}
        )

        assert place(answer) == goes_to
        assert answer.every("www-authenticate") == []

    def test_a_page_on_plain_http_of_this_machine_is_gone_back_to_as_well(self, tmp_path: Any):
        with accounts("socket", tmp_path) as service:
            answer = service.caller().form("login", SIGN_IN, {"Referer": f"{service.origin}/login"})

            assert place(answer) == "/login?problem=wrong-credentials"


class TestWithoutScript:
    """Every flow of an account, by forms alone."""

    @live
    def test_a_whole_life_of_an_account(self, service: Service):
        caller, told = service.caller(), []

        def send(path: str, **values: str) -> None:
            told.append(place(caller.form(path, {**values, "next": f"/{len(told)}"})))

        send("register", email=ADA, password=PASSWORD)
        send("verify/resend", email=ADA)
        send("verify", token=service.token("verify", ADA))
        send("login", email=ADA, password=PASSWORD, remember="true")
        assert caller.get("/who").status == 200
        send("reauthenticate", password=PASSWORD)
        send("password", current_password=PASSWORD, password=OTHER_PASSWORD)
        other = service.caller()
        other.sign_in(ADA, OTHER_PASSWORD)
        [session] = [each for each in sessions_of(caller) if not each["is_current"]]
        send(f"sessions/{session['id']}/end")
        assert other.get("/who").status == 401
        send("logout")
        assert caller.get("/who").status == 401
        send("forgot", email=ADA)
        send("reset", token=service.token("reset", ADA), password=PASSWORD)
        send("login", email=ADA, password=PASSWORD)
        send("logout-all")

        assert told == [f"/{number}" for number in range(12)]
        assert caller.get("/who").status == 401

    def test_a_script_that_sends_a_form_gets_json(self, service: Service):
        service.member()
        caller = service.caller()

        answer = caller.form("login", SIGN_IN, BY_SCRIPT)

        assert answer.status == 200
        assert answer.only("content-type") == "application/json"

    def test_trouble_is_told_by_a_redirect_too(self, service: Service):
        caller = service.caller()
        token = caller.csrf_token()
        body = f"csrf_token={token}&email={'a' * 70_000}".encode()

        assert place(caller.form("login", body)).startswith("/?problem=")


def sessions_of(caller: Caller) -> list[dict[str, Any]]:
    """Return what somebody sees of their sessions."""
    return list(document(caller.get("sessions"))["sessions"])
