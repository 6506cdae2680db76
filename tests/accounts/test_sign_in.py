"""Signing in and out by the API: what each answer sets, and what guessing comes to."""

import re
import sqlite3
from typing import Any

import argon2.low_level
import bcrypt
import pytest

from account_api import (
    DEVICE,
    OTHER_PASSWORD,
    PASSWORD,
    PRESESSION,
    REFRESH,
    SESSION,
    Service,
    both,
    document,
    shape,
)

ADA = "ada@example.com"
WRONG = "a wrong password, as guessed"
FREE_GUESSES = 5  # the fifth failure sets the first delay

over_a_socket = pytest.mark.parametrize("service", ["socket"], indirect=True)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int, int]]:
    """What the Argon2 library was asked to compute: memory, passes, lanes and length, each time."""
    asked: list[tuple[int, int, int, int]] = []
    compute = argon2.low_level.core

    def core(context: Any, kind: int) -> int:
        asked.append((context.m_cost, context.t_cost, context.lanes, context.outlen))
        return compute(context, kind)

    monkeypatch.setattr(argon2.low_level, "core", core)
    return asked


class TestCookieMode:
    @pytest.mark.requirement("TOK-28", by="live")
    @over_a_socket
    def test_tokens_stand_in_set_cookie_and_nowhere_else(self, service: Service):
        caller = service.caller()
        caller.post("register", {"email": ADA, "password": PASSWORD})
        caller.post("verify", {"token": service.token("verify", ADA)})
        issued: set[str] = set()
        answers = []
        for call in (
            lambda: caller.sign_in(ADA, remember=True),
            lambda: caller.get("me"),
            lambda: caller.get("sessions"),
            lambda: caller.get("csrf"),
            lambda: caller.forget(SESSION).get("/who"),
            lambda: caller.post("refresh"),
            lambda: caller.post("reauthenticate", {"password": PASSWORD}),
            lambda: caller.post("password", {"current_password": PASSWORD, "password": OTHER_PASSWORD}),
            lambda: caller.form("reauthenticate", {"password": OTHER_PASSWORD, "next": "/who"}),
            lambda: caller.post("logout"),
        ):
            answers.append(call())
            issued |= {value for name, value in caller.cookies.items() if name in (SESSION, REFRESH)}

        assert [answer.status for answer in answers] == [200, 200, 200, 200, 200, 204, 200, 200, 303, 204]
        assert len(issued) >= 8
        for answer in answers:
            seen = answer.body.decode() + repr([f for f in answer.fields if f[0].lower() != "set-cookie"])
            assert not [token for token in issued if token in seen]
            assert not re.search(r"eyJ[\w-]+\.", seen)
            for field in answer.every("set-cookie"):
                assert "; HttpOnly" in field  # no script reads it

    @pytest.mark.requirement("TOK-29", by="live")
    @over_a_socket
    @pytest.mark.parametrize("remember", [False, True])
    def test_its_cookies_belong_to_this_host_and_to_no_script(self, service: Service, remember: bool):
        caller = service.member()
        for answer in (caller.sign_in(ADA, remember=remember), caller.post("refresh")):
            fields = {field.partition("=")[0]: field for field in answer.every("set-cookie")}
            for name in (SESSION, REFRESH):
                attributes = [part.strip() for part in fields[name].split(";")[1:]]
                aged = [part for part in attributes if part.startswith("Max-Age=")]
                assert name.startswith("__Host-")
                assert set(attributes) - set(aged) == {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"}
                assert bool(aged) is remember

    @both("TOK-26")
    def test_signing_out_ends_the_session_and_takes_the_cookies_back(self, service: Service):
        caller = service.member()
        kept = dict(caller.cookies)
        set_by_sign_in = caller.sign_in(ADA).every("set-cookie")
        kept = dict(caller.cookies)

        answer = caller.post("logout")

        assert answer.status == 204
        assert answer.only("clear-site-data") == '"cache", "storage"'
        for name in (SESSION, REFRESH):
            given = next(field for field in set_by_sign_in if field.startswith(f"{name}="))
            taken = next(field for field in answer.every("set-cookie") if field.startswith(f"{name}="))
            assert taken == f"{name}=;{given.partition(';')[2]}; Max-Age=0"
        assert DEVICE in caller.cookies  # this browser stays a known one
        copy = service.caller()
        copy.cookies = kept
        assert copy.get("/who").status == 401
        assert copy.post("refresh").status == 401

    @pytest.mark.parametrize("name", [SESSION, REFRESH])
    def test_either_cookie_is_enough_to_sign_out(self, service: Service, name: str):
        caller = service.member()
        copy = service.caller()
        copy.cookies = dict(caller.cookies)

        assert caller.forget(name).post("logout").status == 204

        assert copy.get("/who").status == 401

    def test_signing_out_ends_both_sessions_where_the_cookies_are_of_two(self, service: Service):
        first = service.member()
        second = service.caller()
        second.sign_in(ADA)
        mixed = service.caller()
        mixed.cookies = {SESSION: first.cookies[SESSION], REFRESH: second.cookies[REFRESH]}

        mixed.post("logout")

        assert (first.get("/who").status, second.get("/who").status) == (401, 401)

    def test_nobody_signs_out_without_harm(self, service: Service):
        assert service.caller().post("logout").status == 204

    def test_an_expired_refresh_token_signs_nobody_out(self, service: Service):
        """A stolen old token is judged by its own table, at `refresh`, not here."""
        caller = service.member()
        old = service.caller()
        old.cookies = {REFRESH: caller.cookies[REFRESH] + "x"}

        old.post("logout")

        assert caller.get("/who").status == 200


class TestNewValues:
    """Session fixation: what came with a sign-in is never what goes on (TOK-27)."""

    def test_each_sign_in_and_change_issues_new_values_and_ends_the_earlier_ones(self, service: Service):
        caller = service.member()
        seen = [dict(caller.cookies)]
        for call in (
            lambda: caller.sign_in(ADA),
            lambda: caller.post("reauthenticate", {"password": PASSWORD}),
            lambda: caller.post("password", {"current_password": PASSWORD, "password": OTHER_PASSWORD}),
        ):
            assert call().status == 200
            seen.append(dict(caller.cookies))

        for name in (SESSION, REFRESH):
            assert len({cookies[name] for cookies in seen}) == len(seen)
        for earlier in seen[:-1]:
            copy = service.caller()
            copy.cookies = dict(earlier)
            assert copy.get("/who").status == 401
            assert copy.post("refresh").status == 401
        assert caller.get("/who").status == 200

    @pytest.mark.parametrize("name", [SESSION, REFRESH])
    def test_a_planted_session_is_not_the_one_that_is_signed_in(self, service: Service, name: str):
        service.member()
        thief = service.caller()
        thief.sign_in(ADA)
        planted = dict(thief.cookies)
        owner = service.caller()
        owner.cookies = {name: planted[name], PRESESSION: "chosen-by-the-attacker-1"}

        owner.sign_in(ADA)

        assert owner.cookies[SESSION] != planted[SESSION]
        assert owner.cookies[REFRESH].partition(".")[0] != planted[REFRESH].partition(".")[0]
        assert PRESESSION not in owner.cookies
        assert thief.get("/who").status == 401

    def test_another_role_comes_with_another_access_token(self, service: Service):
        caller = service.member()
        before = dict(caller.cookies)

        service.run(service.membership.store.accounts.grant(service.account_id(), roles=("editor",)))

        assert caller.get("/who").status == 200  # renewed in place
        assert caller.cookies[SESSION] != before[SESSION]


class TestConfirmation:
    @both("ACC-04")
    def test_an_address_that_is_not_confirmed_opens_nothing(self, service: Service):
        caller = service.caller()
        caller.post("register", {"email": ADA, "password": PASSWORD})
        grant = (
            b"grant_type=password&username=ada%40example.com&password=" + PASSWORD.replace(" ", "+").encode()
        )

        answers = [
            caller.sign_in(ADA),
            caller.sign_in(ADA, mode="bearer"),
            caller.ask("POST", "token", grant, {"Content-Type": "application/x-www-form-urlencoded"}),
        ]

        assert [(answer.status, answer.kind) for answer in answers] == [(403, "email-unverified")] * 3
        assert caller.cookies == {}
        for method, path in [("GET", "me"), ("GET", "sessions"), ("DELETE", "me"), ("POST", "logout-all")]:
            assert caller.ask(method, path).status == 401
        for path, body in [
            ("password", {"current_password": PASSWORD, "password": OTHER_PASSWORD}),
            ("reauthenticate", {"password": PASSWORD}),
        ]:
            assert caller.post(path, body).status == 401
        assert caller.post("verify/resend", {"email": ADA}).status == 202
        assert caller.post("logout").status == 204
        assert caller.post("verify", {"token": service.token("verify", ADA)}).status == 204
        assert caller.sign_in(ADA).status == 200

    def test_only_the_right_password_learns_that_it_is_not_confirmed(self, service: Service):
        caller = service.caller()
        caller.post("register", {"email": ADA, "password": PASSWORD})

        known, unknown = caller.sign_in(ADA, WRONG), caller.sign_in("nobody@example.com", WRONG)

        assert shape(known) == shape(unknown)
        assert known.kind == "wrong-credentials"


class TestWhoSignsIn:
    @pytest.mark.parametrize("mode", ["cookie", "bearer"])
    def test_a_disabled_account_is_answered_as_a_wrong_password_is(self, service: Service, mode: str):
        service.member()
        service.run(service.membership.store.accounts.set_enabled(service.account_id(), False))
        caller = service.caller()

        disabled, wrong = caller.sign_in(ADA, mode=mode), caller.sign_in(ADA, WRONG, mode=mode)

        assert shape(disabled) == shape(wrong)

    def test_a_compromised_password_opens_nothing_until_it_was_reset(self, service: Service):
        service.member()
        service.run(service.membership.store.accounts.mark_compromised(service.account_id()))
        caller = service.caller()

        refused = caller.sign_in(ADA)
        caller.post("forgot", {"email": ADA})
        token = service.token("reset", ADA)
        caller.post("reset", {"token": token, "password": OTHER_PASSWORD})

        assert (refused.status, refused.kind) == (403, "password-compromised")
        assert caller.sign_in(ADA, OTHER_PASSWORD).status == 200

    def test_the_grant_of_the_documentation_page_sets_no_cookie(self, service: Service):
        service.member()
        caller = service.caller()
        body = b"grant_type=password&scope=&username=ada%40example.com&password=sunrise+over+seven+gates"

        answer = caller.ask("POST", "token", body, {"Content-Type": "application/x-www-form-urlencoded"})

        assert set(document(answer)) == {"access_token", "refresh_token", "token_type", "expires_in"}
        assert caller.cookies == {}
        bearer = {"Authorization": f"Bearer {document(answer)['access_token']}"}
        assert caller.ask("GET", "/who", fields=bearer).status == 200

    @pytest.mark.parametrize("path", ["register", "login", "forgot"])
    def test_the_package_answers_no_other_spelling_of_a_sign_in(self, service: Service, path: str):
        for spelling in (
            path.upper(),
            f"{path}/",
            f"/auth//{path}",
            f"./{path}",
            f"{path}%00",
            f"x/../{path}",
        ):
            assert service.caller().sign_in(ADA).status == 401
            assert service.caller().post(spelling, {"email": ADA, "password": PASSWORD}).status == 404


class TestWhereItComesFrom:
    @both("CSR-03")
    def test_a_cookie_mode_sign_in_says_where_it_comes_from(self, service: Service):
        service.member()
        silent = {"Origin": None}

        refused = service.caller().post("login", {"email": ADA, "password": PASSWORD}, silent)
        by_form = service.caller().ask(
            "POST", "login", b"email=a", {"Origin": None, "Content-Type": "application/x-www-form-urlencoded"}
        )
        bearer = service.caller().post(
            "login", {"email": ADA, "password": PASSWORD, "mode": "bearer"}, silent
        )

        assert (refused.status, refused.kind) == (403, "origin-missing")
        assert refused.every("set-cookie") == []
        assert by_form.status == 403
        assert bearer.status == 200

    @pytest.mark.parametrize(
        "fields",
        [
            {"Origin": None, "Sec-Fetch-Site": "same-origin"},
            {"Origin": None, "Sec-Fetch-Site": "none"},
            {"Origin": None, "Referer": "https://testserver/login"},
        ],
        ids=lambda fields: next(name for name, value in fields.items() if value),
    )
    def test_any_of_the_three_fields_of_a_browser_is_enough(self, service: Service, fields: dict[str, Any]):
        service.member()

        assert service.caller().post("login", {"email": ADA, "password": PASSWORD}, fields).status == 200

    @pytest.mark.parametrize(
        "fields",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": None, "Sec-Fetch-Site": "cross-site"},
            {"Origin": None, "Sec-Fetch-Site": "same-site"},
            {"Origin": None, "Referer": "https://testserver.evil.example/"},
        ],
        ids=repr,
    )
    @pytest.mark.parametrize(
        "path", ["login", "register", "forgot", "reset", "verify", "verify/resend", "refresh"]
    )
    def test_another_sites_page_signs_nobody_in(self, service: Service, fields: dict[str, Any], path: str):
        body = {"email": ADA, "password": PASSWORD}

        answer = service.caller().post(path, body, fields)

        assert (answer.status, answer.kind) == (403, "cross-origin")


