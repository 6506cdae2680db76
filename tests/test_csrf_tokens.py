"""Form tokens: bound to a session, read from a header or a small form, and from nowhere else."""

from urllib.parse import urlencode

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from account_rows import BOB
from asking import request_facts
from authenticating import Noting, a_club, set_cookies, value_of
from calling import Reader, call
from thebes.csrf_tokens import MAX_FIELDS, MAX_FORM_BYTES, RANDOM_BYTES, CsrfTokens, form_values
from thebes.encoding import decode, encode
from thebes.secrets.bound import BoundKeys
from thebes.secrets.keyring import Purpose
from token_making import ring

FORM = "application/x-www-form-urlencoded"
SAME_ORIGIN = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
TOKENS = CsrfTokens(BoundKeys(ring("old"), Purpose.CSRF))


class TestTokens:
    @pytest.mark.requirement("CSR-04")
    def test_one_is_random_and_its_mac_over_the_session(self):
        first, second = TOKENS.issue("session 1"), TOKENS.issue("session 1")
        assert first != second
        chance, _, tag = first.split(".")
        assert len(decode(chance)) == RANDOM_BYTES >= 16
        assert len(decode(tag)) == 32
        assert TOKENS.is_genuine(first, "session 1")

    @pytest.mark.requirement("CSR-04")
    @pytest.mark.parametrize(
        "binding", ["session 2", "", "session 1 ", "Session 1", "1", "presession:session 1"]
    )
    def test_it_is_worth_nothing_for_another_session(self, binding):
        assert not TOKENS.is_genuine(TOKENS.issue("session 1"), binding)

    @given(st.text(max_size=300) | st.lists(st.text(max_size=40), max_size=5).map(".".join))
    def test_no_other_text_is_genuine_and_none_raises(self, text):
        assert TOKENS.is_genuine(text, "session 1") is False

    @given(st.integers(0, 200), st.characters())
    def test_no_changed_token_is_genuine(self, place, character):
        token = TOKENS.issue("session 1")
        changed = token[: place % len(token)] + character + token[place % len(token) + 1 :]
        assert TOKENS.is_genuine(changed, "session 1") is (changed == token)

    @given(st.binary(max_size=40), st.text(max_size=40))
    def test_the_random_part_and_the_binding_can_not_be_cut_elsewhere(self, more, binding):
        """A token whose random part swallowed the beginning of the binding isn't one."""
        key_id, tag = BoundKeys(ring("old"), Purpose.CSRF).mac(b"x" * RANDOM_BYTES + more + binding.encode())
        longer = f"{encode(b'x' * RANDOM_BYTES + more)}.{key_id}.{encode(tag)}"
        assert TOKENS.is_genuine(longer, binding) is (more == b"")

    def test_one_of_a_retired_key_is_refused_and_of_an_accepted_one_counts(self):
        both = CsrfTokens(BoundKeys(ring("new", "old"), Purpose.CSRF))
        assert both.is_genuine(TOKENS.issue("s"), "s")
        assert not TOKENS.is_genuine(both.issue("s"), "s")

    def test_one_of_another_purpose_is_refused(self):
        other = CsrfTokens(BoundKeys(ring("old"), Purpose.KNOWN_DEVICES))
        assert not TOKENS.is_genuine(other.issue("s"), "s")


class TestFields:
    @pytest.mark.parametrize(
        ("body", "values"),
        [
            (b"csrf_token=a", ["a"]),
            (b"x=1&csrf_token=a&y=2", ["a"]),
            (b"csrf_token=a&csrf_token=b", ["a", "b"]),
            (b"csrf%5Ftoken=a&csrf_token=b", ["a", "b"]),
            (b"csrf_token=", [""]),
            (b"csrf_token", [""]),
            (b"CSRF_TOKEN=a", []),
            (b"csrf_token[]=a", []),
            (b"x;csrf_token=a", []),
            (b"", []),
            (b"\xff=1&csrf_token=%ff", ["\ufffd"]),
            (b"&" * 10 + b"csrf_token=a", ["a"]),
            (b"x=1&" * MAX_FIELDS + b"csrf_token=a", []),
        ],
    )
    def test_all_values_are_found_as_a_framework_would_find_them(self, body, values):
        assert list(form_values(body, "csrf_token")) == values

    @given(st.binary(max_size=300))
    def test_no_body_raises(self, body):
        form_values(body, "csrf_token")


async def post(club, headers, body: bytes = b"", *, method: str = "POST", **more):
    sent = {**SAME_ORIGIN, **headers}
    if body:
        sent["Content-Length"] = str(len(body))
    facts = request_facts(method, headers=sent, **more)
    chunks = [body[place : place + 1000] for place in range(0, len(body), 1000)] or [b""]
    said = await call(club.served, facts.scope, *chunks)
    return said[0]["status"], b"".join(message.get("body", b"") for message in said[1:])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    async with a_club(Noting(), csrf_token="forms") as club:
        yield club


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict():
    async with a_club(Noting(), csrf_token="always") as club:
        yield club


@pytest.fixture
def club(shared):
    return shared.forget()


