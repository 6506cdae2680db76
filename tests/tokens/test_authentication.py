"""Who is asking: cookies and bearer tokens in every state, alone and beside each other.

The app behind the pass says who it was asked by; everything else is as in production, in memory.
"""

import time
from dataclasses import replace

import pytest
import pytest_asyncio

from account_rows import ADA, BOB
from asking import request_facts
from authenticating import REFRESH, SESSION, Club, a_club, basic, set_cookies
from thebes.resources import TEST_ISSUER, TEST_KEY
from thebes.secrets.bound import BoundKeys
from thebes.secrets.keyring import Keyring, Purpose
from thebes.tokens.authentication import session_claims
from thebes.tokens.bearer_tokens import BearerTokens
from thebes.tokens.key_rotation import KeyRotation
from thebes.tokens.signing_keys import SigningKeys

# Made by somebody else, for the app itself: HS256, no `kid`.
FOREIGN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJlIG9mIHNvbWVib2R5IGVsc2U"
CHALLENGE = b'Bearer error="invalid_token"'


# One app for all but those who change accounts or keys: tables of rules are long.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    async with a_club() as club:
        yield club


@pytest.fixture
def club(shared):
    return shared.forget()


@pytest_asyncio.fixture(loop_scope="module")
async def fresh():
    async with a_club() as club:
        yield club


@pytest_asyncio.fixture(loop_scope="module")
async def ada(club):
    return await club.sign_in()


class TestSessionCookie:
    async def test_nobody_is_nobody(self, club):
        assert await club.who() == "nobody"

    async def test_a_good_one_says_who_asks_and_is_not_renewed(self, club, ada):
        answered = await club.get(ada.cookie())
        assert answered.body.decode() == ADA.id
        assert set_cookies(answered) == {}

    async def test_it_needs_no_refresh_cookie(self, club, ada):
        assert await club.who(ada.cookie(refresh=None)) == ADA.id

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            pytest.param(lambda one: one.expired, "expired", id="expired"),
            pytest.param(lambda one: one.access[:-2] + "AA", "signature", id="another signature"),
            pytest.param(lambda one: one.access[:-1], "signature", id="cut short"),
            pytest.param(lambda one: "", "unknown_key", id="empty"),
            pytest.param(lambda one: "x" * 5000, "malformed", id="too long"),
            pytest.param(lambda one: FOREIGN, "unknown_key", id="of somebody else"),
            pytest.param(lambda one: one.refresh, "unknown_key", id="a refresh token"),
        ],
    )
    async def test_a_bad_one_is_nobody_and_the_reason_is_kept(self, club, ada, spoil, reason):
        answered = await club.get(ada.cookie(access=spoil(ada), refresh=None))
        assert (answered.status, answered.body) == (200, b"nobody")
        assert club.app.facts[0].refused_for == reason
        assert [one["reason"] for one in club.told.objects] == ([] if reason == "expired" else [reason])

    async def test_of_an_ended_session_it_is_nobody_at_the_next_request(self, club, ada):
        await club.membership.store.sessions.revoke(ADA.id, ada.session.id, reason="signed_out")
        assert await club.who(ada.cookie()) == "nobody"
        assert club.app.facts[0].refused_for == "revoked"

    @pytest.mark.requirement("TOK-31")
    @pytest.mark.parametrize(
        "field",
        [
            pytest.param("{name}={token}; {name}={token}", id="doubled"),
            pytest.param("{name}={token}; {name}=", id="doubled, the other one empty"),
            pytest.param("{name}=x; a=1; {name}={token}", id="doubled, another one first"),
            pytest.param("__host-thebes-session={token}", id="lower case"),
            pytest.param("__HOST-THEBES-SESSION={token}", id="upper case"),
            pytest.param("__Host-Thebes-Session={token}", id="title case"),
            pytest.param("\xa0{name}={token}", id="no-break space in front"),
            pytest.param("\x0b{name}={token}", id="vertical tab in front"),
            pytest.param("\xe2\x80\x80{name}={token}", id="U+2000 in front"),
            pytest.param("{name}\xa0={token}", id="no-break space behind"),
            pytest.param('"{name}"={token}', id="in quotes"),
            pytest.param("={name}={token}", id="no name"),
            pytest.param("x={name}={token}", id="in the value of another"),
            pytest.param("a=1, {name}={token}", id="behind a comma"),
            pytest.param("{name}-other={token}", id="of another namespace"),
            pytest.param('{name}="{token}"', id="a quoted value"),
        ],
    )
    async def test_another_spelling_authenticates_nobody(self, club, ada, field):
        cookie = field.format(name=SESSION, token=ada.access)
        assert await club.who({"Cookie": cookie}) == "nobody"

    async def test_in_two_fields_it_authenticates_nobody_either(self, club, ada):
        fields = [("Cookie", f"{SESSION}={ada.access}"), ("Cookie", f"{SESSION}={ada.access}")]
        assert await club.who(fields) == "nobody"

    async def test_among_other_cookies_and_blanks_it_counts(self, club, ada):
        assert await club.who({"Cookie": f"a=1;\t {SESSION} = {ada.access} ; b=2"}) == ADA.id

    async def test_a_namespace_has_names_of_its_own(self):
        async with a_club(cookie_namespace="shop") as club:
            ada = await club.sign_in()
            assert await club.who(ada.cookie()) == "nobody"
            assert await club.who({"Cookie": f"{SESSION}-shop={ada.access}"}) == ADA.id


