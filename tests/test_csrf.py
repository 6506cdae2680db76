"""Forged cross-origin requests are refused; requests that no browser forged are let through."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forging import ATTACKER, ORIGINS, OWN, SESSION, TRUSTED, UNSAFE, verdict
from thebes import ConfigurationError, Security
from thebes.csrf import CROSS_ORIGIN, NO_ORIGIN
from thebes.paths import RoutePattern, RouteTable


class TestTheTableOfGo:
    """Rows of net/http csrf_test.go (Go 1.25); where we differ, `why` says on what grounds.

    A verdict stands for requests without and with a session cookie.
    """

    @pytest.mark.parametrize(
        ("method", "site", "origin", "go_allows", "we_allow", "why"),
        [
            pytest.param("POST", "same-origin", None, True, (True, True), None, id="same-origin"),
            pytest.param("POST", "none", None, True, (True, True), None, id="none"),
            pytest.param("POST", "cross-site", None, False, (False, False), None, id="cross-site"),
            pytest.param("POST", "same-site", None, False, (False, False), None, id="same-site"),
            pytest.param(
                "POST",
                None,
                None,
                True,
                (True, False),
                "a session cookie without any of the fields comes from a browser that hides them",
                id="no header with no origin",
            ),
            pytest.param("POST", None, OWN, True, (True, True), None, id="no header, matching origin"),
            pytest.param(
                "POST", None, ATTACKER, False, (False, False), None, id="no header, mismatched origin"
            ),
            pytest.param("POST", None, "null", False, (False, False), None, id="no header, null origin"),
            pytest.param("GET", "cross-site", None, True, (True, True), None, id="GET"),
            pytest.param("HEAD", "cross-site", None, True, (True, True), None, id="HEAD"),
            pytest.param("OPTIONS", "cross-site", None, True, (True, True), None, id="OPTIONS"),
            pytest.param("PUT", "cross-site", None, False, (False, False), None, id="PUT"),
            pytest.param("POST", None, TRUSTED, True, (True, True), None, id="trusted origin, no header"),
            pytest.param(
                "POST",
                "cross-site",
                TRUSTED,
                True,
                (True, False),
                "another site has no use for our session cookie: it signs in in bearer mode",
                id="trusted origin, cross-site",
            ),
            pytest.param(
                "POST", None, ATTACKER, False, (False, False), None, id="untrusted origin, no header"
            ),
            pytest.param(
                "POST", "cross-site", ATTACKER, False, (False, False), None, id="untrusted, cross-site"
            ),
            pytest.param(
                "POST",
                None,
                "http://example.com",
                True,
                (False, False),
                "an origin that matches the Host only may be plain http, which anybody on its network writes",
                id="origin matches host",
            ),
        ],
    )
    def test_requests(
        self,
        method: str,
        site: str | None,
        origin: str | None,
        go_allows: bool,
        we_allow: tuple[bool, bool],
        why: str | None,
    ):
        lines = [("Sec-Fetch-Site", site), ("Origin", origin)]

        allowed = (verdict(method, *lines) is None, verdict(method, *lines, SESSION) is None)

        assert allowed == we_allow
        if why is None:
            assert allowed == (go_allows, go_allows)
        else:
            assert go_allows, "never more lenient"

    @pytest.mark.parametrize(
        ("path", "go_allows", "we_allow", "why"),
        [
            pytest.param("/bypass/", True, True, None, id="bypass path"),
            pytest.param("/api/", False, False, None, id="non-bypass path"),
            pytest.param("/foo/../api/bar", False, False, None, id="dots to a non-bypass path"),
            pytest.param("/api", False, False, None, id="non-bypass path, no trailing slash"),
            pytest.param("/only/123/foo", False, False, None, id="non-wildcard"),
            pytest.param(
                "/foo/../bypass/bar",
                True,
                False,
                "dots make a path that isn't plain",
                id="dots to a bypass path",
            ),
            pytest.param(
                "/bypass", True, False, "an exemption is one path, byte for byte", id="no trailing slash"
            ),
            pytest.param("/only/123", True, False, "an exemption has no wildcard", id="wildcard"),
        ],
    )
    @pytest.mark.parametrize("site", [None, "cross-site"])
    def test_exempted_paths(
        self, path: str, go_allows: bool, we_allow: bool, why: str | None, site: str | None
    ):
        routes = RouteTable()
        routes.exempt(RoutePattern.parse("POST /bypass/"), "csrf", "signed")

        lines = [("Origin", ATTACKER), ("Sec-Fetch-Site", site), SESSION]
        assert (verdict("POST", *lines, path=path, routes=routes) is None) is we_allow
        assert we_allow is go_allows if why is None else go_allows

    @pytest.mark.parametrize(
        ("origin", "go_takes", "we_take", "why"),
        [
            ("https://example.com", True, True, None),
            ("https://example.com:8080", True, True, None),
            ("http://example.com", True, False, "anybody on its network writes plain http"),
            ("example.com", False, False, None),
            ("https://", False, False, None),
            (
                "https://example.com/",
                False,
                True,
                "a setting, not a request: read as the origin that it names",
            ),
            ("https://example.com/path", False, False, None),
            ("https://example.com?query=value", False, False, None),
            ("https://example.com#fragment", False, False, None),
            ("https://ex ample.com", False, False, None),
            ("", False, True, "an empty setting names no origin"),
            ("null", False, False, None),
        ],
    )
    def test_origins_that_may_be_configured(
        self, origin: str, go_takes: bool, we_take: bool, why: str | None
    ):
        try:
            Security(origins=[origin])
        except ConfigurationError:
            taken = False
        else:
            taken = True

        assert taken is we_take
        assert (taken is go_takes) is (why is None)


OTHER_SITES = [
    *(
        "",
        "Same-Origin",
        "SAME-ORIGIN",
        "None",
        "same-origin;",
        "same-origin\0",
        "same origin",
        "same-originx",
    ),
    *(
        "same-origin,none",
        "same-origin, same-origin",
        '"same-origin"',
        "\xff",
        "unknown",
        "null",
        "xsame-origin",
    ),
]


@pytest.mark.requirement("CSR-02")
class TestSecFetchSite:
    @pytest.mark.parametrize("method", UNSAFE)
    @pytest.mark.parametrize("site", ["same-origin", "none"])
    @pytest.mark.parametrize("origin", [None, OWN, ATTACKER, "null"])
    @pytest.mark.parametrize("session", [None, SESSION[1]], ids=["no session", "session"])
    def test_same_origin_and_none_pass(self, method: str, site: str, origin: str | None, session: str | None):
        lines = [("Sec-Fetch-Site", site), ("Origin", origin), ("Cookie", session)]

        assert verdict(method, *lines) is None

    @pytest.mark.parametrize("method", UNSAFE)
    @pytest.mark.parametrize("site", ["same-site", "cross-site"])
    @pytest.mark.parametrize(
        "origin", [None, ATTACKER, "null", "", "https://sub.example.com", "http://example.com"]
    )
    @pytest.mark.parametrize("session", [None, SESSION[1]], ids=["no session", "session"])
    def test_same_site_and_cross_site_are_refused(
        self, method: str, site: str, origin: str | None, session: str | None
    ):
        lines = [("Sec-Fetch-Site", site), ("Origin", origin), ("Cookie", session)]

        assert verdict(method, *lines) is CROSS_ORIGIN

    @pytest.mark.parametrize("origin", ORIGINS)
    def test_a_configured_origin_passes_from_the_same_site_with_a_session_from_another_without(
        self, origin: str
    ):
        for method in UNSAFE:
            same, cross = (("Sec-Fetch-Site", site) for site in ("same-site", "cross-site"))
            assert verdict(method, same, ("Origin", origin)) is None
            assert verdict(method, same, ("Origin", origin), SESSION) is None
            assert verdict(method, cross, ("Origin", origin)) is None
            assert verdict(method, cross, ("Origin", origin), SESSION) is CROSS_ORIGIN

    @pytest.mark.parametrize("site", ["same-site", "cross-site"])
    def test_a_referer_is_no_stand_in_for_the_origin(self, site: str):
        assert verdict("POST", ("Sec-Fetch-Site", site), ("Referer", f"{OWN}/")) is CROSS_ORIGIN

    @pytest.mark.parametrize("site", OTHER_SITES)
    @pytest.mark.parametrize("origin", [None, OWN, ATTACKER])
    def test_another_value_is_refused_whatever_the_origin(self, site: str, origin: str | None):
        assert verdict("POST", ("Sec-Fetch-Site", site), ("Origin", origin)) is CROSS_ORIGIN

    @pytest.mark.parametrize(
        "sites", list(itertools.product(["same-origin", "none", "cross-site"], repeat=2))
    )
    def test_a_doubled_field_is_refused(self, sites: tuple[str, str]):
        lines = [("Sec-Fetch-Site", site) for site in sites]

        assert verdict("POST", *lines, ("Origin", OWN)) is CROSS_ORIGIN
        assert verdict("POST", lines[0], ("Origin", OWN), lines[1], SESSION) is CROSS_ORIGIN


# Spellings that a sloppy comparison would take for one of the configured origins.
NEAR_MISSES = {
    "another scheme": "http://example.com",
    "the scheme of WebSockets": "wss://example.com",
    "no scheme": "example.com",
    "relative scheme": "//example.com",
    "scheme without slashes": "https:example.com",
    "scheme in upper case": "HTTPS://example.com",
    "host in upper case": "https://EXAMPLE.com",
    "another port": "https://example.com:8443",
    "the default port written out": "https://example.com:443",
    "the configured port missing": "https://app.example.com",
    "a port that begins like it": "https://app.example.com:84430",
    "trailing dot": "https://example.com.",
    "trailing slash": "https://example.com/",
    "a path": "https://example.com/a",
    "a suffix of the host": "https://example.com.attacker.example",
    "a prefix of the host": "https://attackerexample.com",
    "a sub-string of it": "https://example.co",
    "a subdomain": "https://sub.example.com",
    "the parent domain": "https://com",
    "a dot that is any character": "https://exampleXcom",
    "user information": "https://example.com@attacker.example",
    "user information before it": "https://user@example.com",
    "two origins": "https://example.com https://attacker.example",
    "a list": "https://example.com,https://example.com",
    "quotes": '"https://example.com"',
    "NUL after it": "https://example.com\0",
    "null": "null",
    "empty": "",
    "a star": "*",
    "a file": "file://",
    "an extension": "chrome-extension://abcdefgh",
    "a sibling in punycode": "https://xn--exmple-cua.com",
    "not ASCII": "https://ex\xe4mple.com",
    "another site": ATTACKER,
}


# Those of them that name another origin in a Referer too, and what only a URL can hold.
REFERERS = {
    name: text
    for name, text in NEAR_MISSES.items()
    if name not in ("scheme in upper case", "host in upper case", "trailing slash", "a path")
    and name != "the default port written out"
} | {
    "in the path": f"{ATTACKER}/{OWN}",
    "in the query": f"{ATTACKER}/?{OWN}",
    "in the fragment": f"{ATTACKER}#{OWN}",
    "a password": "https://user:password@example.com",
    "empty user information": "https://@example.com",
    "backslash before a suffix": "https://example.com\\.attacker.example",
    "backslash before user information": "https://example.com\\@attacker.example",
    "semicolon before a suffix": "https://example.com;.attacker.example",
    "encoded dot before a suffix": "https://example.com%2eattacker.example",
    "no host": "https:///example.com",
    "a port that is none": "https://example.com:port",
    "a port that is too large": "https://example.com:65979",
    "port zero": "https://example.com:0",
    "the port of http": "https://example.com:80",
    "brackets around a name": "https://[example.com]",
    "a suffix after brackets": "https://[::1]attacker.example:8443",
    "an open bracket": "https://[::1:8443",
    "a tab inside": "https://exam\tple.com",
    "a blank in front": "\x1fhttps://example.com",
    "a script": "javascript://example.com",
    "data": f"data:text/html,{OWN}",
    "a blank page": "about:blank",
    "a path alone": "/notes",
    "two lines, the second foreign": f"{OWN}/, {ATTACKER}/",
    "two lines, the first foreign": f"{ATTACKER}/, {OWN}/",
}


@pytest.mark.requirement("CSR-03")
class TestWithoutSecFetchSite:
    @pytest.mark.parametrize("method", UNSAFE)
    @pytest.mark.parametrize("origin", ORIGINS)
    @pytest.mark.parametrize("session", [None, SESSION[1]], ids=["no session", "session"])
    def test_a_configured_origin_passes(self, method: str, origin: str, session: str | None):
        assert verdict(method, ("Origin", origin), ("Cookie", session)) is None

    @pytest.mark.parametrize("origin", [pytest.param(text, id=name) for name, text in NEAR_MISSES.items()])
    @pytest.mark.parametrize("session", [None, SESSION[1]], ids=["no session", "session"])
    def test_no_other_spelling_does(self, origin: str, session: str | None):
        for method in UNSAFE:
            assert verdict(method, ("Origin", origin), ("Cookie", session)) is CROSS_ORIGIN

    @pytest.mark.parametrize(
        "origins", list(itertools.product([OWN, TRUSTED, ATTACKER, "null", ""], repeat=2))
    )
    def test_a_doubled_origin_is_refused(self, origins: tuple[str, str]):
        lines = [("Origin", origin) for origin in origins]

        assert verdict("POST", *lines) is CROSS_ORIGIN
        assert verdict("POST", *lines, ("Sec-Fetch-Site", "same-site")) is CROSS_ORIGIN

    @pytest.mark.parametrize("origin", ["null", "", ATTACKER])
    def test_a_referer_mends_no_origin(self, origin: str):
        assert verdict("POST", ("Origin", origin), ("Referer", f"{OWN}/")) is CROSS_ORIGIN

    @pytest.mark.parametrize("origin", ORIGINS)
    @pytest.mark.parametrize("rest", ["", "/", "/notes", f"/notes?next={ATTACKER}/", "/a;b,c", "?q", "#top"])
    def test_the_origin_of_the_referer_counts_where_no_origin_came(self, origin: str, rest: str):
        assert verdict("POST", ("Referer", origin + rest), SESSION) is None

    def test_the_default_port_in_a_referer_is_the_same_origin(self):
        assert verdict("POST", ("Referer", f"{OWN}:443/"), SESSION) is None

    @pytest.mark.parametrize("referer", [pytest.param(text, id=name) for name, text in REFERERS.items()])
    def test_a_referer_of_another_origin_is_refused(self, referer: str):
        assert verdict("POST", ("Referer", referer)) is CROSS_ORIGIN
        assert verdict("POST", ("Referer", f"{referer}/"), SESSION) is CROSS_ORIGIN

    @pytest.mark.parametrize("method", UNSAFE)
    @pytest.mark.parametrize(
        "cookie",
        ["session=1", "SESSION=1", "a=1; Session=", "__Host-thebes-session=x", "__host-THEBES-refresh=x"],
    )
    def test_none_of_the_three_beside_a_session_cookie_is_refused(self, method: str, cookie: str):
        assert verdict(method, ("Cookie", cookie)) is NO_ORIGIN
        assert verdict(method, ("Cookie", "a=1"), ("Cookie", cookie)) is NO_ORIGIN

    @pytest.mark.parametrize("method", UNSAFE)
    @pytest.mark.parametrize(
        "cookie", [None, "", "theme=dark", "sessions=1", "\u00a0session=1", "a=session=1"]
    )
    def test_none_of_the_three_without_a_session_cookie_came_from_no_browser(
        self, method: str, cookie: str | None
    ):
        assert verdict(method, ("Cookie", cookie)) is None


values = [None, "same-origin", "none", "same-site", "cross-site", *ORIGINS, f"{OWN}/a", *NEAR_MISSES.values()]
anything = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=40)
header_values = st.sampled_from(values) | anything


@pytest.mark.requirement("CSR-02", "CSR-03")
@given(header_values, header_values, header_values, st.booleans(), st.sampled_from(UNSAFE))
def test_no_values_at_all_pass_without_a_word_of_the_browser_for_them(
    site: str | None, origin: str | None, referer: str | None, has_session: bool, method: str
):
    lines = [("Sec-Fetch-Site", site), ("Origin", origin), ("Referer", referer)]

    if verdict(method, *lines, *([SESSION] if has_session else [])) is not None:
        return
    if site is not None:
        is_trusted_sibling = origin in ORIGINS and (site == "same-site" or not has_session)
        assert site in ("same-origin", "none") or (is_trusted_sibling and site in ("same-site", "cross-site"))
    elif origin is not None:
        assert origin in ORIGINS
    elif referer is not None:
        own = re.compile(rf"(?:{'|'.join(map(re.escape, ORIGINS))})(?::|:443)?(?:[/?#]|\Z)", re.IGNORECASE)
        assert own.match(referer)
    else:
        assert not has_session
