"""Registration, confirmation, passwords and resets by the API."""

import hashlib
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from account_api import (
    OTHER_PASSWORD,
    PASSWORD,
    REFRESH,
    SESSION,
    Service,
    both,
    document,
)
from attack import Answered
from thebes.encoding import decode, encode
from thebes.stores.accounts import NewToken

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


class TestPolicy:
    @both("PWD-01")
    @WAYS
    def test_14_code_points_are_too_few_and_15_are_enough(self, service: Service, how: str):
        service.member()

        short = set_password(service, how, "fourteen letrs")
        enough = set_password(service, how, "fifteen letters")

        assert (short.status, short.kind) == (422, "password-too-short")
        assert enough.status in (200, 202, 204)

    @both("PWD-02")
    @WAYS
    def test_long_passwords_are_taken_whole_or_not_at_all(self, service: Service, how: str):
        longest = "".join(chr(0x1F400 + number % 64) for number in range(256))
        for password in (longest[:64], longest):
            email = f"{len(password)}@example.com"
            service.member(email)
            assert set_password(service, how, longest + "x", email).kind == "password-too-long"
            assert set_password(service, how, password, email).status in (200, 202, 204)
            if how == "register":
                email = f"new-{email}"
                service.caller().post("verify", {"token": service.token("verify", email)})
            assert service.caller().sign_in(email, password).status == 200
            assert service.caller().sign_in(email, password[:-1] + "y").status == 401
            assert service.caller().sign_in(email, password + "x").status == 401

    @pytest.mark.parametrize(
        "password",
        [
            "aaaaaaaaaaaaaab",
            "mnbvqwertzuiplk",
            "902834750192837",
            "   a lot   of    blanks  ",
            "\N{SNOWMAN}" * 14 + "\N{COMET}",
            "пароль из букв",
            "nul\0inside is kept",
            "\u2028 and \u202e too, why not",
        ],
        ids=ascii,
    )
    @both("PWD-05")
    def test_no_class_of_characters_is_demanded_or_forbidden(self, service: Service, password: str):
        caller = service.member(ADA, password.ljust(15, "."))

        assert caller.get("/who").status == 200

    @both("PWD-06")
    @WAYS
    def test_a_common_password_is_refused_everywhere(self, service: Service, how: str):
        service.member()

        answer = set_password(service, how, COMMON)

        assert (answer.status, answer.kind) == (422, "password-blocklisted")

    @both("PWD-09")
    @WAYS
    @pytest.mark.parametrize(
        ("password", "kind"),
        [
            ("Zx7#short", "password-too-short"),
            ("Zx7#long" * 40, "password-too-long"),
            (COMMON, "password-blocklisted"),
            ("new-ada@example.com", "password-context"),
        ],
    )
    def test_a_refusal_says_why_and_what_to_do_and_nothing_of_the_password(
        self, service: Service, how: str, password: str, kind: str
    ):
        email = ADA if how == "register" else "new-ada@example.com"
        service.member(email)

        answer = set_password(service, how, password, email)

        assert (answer.status, answer.kind) == (422, kind)
        assert len(document(answer)["detail"]) > 20
        assert password.encode() not in answer.body
        assert password not in repr(answer.fields)

    def test_a_refused_password_leaves_the_link_for_another_try(self, service: Service):
        service.member()
        caller = service.caller()
        caller.post("forgot", {"email": ADA})
        token = service.token("reset", ADA)

        refused = caller.post("reset", {"token": token, "password": COMMON})
        taken = caller.post("reset", {"token": token, "password": OTHER_PASSWORD})

        assert (refused.status, taken.status) == (422, 204)


