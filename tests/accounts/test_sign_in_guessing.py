"""What guessing at the sign-in comes to: counted, delayed, told, and never a lock-out of the owner."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import argon2.low_level
import pytest

from account_api import (
    DEVICE,
    OTHER_PASSWORD,
    PASSWORD,
    REFRESH,
    SESSION,
    Service,
    accounts,
    both,
    shape,
)
from thebes.encoding import uuid7
from thebes.stores.accounts import Account

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


class TestGuessing:
    @pytest.mark.requirement("RAT-08", by="live")
    @over_a_socket
    @pytest.mark.parametrize("email", [ADA, "nobody@example.com"], ids=["known", "unknown"])
    def test_failures_are_counted_for_an_identifier_across_all_addresses(self, service: Service, email: str):
        service.member()
        answers = [service.caller().sign_in(email, WRONG) for _ in range(FREE_GUESSES + 3)]

        waits = [answer.every("retry-after") for answer in answers]

        assert [answer.status for answer in answers] == [401] * len(answers)
        assert waits[:FREE_GUESSES] == [[]] * FREE_GUESSES
        assert all(0 < int(wait) <= 30 for [wait] in waits[FREE_GUESSES:])

    @pytest.mark.requirement("RAT-08", by="live")
    @over_a_socket
    def test_failures_are_counted_for_an_address_across_identifiers(self, service: Service):
        service.member()
        caller = service.caller()
        emails = [f"guess{number}@example.com" for number in range(21)]

        answers = [caller.sign_in(email, WRONG) for email in emails]

        assert [bool(answer.every("retry-after")) for answer in answers] == [False] * 20 + [True]
        assert caller.sign_in(ADA).every("retry-after")  # the right password isn't looked at either
        assert service.caller().sign_in(ADA).status == 200

    @both("RAT-09", store="sqlite")
    def test_while_it_is_delayed_a_guess_is_not_evaluated_and_looks_like_any_other(self, service: Service):
        service.member()
        ordinary = service.caller().sign_in(ADA, WRONG)
        waits = []
        for _ in range(FREE_GUESSES - 1):
            service.caller().sign_in(ADA, WRONG)
        for _ in range(9):
            refused = service.caller().sign_in(ADA)  # the right one
            waits.append(int(refused.only("retry-after")))
            assert shape(refused, but=("date", "retry-after")) == shape(ordinary)
            service.age(waits[-1], "failures.blocked_until")
            assert service.caller().sign_in(ADA, WRONG).every("retry-after") == []

        assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
        service.age(3600, "failures.blocked_until")
        assert service.caller().sign_in(ADA).status == 200

    @both("RAT-09", store="sqlite")
    def test_a_known_device_has_a_curve_of_its_own(self, service: Service):
        owner = service.member()
        owner.forget(SESSION, REFRESH)
        for _ in range(FREE_GUESSES + 1):
            service.caller().sign_in(ADA, WRONG)

        mistyped = [owner.sign_in(ADA, WRONG).every("retry-after") for _ in range(FREE_GUESSES + 1)]

        assert mistyped == [[]] * FREE_GUESSES + [["30"]]
        service.age(30, "failures.blocked_until")
        assert owner.sign_in(ADA).status == 200

    @pytest.mark.parametrize("service", ["memory", "sqlite", "socket"], indirect=True)
    def test_the_owner_signs_in_from_a_known_device_while_the_account_is_exhausted(self, service: Service):
        owner = service.member()
        owner.forget(SESSION, REFRESH)
        stop = False

        def attack() -> int:
            attempts = 0
            while not stop:
                assert service.caller().sign_in(ADA, WRONG).status == 401
                attempts += 1
            return attempts

        with ThreadPoolExecutor(2) as pool:
            for _ in range(FREE_GUESSES):
                service.caller().sign_in(ADA, WRONG)
            attacks = [pool.submit(attack) for _ in range(2)]
            signed_in = [owner.forget(SESSION, REFRESH).sign_in(ADA).status for _ in range(10)]
            stop = True
            attempts = [each.result() for each in attacks]

        assert signed_in == [200] * 10
        assert min(attempts) > 0
        assert service.caller().sign_in(ADA).every("retry-after")  # from anywhere else: not now

    @pytest.mark.parametrize("service", ["memory", "socket"], indirect=True)
    def test_a_reset_lets_the_owner_in_however_exhausted_the_account_is(self, service: Service):
        service.member()
        for _ in range(FREE_GUESSES + 1):
            service.caller().sign_in(ADA, WRONG)
        stranger = service.caller()

        stranger.post("forgot", {"email": ADA})
        token = service.token("reset", ADA)
        stranger.post("reset", {"token": token, "password": OTHER_PASSWORD})

        assert stranger.sign_in(ADA, OTHER_PASSWORD).status == 200

    @pytest.mark.parametrize("service", ["memory", "sqlite", "socket"], indirect=True)
    def test_of_200_parallel_guesses_at_most_the_allowed_number_is_hashed(
        self, service: Service, hashed: list[Any]
    ):
        service.member()
        callers = [service.caller() for _ in range(200)]
        hashed.clear()

        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda caller: caller.sign_in(ADA, WRONG), callers))

        assert {answer.status for answer in answers} == {401}
        assert sum(not answer.every("retry-after") for answer in answers) == FREE_GUESSES
        assert len(hashed) == FREE_GUESSES

    @pytest.mark.requirement("RAT-14", by="live")
    @over_a_socket
    def test_one_password_on_200_accounts_is_stopped_after_20(self, service: Service, hashed: list[Any]):
        stored = service.run(service.membership.passwords.hash(PASSWORD))
        emails = [f"user{number}@example.com" for number in range(200)]
        for email in emails:
            account = Account(
                id=uuid7(),
                email=email,
                email_key=email,
                password_hash=stored,
                created_at=0.0,
                verified_at=1.0,
            )
            assert service.run(service.membership.store.accounts.create(account))
        sprayer = service.caller()
        hashed.clear()

        answers = [sprayer.sign_in(email, WRONG) for email in emails]

        assert len(hashed) == 20
        assert [bool(answer.every("retry-after")) for answer in answers] == [False] * 20 + [True] * 180
        assert sprayer.sign_in(emails[-1]).every("retry-after")

    @pytest.mark.requirement("PWD-22")
    def test_an_unknown_identifier_costs_the_same_hash_as_a_known_one(
        self, service: Service, hashed: list[Any]
    ):
        service.member()
        caller = service.caller()
        hashed.clear()
        for email in (ADA, "nobody@example.com", "no address"):
            caller.sign_in(email, WRONG)

        cost = service.membership.passwords.cost
        assert len(hashed) == 3
        assert len(set(hashed)) == 1
        assert hashed[0][:2] == (cost.memory_kib, cost.passes)  # type: ignore[attr-defined]

    def test_guesses_at_reauthenticate_and_password_are_counted_with_those_at_login(self, service: Service):
        caller = service.member()
        caller.forget(DEVICE)  # a thief of the session alone
        for _ in range(3):
            caller.post("reauthenticate", {"password": WRONG})
        for _ in range(2):
            caller.post("password", {"current_password": WRONG, "password": OTHER_PASSWORD})

        for answer in (
            caller.post("reauthenticate", {"password": PASSWORD}),
            caller.post("password", {"current_password": PASSWORD, "password": OTHER_PASSWORD}),
            service.caller().sign_in(ADA),
        ):
            assert (answer.status, answer.kind) == (401, "wrong-credentials")
            assert answer.every("retry-after")

    def test_spellings_of_one_address_share_one_count(self, service: Service):
        service.member()
        for email in ("ada@example.com", "ADA@example.com", "Ada@EXAMPLE.com", "aDa@Example.Com", ADA):
            service.caller().sign_in(email, WRONG)

        assert service.caller().sign_in("adA@example.com").every("retry-after")


class TestOwnersAreTold:
    @pytest.mark.parametrize("service", ["memory", "socket"], indirect=True)
    def test_of_an_unseen_device_and_of_failures_before_a_success(self, service: Service):
        owner = service.member()
        owner.forget(SESSION, REFRESH).sign_in(ADA)
        seen = service.mailed(ADA)
        other = service.caller()
        other.sign_in(ADA)
        for _ in range(FREE_GUESSES - 1):
            owner.sign_in(ADA, WRONG)
        owner.sign_in(ADA)
        quiet = service.mailed(ADA)

        assert seen == ["verify", "new_device"]
        assert quiet == ["verify", "new_device", "new_device"]

    def test_of_five_failures_before_a_success(self, tmp_path: Path):
        with accounts("sqlite", tmp_path) as service:
            service.member()
            for _ in range(FREE_GUESSES):
                service.caller().sign_in(ADA, WRONG)
            service.age(30, "failures.blocked_until")
            service.caller().sign_in(ADA)

            assert service.mailed(ADA)[-1] == "many_failures"

    def test_of_a_password_that_was_switched_off_and_once_only(self, tmp_path: Path):
        with accounts("sqlite", tmp_path) as service:
            service.member()
            service.age(3600, "failures.last_at")
            for address in (ADA, "nobody@example.com"):
                for _ in range(103):
                    service.caller().sign_in(address, WRONG)
                    service.age(7200, "failures.blocked_until")
            right = service.caller().sign_in(ADA)

            assert right.status == 401
            assert service.mailed(ADA).count("password_off") == 1
            assert service.mailed("nobody@example.com") == []

    def test_of_a_browser_in_which_the_password_was_switched_off(self, tmp_path: Path):
        with accounts("sqlite", tmp_path) as service:
            owner = service.member()
            for _ in range(101):
                owner.sign_in(ADA, WRONG)
                service.age(7200, "failures.blocked_until")

            assert owner.sign_in(ADA).status == 401
            assert service.caller().sign_in(ADA).status == 200
            mails = service.mailed(ADA)
            assert (mails.count("device_off"), mails.count("password_off")) == (1, 0)