class TestRefreshCookie:
    @pytest.mark.requirement("TOK-35")
    @pytest.mark.parametrize(
        ("field", "left"),
        [
            pytest.param("{name}={token}", None, id="alone"),
            pytest.param("a=1; {name}={token}; b=2", "a=1; b=2", id="between others"),
            pytest.param("{name}={token}; a=1", "a=1", id="first"),
            pytest.param("a=1; {name}={token}", "a=1", id="last"),
            pytest.param("a=1;{name}={token};b=2", "a=1;b=2", id="without blanks"),
            pytest.param("a=1; {name}={token}; {name}={token}", "a=1", id="doubled"),
            pytest.param("__host-thebes-refresh={token}; a=1", "a=1", id="lower case"),
            pytest.param("__HOST-THEBES-REFRESH={token}; a=1", "a=1", id="upper case"),
            pytest.param("a=1; \t{name} \t= {token}", "a=1", id="blanks around"),
            pytest.param('a=1; {name}="{token}"', "a=1", id="quoted"),
            pytest.param("a=1; {name}=", "a=1", id="empty"),
            pytest.param("a=\xe9\xff; {name}={token}; b==;; c", "a=\xe9\xff; b==;; c", id="odd neighbours"),
            pytest.param('a="x; {name}={token}"; b=2', 'a="x; b=2', id="as browsers cut quotes"),
        ],
    )
    async def test_the_app_never_sees_it_and_all_others_as_they_came(self, club, ada, field, left):
        await club.get({"Cookie": field.format(name=REFRESH, token=ada.refresh)})
        assert club.app.cookies == [[] if left is None else [left.encode("latin-1")]]

    async def test_of_several_fields_the_rest_becomes_one(self, club, ada):
        await club.get([("Cookie", "a=1"), ("Cookie", f"{REFRESH}={ada.refresh}"), ("Cookie", "b=2")])
        assert club.app.cookies == [[b"a=1; b=2"]]

    async def test_beside_a_bearer_token_it_is_taken_out_too(self, club, ada):
        program = await club.sign_in(BOB, mode="bearer")
        await club.get({**program.bearer, "Cookie": f"a=1; {REFRESH}={ada.refresh}"})
        assert club.app.cookies == [[b"a=1"]]

    async def test_fields_without_it_reach_the_app_untouched(self, club):
        fields = [("Cookie", "a=1;;  b=2 ; =x"), ("X-Other", "1"), ("Cookie", "c")]
        await club.get(fields)
        assert club.app.cookies == [[b"a=1;;  b=2 ; =x", b"c"]]

    async def test_a_websocket_does_not_see_it_either(self):
        seen = []

        async def app(scope, receive, send):
            seen.extend(value for name, value in scope["headers"] if name == b"cookie")
            await send({"type": "websocket.close"})

        async def exchange(*_):
            return {"type": "websocket.connect"}

        async with a_club(app) as club:
            ada = await club.sign_in()
            headers = {"Cookie": f"a=1; {REFRESH}={ada.refresh}", "Origin": "http://localhost"}
            facts = request_facts(headers=headers, type="websocket")
            await club.served(facts.scope, exchange, exchange)
        assert seen == [b"a=1"]

    async def test_a_good_one_alone_signs_in(self, club, ada):
        assert await club.who(ada.cookie(access=None)) == ADA.id

    @pytest.mark.parametrize("token", ["", "x", "a.0.b.c.d", "." * 500, "\xff" * 30])
    async def test_one_that_is_not_genuine_changes_nothing(self, club, ada, token):
        answered = await club.get({"Cookie": f"{REFRESH}={token}"})
        assert (answered.status, answered.body, set_cookies(answered)) == (200, b"nobody", {})

    async def test_a_doubled_one_renews_nothing(self, club, ada):
        field = "; ".join([f"{REFRESH}={ada.refresh}"] * 2)
        answered = await club.get({"Cookie": field})
        assert (answered.body, set_cookies(answered)) == (b"nobody", {})

    async def test_that_of_a_program_signs_no_browser_in(self, club):
        program = await club.sign_in(mode="bearer")
        assert await club.who({"Cookie": f"{REFRESH}={program.refresh}"}) == "nobody"


