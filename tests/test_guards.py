"""What a guard answers to whom: scopes, roles, freshness; and apps that are closed to nobody's requests."""

import time
from datetime import timedelta
from urllib.parse import unquote

import pytest

from asking import request_facts
from authenticating import a_club
from calling import call
from thebes.answers import SIGN_IN_REQUIRED
from thebes.errors import ConfigurationError
from thebes.facts import SCOPE_KEY, Answer, RequestFacts, Surroundings
from thebes.guards import AccountDemanded, Denied, demand, principal_of
from thebes.paths import RoutePattern
from token_making import ADA, NOW

HOUR = timedelta(hours=1)


def asking(*, is_signed_in: bool = True, **claims: object) -> dict[str, RequestFacts]:
    """Return the scope of a handler that somebody asked."""
    facts = request_facts()
    if is_signed_in:
        facts.claims = type(ADA)(**{name: getattr(ADA, name) for name in ADA.__struct_fields__} | claims)
        facts.credential = "bearer"
    return {SCOPE_KEY: facts}


class TestPrincipal:
    def test_it_says_what_the_credential_says(self):
        principal = principal_of(asking())
        assert principal is not None
        assert (principal.id, principal.session_id, principal.credential) == (ADA.sub, ADA.sid, "bearer")
        assert principal.scopes == {"notes:read", "notes:write"}
        assert principal.roles == {"editor"}
        assert (principal.auth_time, principal.amr) == (ADA.auth_time, ("pwd",))

    def test_nobody_is_none(self):
        assert principal_of(asking(is_signed_in=False)) is None

    @pytest.mark.parametrize(
        "scope", [{}, {SCOPE_KEY: True}, {SCOPE_KEY: None}, {SCOPE_KEY: {"claims": ADA}}]
    )
    def test_without_protection_it_is_an_error_and_not_nobody(self, scope):
        with pytest.raises(ConfigurationError, match="not protected"):
            principal_of(scope)
        with pytest.raises(ConfigurationError, match="not protected"):
            demand(scope)


class TestDemand:
    @pytest.mark.parametrize(
        ("scopes", "roles"),
        [
            ((), ()),
            (("notes:read",), ()),
            (("notes:read", "notes:write"), ()),
            ((), ("editor",)),
            ((), ("admin", "editor")),
            (("notes:write",), ("editor", "admin")),
        ],
    )
    def test_who_has_it_all_comes_in(self, scopes, roles):
        assert demand(asking(), *scopes, roles=roles).id == ADA.sub

    @pytest.mark.requirement("TOK-37")
    @pytest.mark.parametrize(
        ("scopes", "roles", "named"),
        [
            (("notes:delete",), (), b', scope="notes:delete"'),
            (("notes:read", "notes:delete"), (), b', scope="notes:read notes:delete"'),
            (("Notes:Read",), (), b', scope="Notes:Read"'),
            (("notes:*",), (), b', scope="notes:*"'),
            (("notes",), (), b', scope="notes"'),
            (("editor",), (), b', scope="editor"'),
            ((), ("admin",), b""),
            ((), ("notes:read",), b""),
            (("notes:read",), ("admin",), b', scope="notes:read"'),
        ],
    )
    def test_who_lacks_a_scope_or_a_role_is_403_insufficient_scope(self, scopes, roles, named):
        with pytest.raises(Denied) as caught:
            demand(asking(), *scopes, roles=roles)
        denial = caught.value.denial
        assert (denial.status, denial.kind) == (403, "insufficient-scope")
        assert denial.headers == ((b"www-authenticate", b'Bearer error="insufficient_scope"' + named),)

    @pytest.mark.requirement("TOK-38")
    def test_nobody_is_401_with_the_scheme_and_before_anything_else(self):
        for demanded in ({}, {"roles": ["admin"]}, {"fresh": HOUR}):
            with pytest.raises(Denied) as caught:
                demand(asking(is_signed_in=False), "notes:read", **demanded)
            assert caught.value.denial == SIGN_IN_REQUIRED
        assert (SIGN_IN_REQUIRED.status, SIGN_IN_REQUIRED.headers) == (
            401,
            ((b"www-authenticate", b"Bearer"),),
        )

    @pytest.mark.requirement("TOK-38")
    @pytest.mark.parametrize("age", [0, 3599, 3600])
    def test_who_authenticated_lately_comes_in(self, age):
        assert demand(asking(auth_time=NOW - age), fresh=HOUR, now=NOW).id == ADA.sub

    @pytest.mark.requirement("TOK-38")
    @pytest.mark.parametrize("age", [3600.5, 3601, 10**9])
    def test_who_did_so_too_long_ago_is_told_how_fresh_it_has_to_be(self, age):
        with pytest.raises(Denied) as caught:
            demand(asking(auth_time=NOW - age), fresh=HOUR, now=NOW)
        denial = caught.value.denial
        assert (denial.status, denial.kind) == (401, "not-fresh")
        challenge = b'Bearer error="insufficient_user_authentication", max_age="3600"'
        assert denial.headers == ((b"www-authenticate", challenge),)

    def test_the_clock_is_the_systems_unless_told_otherwise(self):
        assert demand(asking(auth_time=time.time() - 60), fresh=HOUR)
        with pytest.raises(Denied):
            demand(asking(auth_time=time.time() - 3700), fresh=HOUR)


