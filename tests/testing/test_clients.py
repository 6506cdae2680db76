"""A client in which somebody is signed in: genuine sessions, no hashing, and in test mode only."""

import base64
import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from fastapi import FastAPI, Request, WebSocket

from thebes import ConfigurationError, Security
from thebes.facts import facts_of
from thebes.fastapi import CurrentPrincipal, requires
from thebes.passwords.hashing import Passwords
from thebes.testing import client
from thebes.testing.members import SignInRefused

PASSWORD = "sunrise over seven gates"


@pytest.fixture
def security() -> Security:
    return Security(passwords="test")


@pytest.fixture
def app(security: Security) -> FastAPI:
    app = FastAPI()

    @app.get("/who")
    def who(who: CurrentPrincipal):
        return {"id": who.id, "roles": sorted(who.roles), "scopes": sorted(who.scopes), "by": who.credential}

    @app.get("/fresh", dependencies=[requires(fresh=timedelta(minutes=5))])
    def fresh():
        return "fresh"

    @app.post("/write")
    def write(request: Request):
        return {"site": facts_of(request.scope).headers.get(b"sec-fetch-site", b"").decode()}

    @app.websocket("/socket")
    async def socket(socket: WebSocket):
        await socket.accept()
        claims = facts_of(socket.scope).claims
        await socket.send_text("nobody" if claims is None else claims.sub)
        await socket.close()

    return security.protect(app)


@pytest.fixture(params=["in a lifespan", "without a lifespan"])
def browser(request, app: FastAPI) -> Iterator:
    if request.param == "without a lifespan":
        yield client(app)
    else:
        with client(app) as browser:
            yield browser


class TestSigningIn:
    @pytest.mark.parametrize("mode", ["cookie", "bearer"])
    def test_gives_the_app_a_principal_with_what_was_granted(self, browser, mode):
        ada = browser.sign_in("ada@example.com", roles=["editor"], scopes=["notes:write"], mode=mode)
        assert browser.get("/who").json() == {
            "id": ada.id, "roles": ["editor"], "scopes": ["notes:write"], "by": mode
        }  # fmt: skip

    @pytest.mark.parametrize("mode", ["cookie", "bearer"])
    def test_hashes_no_password(self, browser, mode, monkeypatch):
        for name in ("hash", "verify"):
            monkeypatch.setattr(Passwords, name, None)
        browser.sign_in("ada@example.com", mode=mode)
        assert browser.get("/who").status_code == 200

    def test_finds_the_account_again_and_adds_to_its_grants(self, browser):
        first = browser.sign_in("ada@example.com", roles=["editor"])
        again = browser.sign_in("Ada@Example.com", roles=["admin"])
        assert (again.id, browser.get("/who").json()["roles"]) == (first.id, ["admin", "editor"])

    def test_ends_the_session_that_the_client_had(self, browser):
        browser.sign_in("ada@example.com")
        browser.sign_in("ada@example.com")
        assert len(browser.get("/auth/sessions").json()["sessions"]) == 1

    def test_forgets_whoever_was_signed_in_the_other_way(self, browser):
        for mode in ("bearer", "cookie", "bearer"):
            account = browser.sign_in(f"{mode}@example.com", mode=mode)
            who = browser.get("/who").json()
            assert (who["id"], who["by"]) == (account.id, mode)

    def test_sets_cookies_that_a_later_answer_replaces(self, browser, security):
        browser.sign_in("ada@example.com")
        names = {cookie.name for cookie in browser.cookies.jar}
        assert names == {security.membership.jar.session_name, security.membership.jar.refresh_name}
        assert all(cookie.secure for cookie in browser.cookies.jar)
        del browser.cookies[security.membership.jar.session_name]
        assert browser.get("/who").status_code == 200
        assert {cookie.name for cookie in browser.cookies.jar} == names
        assert len(browser.cookies.jar) == 2

    def test_can_be_as_long_ago_as_a_test_needs(self, browser):
        browser.sign_in("ada@example.com")
        assert browser.get("/fresh").status_code == 200
        browser.sign_in("ada@example.com", age=timedelta(minutes=6))
        assert browser.get("/fresh").status_code == 401
        assert browser.get("/who").status_code == 200

    def test_counts_for_websockets(self, browser):
        ada = browser.sign_in("ada@example.com")
        for url in ("/socket", "wss://testserver/socket"):
            with browser.websocket_connect(url) as socket:
                assert socket.receive_text() == ada.id

    def test_lets_handlers_of_new_accounts_run_first(self, browser, security):
        made = []
        security.on("registered")(lambda event: made.append(event.account_id))
        assert browser.sign_in("ada@example.com").id in made

    def test_makes_sessions_that_can_be_ended_like_any_other(self, browser, security):
        ada = browser.sign_in("ada@example.com")
        browser._run(lambda: security.membership.administration.sign_out(ada))
        assert browser.get("/who").status_code == 401

    def test_two_clients_are_two_people(self, browser, app):
        browser.sign_in("ada@example.com")
        other = client(app)
        assert other.get("/who").status_code == 401