def token_of(club, signed_in) -> str:
    return club.membership.csrf.issue(signed_in.session.id)


@pytest.mark.asyncio(loop_scope="module")
class TestForms:
    """`csrf_token="forms"`: bodies that an HTML form can send."""

    @pytest.mark.requirement("CSR-04")
    async def test_a_form_with_the_sessions_token_passes_and_the_app_reads_all_of_it(self):
        reader = Reader()
        async with a_club(reader, csrf_token="forms") as club:
            ada = await club.sign_in()
            body = urlencode({"text": "x" * 5000, "csrf_token": token_of(club, ada)}).encode()
            status, _ = await post(club, {**ada.cookie(), "Content-Type": FORM}, body)
        assert status == 200
        assert reader.received[-1] == body
        assert reader.ended

    @pytest.mark.parametrize(
        "kind", [FORM, f"{FORM}; charset=utf-8", "Multipart/Form-Data; boundary=x", "text/plain"]
    )
    async def test_the_header_brings_it_for_every_kind_of_form(self, club, kind):
        ada = await club.sign_in()
        headers = {**ada.cookie(), "Content-Type": kind, "X-CSRF-Token": token_of(club, ada)}
        assert (await post(club, headers, b"--x--"))[0] == 200

    @pytest.mark.requirement("CSR-04")
    @pytest.mark.parametrize(
        "place",
        ["nowhere", "cookie", "query", "another header", "multipart", "path"],
    )
    async def test_from_anywhere_else_it_does_not_count(self, club, place):
        ada = await club.sign_in()
        token = token_of(club, ada)
        headers, body, more = {**ada.cookie(), "Content-Type": FORM}, b"a=1", {}
        if place == "cookie":
            headers["Cookie"] += f"; csrf_token={token}; X-CSRF-Token={token}"
        elif place == "query":
            more["query_string"] = f"csrf_token={token}".encode()
        elif place == "another header":
            headers |= {"X-XSRF-Token": token, "CSRF-Token": token}
        elif place == "multipart":
            headers["Content-Type"] = "multipart/form-data; boundary=x"
            body = f'--x\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n{token}\r\n--x--\r\n'.encode()
        elif place == "path":
            more["path"] = f"/csrf_token={token}"
        status, answer = await post(club, headers, body, **more)
        assert status == 403
        assert b"csrf-token" in answer
        assert club.app.facts == []

    @pytest.mark.requirement("CSR-04")
    @pytest.mark.parametrize("whose", ["another session", "another account", "before the sign-in", "nobody"])
    async def test_that_of_somebody_else_does_not_count(self, club, whose):
        ada = await club.sign_in()
        if whose == "another session":
            token = token_of(club, await club.sign_in())
        elif whose == "another account":
            token = token_of(club, await club.sign_in(BOB))
        elif whose == "before the sign-in":
            token = token_of(club, ada)
            ada = await club.sign_in(replaces=ada.session.id)
        else:
            token = club.membership.csrf.issue("presession:x")
        headers = {**ada.cookie(), "Content-Type": FORM}
        assert (await post(club, headers, urlencode({"csrf_token": token}).encode()))[0] == 403
        assert (await post(club, {**headers, "X-CSRF-Token": token}))[0] == 403

    async def test_a_doubled_field_is_refused(self, club):
        ada = await club.sign_in()
        one = urlencode({"csrf_token": token_of(club, ada)}).encode()
        for body in (one + b"&" + one, b"csrf_token=&" + one, one + b"&csrf%5ftoken=x"):
            assert (await post(club, {**ada.cookie(), "Content-Type": FORM}, body))[0] == 403

    async def test_a_doubled_header_is_refused(self, club):
        ada = await club.sign_in()
        token = token_of(club, ada)
        headers = [*SAME_ORIGIN.items(), *ada.cookie().items(), ("Content-Type", FORM)]
        headers += [("X-CSRF-Token", token)] * 2
        assert (await club.get(headers, method="POST")).status == 403

    async def test_a_form_larger_than_what_is_held_back_needs_the_header(self, club):
        ada = await club.sign_in()
        field = urlencode({"csrf_token": token_of(club, ada)}).encode()
        body = field + b"&x=" + b"y" * MAX_FORM_BYTES
        headers = {**ada.cookie(), "Content-Type": FORM}
        assert (await post(club, headers, body))[0] == 403
        assert (await post(club, {**headers, "X-CSRF-Token": token_of(club, ada)}, body))[0] == 200

    async def test_a_client_that_leaves_in_the_middle_reaches_no_handler(self, club):
        ada = await club.sign_in()
        headers = {**SAME_ORIGIN, **ada.cookie(), "Content-Type": FORM, "Content-Length": "100"}
        facts = request_facts("POST", headers=headers)
        messages = iter([{"type": "http.request", "body": b"csrf", "more_body": True}])

        async def receive():
            return next(messages, {"type": "http.disconnect"})

        async def send(message):
            assert message.get("status", 403) == 403

        await club.served(facts.scope, receive, send)
        assert club.app.facts == []

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
    async def test_reading_needs_none(self, club, method):
        ada = await club.sign_in()
        assert (await post(club, {**ada.cookie(), "Content-Type": FORM}, method=method))[0] == 200

    @pytest.mark.parametrize("kind", ["application/json", "application/xml; charset=utf-8", ""])
    async def test_what_no_form_can_send_needs_none(self, club, kind):
        ada = await club.sign_in()
        assert (await post(club, {**ada.cookie(), "Content-Type": kind}))[0] == 200

    async def test_a_program_with_a_token_of_ours_or_of_the_app_needs_none(self, club):
        program = await club.sign_in(mode="bearer")
        for headers in (
            program.bearer,
            {"Authorization": "Bearer the-apps-own"},
            {"Authorization": "DPoP x"},
        ):
            assert (await post(club, {**headers, "Content-Type": FORM}, b"a=1"))[0] == 200

    async def test_any_cookie_beside_that_needs_one_again(self, club):
        headers = {"Authorization": "Bearer the-apps-own", "Cookie": "own_session=1", "Content-Type": FORM}
        assert (await post(club, headers, b"a=1"))[0] == 403

    async def test_a_form_of_nobody_needs_that_of_its_cookie(self, club):
        club.app.headers = []
        made = []

        async def make():
            facts = club.app.facts[-1]
            made.append(facts.surroundings.form_token_of(facts))

        club.app.work = make
        answered = await club.get()
        club.app.work = None
        name = club.membership.jar.presession_name
        cookie = {"Cookie": f"{name}={value_of(set_cookies(answered)[name])}"}
        body = urlencode({"csrf_token": made[0]}).encode()
        assert (await post(club, {"Content-Type": FORM, **cookie}, body))[0] == 200
        assert (await post(club, {"Content-Type": FORM}, body))[0] == 403
        assert (await post(club, {"Content-Type": FORM, "Cookie": f"{name}=other"}, body))[0] == 403
        ada = await club.sign_in()
        both = {"Cookie": f"{ada.cookie()['Cookie']}; {cookie['Cookie']}"}
        assert (await post(club, {"Content-Type": FORM, **both}, body))[0] == 403

    @pytest.mark.parametrize("value", ["session-id-of-ada", "", "a b", "\xe9", '"x"'])
    async def test_a_planted_cookie_is_never_taken_for_a_session(self, club, value):
        """The binding of nobody can't be the id of a session."""
        ada = await club.sign_in()
        planted = ada.session.id if value == "session-id-of-ada" else value
        name = club.membership.jar.presession_name
        headers = {"Cookie": f"{name}={planted}", "Content-Type": FORM}
        body = urlencode({"csrf_token": token_of(club, ada)}).encode()
        assert (await post(club, headers, body))[0] == 403

    async def test_an_exempted_route_needs_none(self):
        async with a_club(
            Noting(),
            csrf_token="forms",
            prepare=lambda security: security.exempt("POST /hook", "csrf", reason="signed"),
        ) as club:
            ada = await club.sign_in()
            headers = {**ada.cookie(), "Content-Type": FORM}
            assert (await post(club, headers, b"a=1", path="/hook"))[0] == 200
            assert (await post(club, headers, b"a=1", path="/hook/"))[0] == 403


