"""Sessions over a socket, in production: cookies as they are set, renewed, refused and kept out of caches."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from account_rows import ADA, BOB
from attack import NAVIGATION
from authenticating import REFRESH, SESSION
from live_accounts import ORIGIN, live_club

OLD = 100.0
STRICT = {
    "referrer-policy": "no-referrer",
    "permissions-policy": "browsing-topics=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Lax"


@pytest.fixture(scope="module")
def club():
    with live_club() as club:
        yield club


def cookies_of(answered) -> dict[str, str]:
    pairs = [field.partition("=")[::2] for field in answered.every("set-cookie")]
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def ask(club, one=None, target="/who", fields=(), **more):
    pairs = list((one or {}).items()) + list(fields)
    return club.served.ask(more.pop("method", "GET"), target, pairs, **more)


class TestCookies:
    @pytest.mark.requirement("TOK-29", "TOK-30", by="live")
    def test_carry_the_prefix_and_all_attributes_and_no_domain(self, club):
        for is_remembered in (False, True):
            ada = club.sign_in(ago=OLD, is_remembered=is_remembered)
            cookies = cookies_of(ask(club, ada.late))
            assert sorted(cookies) == [REFRESH, SESSION]
            for field in cookies.values():
                _, _, attributes = field.partition("; ")
                kept, _, age = attributes.partition("; Max-Age=")
                assert kept == ATTRIBUTES
                assert bool(age) is is_remembered

    @pytest.mark.requirement("TOK-30", by="live")
    def test_are_strict_by_setting(self):
        with live_club(same_site="strict") as club:
            cookies = cookies_of(ask(club, club.sign_in(ago=OLD).late))
            assert all("; SameSite=Strict" in field for field in cookies.values())
            assert len(cookies) == 2

    @pytest.mark.requirement("TOK-35", by="live")
    def test_the_refresh_cookie_is_not_shown_to_the_app(self, club):
        ada = club.sign_in()
        for name in (REFRESH, REFRESH.lower(), REFRESH.upper()):
            answered = ask(club, {"Cookie": f"a=1; {name}={ada.refresh}; b=2"}, "/seen")
            assert answered.body == b"a=1; b=2"


class TestRenewal:
    @pytest.mark.parametrize(
        "target", ["/who", "/page", "/stream", "/crash", "/scoped", "/nowhere", "/public"]
    )
    @pytest.mark.parametrize("kind", ["fetch", "navigation"])
    def test_each_answer_sets_both_cookies_and_is_stored_nowhere(self, club, target, kind):
        ada = club.sign_in(ago=OLD)
        answered = ask(club, ada.late, target, NAVIGATION if kind == "navigation" else ())
        assert sorted(cookies_of(answered)) == [REFRESH, SESSION]
        assert answered.only("cache-control") == "no-store"

    def test_whoever_has_only_the_refresh_cookie_is_signed_in_and_stays_so(self, club):
        ada = club.sign_in(ago=OLD)
        answered = ask(club, ada.cookie(access=None))
        assert answered.body.decode() == ADA.id
        renewed = {name: field.partition(";")[0] for name, field in cookies_of(answered).items()}
        again = ask(club, {"Cookie": f"{SESSION}={renewed[SESSION]}"})
        assert again.body.decode() == ADA.id

    def test_twenty_tabs_at_once_get_the_same_successor(self, club):
        ada = club.sign_in(ago=OLD)
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: ask(club, ada.late), range(20)))
        assert {one.body.decode() for one in answers} == {ADA.id}
        successors = {
            cookies_of(one)[REFRESH].partition(";")[0] for one in answers if one.every("set-cookie")
        }
        assert len(successors) == 1

    def test_a_websocket_handshake_is_answered_with_both_cookies(self, club):
        ada = club.sign_in(ago=OLD)
        answered = club.served.handshake([*ada.late.items(), ORIGIN])
        assert answered.status == 101
        assert sorted(cookies_of(answered)) == [REFRESH, SESSION]

    def test_an_answer_to_nobody_deletes_nothing(self, club):
        ada = club.sign_in(ago=OLD)
        club.revoke(ada)
        answered = ask(club, ada.late)
        assert (answered.body, answered.every("set-cookie")) == (b"nobody", [])


class TestBearerTokens:
    @pytest.mark.requirement("TOK-10", by="live")
    def test_each_kind_is_refused_in_the_place_of_the_other(self, club):
        browser, program = club.sign_in(), club.sign_in(mode="bearer")
        assert ask(club, {"Authorization": f"Bearer {browser.access}"}).status == 401
        assert ask(club, {"Cookie": f"{SESSION}={program.access}"}).body == b"nobody"
        assert ask(club, program.bearer).body.decode() == ADA.id
        assert ask(club, browser.cookie()).body.decode() == ADA.id

    @pytest.mark.requirement("TOK-36", by="live")
    @pytest.mark.parametrize("mode", ["cookie", "bearer"])
    def test_no_token_is_taken_from_the_query(self, club, mode):
        one = club.sign_in(mode=mode)
        for name in ("access_token", "access%5Ftoken", "token", SESSION):
            answered = ask(club, target=f"/who?{name}={one.access}")
            assert (answered.status, answered.kind) == (400, "token-in-query")
        assert ask(club, target=f"/who?refresh_token={one.refresh}").body == b"nobody"
        answered = ask(club, target=f"/auth/refresh?refresh_token={one.refresh}", method="POST")
        assert answered.status in (401, 415, 422)

    @pytest.mark.requirement("TOK-38", by="live")
    def test_a_401_says_how_to_authenticate(self, club):
        stale, program = club.sign_in(BOB, ago=600), club.sign_in(mode="bearer")
        for fields, target, challenge in (
            ({}, "/mine", "Bearer"),
            ({"Authorization": f"Bearer {program.expired}"}, "/who", 'Bearer error="invalid_token"'),
            ({"Authorization": "Bearer foreign"}, "/mine", "Bearer"),
            (
                stale.cookie(),
                "/fresh",
                'Bearer error="insufficient_user_authentication", max_age="300"',
            ),
        ):
            answered = ask(club, fields, target)
            assert (answered.status, answered.only("www-authenticate")) == (401, challenge)

    @pytest.mark.requirement("TOK-37", by="live")
    def test_who_lacks_a_scope_is_403(self, club):
        for one in (club.sign_in().cookie(), club.sign_in(mode="bearer").bearer):
            answered = ask(club, one, "/scoped", [("X-Scope", "notes:delete"), ("X-Role", "admin")])
            assert answered.status == 403
            expected = 'Bearer error="insufficient_scope", scope="notes:delete"'
            assert answered.only("www-authenticate") == expected

    @pytest.mark.requirement("TOK-44", by="live")
    @pytest.mark.parametrize("target", ["/mine", "/role", "/auth/me", "/auth/sessions"])
    def test_no_identity_that_a_client_states_is_believed(self, club, target):
        for name in ("X-User", "Remote-User", "X-Account-Id", "X-Auth-User", "From"):
            assert ask(club, {name: ADA.id}, target).status == 401
        for cookie in (f"sub={ADA.id}", f"user={ADA.id}", f"{SESSION}={ADA.id}"):
            assert ask(club, {"Cookie": cookie}, target).status == 401
        assert ask(club, target=f"{target}?user={ADA.id}&sub={ADA.id}").status == 401


class TestFields:
    """HTTP-05 and HTTP-06, on the package's own answers and on the app's."""

    @pytest.mark.requirement("HTTP-05", by="live")
    def test_the_packages_own_answers_have_the_strict_values(self, club):
        ada = club.sign_in()
        for target, status in (("/auth/me", 200), ("/auth/csrf", 200), ("/.well-known/jwks.json", 200)):
            answered = ask(club, ada.cookie(), target)
            assert answered.status == status
            assert {name: answered.only(name) for name in STRICT} == STRICT
        for target in ("/auth/me", "/mine"):
            answered = ask(club, target=target)
            assert answered.status == 401
            assert {name: answered.only(name) for name in STRICT} == STRICT

    @pytest.mark.requirement("HTTP-05", by="live")
    def test_the_apps_have_those_that_break_nothing(self, club):
        ada = club.sign_in()
        for fields in (ada.cookie(), {}):
            answered = ask(club, fields, "/page")
            assert answered.only("referrer-policy") == "strict-origin-when-cross-origin"
            assert answered.only("permissions-policy") == "browsing-topics=()"
            assert answered.only("cross-origin-opener-policy") == "same-origin-allow-popups"
            expected = ["same-origin"] if fields else []
            assert answered.every("cross-origin-resource-policy") == expected

    @pytest.mark.requirement("HTTP-05", "HTTP-06", by="live")
    def test_what_the_app_says_itself_stays(self, club):
        answered = ask(club, club.sign_in().cookie(), "/public")
        assert answered.only("cache-control") == "public, max-age=60"
        assert answered.only("cross-origin-resource-policy") == "cross-origin"

    @pytest.mark.requirement("HTTP-06", by="live")
    def test_whatever_depends_on_a_session_or_carries_a_token_is_stored_nowhere(self, club):
        ada, program, late = club.sign_in(), club.sign_in(mode="bearer"), club.sign_in(ago=OLD)
        for fields, target in (
            (ada.cookie(), "/auth/me"),
            (ada.cookie(), "/auth/sessions"),
            (ada.cookie(), "/auth/csrf"),
            ({}, "/auth/csrf"),
            ({}, "/form"),
            (ada.cookie(), "/who"),
            (ada.cookie(), "/page"),
            (program.bearer, "/who"),
            (late.late, "/public"),
        ):
            assert ask(club, fields, target).only("cache-control") == "no-store"
        body = b'{"refresh_token": "%s"}' % program.refresh.encode()
        answered = ask(club, {"Content-Type": "application/json"}, "/auth/refresh", method="POST", body=body)
        assert (answered.status, answered.only("cache-control")) == (200, "no-store")

    @pytest.mark.requirement("HTTP-06", by="live")
    @pytest.mark.parametrize(
        "target", ["/auth/me/x.css", "/auth/me/", "/auth/sessions/x/y.png", "/auth/csrf/a.js"]
    )
    def test_an_unknown_path_below_an_account_page_is_404(self, club, target):
        assert ask(club, club.sign_in().cookie(), target).status in (404, 405)