class TestBearerTokens:
    @pytest_asyncio.fixture(loop_scope="module")
    async def program(self, club):
        return await club.sign_in(BOB, mode="bearer")

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    async def test_a_good_one_says_who_asks_whatever_the_case_of_the_scheme(self, club, program, scheme):
        assert await club.who({"Authorization": f"{scheme} {program.access}"}) == BOB.id
        assert club.app.facts[0].credential == "bearer"

    @pytest.mark.requirement("TOK-10")
    async def test_a_cookie_token_is_refused_as_a_bearer(self, club, ada):
        answered = await club.get({"Authorization": f"Bearer {ada.access}"})
        assert (answered.status, answered.header(b"www-authenticate")) == (401, CHALLENGE)
        assert club.told.objects[0]["reason"] == "mode"

    @pytest.mark.requirement("TOK-10")
    async def test_a_bearer_token_in_the_cookie_is_nobody(self, club, program):
        assert await club.who({"Cookie": f"{SESSION}={program.access}"}) == "nobody"

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            pytest.param(lambda one: one.expired, "expired", id="expired"),
            pytest.param(lambda one: one.access[:-2] + "AA", "signature", id="another signature"),
            pytest.param(lambda one: one.access[:-1], "signature", id="cut short"),
            pytest.param(lambda one: one.access.rpartition(".")[0], "signature", id="no signature"),
            pytest.param(lambda one: one.access + ", Bearer x", "signature", id="two in one field"),
            pytest.param(lambda one: one.access + "A" * 9000, "malformed", id="too long"),
        ],
    )
    async def test_a_bad_one_of_ours_is_401_and_says_how_to_authenticate(self, club, program, spoil, reason):
        answered = await club.get({"Authorization": f"Bearer {spoil(program)}"})
        assert (answered.status, answered.header(b"www-authenticate")) == (401, CHALLENGE)
        assert b"invalid-token" in answered.body
        assert club.told.objects[0]["reason"] == reason
        assert club.app.facts == []

    async def test_of_an_ended_session_it_is_401_at_the_next_request(self, club, program):
        await club.membership.store.sessions.revoke(BOB.id, program.session.id, reason="signed_out")
        answered = await club.get(program.bearer)
        assert (answered.status, answered.header(b"www-authenticate")) == (401, CHALLENGE)

    @pytest.mark.parametrize(
        "value",
        [
            f"Bearer {FOREIGN}",
            "Bearer opaque-token",
            "Bearer",
            "Bearer ",
            "DPoP abc",
            "Basic YTpi",
            "Digest username=ada",
            "Negotiate abc",
            "Custom " + FOREIGN,
            "",
        ],
    )
    async def test_what_is_not_ours_reaches_the_app_untouched_and_is_nobody_to_us(self, club, value):
        assert await club.who({"Authorization": value}) == "nobody"
        assert club.app.authorizations == [[value.encode()]]
        assert club.told.objects == []

    async def test_of_a_key_that_is_newer_than_this_process_knows_it_counts(self, fresh):
        """Another process, on the same store, has made the key the one in use."""
        store, seals = fresh.membership.store, BoundKeys(Keyring((TEST_KEY,)), Purpose.SIGNING_KEYS)
        await KeyRotation(store.keys, seals).replace()
        theirs = SigningKeys(store.keys, seals)
        await theirs.load()
        bob = await fresh.sign_in(BOB, mode="bearer")
        found = await store.sessions.find(bob.session.id)
        token = BearerTokens(theirs, issuer=TEST_ISSUER).issue(session_claims(*found))
        assert not fresh.membership.bearer_tokens.names_our_key(token)
        fresh.membership.signing_keys._read_at = 0.0  # more than a second ago
        assert await fresh.who({"Authorization": f"Bearer {token}"}) == BOB.id