@pytest.mark.asyncio(loop_scope="module")
class TestAlways:
    """`csrf_token="always"`: every unsafe request of a session."""

    @pytest.mark.requirement("CSR-04")
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
    @pytest.mark.parametrize("body", [b"", b"{}"])
    async def test_each_needs_it_with_a_body_and_without(self, strict, method, body):
        ada = await strict.sign_in()
        headers = {**ada.cookie(), "Content-Type": "application/json"} if body else ada.cookie()
        assert (await post(strict, headers, body, method=method))[0] == 403
        headers = {**headers, "X-CSRF-Token": token_of(strict, ada)}
        assert (await post(strict, headers, body, method=method))[0] == 200

    async def test_reading_and_websockets_need_none(self, strict):
        ada = await strict.sign_in()
        assert await strict.who(ada.cookie()) == ada.account.id
        facts = request_facts(headers={**ada.cookie(), **SAME_ORIGIN}, type="websocket")
        assert (await call(strict.served, facts.scope))[0]["type"] != "websocket.close"

    async def test_json_of_nobody_needs_none(self, strict):
        assert (await post(strict, {"Content-Type": "application/json"}, b"{}"))[0] == 200

    async def test_a_session_that_is_renewed_in_place_needs_it_too(self, strict):
        ada = await strict.sign_in(ago=100)
        assert (await post(strict, ada.late))[0] == 403
        assert (await post(strict, {**ada.late, "X-CSRF-Token": token_of(strict, ada)}))[0] == 200


async def test_without_the_setting_no_form_of_the_app_needs_one():
    async with a_club() as club:
        ada = await club.sign_in()
        assert (await post(club, {**ada.cookie(), "Content-Type": FORM}, b"a=1"))[0] == 200


@pytest.mark.parametrize("name", ["csrf", "csrf_token"])
async def test_the_second_stage_can_be_taken_out_for_a_proof(name):
    async with a_club(Noting(), csrf_token="always", without=(name,)) as club:
        ada = await club.sign_in()
        assert (await post(club, ada.cookie()))[0] == 200
