"""The notebook, in process: its pages, its JSON and its store."""

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest


class TestWriting:
    def test_an_empty_board_invites_to_write(self, board, outline):
        answer = board.get("/notes")

        assert answer.status_code == 200
        assert "no notes yet" in outline(answer.text).words
        assert "Write the first note" in outline(answer.text).words

    def test_a_note_is_kept_and_shown_after_a_redirect(self, board, outline):
        form = {"title": "Found", "body": "A grey scarf"}

        answer = board.submit("/notes", form, follow_redirects=False)

        assert (answer.status_code, answer.headers["location"]) == (303, "/notes?done=written#note-1")
        page = outline(board.get(answer.headers["location"]).text).words
        assert "Your note is in the book." in page
        assert "1 note " in page
        assert "Found A grey scarf just now" in page

    def test_the_newest_note_comes_first(self, board, outline):
        board.write("older")
        board.write("newer")

        page = outline(board.get("/notes").text).words

        assert "2 notes" in page
        assert page.index("newer") < page.index("older")

    def test_a_line_end_of_a_text_area_counts_as_one_character(self, board):
        board.submit("/notes", {"title": "Poem", "body": "\r\n".join("x" * 2000)})

        (note,) = board.get("/api/notes").json()
        assert note["body"] == "\n".join("x" * 2000)

    def test_white_space_around_a_note_is_dropped_and_inside_it_is_kept(self, board):
        board.submit("/notes", {"title": "  two  words ", "body": "\n\tone\n\n  two\n"})

        (note,) = board.get("/api/notes").json()
        assert (note["title"], note["body"]) == ("two  words", "one\n\n  two")

    @pytest.mark.parametrize(
        ("title", "body", "complaint"),
        [
            pytest.param("", "b", "Give the note a title.", id="no title"),
            pytest.param(" \t ", "b", "Give the note a title.", id="a blank title"),
            pytest.param("t" * 121, "b", "A title has room for 120 characters.", id="a long title"),
            pytest.param("two\nlines", "b", "A title is one line", id="a title of two lines"),
            pytest.param("\u200b\u2060", "b", "a title that can be seen", id="an invisible title"),
            pytest.param("t", "", "Write something first.", id="no body"),
            pytest.param("t", "b" * 4001, "A note has room for 4,000 characters.", id="a long body"),
            pytest.param("t", "b\x85b", "without control characters", id="a control character"),
            pytest.param("t", "\u200b", "Write something that can be seen.", id="an invisible body"),
        ],
    )
    def test_bad_input_is_explained_and_nothing_typed_is_lost(self, board, outline, title, body, complaint):
        answer = board.submit("/notes", {"title": title, "body": body})

        page = outline(answer.text)
        field = "title" if body == "b" else "body"
        marked = page.attributes("input" if field == "title" else "textarea", name=field)
        assert answer.status_code == 422
        assert complaint in page.text
        assert marked["aria-invalid"] == "true"
        assert "autofocus" in marked
        assert marked["aria-describedby"] == f"{field}-help"
        assert page.attributes("input", name="title")["value"] == title
        assert body in page.text
        assert board.titles() == []

    def test_a_line_break_at_the_start_of_a_body_survives_a_complaint(self, board):
        page = board.submit("/notes", {"title": "", "body": "\nsecond line"}).text

        # A browser drops the first line break after the tag: the second is the writer's.
        assert re.search(r"<textarea[^>]*>\n\nsecond line</textarea>", page)

    def test_a_form_without_fields_is_explained_too(self, board):
        answer = board.submit("/notes", {"other": "field"})

        assert answer.status_code == 422
        assert "Give the note a title." in answer.text
        assert "Write something first." in answer.text

    def test_a_form_posted_by_a_foreign_page_writes_nothing(self, board):
        foreign = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}

        answer = board.post("/", data={"title": "t", "body": "b"}, headers=foreign)

        assert answer.status_code == 403
        assert board.titles() == []


