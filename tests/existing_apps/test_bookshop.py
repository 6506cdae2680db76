"""The bookshop keeps its list parameters, its repeated fields and its own error bodies."""

import pytest

pytestmark = pytest.mark.slow

AWKWARD = "C++ & <i>Go</i>; 50%\N{EN DASH}70% off\t'; DROP TABLE books; -- ../../etc/passwd ${x}"


def assert_own_error(response, status, code, message):
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-error-code"] == code
    assert response.json() == {"error": {"code": code, "message": message}}


def test_repeated_query_parameters_arrive_as_lists_in_order(browser):
    response = browser.fetch("GET", "/search?tag=b&tag=a&tag=b&year=1999&year=2001&sort=price")

    assert response.status_code == 200
    assert response.json() == {
        "q": "",
        "tag": ["b", "a", "b"],
        "year": [1999, 2001],
        "sort": "price",
        "limit": 10,
    }


def test_text_in_a_query_arrives_as_it_was_sent(browser):
    response = browser.fetch("GET", "/search", params={"q": AWKWARD, "tag": ["a+b", "ü", ""]})

    assert response.json()["q"] == AWKWARD
    assert response.json()["tag"] == ["a+b", "ü", ""]


def test_percent_signs_are_decoded_once_only(script):
    assert script.get("/search?q=%252e%252e%252f").json()["q"] == "%2e%2e%2f"


def test_repeated_header_fields_arrive_as_a_list(script):
    headers = [("X-Shop", "north"), ("X-Shop", "south")]
    response = script.get("/compare?isbn=1&isbn=2", headers=headers)

    assert response.json() == {"isbn": ["1", "2"], "shops": ["north", "south"]}


def test_repeated_form_fields_arrive_as_lists(browser):
    response = browser.submit("/baskets", {"item": ["3", "1", "3"], "gift": "on", "note": AWKWARD})

    assert response.status_code == 201
    assert response.json()["items"] == [3, 1, 3]
    assert response.json()["gift"] is True
    assert response.json()["note"] == AWKWARD


def test_repeated_fields_of_a_multipart_form_arrive_as_lists(browser):
    fields = [("item", (None, "3")), ("item", (None, "1")), ("note", (None, "two\r\nlines"))]
    response = browser.submit("/baskets", {}, files=fields)

    assert response.status_code == 201
    assert response.json()["items"] == [3, 1]
    assert response.json()["note"] == "two\r\nlines"


@pytest.mark.parametrize("media_type", ["application/json", "application/json; charset=utf-8"])
def test_a_json_body_comes_back_as_it_was_sent(browser, media_type):
    review = {"stars": 5, "text": AWKWARD + "\n\N{PILE OF POO}", "tags": ["a", "a"]}
    response = browser.fetch("POST", "/books/42/reviews", json=review, headers={"Content-Type": media_type})

    assert response.status_code == 201
    assert response.json() == review


def test_validation_errors_keep_the_shops_format(browser):
    response = browser.fetch("GET", "/search?year=soon&limit=1000")
    assert_own_error(response, 422, "invalid", ["query.year.0", "query.limit"])

    response = browser.fetch("POST", "/books/42/reviews", json={"stars": 9})
    assert_own_error(response, 422, "invalid", ["body.stars", "body.text"])


def test_a_broken_json_body_is_answered_in_the_shops_format(script):
    headers = {"Content-Type": "application/json"}
    response = script.post("/books/42/reviews", content=b'{"stars": 5,', headers=headers)

    assert_own_error(response, 422, "invalid", ["body.12"])


def test_http_errors_keep_the_shops_format_and_their_headers(browser):
    response = browser.fetch("POST", "/books/0/reviews", json={"stars": 1, "text": "again"})

    assert_own_error(response, 409, "http", {"reason": "already reviewed"})
    assert response.headers["retry-after"] == "60"


def test_unknown_paths_and_methods_keep_the_shops_format(browser):
    assert_own_error(browser.navigate("/nowhere"), 404, "http", "Not Found")

    response = browser.fetch("DELETE", "/search")
    assert_own_error(response, 405, "http", "Method Not Allowed")
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize("path", ["/reports/broken", "/reports/half"])
class TestCrashes:
    def test_a_crash_is_answered_to_a_script_in_the_shops_format(self, browser, path):
        assert_own_error(browser.fetch("GET", path), 500, "crash", "ZeroDivisionError")

    def test_a_crash_is_answered_to_a_navigation_in_the_shops_format(self, browser, path):
        assert_own_error(browser.navigate(path), 500, "crash", "ZeroDivisionError")

    def test_a_crash_is_still_reported_to_the_server_log(self, browser, path, caplog, eventually):
        browser.fetch("GET", path)

        eventually(lambda: "ZeroDivisionError: " in caplog.text)


def test_the_openapi_document_and_its_page_are_served(browser):
    document = browser.fetch("GET", "/openapi.json").json()

    assert document["info"]["title"] == "Bookshop"
    assert set(document["paths"]) >= {"/search", "/compare", "/baskets"}
    assert "swagger-ui" in browser.navigate("/docs").text
