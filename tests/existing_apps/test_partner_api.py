"""A foreign single-page app, its preflights and the payment webhook go on working."""

import hashlib
import hmac
import json

import pytest

pytestmark = pytest.mark.slow

PARTNER = "https://app.partner.example"
STRANGER = "https://evil.example"


@pytest.fixture
def partner(browser):
    """A browser that shows the partner's page."""
    return browser.at(PARTNER)


def sign_in(partner):
    """Sign in, and return the Cookie header that a browser would send (it keeps Secure on localhost)."""
    credentials = {"user": "ada", "password": "correct horse"}
    response = partner.fetch("POST", "/api/login", json=credentials)
    assert response.status_code == 204
    (cookie,) = response.headers.get_list("set-cookie")
    assert cookie.endswith("; HttpOnly; Max-Age=600; Path=/; SameSite=none; Secure")
    return {"Cookie": cookie.split(";")[0]}


def preflight(page, method, headers=""):
    fields = {"Access-Control-Request-Method": method}
    if headers:
        fields["Access-Control-Request-Headers"] = headers
    return page.fetch("OPTIONS", "/api/orders", headers=fields)


def signed(event):
    body = json.dumps(event, indent=2).encode()
    digest = hmac.new(b"whsec_only_for_tests", body, hashlib.sha256).hexdigest()
    headers = {"X-Signature": f"sha256={digest}", "Content-Type": "application/json"}
    return {"content": body, "headers": headers | {"User-Agent": "Payments/1.0"}}


def assert_readable(response):
    """The partner's script may read this answer: one value for each field, and no star."""
    assert response.headers.get_list("access-control-allow-origin") == [PARTNER]
    assert response.headers.get_list("access-control-allow-credentials") == ["true"]
    assert "origin" in response.headers["vary"].lower()


def test_a_preflight_is_answered_by_the_apps_own_middleware(partner):
    response = preflight(partner, "DELETE", "content-type,x-request-id")

    assert response.status_code == 200
    assert response.text == "OK"
    assert_readable(response)
    assert response.headers.get_list("access-control-max-age") == ["1234"]
    assert response.headers["access-control-allow-methods"] == "GET, POST, DELETE"
    assert "X-Request-Id" in response.headers["access-control-allow-headers"]


def test_a_preflight_for_a_method_that_the_app_does_not_allow_fails(partner):
    response = preflight(partner, "PATCH")

    assert response.status_code == 400
    assert response.text == "Disallowed CORS method"


def test_a_preflight_from_a_stranger_is_refused(browser):
    response = preflight(browser.at(STRANGER), "DELETE")

    assert response.is_error
    assert "access-control-allow-origin" not in response.headers


def test_the_partner_reads_a_list_with_the_exposed_count(partner):
    response = partner.fetch("GET", "/api/orders")

    assert response.status_code == 200
    assert_readable(response)
    assert response.headers["access-control-expose-headers"] == "X-Total-Count"
    assert response.headers["x-total-count"] == str(len(response.json()))


def test_a_stranger_gets_no_permission_to_read(browser):
    response = browser.at(STRANGER).fetch("GET", "/api/orders")

    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


def test_the_signed_in_partner_creates_and_deletes_an_order(partner):
    cookie = sign_in(partner)
    order = {"item": "coffee", "quantity": 2}
    created = partner.fetch("POST", "/api/orders", json=order, headers=cookie)

    assert created.status_code == 201
    assert created.json()["by"] == "ada"
    assert_readable(created)
    path = f"/api/orders/{created.json()['number']}"
    assert partner.fetch("GET", path, headers=cookie).json() == {**order, "paid": False}

    deleted = partner.fetch("DELETE", path, headers=cookie)
    assert deleted.status_code == 204
    assert_readable(deleted)
    assert partner.fetch("GET", path, headers=cookie).status_code == 404


def test_the_apps_own_refusals_are_readable_for_the_partner_too(partner):
    response = partner.fetch("POST", "/api/orders", json={"item": "coffee"})

    assert response.status_code == 401
    assert response.json() == {"detail": "sign in first"}
    assert_readable(response)


def test_the_development_server_of_the_front_end_may_post_too(browser):
    front_end = browser.at("http://localhost:5173")
    cookie = sign_in(front_end)
    created = front_end.fetch("POST", "/api/orders", json={"item": "salt"}, headers=cookie)

    assert created.status_code == 201
    assert created.headers.get_list("access-control-allow-origin") == ["http://localhost:5173"]


def test_a_page_of_the_apps_own_origin_needs_no_cors(browser):
    cookie = sign_in(browser)
    created = browser.fetch("POST", "/api/orders", json={"item": "milk"}, headers=cookie)

    assert created.status_code == 201


def test_the_webhook_is_accepted_by_its_signature_alone(script):
    event = {"id": "evt_1", "type": "payment.succeeded", "order": 1}
    response = script.post("/hooks/payments", **signed(event))

    assert response.status_code == 200
    assert response.json() == {"received": "evt_1"}
    assert script.get("/api/orders/1").json()["paid"] is True


def test_a_large_webhook_reaches_the_app_byte_for_byte(script):
    lines = [{"sku": f"SKU-{number}", "note": "x" * 200} for number in range(2_000)]
    event = {"id": "evt_2", "type": "payment.succeeded", "order": 1, "lines": lines}

    assert script.post("/hooks/payments", **signed(event)).json() == {"received": "evt_2"}


def test_a_webhook_with_a_bad_signature_gets_the_apps_own_refusal(script):
    request = signed({"id": "evt_3", "type": "payment.succeeded", "order": 1})
    request["content"] += b" "
    response = script.post("/hooks/payments", **request)

    assert response.status_code == 401
    assert response.json() == {"detail": "bad signature"}