class TestUpgrades:
    @both("PWD-16", store="sqlite")
    @pytest.mark.parametrize(
        "stored",
        [
            pytest.param(
                bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode(), id="an older algorithm"
            ),
            pytest.param(
                argon2.low_level.hash_secret(
                    PASSWORD.encode(), b"some salt of 16b", 1, 8, 1, 16, argon2.low_level.Type.ID
                ).decode(),
                id="a lower cost",
            ),
        ],
    )
    def test_a_sign_in_replaces_an_older_hash_in_the_same_request(self, service: Service, stored: str):
        service.member()
        assert service.database is not None
        with sqlite3.connect(service.database) as database:
            database.execute("UPDATE thebes_accounts SET password_hash = ?", (stored,))
        database.close()
        by_id = service.membership.store.accounts.by_id
        caller = service.caller()

        wrong = caller.sign_in(ADA, WRONG)
        untouched = service.run(by_id(service.account_id()))
        right = caller.sign_in(ADA)
        upgraded = service.run(by_id(service.account_id()))

        assert (wrong.status, right.status) == (401, 200)
        assert untouched is not None
        assert upgraded is not None
        assert untouched.password_hash == stored
        assert upgraded.password_hash not in (None, stored)
        current = service.run(service.membership.passwords.hash(PASSWORD))
        assert str(upgraded.password_hash).split("$")[:4] == current.split("$")[:4]
        assert service.caller().sign_in(ADA).status == 200
        assert caller.get("/who").status == 200  # nobody is signed out by it