class TestRefusals:
    @pytest.mark.parametrize("reason", ["disabled", "compromised"])
    def test_an_account_that_could_not_sign_in_is_refused(self, browser, security, reason):
        ada = browser.sign_in("ada@example.com")
        store = security.membership.store.accounts
        browser._run(
            lambda: (
                store.set_enabled(ada.id, False) if reason == "disabled" else store.mark_compromised(ada.id)
            )
        )
        with pytest.raises(SignInRefused, match=reason):
            browser.sign_in("ada@example.com")

    def test_an_address_that_is_not_confirmed_is_refused(self, browser):
        browser.post("/auth/register", json={"email": "bob@example.com", "password": PASSWORD})
        with pytest.raises(SignInRefused, match="not confirmed"):
            browser.sign_in("bob@example.com")

    @pytest.mark.parametrize("mode", ["production", "development"])
    def test_another_mode_is_refused(self, app, mode, monkeypatch):
        monkeypatch.setenv("THEBES_ENV", mode)
        with pytest.raises(ConfigurationError, match="test mode"):
            client(app).sign_in("ada@example.com")

    def test_an_app_without_the_pass_is_refused(self):
        with pytest.raises(ConfigurationError, match="not protected"):
            client(FastAPI()).sign_in("ada@example.com")

    def test_an_app_without_accounts_is_refused(self):
        with pytest.raises(ConfigurationError, match="accounts=None"):
            client(Security(accounts=None).protect(FastAPI())).sign_in("ada@example.com")

    def test_a_mailbox_that_is_a_server_is_refused(self):
        app = Security(mail_url="smtps://user:password@mail.example.com").protect(FastAPI())
        with pytest.raises(ConfigurationError, match="mail_url"):
            _ = client(app).mailbox


class TestSigningOut:
    @pytest.mark.parametrize("mode", ["cookie", "bearer"])
    def test_ends_the_session_and_forgets_its_tokens(self, browser, security, mode):
        ada = browser.sign_in("ada@example.com", mode=mode)
        token = browser.headers.get("Authorization")
        browser.sign_out()
        assert "Authorization" not in browser.headers
        assert browser.get("/who").status_code == 401
        assert browser._run(lambda: security.membership.administration.sessions(ada)) == []
        if token is not None:
            assert browser.get("/who", headers={"Authorization": token}).status_code == 401


class TestMailbox:
    def test_has_what_was_asked_for_a_moment_ago(self, browser):
        browser.post("/auth/register", json={"email": "bob@example.com", "password": PASSWORD})
        token = browser.mailbox.last_token(to="bob@example.com", kind="verify")
        assert browser.post("/auth/verify", json={"token": token}).status_code == 204
        answer = browser.post("/auth/login", json={"email": "bob@example.com", "password": PASSWORD})
        assert answer.status_code == 200
        assert browser.get("/who").status_code == 200
        assert [mail.kind for mail in browser.mailbox.messages] == ["verify", "new_device"]


class TestWhatABrowserSends:
    @pytest.mark.parametrize(
        ("fields", "status", "seen"),
        [
            pytest.param({}, 200, "same-origin", id="nothing said: a page of our own"),
            pytest.param({"Origin": "https://testserver"}, 200, "", id="an Origin is left alone"),
            pytest.param({"Origin": "https://evil.example"}, 403, None, id="a forged Origin is refused"),
            pytest.param({"Sec-Fetch-Site": "cross-site"}, 403, None, id="another site is refused"),
        ],
    )
    def test_is_sent_unless_a_test_says_otherwise(self, browser, fields, status, seen):
        browser.sign_in("ada@example.com")
        answer = browser.post("/write", headers=fields)
        assert answer.status_code == status
        assert seen is None or answer.json() == {"site": seen}


def test_bearer_tokens_are_those_that_anybody_can_verify(browser):
    browser.sign_in("ada@example.com", mode="bearer")
    head = browser.headers["Authorization"].removeprefix("Bearer ").partition(".")[0]
    key = json.loads(base64.urlsafe_b64decode(head + "=="))["kid"]
    assert key in [each["kid"] for each in browser.get("/.well-known/jwks.json").json()["keys"]]
