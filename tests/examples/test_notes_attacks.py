"""The notebook against what attackers type into it: markup, SQL, and the policy for scripts."""

import re

import pytest


@pytest.mark.parametrize(
    "payload",
    [
        "<script>alert(1)</script>",
        "\"><img src=x onerror='alert(1)'>",
        "' autofocus onfocus=alert(1) x='",
        "</textarea></title></style><svg/onload=alert(1)>",
        "javascript:alert(1)//<a href=javascript:alert(1)>",
        "{{ 7 * 7 }}{% raw %}",
        "<!--<script>",
        "&lt;b&gt; &amp;amp; &#60;i&#62;",
    ],
)
class TestMarkup:
    def test_a_note_is_shown_as_text(self, board, outline, payload):
        note = board.write("harmless", "harmless")
        harmless = outline(board.get("/notes").text).tags
        board.delete(f"/api/notes/{note}")
        board.write(payload, payload)

        page = outline(board.get("/notes").text)

        assert page.tags == harmless
        assert page.text.count(payload) >= 2

    def test_a_search_is_shown_as_text(self, board, outline, payload):
        harmless = outline(board.get("/notes", params={"q": "harmless"}).text).tags

        page = outline(board.get("/notes", params={"q": payload}).text)

        assert page.tags == harmless
        assert page.attributes("input", id="q")["value"] == payload
        assert payload in page.text

    def test_what_was_typed_is_shown_as_text_beside_a_complaint(self, board, outline, payload):
        harmless = outline(board.submit("/notes", {"title": "t", "body": ""}).text).tags

        page = outline(board.submit("/notes", {"title": payload, "body": ""}).text)

        assert page.tags == harmless
        assert page.attributes("input", name="title")["value"] == payload

    def test_the_address_can_not_put_words_into_the_page(self, board, outline, payload):
        page = outline(board.get("/notes", params={"done": payload}).text)

        assert payload not in page.text


@pytest.mark.parametrize(
    "payload",
    [
        "'",
        "' OR '1'='1",
        "'; DROP TABLE notes; --",
        "%' UNION SELECT 1, sql, 1, 1 FROM sqlite_master --",
        "' AND randomblob(500000000) --",
        "\\' OR 1=1 --",
        ":pattern",
    ],
)
class TestSql:
    def test_a_search_for_sql_finds_only_notes_that_hold_it(self, board, payload):
        board.write("plain", "plain")

        assert board.titles(payload) == []
        board.write(payload, payload)
        assert board.titles(payload) == [payload]

    def test_sql_in_a_form_is_kept_word_for_word(self, board, payload):
        board.write("plain", "plain")

        board.submit("/notes", {"title": payload, "body": payload})

        assert board.titles() == [payload, "plain"]


class TestPolicy:
    def test_the_page_holds_no_inline_code_and_loads_nothing_from_elsewhere(self, board, outline):
        board.write()

        for tag, attributes in outline(board.get("/notes").text).elements:
            assert tag != "style"
            assert not any(name == "style" or name.startswith("on") for name in attributes)
            address = attributes.get("src") or attributes.get("href") or "/"
            assert re.match(r"[/#](?!/)", address), address

    def test_every_script_carries_the_nonce_of_this_answer(self, board, outline):
        answers = [board.get("/notes") for _ in range(2)]
        nonces = [outline(answer.text).attributes("script")["nonce"] for answer in answers]

        for answer, nonce in zip(answers, nonces, strict=True):
            policy = answer.headers["content-security-policy-report-only"]
            assert f"'nonce-{nonce}'" in policy
        assert nonces[0] != nonces[1]

    def test_script_and_style_are_served_with_their_types(self, board):
        script, style = board.get("/static/board.js"), board.get("/static/board.css")

        assert script.headers["content-type"].startswith("text/javascript")
        assert style.headers["content-type"].startswith("text/css")
