"""Refresh tokens at a server: rotated, answered again within the grace, and the end of a session when reused."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from account_api import Service, accounts, document

ADA = "ada@example.com"
GRACE = 30


@pytest.fixture
def service(request: pytest.FixtureRequest, tmp_path) -> Iterator[Service]:
    with accounts("socket", tmp_path, **getattr(request, "param", {})) as served:
        served.member()
        yield served


def signed_in(service: Service) -> tuple[str, str]:
    tokens = document(service.caller().sign_in(ADA, mode="bearer"))
    return tokens["access_token"], tokens["refresh_token"]


def refreshed(service: Service, token: str) -> tuple[int, str | None, str | None]:
    """Return the status, and the access and refresh token that came."""
    answer = service.caller().post("refresh", {"refresh_token": token})
    tokens = document(answer)
    return answer.status, tokens.get("access_token"), tokens.get("refresh_token")


def opens(service: Service, access: str) -> bool:
    return service.caller().get("/who", Authorization=f"Bearer {access}").status == 200


def pass_the_grace(service: Service) -> None:
    service.age(GRACE + 1, "sessions.rotated_at")


@pytest.mark.requirement("TOK-18", by="live")
def test_a_young_token_is_answered_with_itself_an_older_one_with_its_only_successor(service: Service):
    access, first = signed_in(service)
    status, another, same = refreshed(service, first)
    assert (status, same) == (200, first)
    assert another is not None
    assert another != access
    assert opens(service, another)

    pass_the_grace(service)
    status, _, second = refreshed(service, first)
    assert status == 200
    assert second not in (None, first)
    pass_the_grace(service)
    assert refreshed(service, first)[0] == 401


@pytest.mark.requirement("TOK-18", by="live")
@pytest.mark.parametrize("service", [{"refresh_grace": 0}], indirect=True)
def test_a_grace_of_0_rotates_at_once(service: Service):
    _, first = signed_in(service)
    status, _, second = refreshed(service, first)
    assert status == 200
    assert second not in (None, first)
    assert refreshed(service, first)[0] == 401


@pytest.mark.requirement("TOK-19", by="live")
def test_a_rotated_token_that_comes_again_ends_the_family_with_its_access_tokens(service: Service):
    _, first = signed_in(service)
    pass_the_grace(service)
    _, access, second = refreshed(service, first)
    assert access is not None
    assert second is not None
    assert opens(service, access)
    assert refreshed(service, second)[0] == 200  # its holder has it
    pass_the_grace(service)

    assert refreshed(service, first)[0] == 401
    assert refreshed(service, second)[0] == 401
    assert not opens(service, access)
    assert [one["event"] for one in service.events if one["event"] == "reuse_detected"] == ["reuse_detected"]


@pytest.mark.requirement("TOK-20", by="live")
def test_of_20_refreshes_at_once_one_descendant_lives(service: Service):
    _, first = signed_in(service)
    pass_the_grace(service)
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: refreshed(service, first), range(20)))
    assert {status for status, _, _ in answers} == {200}
    descendants = {token for _, _, token in answers}
    assert len(descendants) == 1
    assert descendants != {first}
    pass_the_grace(service)
    assert refreshed(service, descendants.pop() or "")[0] == 200
