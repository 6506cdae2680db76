"""A path is plain or it gets nothing: every spelling that a router might read otherwise is unlisted."""

import posixpath
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette._utils import get_route_path

from asking import request_facts
from thebes import ConfigurationError, Security
from thebes.facts import RequestFacts, Surroundings
from thebes.paths import RouteOptions, RoutePattern, RouteTable, plain_path

EXEMPTED = "/saml/acs"
# Each way to write the exempted path so that some router or proxy may take it for that path.
NOT_PLAIN = {
    "two slashes in front": "//saml/acs",
    "two slashes inside": "/saml//acs",
    "two slashes at the end": "/saml/acs//",
    "dot segment": "/saml/./acs",
    "dot segment in front": "/./saml/acs",
    "dot at the end": "/saml/acs/.",
    "two dots": "/x/../saml/acs",
    "two dots inside": "/saml/x/../acs",
    "two dots at the end": "/saml/acs/x/..",
    "two dots above the root": "/../saml/acs",
    "encoded dot": "/saml/%2e/acs",
    "encoded dots": "/saml/x/%2e%2e/acs",
    "half encoded dots": "/saml/x/.%2E/acs",
    "encoded slash": "/saml%2facs",
    "encoded slash, upper case": "/saml%2Facs",
    "encoded slash beside a slash": "/saml/%2facs",
    "doubly encoded slash": "/saml%252facs",
    "doubly encoded dot": "/saml/%252e/acs",
    "doubly encoded letter": "/saml/%2561cs",
    "percent sign encoded in pieces": "/saml/%%36%31cs",
    "slash encoded in pieces": "/saml%%32%66acs",
    "encoded percent sign": "/saml/acs%25",
    "backslash": "/saml\\acs",
    "backslash in front": "/\\saml/acs",
    "encoded backslash": "/saml%5cacs",
    "encoded backslash, upper case": "/saml%5Cacs",
    "NUL": "/saml/acs%00",
    "NUL and a suffix": "/saml/acs%00.png",
    "tab": "/saml/acs%09",
    "line feed": "/saml/acs%0a",
    "carriage return": "/saml/acs%0D%0A",
    "DEL": "/saml/acs%7f",
    "C1 control": "/saml/acs%c2%85",
    "no slash in front": "saml/acs",
    "asterisk": "*",
    "empty": "",
}
PLAIN_BUT_ANOTHER = {
    "upper case": "/SAML/acs",
    "one letter in another case": "/saml/acS",
    "slash at the end": "/saml/acs/",
    "parameter": "/saml/acs;x=1",
    "parameter inside": "/saml;x=1/acs",
    "empty parameter": "/saml/acs;",
    "encoded parameter": "/saml/acs%3bx",
    "encoded question mark": "/saml/acs%3F",
    "encoded fragment": "/saml/acs%23",
    "blank at the end": "/saml/acs%20",
    "plus": "/saml/+acs",
    "dot at the end of a segment": "/saml/acs.",
    "three dots": "/saml/.../acs",
    "suffix": "/saml/acs.json",
    "below it": "/saml/acs/x",
    "above it": "/saml",
    "the root": "/",
    "under another": "/x/saml/acs",
    "full-width slash": "/saml%EF%BC%8Facs",
    "overlong encoding of a slash": "/saml%c0%afacs",
    "letter that folds to s": "/%C5%BFaml/acs",
    "right-to-left override": "/saml/%E2%80%AEacs",
    "combining accent": "/saml/a%CC%81cs",
    "asterisk": "/saml/*",
}


def by_name(targets: dict[str, str]) -> list:
    return [pytest.param(target, id=name) for name, target in targets.items()]


def facts_for(
    target: str, routes: RouteTable | None = None, *, root_path: str = "", method: str = "POST"
) -> RequestFacts:
    """Return the facts of a request target as a server reads it: decoded once, the bytes kept."""
    return request_facts(
        method,
        unquote(target),
        raw_path=target.encode(),
        root_path=root_path,
        surroundings=Surroundings(routes=routes or RouteTable()),
    )


def table() -> RouteTable:
    routes = RouteTable()
    routes.exempt(RoutePattern.parse(f"POST {EXEMPTED}"), "csrf", "signed by the identity provider")
    return routes