def closed(*public: str, login_url: str | None = None, owns=None) -> AccountDemanded:
    return AccountDemanded([RoutePattern.parse(one) for one in public], login_url=login_url, owns=owns)


def judged(check, method: str, target: str, headers=None, *, root_path: str = "", **scope):
    facts = request_facts(
        method, unquote(target), headers, raw_path=target.encode(), root_path=root_path, **scope
    )
    return check(facts)


NAVIGATION = {"Sec-Fetch-Mode": "navigate"}


class TestAccountDemanded:
    PUBLIC = ("GET /", "GET /assets/*", "POST /saml/acs")

    @pytest.mark.parametrize(
        ("method", "target"),
        [
            ("GET", "/"),
            ("HEAD", "/"),
            ("GET", "/assets/x.css"),
            ("HEAD", "/assets/deep/y.js"),
            ("GET", "/assets/"),
            ("POST", "/saml/acs"),
            ("POST", "/saml/%61cs"),
        ],
    )
    def test_a_public_route_needs_nobody(self, method, target):
        assert judged(closed(*self.PUBLIC), method, target) is None

    @pytest.mark.parametrize(
        ("method", "target"),
        [
            ("GET", "/private"),
            ("POST", "/"),
            ("DELETE", "/assets/x.css"),
            ("GET", "/saml/acs"),
            ("HEAD", "/saml/acs"),
            ("OPTIONS", "/"),
            ("get", "/"),
            ("GET", "/assets"),
            ("GET", "/Assets/x.css"),
            ("GET", "/assets/../private"),
            ("GET", "/assets/./x.css"),
            ("GET", "/assets/%2e%2e/private"),
            ("GET", "/assets/..%2fprivate"),
            ("GET", "/assets%2fx.css"),
            ("GET", "/assets//x.css"),
            ("GET", "//assets/x.css"),
            ("GET", "/assets/..\\private"),
            ("GET", "/assets/%5cprivate"),
            ("GET", "/assets/x%00.css"),
            ("GET", "/assets/%252e%252e/private"),
            ("GET", "/assets/x%0a"),
            ("POST", "/saml//acs"),
            ("POST", "/saml/acs/"),
            ("POST", "/saml/acs/x"),
            ("POST", "/saml/acs;x=1"),
            ("POST", "/SAML/acs"),
            ("POST", "/x/../saml/acs"),
            ("GET", ""),
            ("GET", "*"),
        ],
    )
    def test_any_other_method_or_spelling_is_closed(self, method, target):
        assert judged(closed(*self.PUBLIC), method, target) == SIGN_IN_REQUIRED

    def test_a_server_that_keeps_no_bytes_has_no_public_route(self):
        assert closed("GET /")(request_facts(raw_path=None)) == SIGN_IN_REQUIRED

    @pytest.mark.parametrize(("root", "target"), [("/api", "/api/assets/x"), ("/api", "/assets/x")])
    def test_a_public_route_is_what_stands_below_the_root_path(self, root, target):
        assert judged(closed(*self.PUBLIC), "GET", target, root_path=root) is None
        assert judged(closed(*self.PUBLIC), "GET", "/api/private", root_path=root) == SIGN_IN_REQUIRED

    def test_whoever_is_signed_in_comes_in_everywhere(self):
        facts = request_facts(path="/private/../x")
        facts.claims = ADA
        assert closed()(facts) is None

    def test_a_websocket_is_closed_too_and_opened_like_a_get(self):
        assert closed()(request_facts(path="/live", type="websocket")) == SIGN_IN_REQUIRED
        assert closed(login_url="/login")(request_facts(path="/live", type="websocket")) == SIGN_IN_REQUIRED
        assert closed("GET /live")(request_facts(path="/live", type="websocket")) is None
        assert closed("POST /live")(request_facts(path="/live", type="websocket")) == SIGN_IN_REQUIRED

    def test_the_health_path_answers_as_ever(self):
        around = Surroundings(health=RoutePattern.parse("GET /healthz"))
        assert closed()(request_facts(path="/healthz", surroundings=around)) is None
        assert closed()(request_facts("POST", "/healthz", surroundings=around)) == SIGN_IN_REQUIRED

    def test_the_packages_own_routes_guard_themselves_and_only_the_exact_ones(self):
        check = closed(owns={"/auth/login", "/.well-known/jwks.json"}.__contains__)
        assert judged(check, "POST", "/auth/login") is None
        assert judged(check, "GET", "/.well-known/jwks.json") is None
        for target in ("/auth/x", "/auth", "/auth/login/", "/auth/../auth/login", "/.well-known/x"):
            assert judged(check, "GET", target) == SIGN_IN_REQUIRED

    def test_a_browsers_navigation_is_sent_to_sign_in(self):
        check = closed(login_url="/login")
        expected = Answer(303, ((b"location", b"/login?next=/private"),))
        assert judged(check, "GET", "/private", NAVIGATION) == expected
        assert judged(check, "HEAD", "/private", NAVIGATION) == expected

    @pytest.mark.parametrize(
        ("login_url", "target", "query", "location"),
        [
            ("/login", "/notes", b"q=tea&page=2", b"/login?next=/notes%3Fq%3Dtea%26page%3D2"),
            ("/login?lang=de", "/notes", b"", b"/login?lang=de&next=/notes"),
            ("/login", "/caf\u00e9 1", b"", b"/login?next=/caf%25C3%25A9%25201"),
            (
                "/login",
                "/x",
                b"a=\r\nset-cookie: b=1",
                b"/login?next=/x%3Fa%3D%250D%250Aset-cookie%3A%2520b%3D1",
            ),
            ("/login?next=/start", "/notes", b"", b"/login?next=/start"),
            ("/login", "/x/../y", b"", b"/login"),
            ("/login", "//evil.example/x", b"", b"/login"),
            ("/login", "/" + 2001 * "x", b"", b"/login"),
        ],
    )
    def test_the_way_back_goes_along_where_it_is_clear(self, login_url, target, query, location):
        facts = request_facts(path=target, headers=NAVIGATION, query_string=query)
        assert closed(login_url=login_url)(facts) == Answer(303, ((b"location", location),))

    @pytest.mark.parametrize(
        ("method", "headers"),
        [
            ("GET", {"Sec-Fetch-Mode": "cors", "Accept": "text/html"}),
            ("GET", {}),
            ("GET", {**NAVIGATION, "Authorization": "Bearer x"}),
            ("POST", NAVIGATION),
            ("PUT", NAVIGATION),
        ],
    )
    def test_whatever_else_is_told_401(self, method, headers):
        assert judged(closed(login_url="/login"), method, "/private", headers) == SIGN_IN_REQUIRED

    def test_the_page_to_sign_in_is_public_and_nothing_beside_it(self):
        check = closed(login_url="/login")
        assert judged(check, "GET", "/login", NAVIGATION) is None
        assert judged(check, "HEAD", "/login") is None
        assert judged(check, "POST", "/login") == SIGN_IN_REQUIRED
        assert judged(check, "GET", "/login/") == SIGN_IN_REQUIRED
        assert judged(check, "GET", "/login/x") == SIGN_IN_REQUIRED

    def test_the_page_lies_below_the_root_path(self):
        reply = judged(closed(login_url="/login"), "GET", "/api/x", NAVIGATION, root_path="/api")
        assert isinstance(reply, Answer)
        assert reply.headers == ((b"location", b"/api/login?next=/api/x"),)

    @pytest.mark.parametrize("login_url", ["/einloggen-für-alle", "/a b", "/a%20b", "/x\r\nset-cookie: a=1"])
    def test_its_address_can_not_split_the_answer(self, login_url):
        reply = judged(closed(login_url=login_url), "GET", "/private", NAVIGATION)
        assert isinstance(reply, Answer)
        assert all(b" " < bytes([one]) < b"\x7f" for one in reply.headers[0][1])