class TestSearching:
    def test_a_search_shows_what_holds_the_text_in_title_or_body(self, board, outline):
        board.write("River", "cold")
        board.write("Hill", "above the river")
        board.write("Gate", "closed at night")

        page = outline(board.get("/notes", params={"q": "river"}).text).words

        assert "2 of 3 notes" in page
        assert "Hill" in page
        assert "River" in page
        assert "Gate" not in page

    def test_a_search_without_a_hit_says_so_and_stays_in_the_field(self, board, outline):
        board.write()

        answer = board.get("/notes", params={"q": "sphinx"})

        assert answer.status_code == 200
        assert "No note mentions “sphinx”." in outline(answer.text).words
        assert outline(answer.text).attributes("input", id="q")["value"] == "sphinx"

    def test_a_search_that_is_too_long_is_explained_beside_its_field(self, board, outline):
        answer = board.get("/notes", params={"q": "y" * 121})

        field = outline(answer.text).attributes("input", id="q")
        assert answer.status_code == 422
        assert "A search has room for 120 characters." in answer.text
        assert (field["aria-invalid"], field["value"]) == ("true", "y" * 121)

    @pytest.mark.parametrize(
        ("q", "found"),
        [
            pytest.param("%", ["100% wool"], id="percent"),
            pytest.param("_", ["snake_case"], id="underscore"),
            pytest.param("\\", ["back\\slash"], id="backslash"),
            pytest.param("e_c", ["snake_case"], id="underscore between letters"),
            pytest.param("e%c", [], id="percent between letters"),
            pytest.param("\\%", [], id="an escaped percent"),
        ],
    )
    def test_wildcards_are_ordinary_characters(self, board, q, found):
        for title in ("plain", "100% wool", "snake_case", "back\\slash"):
            board.write(title)

        assert board.titles(q) == found

    def test_older_notes_are_one_link_away_and_the_search_goes_along(self, board, outline):
        for number in range(51):
            board.write(f"number {number}")

        first = board.get("/notes", params={"q": "number"}).text
        link = outline(first).attributes("a", rel="next")["href"]
        second = board.get(link).text

        assert link == "/notes?q=number&before=2"
        assert outline(first).tags.count("article") == 50
        assert "number 0" in second
        assert outline(second).tags.count("article") == 1
        assert 'rel="next"' not in second


class TestDeleting:
    def test_a_deleted_note_is_gone_and_the_page_says_so(self, board):
        note = board.write()

        answer = board.submit(f"/notes/{note}/delete", follow_redirects=False)

        assert (answer.status_code, answer.headers["location"]) == (303, "/notes?done=deleted")
        assert "The note was deleted." in board.get("/notes?done=deleted").text
        assert board.titles() == []

    def test_deleting_leads_back_to_the_search_that_showed_the_note(self, board):
        note = board.write()

        answer = board.submit(f"/notes/{note}/delete", {"q": "a&b=c\r\nx: y"}, follow_redirects=False)

        assert answer.headers["location"] == "/notes?q=a%26b%3Dc%0D%0Ax%3A+y&done=deleted"

    def test_a_second_click_is_told_that_the_note_was_gone_already(self, board):
        note = board.write()
        board.submit(f"/notes/{note}/delete")

        assert "already gone" in board.submit(f"/notes/{note}/delete").text

    def test_an_id_is_never_given_out_twice(self, board):
        first = board.write()
        board.delete(f"/api/notes/{first}")

        assert board.write() > first


