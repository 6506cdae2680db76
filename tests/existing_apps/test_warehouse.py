"""Mounts, a WSGI part, static files, root_path and the health check go on working."""

import pytest

pytestmark = pytest.mark.slow

# The proxy in front strips /v1, so that these paths are what reaches the app.
ITEM = "/items/7"


@pytest.mark.parametrize("host", ["10.0.3.7:8080", "target-9.internal", "status"])
def test_the_load_balancer_gets_its_health_check_whatever_host_it_names(script, host):
    headers = {"Host": host, "User-Agent": "HealthChecker/2.0", "Accept": "*/*"}
    response = script.get("/healthz", headers=headers)

    assert response.status_code == 200
    assert response.text == "ok"


def test_the_health_check_may_be_a_navigation_too(browser):
    assert browser.navigate("/healthz").text == "ok"


def test_links_carry_the_prefix_that_the_proxy_strips(browser, served):
    response = browser.navigate(ITEM)

    assert response.status_code == 200
    assert f'<a href="{served.url}/v1/items/7">7</a>' in response.text
    assert 'href="/v1/static/site.css"' in response.text


def test_a_form_posted_to_an_endpoint_class_is_answered_with_a_prefixed_location(browser):
    response = browser.submit(ITEM, {"name": "bolt"})

    assert response.status_code == 201
    assert response.headers["location"] == "/v1/items/7"
    assert response.json() == {"name": "bolt"}


def test_a_trailing_slash_is_redirected_to_the_prefixed_path(browser, served):
    response = browser.navigate(f"{ITEM}/?page=2")

    assert response.status_code == 307
    assert response.headers["location"] == f"{served.url}/v1/items/7?page=2"


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        pytest.param("/files/a/b:c/.hidden/x.tar.gz", "a/b:c/.hidden/x.tar.gz", id="dots"),
        pytest.param("/files/report%20%C3%BC.pdf", "report ü.pdf", id="encoded text"),
        pytest.param("/files/a%2Fb", "a/b", id="encoded slash"),
        pytest.param("/files/50%25", "50%", id="encoded percent"),
        pytest.param("/files//double//slash", "/double//slash", id="doubled slashes"),
    ],
)
def test_a_path_reaches_the_app_as_it_was_sent(script, sent, seen):
    response = script.get(sent)

    assert response.status_code == 200
    assert response.text == seen


class TestLegacy:
    def test_the_wsgi_part_sees_where_it_is_mounted(self, browser):
        response = browser.navigate("/legacy/report/2009?part=bolt&part=nut")

        assert response.status_code == 200
        assert response.headers["content-type"] == "text/plain; charset=latin-1"
        assert response.text.splitlines() == ["/v1/legacy", "/report/2009", "part=bolt&part=nut"]

    def test_all_its_cookies_arrive_in_order(self, browser):
        cookies = browser.navigate("/legacy/").headers.get_list("set-cookie")

        assert cookies == ["legacy=1; Path=/v1/legacy", "seen=yes"]

    def test_a_form_with_repeated_fields_is_read_by_the_wsgi_part(self, browser):
        response = browser.submit("/legacy/move", {"shelf": ["A1", "B2"]})

        assert response.status_code == 302
        assert response.headers["location"] == "/v1/legacy/moved?to=A1,B2"


class TestMountedApi:
    def test_its_docs_load_its_own_openapi_document(self, browser):
        response = browser.navigate("/api/docs")

        assert response.status_code == 200
        assert "/v1/api/openapi.json" in response.text

    def test_its_openapi_document_names_the_prefix_as_its_server(self, browser):
        document = browser.fetch("GET", "/api/openapi.json").json()

        assert document["info"] == {"title": "Stock", "version": "3"}
        assert document["servers"] == [{"url": "/v1/api"}]

    def test_a_page_may_change_the_stock(self, browser):
        assert browser.fetch("PUT", "/api/stock/bolt?count=41").json() == {"bolt": 41}
        assert browser.fetch("GET", "/api/stock").json() == {"bolt": 41, "nut": 12}

    def test_its_own_404_is_left_alone(self, browser):
        response = browser.fetch("GET", "/api/nowhere")

        assert response.status_code == 404
        assert response.json() == {"detail": "Not Found"}


class TestStaticFiles:
    def test_a_file_has_its_type_length_and_validators(self, browser):
        response = browser.fetch("GET", "/static/site.css")

        assert response.status_code == 200
        assert response.headers["content-type"] == "text/css; charset=utf-8"
        assert int(response.headers["content-length"]) == len(response.content)
        assert response.headers["etag"].startswith('"')
        assert "last-modified" in response.headers
        assert "cache-control" not in response.headers

    def test_an_unchanged_file_is_not_sent_again(self, browser):
        first = browser.fetch("GET", "/static/mark.svg")
        headers = {"If-None-Match": first.headers["etag"]}
        second = browser.fetch("GET", "/static/mark.svg", headers=headers)

        assert first.headers["content-type"] == "image/svg+xml"
        assert second.status_code == 304
        assert second.content == b""
        assert second.headers["etag"] == first.headers["etag"]

    def test_head_names_the_length_and_sends_nothing(self, browser):
        response = browser.fetch("HEAD", "/static/site.css")

        assert response.status_code == 200
        assert int(response.headers["content-length"]) > 0
        assert response.content == b""

    @pytest.mark.parametrize("path", ["/static/none.css", "/static/%2e%2e/warehouse.py"])
    def test_what_does_not_lie_there_is_not_found(self, script, path):
        assert script.get(path).status_code == 404