class TestClosedApp:
    """The same through the whole pass."""

    @pytest.fixture
    async def club(self):
        settings = {"public": ["GET /", "GET /assets/*"], "login_url": "/login", "health": "GET /healthz"}
        async with a_club(require_account=True, **settings) as club:
            yield club

    @pytest.mark.parametrize("path", ["/", "/assets/x", "/login", "/healthz"])
    async def test_what_is_public_needs_nobody(self, club, path):
        assert await club.who(path=path) == "nobody"

    @pytest.mark.requirement("TOK-38")
    async def test_the_rest_is_401_and_says_how_to_authenticate(self, club):
        answered = await club.get(path="/private")
        assert (answered.status, answered.header(b"www-authenticate")) == (401, b"Bearer")
        assert club.app.facts == []

    async def test_and_a_page_in_a_browser_is_sent_to_sign_in(self, club):
        answered = await club.get(NAVIGATION, path="/private")
        assert (answered.status, answered.header(b"location")) == (303, b"/login?next=/private")

    @pytest.mark.parametrize("mode", ["cookie", "bearer", "late"])
    async def test_whoever_is_signed_in_comes_in(self, club, mode):
        ada = await club.sign_in(mode="bearer" if mode == "bearer" else "cookie", ago=100)
        headers = {"cookie": ada.cookie(), "bearer": ada.bearer, "late": ada.late}[mode]
        assert await club.who(headers, path="/private") == ada.account.id

    async def test_a_websocket_of_nobody_is_refused(self, club):
        facts = request_facts(path="/live", type="websocket")
        assert await call(club.served, facts.scope) == [{"type": "websocket.close", "code": 1008}]
        assert club.app.facts == []

    async def test_an_own_bearer_token_of_the_app_opens_nothing(self, club):
        answered = await club.get({"Authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x"}, path="/private")
        assert answered.status == 401

    @pytest.mark.parametrize("path", ["/auth/me", "/auth/sessions"])
    async def test_own_routes_judge_for_themselves(self, club, path):
        answered = await club.get(path=path)
        assert answered.status == 401
        assert (await club.get(path="/.well-known/jwks.json")).status == 200

    async def test_a_catch_all_of_the_app_below_our_prefix_is_closed_too(self, club):
        assert (await club.get(path="/auth/anything")).status == 401
        assert (await club.get(path="/.well-known/anything")).status == 401
        assert club.app.facts == []
