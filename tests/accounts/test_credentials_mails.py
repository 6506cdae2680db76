"""Which address a mail goes to, how many go out, and what needs the password of just now."""

import pytest

from account_api import (
    OTHER_PASSWORD,
    PASSWORD,
    REFRESH,
    SESSION,
    Service,
    both,
    document,
    shape,
)
from attack import Answered
from thebes.accounts.addresses import parse_address
from thebes.stores.failures import FailureVerdict

ADA = "ada@example.com"
WRONG = "a wrong password, as guessed"
HOUR, MINUTE = 3600, 60
COMMON = "123456789012345"  # in the list of common passwords of 15 characters and more

FORGED_HOSTS = [
    {"X-Forwarded-Host": "evil.example"},
    {"Forwarded": "host=evil.example"},
    {"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Host": "evil.example"},
    {"X-Original-Host": "evil.example", "X-Host": "evil.example"},
    {"Host": "evil.example"},
    {"Host": "localhost", "Referer": "https://evil.example/", "X-Rewrite-URL": "https://evil.example/"},
]


def set_password(service: Service, how: str, password: str, email: str = ADA) -> Answered:
    """Set a password in one of the three ways; the account exists but for `register`."""
    caller = service.caller()
    if how == "register":
        return caller.post("register", {"email": f"new-{email}", "password": password})
    if how == "change":
        caller.sign_in(email)
        return caller.post("password", {"current_password": PASSWORD, "password": password})
    caller.post("forgot", {"email": email})
    return caller.post("reset", {"token": service.token("reset", email), "password": password})


WAYS = pytest.mark.parametrize("how", ["register", "change", "reset"])


class TestFreshness:
    """ACC-11: what can't be undone needs the password of the last five minutes."""

    @pytest.mark.parametrize("service", ["sqlite", "socket"], indirect=True)
    @pytest.mark.parametrize(
        ("method", "path"), [("DELETE", "me"), ("POST", "logout-all"), ("DELETE", "sessions/x")]
    )
    def test_an_older_authentication_is_asked_to_confirm_the_password(
        self, service: Service, method: str, path: str
    ):
        caller = service.member()
        service.age(301, "sessions.auth_time")
        caller.forget(SESSION)

        stale = caller.ask(method, path)
        assert caller.get("/who").status == 200
        assert caller.post("reauthenticate", {"password": WRONG}).status == 401
        assert caller.ask(method, path).status == 401
        assert caller.post("reauthenticate", {"password": PASSWORD}).status == 200
        fresh = caller.ask(method, path)

        assert (stale.status, stale.kind) == (401, "not-fresh")
        challenge = stale.only("www-authenticate")
        assert challenge == 'Bearer error="insufficient_user_authentication", max_age="300"'
        assert fresh.status == (404 if path == "sessions/x" else 204)

    @pytest.mark.parametrize("service", ["sqlite", "socket"], indirect=True)
    def test_renewing_makes_nobody_fresh(self, service: Service):
        caller = service.member()
        service.age(301, "sessions.auth_time")
        for _ in range(3):
            service.age(40, "sessions.rotated_at")
            assert caller.post("refresh").status == 204

        assert caller.ask("DELETE", "me").kind == "not-fresh"

    @pytest.mark.parametrize("service", ["memory", "sqlite", "socket"], indirect=True)
    def test_deleting_ends_everything_and_frees_the_address(self, service: Service):
        caller = service.member()
        other = service.caller()
        other.sign_in(ADA)

        answer = caller.ask("DELETE", "me")

        assert answer.status == 204
        assert not {SESSION, REFRESH} & caller.cookies.keys()
        assert (other.get("/who").status, other.post("refresh").status) == (401, 401)
        assert service.caller().sign_in(ADA).status == 401
        assert service.mailed(ADA)[-1] == "account_deleted"
        assert service.member("ada@example.com", OTHER_PASSWORD).get("/who").status == 200

    @pytest.mark.parametrize("service", ["memory", "sqlite"], indirect=True)
    def test_nothing_stays_of_failed_sign_ins(self, service: Service):
        caller = service.member()
        keys = service.membership.sign_ins._protection.keys_of(ADA, service.account_id())
        failures = service.membership.store.failures

        def kept() -> int:
            counted = failures.settle(keys, lambda rows, _: FailureVerdict(len([row for row in rows if row])))
            return service.run(counted)

        assert service.caller().sign_in(ADA, "not the password at all").status == 401
        assert kept() == 2  # of the address that was typed, and of its account
        assert caller.ask("DELETE", "me").status == 204
        assert kept() == 0


class TestMailLinks:
    @both("ACC-08")
    @pytest.mark.parametrize("forged", FORGED_HOSTS, ids=repr)
    def test_a_forged_host_never_stands_in_a_mail(self, service: Service, forged: dict[str, str]):
        service.member()
        for path, body in [
            ("register", {"email": "new@example.com", "password": PASSWORD}),
            ("register", {"email": ADA, "password": PASSWORD}),
            ("verify/resend", {"email": "new@example.com"}),
            ("forgot", {"email": ADA}),
        ]:
            service.caller().post(path, body, {"Origin": None, **forged})
        service.mailed(ADA)

        for mail in service.mails:
            assert "evil" not in repr(mail)
            assert "evil" not in mail.text + mail.html


