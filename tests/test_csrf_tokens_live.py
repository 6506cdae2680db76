"""Form tokens over a socket: a form of the app, sent as a browser sends it."""

from urllib.parse import urlencode

import pytest

from account_rows import ADA, BOB
from live_accounts import ORIGIN, live_club

FORM = ("Content-Type", "application/x-www-form-urlencoded")


@pytest.fixture(scope="module")
def club():
    with live_club(csrf_token="forms") as club:
        yield club


def post(club, one, body: bytes, *fields, target: str = "/who"):
    return club.served.ask("POST", target, [*one.cookie().items(), ORIGIN, FORM, *fields], body=body)


def token_of(club, one) -> str:
    answered = club.served.ask("GET", "/form", one.cookie().items())
    assert answered.status == 200
    return answered.body.decode()


def encoded(token: str) -> bytes:
    return urlencode({"text": "hello", "csrf_token": token}).encode()


@pytest.mark.requirement("CSR-04", by="live")
def test_a_form_is_taken_with_the_token_of_its_page_in_a_field_or_the_header(club):
    ada = club.sign_in()
    token = token_of(club, ada)
    assert post(club, ada, encoded(token)).body.decode() == ADA.id
    assert post(club, ada, b"text=hello", ("X-CSRF-Token", token)).body.decode() == ADA.id


@pytest.mark.requirement("CSR-04", by="live")
def test_and_refused_with_none_or_from_anywhere_else(club):
    ada = club.sign_in()
    token = token_of(club, ada)
    for answered in (
        post(club, ada, b"text=hello"),
        post(club, ada, b"text=hello", ("Cookie", f"csrf_token={token}")),
        post(club, ada, b"text=hello", target=f"/who?csrf_token={token}"),
        post(club, ada, encoded(token[:-2] + "AA")),
        post(club, ada, encoded(token) + b"&csrf_token=x"),
    ):
        assert (answered.status, answered.kind) == (403, "csrf-token")


@pytest.mark.requirement("CSR-04", by="live")
def test_and_with_the_token_of_another_session_or_of_before_a_sign_in(club):
    ada, again, bob = club.sign_in(), club.sign_in(), club.sign_in(BOB)
    for other in (again, bob):
        assert post(club, ada, encoded(token_of(club, other))).status == 403
    before = token_of(club, ada)
    after = club.sign_in(replaces=ada.session.id)
    assert post(club, after, encoded(before)).status == 403
    assert post(club, after, encoded(token_of(club, after))).status == 200


@pytest.mark.requirement("CSR-04", by="live")
def test_a_token_is_another_one_each_time(club):
    ada = club.sign_in()
    assert len({token_of(club, ada) for _ in range(20)}) == 20
