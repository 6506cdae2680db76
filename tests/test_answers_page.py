"""The page that people see when we refuse: it loads nothing, runs nothing, keeps nothing."""

import ast
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import request_facts
from package import SOURCE, denials
from thebes.answers import Rendered, render
from thebes.facts import Denial

NAVIGATE = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}
EACH_DENIAL = [pytest.param(denial, id=name) for name, denial in denials().items()]


class Page(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.style = ""

    @classmethod
    def of(cls, rendered: Rendered) -> "Page":
        page = cls()
        page.feed(rendered.body.decode())
        page.close()
        return page

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "style" and "{" in data:
            self.style += data
        else:
            self.text += data


PLAIN_TAGS = ["html", "meta", "meta", "title", "style", "main", "h1", "p", "p", "small"]
MARKUP = [
    "<script>alert(1)</script>",
    "</title><script src=//evil.example></script>",
    "</style><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)",
    "<!-- --><svg/onload=alert(1)>",
    "{title}{0}{nonce}%s",
    "&lt;script&gt;&#x27;",
    "<b\0>",
]


@pytest.mark.requirement("HTTP-09")
class TestThePage:
    @pytest.mark.parametrize("denial", EACH_DENIAL)
    def test_it_loads_nothing_and_runs_nothing(self, denial: Denial):
        rendered = render(denial, request_facts(headers=NAVIGATE))
        page = Page.of(rendered)

        assert page.tags == PLAIN_TAGS
        assert {name for name, _ in page.attributes} == {"lang", "charset", "name", "content", "nonce"}
        assert not re.search(r"url\(|@import|expression|://|//", page.style)

    @pytest.mark.parametrize("denial", EACH_DENIAL)
    def test_its_policy_lets_it_load_and_run_nothing_but_what_has_its_nonce(self, denial: Denial):
        facts = request_facts(headers=NAVIGATE)
        policy = dict(render(denial, facts).headers)[b"content-security-policy"].decode()

        directives = dict(part.strip().partition(" ")[::2] for part in policy.split(";"))
        assert directives.pop("default-src") == "'none'"
        assert directives.pop("base-uri") == directives.pop("form-action") == "'none'"
        assert directives.pop("require-trusted-types-for") == "'script'"
        assert directives.pop("frame-ancestors") == "'none'"
        assert set(directives.values()) == {f"'nonce-{facts.nonce}'"}

    @pytest.mark.parametrize("text", MARKUP)
    def test_markup_in_title_and_detail_is_shown_as_text(self, text: str):
        rendered = render(Denial(403, "kind", text, text), request_facts(headers=NAVIGATE))

        page = Page.of(rendered)
        assert page.tags == PLAIN_TAGS
        assert page.text.count(text) == 3  # title, heading, paragraph

    @given(st.text(max_size=60), st.text(max_size=60))
    def test_no_text_becomes_markup(self, title: str, detail: str):
        rendered = render(Denial(403, "kind", title, detail), request_facts(headers=NAVIGATE))

        assert Page.of(rendered).tags == PLAIN_TAGS

    def test_it_is_the_only_page_that_is_shipped(self):
        found = {path for path in SOURCE.rglob("*") if path.suffix in {".html", ".js", ".css", ".svg"}}
        assert {path.parent for path in found} == {SOURCE / "accounts" / "mails"}  # bodies of mails
        pages = [
            (path.name, text)
            for path in SOURCE.rglob("*.py")
            for text in texts(ast.parse(path.read_text(encoding="utf-8")))
            if re.search(r"<(!doctype|html|script|body|img)\b", text, re.IGNORECASE)
        ]

        assert [name for name, _ in pages] == ["answers.py"]
        assert pages[0][1].startswith("<!doctype html>")

    def test_nothing_shipped_uses_web_storage(self):
        for path in SOURCE.rglob("*"):
            if path.is_file() and path.suffix not in {".pyc", ".gz"}:
                text = path.read_text(encoding="utf-8")
                assert not re.search(
                    r"localStorage|sessionStorage|indexedDB|document\.cookie|caches\.open", text
                )


def texts(module: ast.Module) -> list[str]:
    """Return the text constants of a module without its docstrings."""
    nodes = list(ast.walk(module))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
