"""Every kind of token, in every place of every endpoint that wants another one (TOK-15).

What a token is for is part of what it is: its key, its header, its table. So nothing that somebody holds opens
anything but what it was made for.
"""

import hashlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from account_api import (
    DEVICE,
    FORM,
    OTHER_PASSWORD,
    PRESESSION,
    REFRESH,
    SESSION,
    Caller,
    Service,
    accounts,
    document,
)
from thebes.encoding import encode
from thebes.stores.accounts import NewToken

ADA = "ada@example.com"
KINDS = (
    "access cookie",
    "access bearer",
    "refresh cookie",
    "refresh bearer",
    "verification",
    "reset",
    "invitation",
    "form token",
    "form token of nobody",
    "device cookie",
    "presession cookie",
)
LEGS = ["in-process", "over a socket"]


class Tokens:
    """One genuine, live token of each kind, all of one account; and whether they still are."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.owner = service.member()
        bearer = document(service.caller().sign_in(ADA, mode="bearer"))
        nobody = service.caller()
        mailed = {}
        for number, purpose in enumerate(("verify", "reset", "invite")):
            mailed[purpose] = encode(bytes([number]) * 32)
            record = NewToken(
                digest=hashlib.sha256(mailed[purpose].encode()).digest(),
                purpose=purpose,  # type: ignore[arg-type]
                account_id=service.account_id(),
                email_key=ADA,
                expires_at=time.time() + 600,
            )
            service.run(service.membership.store.accounts.issue(record))
        self.of = {
            "access cookie": self.owner.cookies[SESSION],
            "access bearer": bearer["access_token"],
            "refresh cookie": self.owner.cookies[REFRESH],
            "refresh bearer": bearer["refresh_token"],
            "verification": mailed["verify"],
            "reset": mailed["reset"],
            "invitation": mailed["invite"],
            "form token": self.owner.csrf_token(),
            "form token of nobody": nobody.csrf_token(),
            "device cookie": self.owner.cookies[DEVICE],
            "presession cookie": nobody.cookies[PRESESSION],
        }
        assert tuple(self.of) == KINDS

    def are_unused(self) -> bool:
        """Say whether nothing that was tried has ended or used up anything."""
        store, digest = self.service.membership.store.accounts, hashlib.sha256
        program = {"Authorization": f"Bearer {self.of['access bearer']}"}
        mailed = [("verification", "verify"), ("reset", "reset"), ("invitation", "invite")]
        looks = [
            self.service.run(store.look(digest(self.of[kind].encode()).digest(), purpose))  # type: ignore[arg-type]
            for kind, purpose in mailed
        ]
        return (
            all(looks)
            and self.owner.get("/who").status == 200
            and self.service.caller().ask("GET", "/who", fields=program).status == 200
        )


@pytest.fixture(scope="module", params=LEGS)
def tokens(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tokens]:
    transport: Any = "memory" if request.param == "in-process" else "socket"
    with accounts(transport, tmp_path_factory.mktemp("accounts")) as service:
        yield Tokens(service)


def with_cookie(caller: Caller, name: str, token: str, path: str = "/who") -> int:
    return caller.ask("GET", path, fields={"Cookie": f"{name}={token}"}).status


def with_scheme(caller: Caller, scheme: str, token: str, path: str = "/who") -> int:
    return caller.ask("GET", path, fields={"Authorization": f"{scheme} {token}"}).status


def with_body(caller: Caller, path: str, body: dict[str, str]) -> int:
    return caller.post(path, body).status


# Where a token may be shown, which kinds count there, and the statuses that mean it didn't.
PLACES: dict[str, tuple[tuple[str, ...], tuple[int, ...], Any]] = {
    "session cookie": (("access cookie",), (401,), lambda c, t: with_cookie(c, SESSION, t)),
    "session cookie at me": (("access cookie",), (401,), lambda c, t: with_cookie(c, SESSION, t, "me")),
    "session cookie at sessions": (("access cookie",), (401,), lambda c, t: with_cookie(c, SESSION, t, "sessions")),
    "refresh cookie": (("refresh cookie",), (401,), lambda c, t: with_cookie(c, REFRESH, t)),
    "refresh cookie at refresh": (
        ("refresh cookie",), (401,), lambda c, t: c.ask("POST", "refresh", fields={"Cookie": f"{REFRESH}={t}"}).status,
    ),
    "presession cookie": ((), (401,), lambda c, t: with_cookie(c, PRESESSION, t)),
    "device cookie": ((), (401,), lambda c, t: with_cookie(c, DEVICE, t)),
    "Bearer": (("access bearer",), (401,), lambda c, t: with_scheme(c, "Bearer", t)),
    "Bearer at me": (("access bearer",), (401,), lambda c, t: with_scheme(c, "bearer", t, "me")),
    "DPoP": ((), (401,), lambda c, t: with_scheme(c, "DPoP", t)),
    "Basic": ((), (401,), lambda c, t: with_scheme(c, "Basic", t)),
    "Token": ((), (401,), lambda c, t: with_scheme(c, "Token", t)),
    "refresh body": (("refresh bearer",), (401,), lambda c, t: with_body(c, "refresh", {"refresh_token": t})),
    "verify body": (("verification",), (400,), lambda c, t: with_body(c, "verify", {"token": t})),
    "reset body": (
        ("reset", "invitation"), (400,), lambda c, t: with_body(c, "reset", {"token": t, "password": OTHER_PASSWORD}),
    ),
    "password at login": ((), (401,), lambda c, t: with_body(c, "login", {"email": ADA, "password": t})),
    "query": ((), (400, 401), lambda c, t: c.get(f"/who?access_token={t}").status),
    "query at me": ((), (400, 401), lambda c, t: c.get(f"me?token={t}&refresh_token={t}").status),
}  # fmt: skip


def cases(leg: str) -> list[Any]:
    mark = pytest.mark.requirement("TOK-15", **({"by": "live"} if leg == LEGS[1] else {}))
    return [pytest.param(leg, place, marks=mark, id=f"{leg}, {place}") for place in PLACES]


@pytest.mark.parametrize(("tokens", "place"), cases(LEGS[0]) + cases(LEGS[1]), indirect=["tokens"])
def test_a_token_of_another_kind_opens_nothing(tokens: Tokens, place: str):
    counts, refusals, show = PLACES[place]

    for kind in KINDS:
        if kind not in counts:
            assert show(tokens.service.caller(), tokens.of[kind]) in refusals, kind

    assert tokens.are_unused()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "form token of nobody"])
def test_only_a_form_token_of_nobody_lets_nobodys_form_through(tokens: Tokens, kind: str):
    caller = tokens.service.caller()
    caller.cookies[PRESESSION] = tokens.of["presession cookie"]
    values = {"email": "new@example.com", "password": "x"}

    assert caller.form("register", values, token=tokens.of[kind]).only("location") == "/?problem=csrf-token"
    right = caller.form("register", values, token=tokens.of["form token of nobody"])
    assert right.only("location") == "/?problem=password-too-short"


def test_a_cookie_of_nobody_that_names_a_session_makes_no_token_of_it(tokens: Tokens):
    """Else whoever learns a session's id could have a form token made for it."""
    session_id = tokens.of["access cookie"] and document(tokens.owner.get("/who"))["session"]
    forger = tokens.service.caller()
    forger.cookies[PRESESSION] = session_id

    token = forger.csrf_token()

    assert tokens.owner.form("logout", {}, token=token).only("location").endswith("problem=csrf-token")
    assert tokens.are_unused()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "form token"])