class TestChange:
    @both("PWD-24")
    def test_it_needs_the_present_password_and_a_new_one(self, service: Service):
        caller = service.member()

        for body, status in [
            ({"password": OTHER_PASSWORD}, 422),
            ({"current_password": PASSWORD}, 422),
            ({"current_password": "", "password": OTHER_PASSWORD}, 401),
            ({"current_password": WRONG, "password": OTHER_PASSWORD}, 401),
            ({"current_password": OTHER_PASSWORD, "password": OTHER_PASSWORD}, 401),
        ]:
            assert caller.post("password", body).status == status
        assert service.caller().sign_in(ADA).status == 200
        assert (
            service.caller().post("password", {"current_password": PASSWORD, "password": WRONG}).status == 401
        )
        answer = caller.post("password", {"current_password": PASSWORD, "password": OTHER_PASSWORD})
        assert answer.status == 200
        assert service.caller().sign_in(ADA).status == 401
        assert service.caller().sign_in(ADA, OTHER_PASSWORD).status == 200

    @both("ACC-12")
    @pytest.mark.parametrize("mode", ["cookie", "bearer"])
    def test_all_other_sessions_end_and_the_present_one_gets_new_tokens(self, service: Service, mode: str):
        changing = service.member()
        other = service.caller()
        other.sign_in(ADA)
        program = document(service.caller().sign_in(ADA, mode="bearer"))
        fields: dict[str, str | None] = {}
        if mode == "bearer":
            mine = document(service.caller().sign_in(ADA, mode="bearer"))
            changing.forget()
            fields = {"Authorization": f"Bearer {mine['access_token']}"}
        before = dict(changing.cookies)

        answer = changing.post("password", {"current_password": PASSWORD, "password": OTHER_PASSWORD}, fields)

        assert answer.status == 200
        assert other.get("/who").status == 401
        assert other.post("refresh").status == 401
        refused = service.caller().post("refresh", {"refresh_token": program["refresh_token"]})
        assert refused.status == 401
        if mode == "bearer":
            new = document(answer)
            assert new["refresh_token"] != mine["refresh_token"]
            old, fresh = (f"Bearer {each['access_token']}" for each in (mine, new))
            assert service.caller().get("/who", Authorization=old).status == 401
            assert service.caller().get("/who", Authorization=fresh).status == 200
        else:
            assert changing.get("/who").status == 200
            for name in (SESSION, REFRESH):
                assert changing.cookies[name] != before[name]

    def test_of_two_changes_at_once_one_is_told_that_it_came_too_late(self, service: Service):
        first = service.member()
        second = service.caller()
        second.sign_in(ADA)
        bodies = [{"current_password": PASSWORD, "password": f"{OTHER_PASSWORD} {number}"} for number in "12"]

        with ThreadPoolExecutor(2) as pool:
            pairs = zip((first, second), bodies, strict=True)
            answers = list(pool.map(lambda pair: pair[0].post("password", pair[1]), pairs))

        assert sorted(answer.status for answer in answers) == [200, 401]


class TestMailedTokens:
    @both("ACC-05", store="sqlite")
    @pytest.mark.parametrize(
        ("purpose", "lifetime"), [("verify", 24 * HOUR), ("reset", 30 * MINUTE)], ids=["verify", "reset"]
    )
    def test_they_are_random_stored_hashed_expire_and_work_once(
        self, service: Service, purpose: str, lifetime: int
    ):
        def token_for(email: str) -> str:
            if purpose == "verify":
                service.caller().post("register", {"email": email, "password": PASSWORD})
            else:
                service.member(email)
                service.caller().post("forgot", {"email": email})
            return service.token(purpose, email)

        def use(token: str) -> int:
            body = {"token": token} | ({"password": OTHER_PASSWORD} if purpose == "reset" else {})
            return service.caller().post(purpose, body).status

        tokens = [token_for(f"user{number}@example.com") for number in range(4)]
        assert service.database is not None
        with sqlite3.connect(service.database) as database:
            dump = "\n".join(database.iterdump())
        database.close()
        stored = [hashlib.sha256(token.encode()).hexdigest() for token in tokens]

        assert all(len(decode(token)) * 8 >= 128 for token in tokens)
        assert len({decode(token)[:8] for token in tokens}) == 4
        assert not [token for token in tokens if token in dump]
        assert all(digest in dump.lower() for digest in stored)
        assert use(tokens[0]) == 204
        assert use(tokens[0]) == 400
        service.age(lifetime - MINUTE, "tokens.expires_at")
        assert use(tokens[1]) == 204
        service.age(MINUTE + 1, "tokens.expires_at")
        assert use(tokens[2]) == 400

    @both("ACC-05", store="sqlite")
    def test_they_are_bound_to_one_account_purpose_and_address(self, service: Service):
        service.member()
        grace = service.caller()
        grace.post("register", {"email": "grace@example.com", "password": PASSWORD})
        service.caller().post("forgot", {"email": ADA})
        reset, verify = service.token("reset", ADA), service.token("verify", "grace@example.com")

        assert service.caller().post("verify", {"token": reset}).status == 400
        assert service.caller().post("reset", {"token": verify, "password": OTHER_PASSWORD}).status == 400
        assert service.database is not None
        with sqlite3.connect(service.database) as database:
            moved = "UPDATE thebes_accounts SET email_key = 'moved@example.com' WHERE email_key = ?"
            database.execute(moved, ("grace@example.com",))
        database.close()
        assert service.caller().post("verify", {"token": verify}).status == 400
        assert service.caller().post("reset", {"token": reset, "password": OTHER_PASSWORD}).status == 204
        assert service.caller().sign_in(ADA, OTHER_PASSWORD).status == 200
        assert grace.sign_in("grace@example.com", OTHER_PASSWORD).status == 401

    @both("ACC-06", store="sqlite")
    @pytest.mark.parametrize("purpose", ["verify", "reset"])
    def test_of_simultaneous_uses_exactly_one_succeeds(self, service: Service, purpose: str):
        caller = service.caller()
        caller.post("register", {"email": ADA, "password": PASSWORD})
        body: dict[str, str] = {}
        if purpose == "reset":
            caller.post("forgot", {"email": ADA})
            body["password"] = OTHER_PASSWORD
        body["token"] = service.token(purpose, ADA)
        callers = [service.caller() for _ in range(20)]

        with ThreadPoolExecutor(20) as pool:
            statuses = list(pool.map(lambda each: each.post(purpose, body).status, callers))

        assert sorted(statuses) == [204] + [400] * 19

    @both("ACC-07")
    @pytest.mark.parametrize("purpose", ["verify", "reset"])
    def test_a_newer_one_voids_the_earlier(self, service: Service, purpose: str):
        caller = service.caller()
        caller.post("register", {"email": ADA, "password": PASSWORD})
        path = "forgot" if purpose == "reset" else "verify/resend"
        body = {"password": OTHER_PASSWORD} if purpose == "reset" else {}
        if purpose == "reset":
            caller.post(path, {"email": ADA})
        earlier = service.token(purpose, ADA)
        caller.post(path, {"email": ADA})
        later = service.token(purpose, ADA)

        assert earlier != later
        assert caller.post(purpose, {"token": earlier, **body}).status == 400
        assert caller.post(purpose, {"token": later, **body}).status == 204

    @both("ACC-07")
    def test_asking_for_a_reset_changes_nothing_until_the_link_is_used(self, service: Service):
        caller = service.member()
        before = service.run(service.membership.store.accounts.by_id(service.account_id()))

        service.caller().post("forgot", {"email": ADA})
        service.token("reset", ADA)

        assert service.run(service.membership.store.accounts.by_id(service.account_id())) == before
        assert caller.get("/who").status == 200
        assert service.caller().sign_in(ADA).status == 200

    def test_a_mailed_token_with_anything_behind_it_is_another_token(self, service: Service):
        caller = service.caller()
        caller.post("register", {"email": ADA, "password": PASSWORD})
        token = service.token("verify", ADA)

        for forged in (
            token + "A" * 21,
            token + "=",
            token[:-1],
            " " + token,
            token.swapcase(),
            "",
            "\ud7ff",
        ):
            assert caller.post("verify", {"token": forged}).status == 400
        assert caller.post("verify", {"token": token}).status == 204

    def test_an_invitation_sets_the_first_password_and_is_no_confirmation_link(self, service: Service):
        service.member()
        token = encode(bytes(range(32)))
        record = NewToken(
            digest=hashlib.sha256(token.encode()).digest(),
            purpose="invite",
            account_id=service.account_id(),
            email_key=ADA,
            expires_at=time.time() + 60,
        )
        service.run(service.membership.store.accounts.issue(record))

        assert service.caller().post("verify", {"token": token}).status == 400
        assert service.caller().post("reset", {"token": token, "password": OTHER_PASSWORD}).status == 204