class TestPlainPaths:
    @pytest.mark.parametrize("target", by_name(NOT_PLAIN))
    def test_what_could_be_read_in_two_ways_is_not_plain(self, target: str):
        assert facts_for(target).path is None

    @pytest.mark.parametrize("target", [EXEMPTED, *by_name(PLAIN_BUT_ANOTHER)])
    def test_what_can_be_read_in_one_way_only_is_plain(self, target: str):
        assert facts_for(target).path == unquote(target)

    def test_a_server_that_keeps_no_bytes_has_no_plain_path(self):
        assert plain_path({"path": EXEMPTED, "root_path": ""}) is None
        assert plain_path({"path": EXEMPTED, "raw_path": None}) is None
        assert plain_path({"path": EXEMPTED, "raw_path": EXEMPTED.encode()}) == EXEMPTED

    @pytest.mark.parametrize(
        ("path", "root_path", "expected"),
        [
            pytest.param("/api/saml/acs", "/api", "/saml/acs", id="below it"),
            pytest.param("/a/b/saml/acs", "/a/b", "/saml/acs", id="below a deep one"),
            pytest.param("/api/", "/api", "/", id="its own root"),
            pytest.param("/api/api", "/api", "/api", id="taken off once"),
            pytest.param("/saml/acs", "/api", "/saml/acs", id="a proxy that takes it off itself"),
            pytest.param("/apisaml/acs", "/api", "/apisaml/acs", id="a path that begins like it"),
            pytest.param("/API/saml/acs", "/api", "/API/saml/acs", id="another case"),
            pytest.param("/api", "/api", None, id="the root path itself: the router sees no path at all"),
            pytest.param("/api//saml/acs", "/api", None, id="two slashes after it"),
            pytest.param("/api/../saml/acs", "/api", None, id="two dots after it"),
        ],
    )
    def test_it_is_what_stands_below_the_root_path(self, path: str, root_path: str, expected: str | None):
        assert facts_for(path, root_path=root_path).path == expected


class TestExemptions:
    def test_the_exempted_path_has_its_exemption(self):
        facts = facts_for(EXEMPTED, table())

        assert facts.route.exempt == {"csrf": "signed by the identity provider"}

    @pytest.mark.parametrize("target", by_name(NOT_PLAIN | PLAIN_BUT_ANOTHER))
    @pytest.mark.parametrize("root_path", ["", "/app"])
    def test_no_other_spelling_has_it(self, target: str, root_path: str):
        assert facts_for(root_path + target, table(), root_path=root_path).route.exempt == {}

    @pytest.mark.parametrize(
        "method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "post", "POST ", ""]
    )
    def test_no_other_method_has_it(self, method: str):
        assert facts_for(EXEMPTED, table(), method=method).route.exempt == {}

    def test_head_is_exempt_where_get_is(self):
        routes = RouteTable()
        routes.exempt(RoutePattern.parse("GET /feed"), "csrf", "reads only")

        assert facts_for("/feed", routes, method="HEAD").route.exempt == {"csrf": "reads only"}

    def test_an_encoded_letter_is_the_same_path_for_the_router_and_for_us(self):
        assert facts_for("/saml/%61cs", table()).route.exempt
        assert facts_for("/%73aml/acs", table()).route.exempt

    def test_root_path_gives_the_exemption_to_the_path_that_the_router_sees(self):
        assert facts_for("/app/saml/acs", table(), root_path="/app").route.exempt
        assert not facts_for("/saml/acs/saml/acs", table()).route.exempt

    pieces = st.sampled_from(
        [
            "/",
            "//",
            "saml",
            "acs",
            "SAML",
            "/saml",
            "/acs",
            ".",
            "..",
            "\\",
            ";",
            ";x",
            "%20",
            "a",
            "*",
            "%2f",
            "%2F",
            "%2e",
            "%5c",
            "%25",
            "%00",
            "%0a",
            "%61",
            "%c0%af",
            "%EF%BC%8F",
            "%",
            "61",
            "%36",
            "é",
        ]
    )

    @given(
        st.lists(pieces, max_size=8).map("".join) | st.text(max_size=30),
        st.sampled_from(["", "/app", "/saml"]),
    )
    def test_only_the_exempted_bytes_have_it(self, target: str, root_path: str):
        facts = facts_for(root_path + target, table(), root_path=root_path)

        if facts.route.exempt:
            assert facts.scope["path"] == root_path + EXEMPTED
            assert unquote(target).encode() == EXEMPTED.encode()

    @given(
        st.lists(pieces, max_size=8).map("".join) | st.text(max_size=30), st.sampled_from(["", "/app", "/a"])
    )
    def test_a_plain_path_is_the_same_for_everybody(self, target: str, root_path: str):
        facts = facts_for(target, root_path=root_path)
        path = facts.path

        if path is not None:
            assert path == get_route_path(facts.scope), "Starlette routes by another path"
            assert posixpath.normpath(path) == (path.rstrip("/") or "/"), "dots and slashes are left"
            assert unquote(path) == path, "a second decoding changes it"
            assert path.isprintable() or not any(
                ord(letter) < 32 or 126 < ord(letter) < 160 for letter in path
            )