@pytest.mark.parametrize("where", ["field", "header"])
def test_only_a_form_token_of_this_session_lets_its_form_through(tokens: Tokens, kind: str, where: str):
    token = tokens.of[kind]
    fields = {"X-CSRF-Token": token} if where == "header" else {}

    answer = tokens.owner.form("logout", {}, fields, token=None if fields else token)

    assert answer.only("location").endswith("problem=csrf-token")
    assert tokens.are_unused()


def test_a_form_token_in_the_address_or_in_a_cookie_is_none(tokens: Tokens):
    token = tokens.owner.csrf_token()
    cookies = "; ".join(f"{name}={value}" for name, value in tokens.owner.cookies.items())

    for path, fields in [
        (f"logout?csrf_token={token}", {}),
        ("logout", {"Cookie": f"{cookies}; csrf_token={token}; X-CSRF-Token={token}"}),
    ]:
        answer = tokens.owner.form(path, {}, fields, token=None)
        assert answer.only("location").endswith("problem=csrf-token")
    assert tokens.are_unused()


@pytest.mark.parametrize("place", [place for place, (counts, _, _) in PLACES.items() if counts])
def test_each_counts_where_it_belongs(place: str):
    """Without this the matrix could refuse everything and still be right."""
    counts, refusals, show = PLACES[place]
    for kind in counts:
        with accounts() as service:
            assert show(service.caller(), Tokens(service).of[kind]) not in refusals


def test_modes_are_not_mixed(tokens: Tokens):
    caller = tokens.service.caller()
    for headers in (
        {"Authorization": f"Bearer {tokens.of['access cookie']}"},
        {"Cookie": f"{SESSION}={tokens.of['access bearer']}"},
        {"Cookie": f"{SESSION.lower()}={tokens.of['access cookie']}"},
        {"Cookie": f"{SESSION}={tokens.of['access cookie']}; {SESSION}={tokens.of['access cookie']}"},
    ):
        assert caller.ask("GET", "/who", fields=headers).status == 401
    grant = f"grant_type=refresh_token&refresh_token={tokens.of['refresh bearer']}".encode()
    assert caller.ask("POST", "token", grant, {"Content-Type": FORM}).status == 422