class TestApi:
    def test_a_written_note_comes_back_from_the_list(self, board):
        answer = board.post("/api/notes", json={"title": "Tea", "body": "Bring some"})

        assert answer.status_code == 201
        assert answer.json().keys() == {"id", "title", "body", "written_at"}
        assert board.get("/api/notes").json() == [answer.json()]
        age = datetime.now(UTC) - datetime.fromisoformat(answer.json()["written_at"])
        assert timedelta(0) <= age < timedelta(minutes=1)

    def test_deleting_answers_204_once_and_then_404(self, board):
        note = board.write()

        answers = [board.delete(f"/api/notes/{note}") for _ in range(2)]

        assert [answer.status_code for answer in answers] == [204, 404]
        assert answers[1].json() == {"detail": "no such note"}

    @pytest.mark.parametrize("note", ["0", "-1", "9223372036854775808", "one", "1 OR 1=1", "%00"])
    def test_an_id_that_can_not_be_one_is_refused(self, board, note):
        board.write()

        assert 400 <= board.delete(f"/api/notes/{note}").status_code < 500
        assert len(board.titles()) == 1

    @pytest.mark.parametrize(
        "draft",
        [
            pytest.param({"title": "t"}, id="a field is missing"),
            pytest.param({"title": "t", "body": "b", "id": 7}, id="a field is unknown"),
            pytest.param({"title": 1, "body": "b"}, id="a number for a text"),
            pytest.param({"title": {"$ne": ""}, "body": "b"}, id="an object for a text"),
            pytest.param({"title": None, "body": "b"}, id="null for a text"),
            pytest.param({"title": "", "body": "b"}, id="an empty title"),
            pytest.param({"title": "t" * 121, "body": "b"}, id="a long title"),
            pytest.param({"title": "t", "body": "b" * 4001}, id="a long body"),
            pytest.param({"title": "t\x1b[2J", "body": "b"}, id="an escape sequence"),
            pytest.param({"title": "\ud800", "body": "b"}, id="half a surrogate pair"),
            pytest.param({"title": "t", "body": "b", "\ud800": 1}, id="half a pair as a name"),
            pytest.param({"title": float("nan"), "body": "b"}, id="not a number"),
            pytest.param([], id="a list"),
        ],
    )
    def test_a_draft_that_breaks_a_rule_is_refused(self, board, draft):
        answer = board.post(
            "/api/notes", content=json.dumps(draft), headers={"content-type": "application/json"}
        )

        assert answer.status_code in (400, 422)
        assert board.titles() == []

    def test_a_refusal_does_not_repeat_the_input(self, board):
        answer = board.post("/api/notes", json={"title": "t", "body": "b", "password": "hunter2"})

        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["body", "password"]
        assert "hunter2" not in answer.text

    @pytest.mark.parametrize(("title", "body"), [("t", "b"), ("t" * 120, "b" * 4000), ("🏛" * 120, "ß")])
    def test_the_shortest_and_the_longest_drafts_are_taken(self, board, title, body):
        board.write(title, body)

        assert board.titles() == [title]

    def test_the_rules_are_published(self, board):
        schema = board.get("/openapi.json").json()["components"]["schemas"]["NoteDraft"]

        assert schema["additionalProperties"] is False
        assert (
            schema["properties"]["title"] | {"minLength": 1, "maxLength": 120}
            == schema["properties"]["title"]
        )
        assert (
            schema["properties"]["body"] | {"minLength": 1, "maxLength": 4000} == schema["properties"]["body"]
        )


class TestStore:
    def test_the_file_and_its_directory_are_made(self, board, tmp_path):
        assert (tmp_path / "state" / "notes.db").is_file()

    def test_notes_survive_a_restart(self, board, tmp_path):
        board.write("kept")
        account = board.get("/auth/me").json()["account"]["id"]

        again = sys.modules["board.store"].NoteStore(tmp_path / "state" / "notes.db")

        assert [note.title for note in again.search(account).notes] == ["kept"]

    def test_many_threads_write_and_read_at_once_and_nothing_is_lost(self, example, tmp_path):
        module = sys.modules["board.store"]
        path = tmp_path / "notes.db"

        def work(number: int) -> int:
            # A store of its own for each: some of them make the file at the same moment.
            store = module.NoteStore(path)
            store.write("ada", title=f"note {number}", body="body")
            return store.search("ada").total

        with ThreadPoolExecutor(8) as pool:
            totals = list(pool.map(work, range(40)))

        assert max(totals) == 40
        assert module.NoteStore(path).search("ada").matching == 40

    @pytest.mark.parametrize(
        ("age", "words"),
        [
            (timedelta(seconds=-5), "just now"),
            (timedelta(seconds=59), "just now"),
            (timedelta(minutes=1), "1 minute ago"),
            (timedelta(minutes=59, seconds=59), "59 minutes ago"),
            (timedelta(hours=1), "1 hour ago"),
            (timedelta(hours=23), "23 hours ago"),
            (timedelta(days=1), "1 day ago"),
            (timedelta(days=6, hours=23), "6 days ago"),
            (timedelta(days=7), "2 March 2026"),
        ],
    )
    def test_the_age_of_a_note_is_told_in_words(self, example, age, words):
        now = datetime(2026, 3, 9, 12, tzinfo=UTC)

        assert example.rendering.time_ago(now - age, now) == words