class TestLimitsBelowAPath:
    @pytest.fixture
    def routes(self) -> RouteTable:
        routes = RouteTable()
        for pattern, limit in [("/files/*", 2), ("/files/big/*", 3), ("/*", 1), ("/files/big/one", 4)]:
            routes.declare(RoutePattern.parse(f"PUT {pattern}"), body_limit=limit)
        return routes

    @pytest.mark.parametrize(
        ("target", "limit"),
        [
            ("/", 1),
            ("/files", 1),
            ("/filesystem", 1),
            ("/FILES/a", 1),
            ("/files/", 2),
            ("/files/a", 2),
            ("/files/a/b/c", 2),
            ("/files/big", 2),
            ("/files/big/", 3),
            ("/files/big/two", 3),
            ("/files/big/one", 4),
            ("/files/big/one/", 3),
            ("/files/big/ONE", 3),
        ],
    )
    def test_the_exact_pattern_wins_then_the_longest(self, routes: RouteTable, target: str, limit: int):
        assert facts_for(target, routes, method="PUT").route.body_limit == limit

    @pytest.mark.parametrize("target", by_name(NOT_PLAIN))
    def test_a_path_that_is_not_plain_has_the_default_limit(self, routes: RouteTable, target: str):
        under_files = target.replace("/saml", "/files/big")

        assert facts_for(target, routes, method="PUT").route == RouteOptions()
        assert facts_for(under_files, routes, method="PUT").route == RouteOptions()

    def test_another_method_has_the_default_limit(self, routes: RouteTable):
        assert facts_for("/files/big/one", routes, method="POST").route == RouteOptions()

    def test_options_of_one_pattern_are_kept_side_by_side(self):
        routes = table()
        routes.declare(RoutePattern.parse(f"POST {EXEMPTED}"), body_limit=5)
        routes.exempt(RoutePattern.parse(f"POST {EXEMPTED}"), "other", "why not")

        route = facts_for(EXEMPTED, routes).route
        assert route.body_limit == 5
        assert route.exempt == {"csrf": "signed by the identity provider", "other": "why not"}

    def test_all_that_is_declared_is_listed(self, routes: RouteTable):
        patterns = [text for text, _ in routes.entries()]

        assert patterns == ["PUT /*", "PUT /files/*", "PUT /files/big/*", "PUT /files/big/one"]


NO_ROUTES = [
    *("", "POST", "POST ", "/saml/acs", "post /a", "Post /a", "POST a", "POST  /a", "POST /a b", "POST /a "),
    *("* /a", "POST,PUT /a", "POST\n /a", "POST- /a", "POST /*/a", "POST /a*", "POST /a/**", "POST *"),
    *("POST //a", "POST /a//*", "POST /a/./b", "POST /a/../b", "POST /a/..", "POST /a\\b", "POST /a\0"),
    *("POST /a\n", "POST /a?x=1", "POST /a#x", "POST /a%2fb", "POST /%61", "POST https://example.com/a"),
]


class TestPatterns:
    @pytest.mark.parametrize(
        ("text", "method", "path", "is_exact"),
        [
            ("POST /saml/acs", "POST", "/saml/acs", True),
            ("GET /", "GET", "/", True),
            ("PUT /files/*", "PUT", "/files/*", False),
            ("PUT /*", "PUT", "/*", False),
            ("M-SEARCH /x", "M-SEARCH", "/x", True),
            ("POST /a;b=c/.well-known/@x:y", "POST", "/a;b=c/.well-known/@x:y", True),
            ("POST /bücher/", "POST", "/bücher/", True),
        ],
    )
    def test_a_method_and_a_plain_path_are_read(self, text: str, method: str, path: str, is_exact: bool):
        pattern = RoutePattern.parse(text)

        assert (pattern.method, pattern.path, pattern.is_exact, str(pattern)) == (
            method,
            path,
            is_exact,
            text,
        )

    @pytest.mark.parametrize("text", NO_ROUTES)
    def test_anything_else_is_refused(self, text: str):
        with pytest.raises(ConfigurationError, match="is no route"):
            RoutePattern.parse(text)

    @pytest.mark.parametrize("pattern", ["POST /saml/*", "POST /*"])
    def test_an_exemption_names_one_path(self, pattern: str):
        with pytest.raises(ConfigurationError, match="one path"):
            Security().exempt(pattern, "csrf", reason="all of it")

    @given(st.text(max_size=20) | st.text("POST /a*.%\\", max_size=12))
    def test_a_pattern_that_is_read_stands_for_its_own_path(self, text: str):
        try:
            pattern = RoutePattern.parse(text)
        except ConfigurationError:
            return
        routes = RouteTable()
        routes.declare(pattern, body_limit=7)
        target = pattern.path.removesuffix("*") if not pattern.is_exact else pattern.path
        facts = request_facts(
            pattern.method, target, raw_path=target.encode(), surroundings=Surroundings(routes=routes)
        )
        assert facts.route.body_limit == 7
