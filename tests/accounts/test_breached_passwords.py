"""New passwords are looked up among those of known breaches, wherever one is set."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from account_api import PASSWORD, Caller, Service, accounts, document
from attack import Answered
from breach_source import BREACHED, FINE, PwnedService, breach_service, listed, sha1
from issuing import Authority
from thebes import Security
from thebes.errors import ConfigurationError

ADA = "ada@example.com"


def register(service: Service, password: str) -> Answered:
    return service.caller().post("register", {"email": "new@example.com", "password": password})


def change(service: Service, password: str) -> Answered:
    body = {"current_password": PASSWORD, "password": password}
    return service.member(ADA).post("password", body)


def reset(service: Service, password: str) -> Answered:
    service.member(ADA)
    caller: Caller = service.caller()
    caller.post("forgot", {"email": ADA})
    return caller.post("reset", {"token": service.token("reset", ADA), "password": password})


FLOWS = pytest.mark.parametrize("flow", [register, change, reset])
Flow = Callable[[Service, str], Answered]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("breaches"))
    made.issue()
    return made


@pytest.fixture
def pwned(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[PwnedService]:
    """The service, whose authority this machine trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
    with breach_service(authority) as made:
        yield made


@pytest.mark.requirement("PWD-07")
@pytest.mark.slow
class TestWhereverAPasswordIsSet:
    @FLOWS
    def test_the_service_is_asked_by_five_digits(self, flow: Flow, pwned: PwnedService):
        with accounts(breached_passwords=pwned.url) as service:
            refused = flow(service, BREACHED)
        assert refused.status == 422
        assert document(refused)["type"].endswith("password-breached")
        digest = sha1(BREACHED).reveal_text()
        assert f"GET /range/{digest[:5]} HTTP/1.1" in "\n".join(pwned.seen)
        assert digest[5:] not in "\n".join(pwned.seen).upper()
        assert "canary" not in refused.body.decode() + "".join(service.lines)

    @FLOWS
    def test_a_file_is_searched(self, flow: Flow, tmp_path: Path):
        path = listed(tmp_path / "pwned.txt", [BREACHED, "tea"])
        with accounts(breached_passwords=path) as service:
            refused = flow(service, BREACHED)
        assert refused.status == 422
        assert document(refused)["type"].endswith("password-breached")

    @FLOWS
    def test_another_password_is_fine(self, flow: Flow, pwned: PwnedService):
        with accounts(breached_passwords=pwned.url) as service:
            assert flow(service, FINE).status in (200, 202, 204)

    def test_two_seconds_of_silence_are_told_and_the_list_in_the_package_holds(self, pwned: PwnedService):
        pwned.trouble = "silence"
        with accounts(breached_passwords=pwned.url) as service:
            assert register(service, BREACHED).status == 202
            [told] = [event for event in service.events if event["event"] == "breaches_unavailable"]
            assert (told["outcome"], told["reason"]) == ("failed", "timeout")
            listed_here = register(service, "passwordpassword")
            assert document(listed_here)["type"].endswith("password-blocklisted")

    def test_a_strict_service_sets_none_that_it_could_not_look_up(self, pwned: PwnedService):
        pwned.trouble = "error"
        with accounts(breached_passwords=pwned.url, breached_passwords_strict=True) as service:
            refused = register(service, FINE)
        assert refused.status == 503
        assert ("Retry-After", "5") in [(name.title(), value) for name, value in refused.fields]


class TestTheSetting:
    def test_nothing_is_looked_up_unless_it_is_set(self, pwned: PwnedService):
        with accounts() as service:
            assert register(service, BREACHED).status == 202
        assert pwned.seen == []

    def test_a_file_that_is_not_there_stops_the_start(self, tmp_path: Path):
        with (
            pytest.raises(ConfigurationError, match="elsewhere"),
            accounts(breached_passwords=tmp_path / "elsewhere"),
        ):
            pass

    def test_strict_without_a_source_stops_the_start(self):
        with (
            pytest.raises(ConfigurationError, match="set breached_passwords"),
            accounts(breached_passwords_strict=True),
        ):
            pass

    def test_plain_http_is_refused(self):
        with (
            pytest.raises(ConfigurationError, match="must be https"),
            accounts(breached_passwords="http://localhost"),
        ):
            pass

    def test_it_comes_from_the_environment_too(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("THEBES_BREACHED_PASSWORDS", "/srv/pwned.txt")
        settings = Security().settings()
        assert settings.breached_passwords == "/srv/pwned.txt"
        assert settings.origin["breached_passwords"] == "environment"
