"""The notebook's accounts, in process: whose notes they are, who may come in, and what the pages say."""

import json
from urllib.parse import quote

import pytest

PAYLOADS = ("<script>alert(1)</script>", "\"><img src=x onerror='alert(1)'>", "{{ 7 * 7 }}")
PUBLIC = ("/", "/register", "/verify", "/login", "/forgot", "/reset")


class TestOwning:
    def test_a_note_is_neither_shown_to_another_account_nor_counted_nor_found(self, board, bea, outline):
        board.write("Ada's own", "a secret")

        assert bea.titles() == []
        assert bea.titles("secret") == []
        page = outline(bea.get("/notes").text).words
        assert "no notes yet" in page
        assert "Ada's own" not in page

    def test_a_note_of_another_account_can_not_be_deleted_and_is_as_good_as_none(self, board, bea):
        note = board.write("Ada's own")

        answer = bea.delete(f"/api/notes/{note}")
        missing = bea.delete("/api/notes/4711")
        gone = bea.submit(f"/notes/{note}/delete", follow_redirects=False)

        assert (
            (answer.status_code, answer.json())
            == (missing.status_code, missing.json())
            == (404, answer.json())
        )
        assert gone.headers["location"] == "/notes?done=gone"
        assert board.titles() == ["Ada's own"]

    def test_older_pages_of_another_account_are_empty(self, board, bea):
        for number in range(3):
            board.write(f"number {number}")

        assert bea.get("/api/notes", params={"before": 100}).json() == []

    def test_no_body_says_whose_a_note_is(self, board, bea):
        me = bea.get("/auth/me").json()["account"]["id"]

        answer = board.post("/api/notes", json={"title": "t", "body": "b", "account": me})

        assert answer.status_code == 422
        assert bea.titles() == []


class TestComingIn:
    @pytest.mark.parametrize("path", ["/notes", "/sessions", "/notes?q=x&before=2", "/nowhere"])
    def test_a_browser_of_nobody_signs_in_and_then_gets_where_it_wanted(self, stranger, board, path):
        answer = stranger.get(path, headers={"sec-fetch-mode": "navigate"}, follow_redirects=False)

        assert (answer.status_code, answer.headers["location"][:13]) == (303, "/login?next=/")
        assert stranger.sign_in("ada@example.com", page=answer.headers["location"]) == path

    @pytest.mark.parametrize(
        "target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x"]
    )
    def test_no_link_to_the_sign_in_page_leads_to_another_site(self, stranger, board, target):
        assert stranger.sign_in("ada@example.com", page=f"/login?next={quote(target, safe='')}") == "/"

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/api/notes"),
            ("POST", "/api/notes"),
            ("DELETE", "/api/notes/1"),
            ("POST", "/notes"),
            ("POST", "/notes/1/delete"),
            ("GET", "/api/"),
        ],
    )
    def test_a_program_of_nobody_is_told_401(self, stranger, method, path):
        answer = stranger.request(method, path)

        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")

    @pytest.mark.parametrize("path", PUBLIC)
    def test_the_pages_around_an_account_are_open(self, stranger, outline, path):
        answer = stranger.get(path)

        assert answer.status_code == 200
        assert outline(answer.text).tags.count("h1") == 1

    @pytest.mark.parametrize("path", ["/login", "/register"])
    def test_whoever_is_signed_in_needs_no_sign_in_page(self, board, path):
        assert board.get(path, follow_redirects=False).headers["location"] == "/notes"

    def test_a_program_comes_in_by_a_bearer_token(self, board, visit):
        board.write("kept")
        words = {"email": "ada@example.com", "password": "sunrise over seven gates", "mode": "bearer"}
        program = visit()
        token = program.post("/auth/login", json=words).json()["access_token"]

        answer = program.get("/api/notes", headers={"authorization": f"Bearer {token}"})

        assert [note["title"] for note in answer.json()] == ["kept"]


class TestForms:
    def test_a_form_without_its_token_changes_nothing(self, board):
        note = board.write("kept")
        page = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}

        for path, form in (("/notes", {"title": "t", "body": "b"}), (f"/notes/{note}/delete", {"q": ""})):
            assert board.post(path, data=form, headers=page).status_code == 403
        assert board.titles() == ["kept"]

    def test_a_token_of_another_session_is_no_good(self, board, bea, outline):
        token = outline(bea.get("/notes").text).attributes("input", first=True, name="csrf_token")["value"]

        answer = board.post("/notes", data={"title": "t", "body": "b", "csrf_token": token})

        assert answer.status_code == 403
        assert board.titles() == []

    @pytest.mark.parametrize("path", ["/register", "/verify", "/login", "/forgot", "/reset?token=x"])
    def test_a_page_with_a_form_of_nobody_sets_its_cookie_and_stays_out_of_caches(self, stranger, path):
        answer = stranger.get(path)

        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["set-cookie"].startswith("__Host-thebes-presession")

    def test_a_page_without_a_form_sets_no_cookie(self, stranger):
        assert "set-cookie" not in stranger.get("/").headers

    def test_pages_of_a_session_set_no_cookie_of_nobody(self, board):
        assert "set-cookie" not in board.get("/notes").headers

    def test_a_failed_form_leads_back_to_its_page_with_the_token_of_the_mail(self, stranger):
        page = "/reset?problem=csrf-token&token=abc"
        form = {"token": "abc", "password": "short", "next": "/login?done=reset"}

        answer = stranger.submit("/auth/reset", form, page=page, follow_redirects=False)

        assert answer.status_code == 303
        assert answer.headers["location"] == "/reset?token=abc&problem=link-invalid"

    def test_a_form_leads_to_no_other_site(self, board):
        answer = board.submit(
            "/auth/logout", {"next": "//evil.example/"}, page="/sessions", follow_redirects=False
        )

        assert answer.headers["location"] == "/"


class TestWords:
    @pytest.mark.parametrize("payload", PAYLOADS)
    @pytest.mark.parametrize("path", PUBLIC)
    def test_the_address_can_not_put_words_into_a_page(self, stranger, outline, path, payload):
        harmless = outline(stranger.get(f"{path}?done=x&problem=x").text).tags

        page = outline(stranger.get(f"{path}?done={quote(payload)}&problem={quote(payload)}").text)

        assert page.tags == harmless
        assert payload not in page.text

    @pytest.mark.parametrize("payload", PAYLOADS)
    @pytest.mark.parametrize("path", ["/verify", "/reset"])
    def test_a_token_is_carried_as_it_came(self, stranger, outline, path, payload):
        page = outline(stranger.get(path, params={"token": payload}).text)

        assert page.attributes("input", name="token")["value"] == payload

    def test_a_session_of_today_is_named_and_holds_no_secret(self, board, outline):
        page = board.get("/sessions")

        assert "ada@example.com" in outline(page.text).words
        assert "this device" in outline(page.text).words
        for cookie in ("__Host-thebes-session", "__Host-thebes-refresh"):
            assert board.cookies[cookie] not in page.text

    def test_the_published_description_names_how_to_sign_in(self, stranger):
        document = stranger.get("/openapi.json").json()

        assert document["paths"]["/api/notes"]["get"]["security"]
        assert "password" in json.dumps(document["components"]["securitySchemes"])
