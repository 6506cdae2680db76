"""Requests and answers arrive as they were sent, in every serving, over a real socket."""

import re

import pytest

from live import client, serving

pytestmark = pytest.mark.slow

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class TestRequests:
    @pytest.mark.parametrize("method", METHODS)
    def test_the_method_and_the_body_reach_the_app(self, ask, method):
        body = b"" if method in ("GET", "OPTIONS") else b"a body \xff"

        seen = ask.request(method, "/echo", content=body).json()

        assert (seen["method"], seen["body"]) == (method, body.decode("latin-1"))

    def test_the_query_reaches_the_app_with_its_repetitions_and_its_order(self, ask):
        seen = ask.get("/echo?name=anubis&empty=&name=t%C3%BCr+1&q=%26").json()

        assert seen["query"] == "name=anubis&empty=&name=t%C3%BCr+1&q=%26"
        assert seen["names"] == ["anubis", "tür 1"]

    def test_a_field_that_comes_twice_reaches_the_app_twice(self, ask):
        fields = [("X-Probe", "one"), ("x-probe", "two, three"), ("X-PROBE", "<b>&")]

        assert ask.get("/echo", headers=fields).json()["probes"] == ["one", "two, three", "<b>&"]

    def test_cookies_reach_the_app(self, ask):
        assert ask.get("/echo", headers={"Cookie": "a=1; b=2"}).json()["cookie"] == "a=1; b=2"

    def test_the_same_connection_serves_several_requests(self, ask):
        for number in range(3):
            assert ask.post("/echo", content=b"%d" % number).json()["body"] == str(number)


class TestAnswers:
    def test_fields_and_cookies_of_the_app_reach_the_client(self, ask):
        answer = ask.get("/echo")

        assert answer.headers["x-from-app"] == "yes"
        assert [value.partition(";")[0] for value in answer.headers.get_list("set-cookie")] == [
            "one=1",
            "two=2",
        ]

    def test_every_answer_carries_the_fields_of_the_pass_once(self, ask):
        for path in ("/echo", "/page", "/nothing", "/before"):
            fields = ask.get(path).headers
            for name in ("x-content-type-options", "referrer-policy", "content-security-policy"):
                assert len(fields.get_list(name)) == 1, (path, name)

    def test_head_gets_the_fields_of_get_and_no_body(self, ask, kind):
        answer = ask.head("/page")
        if kind == "fastapi_app":  # FastAPI declares no HEAD beside GET
            assert answer.status_code == 405
        else:
            assert answer.status_code == 200
            assert answer.headers["content-length"] == ask.get("/page").headers["content-length"]
        assert answer.content == b""
        assert answer.headers["x-content-type-options"] == "nosniff"
        # The next request on the connection shows that no body followed.
        assert ask.get("/state").json() == "anubis"

    def test_a_refused_head_has_no_body_either(self, ask):
        answer = ask.head("/echo", headers={"Host": "evil.example"})

        assert answer.status_code == 421
        assert int(answer.headers["content-length"]) > 0
        assert answer.content == b""
        assert ask.get("/state").json() == "anubis"

    def test_an_error_body_of_the_app_is_left_alone(self, ask):
        answer = ask.get("/nothing")

        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/json"
        assert "detail" in answer.json()

    def test_a_refusal_never_reaches_the_app(self, ask, stage):
        answer = ask.post("/echo", headers={"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"})

        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:thebes:problem:cross-origin"
        assert stage.notes == []


class TestMountedApps:
    def test_answers_of_a_mounted_app_carry_the_fields_of_the_pass(self, ask):
        answer = ask.get("/mounted/page")

        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]

    def test_requests_for_a_mounted_app_are_checked(self, ask):
        answer = ask.get("/mounted/page", headers={"Host": "evil.example"})

        assert answer.status_code == 421

    @pytest.mark.parametrize("path", ["/page", "/mounted/page"])
    def test_the_nonce_of_the_page_is_that_of_its_policy(self, ask, path):
        first, second = ask.get(path), ask.get(path)

        nonces = [re.search('nonce="([^"]+)"', answer.text)[1] for answer in (first, second)]

        assert f"'nonce-{nonces[0]}'" in first.headers["content-security-policy-report-only"]
        assert f"'nonce-{nonces[1]}'" in second.headers["content-security-policy-report-only"]
        assert nonces[0] != nonces[1]


@pytest.fixture(scope="module")
def below(kind, make):
    """A client of the same app, served below /api."""
    made = make(kind)
    made.security.route("POST /echo", body_limit=4)
    with serving(made.served, root_path="/api") as url, client(url) as asking:
        yield asking


class TestRootPath:
    def test_the_root_path_reaches_the_app(self, below):
        assert below.get("/echo").json()["root_path"] == "/api"

    def test_a_mounted_app_sees_the_root_path_and_its_own(self, below):
        assert "<p>/api/mounted</p>" in below.get("/mounted/page").text

    def test_routes_are_declared_below_the_root_path(self, below):
        assert below.post("/echo", content=b"1234").status_code == 200
        assert below.post("/echo", content=b"12345").status_code == 413
        assert below.put("/echo", content=b"12345").status_code == 200