class TestQuotas:
    @pytest.mark.requirement("RAT-13", by="live")
    @pytest.mark.parametrize("service", ["socket"], indirect=True)
    def test_one_account_gets_3_messages_an_hour_whoever_asks_and_for_what(self, service: Service):
        service.caller().post("register", {"email": ADA, "password": PASSWORD})
        answers = [
            service.caller().post(path, {"email": ADA})
            for path in ("verify/resend", "forgot", "forgot", "verify/resend")
        ]
        answers.append(service.caller().post("register", {"email": ADA, "password": PASSWORD}))

        assert service.mailed(ADA) == ["verify", "verify", "reset"]
        assert {shape(answer)[0] for answer in answers} == {202}
        service.age(HOUR, "failures.last_at")
        service.caller().post("forgot", {"email": ADA})
        assert service.mailed(ADA)[-1] == "reset"
        assert len(service.mailed(ADA)) == 4

    @pytest.mark.requirement("RAT-13", by="live")
    @pytest.mark.parametrize("service", ["socket"], indirect=True)
    def test_one_client_address_has_10_requests_an_hour(self, service: Service):
        caller = service.caller()
        paths = ["forgot", "verify/resend"] * 5

        answers = [caller.post(path, {"email": f"{n}@example.com"}) for n, path in enumerate(paths)]
        over = caller.post("forgot", {"email": ADA})

        assert {answer.status for answer in answers} == {202}
        assert (over.status, over.kind) == (429, "too-many-mails")
        assert 0 < int(over.only("retry-after")) <= HOUR
        assert service.caller().post("forgot", {"email": ADA}).status == 202


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "key"),
        [
            ("Ada@Example.COM", "ada@example.com"),
            ("MIKE@example.org", "mike@example.org"),
            ("a\u0308da@example.com", "\xe4da@example.com"),
            ("ada@xn--exmple-cua.com", "ada@ex\xe4mple.com"),
            ("ada@EX\xc4MPLE.com", "ada@ex\xe4mple.com"),
            ("m\u0131ke@example.org", "m\u0131ke@example.org"),  # dotless i: another mailbox
            ("M\u0130KE@example.org", "mi\u0307ke@example.org"),
        ],
        ids=ascii,
    )
    def test_two_spellings_of_one_mailbox_have_one_key(self, text: str, key: str):
        address = parse_address(text)

        assert address is not None
        assert address.key == key

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "ada",
            "@example.com",
            "ada@",
            "ada@localhost",
            "ada@[127.0.0.1]",
            "ada@example.com\r\nBcc: eve@evil.example",
            "ada@example.com\n",
            "ada@example.com, eve@evil.example",
            "Ada <ada@example.com>",
            '"ada"@example.com',
            "ada\0@example.com",
            "ada\u200b@example.com",
            "\u202eada@example.com",
            "ada@exa\u00admple.com",
            "ada@xn--a.com",
            "a" * 250 + "@example.com",
        ],
        ids=ascii,
    )
    @pytest.mark.parametrize("path", ["register", "forgot", "verify/resend"])
    def test_what_is_no_address_is_refused_and_mailed_nothing(self, service: Service, text: str, path: str):
        body = {"email": text} | ({"password": PASSWORD} if path == "register" else {})

        answer = service.caller().post(path, body)

        assert (answer.status, answer.kind) == (422, "bad-address")
        assert service.mails == []

    @pytest.mark.parametrize(
        ("registered", "asked"),
        [
            ("mike@example.org", "m\u0131ke@example.org"),
            ("mike@example.org", "mi\u212ae@example.org"),
            ("ada@big.com", "ada@b\u0131g.com"),
            ("ada@paypal.com", "ada@p\u0430ypal.com"),
            ("ada@example.com", "ada@\u24d4xample.com"),
            ("strasse@example.com", "stra\xdfe@example.com"),
        ],
        ids=ascii,
    )
    def test_a_lookalike_never_gets_the_mail_of_an_account(
        self, service: Service, registered: str, asked: str
    ):
        """CVE-2019-19844: Django compared without case and mailed to what was typed."""
        service.member(registered)

        service.caller().post("forgot", {"email": asked})

        service.mailed(registered)
        assert {mail.to for mail in service.mails} == {registered}

    def test_an_account_keeps_the_address_of_its_own_letters(self, service: Service):
        caller = service.caller()
        caller.post("register", {"email": "Ada.Lovelace@Example.com", "password": PASSWORD})
        caller.post("verify", {"token": service.token("verify", "Ada.Lovelace@example.com")})

        assert caller.sign_in("ada.lovelace@example.com").status == 200
        assert document(caller.get("me"))["account"]["email"] == "Ada.Lovelace@example.com"