@pytest.mark.requirement("CSR-06")
class TestBesideEachOther:
    @pytest.mark.parametrize("value", [f"Bearer {FOREIGN}", "DPoP abc", "bearer x", "Bearer"])
    async def test_beside_bearer_and_dpop_the_cookie_is_ignored(self, club, ada, value):
        assert await club.who({**ada.cookie(), "Authorization": value}) == "nobody"

    @pytest.mark.parametrize(
        "value", [basic()["Authorization"], "Digest a=b", "Negotiate x", "Bearer\tx", ""]
    )
    async def test_beside_what_browsers_add_by_themselves_it_counts(self, club, ada, value):
        assert await club.who({**ada.cookie(), "Authorization": value}) == ADA.id

    @pytest.mark.parametrize("scheme", ["DPoP", "dpop"])
    async def test_a_token_of_ours_as_dpop_is_nobodys_since_none_is_bound_to_a_key(self, club, ada, scheme):
        bob = await club.sign_in(BOB, mode="bearer")
        assert await club.who({**ada.cookie(), "Authorization": f"{scheme} {bob.access}"}) == "nobody"

    async def test_a_bearer_token_wins_over_the_cookie_of_another(self, club, ada):
        bob = await club.sign_in(BOB, mode="bearer")
        assert await club.who({**ada.cookie(), **bob.bearer}) == BOB.id

    async def test_a_bad_bearer_token_is_not_made_up_for_by_a_cookie(self, club, ada):
        bob = await club.sign_in(BOB, mode="bearer")
        headers = {**ada.cookie(), "Authorization": f"Bearer {bob.expired}"}
        assert (await club.get(headers)).status == 401

    @pytest.mark.parametrize(
        "value", [f"Bearer {FOREIGN}", "DPoP abc", "Basic YTpi", "Digest a=b", "Negotiate x"]
    )
    async def test_the_cross_site_check_runs_in_each_case(self, club, ada, value):
        headers = {**ada.cookie(), "Authorization": value, "Origin": "https://evil.example"}
        answered = await club.get(headers, method="POST")
        assert answered.status == 403
        assert club.app.facts == []


@pytest.mark.requirement("TOK-36")
class TestTokensInTheQuery:
    @pytest.mark.parametrize("name", ["access_token", "access%5Ftoken", "token", "t"])
    @pytest.mark.parametrize("mode", ["cookie", "bearer"])
    async def test_are_refused_whatever_their_name(self, club, name, mode):
        held = await club.sign_in(mode=mode)
        answered = await club.get(query_string=f"a=1&{name}={held.access}&b=2".encode())
        assert answered.status == 400
        assert b"token-in-query" in answered.body
        assert club.app.facts == []

    async def test_are_refused_beside_a_good_cookie_too(self, club, ada):
        answered = await club.get(ada.cookie(), query_string=f"access_token={ada.access}".encode())
        assert answered.status == 400

    @pytest.mark.parametrize("name", ["refresh_token", REFRESH, SESSION])
    async def test_authenticate_nobody_in_other_forms(self, club, ada, name):
        assert await club.who(query_string=f"{name}={ada.refresh}".encode()) == "nobody"

    @pytest.mark.parametrize(
        "query", [f"access_token={FOREIGN}", "access_token=x", "q=eyJhbGciO", "q=eyJ.a.b"]
    )
    async def test_those_of_the_app_itself_are_its_own(self, club, query):
        assert await club.who(query_string=query.encode()) == "nobody"


async def test_a_renewal_does_not_raise_the_time_of_authentication(club: Club):
    ada = await club.sign_in(ago=3600)
    await club.get(ada.cookie(access=None))
    assert club.app.facts[0].claims.auth_time == ada.session.auth_time < time.time() - 3000


@pytest.mark.parametrize("spoil", ["another seal", "another id"])
async def test_a_signing_key_that_can_not_be_opened_is_told_once_and_counts_for_nothing(fresh, spoil):
    keys, store = fresh.membership.signing_keys, fresh.membership.store.keys
    (row,) = await store.keys()
    forged = replace(row, kid="forged", status="published", promoted_at=None)
    await store.publish(forged if spoil == "another id" else replace(forged, sealed="v1.test.AAAA"))
    for _ in range(2):
        await keys.reload()
    events = [one for one in fresh.told.objects if one["event"] == "signing_key_unusable"]
    assert [one["detail"].partition(":")[0] for one in events] == ["forged"]
    assert len(fresh.membership.bearer_tokens.jwks()["keys"]) == 1