class TestReset:
    @pytest.mark.parametrize("service", ["memory", "sqlite", "socket"], indirect=True)
    def test_it_ends_every_session_and_signs_nobody_in(self, service: Service):
        caller = service.member()
        program = document(service.caller().sign_in(ADA, mode="bearer"))
        caller.post("forgot", {"email": ADA})
        body = {"token": service.token("reset", ADA), "password": OTHER_PASSWORD}

        answer = service.caller().post("reset", body)

        assert (answer.status, answer.body) == (204, b"")
        assert answer.every("set-cookie") == []
        assert caller.get("/who").status == 401
        assert caller.post("refresh").status == 401
        assert service.caller().get("/who", Authorization=f"Bearer {program['access_token']}").status == 401
        assert service.caller().post("refresh", {"refresh_token": program["refresh_token"]}).status == 401
        assert service.mailed(ADA)[-1] == "password_reset"

    def test_it_confirms_the_address_to_which_it_was_mailed(self, service: Service):
        """Whoever registered somebody else's address has no use of it: the owner resets the password."""
        service.caller().post("register", {"email": ADA, "password": "chosen by a stranger"})
        owner = service.caller()
        owner.post("forgot", {"email": ADA})
        owner.post("reset", {"token": service.token("reset", ADA), "password": OTHER_PASSWORD})

        assert owner.sign_in(ADA, OTHER_PASSWORD).status == 200
        assert service.caller().sign_in(ADA, "chosen by a stranger").status == 401

    def test_a_disabled_account_is_mailed_nothing(self, service: Service):
        service.member()
        service.run(service.membership.store.accounts.set_enabled(service.account_id(), False))
        before = service.mailed(ADA)

        for path in ("forgot", "verify/resend"):
            assert service.caller().post(path, {"email": ADA}).status == 202
        service.caller().post("register", {"email": ADA, "password": PASSWORD})

        assert service.mailed(ADA) == before
