"""What our mails say, what they link to, and templates of one's own."""

import doctest
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.accounts import templates as module
from thebes.accounts.mail import Mail, UnsafeMail
from thebes.accounts.templates import KINDS, LINKS, Order, Pages, Templates, fact
from thebes.errors import ConfigurationError
from thebes.secret import Secret

URL = "https://notes.example"
TOKEN = "c4n4ry-0f-a-t0k3n"
NOW = 1_700_000_000.0
OURS = Templates(public_url=URL, service="Notes")


def an_order(kind: str, **facts: str) -> Order:
    return Order(
        kind=kind,
        to="ada@example.com",
        token=Secret(TOKEN) if kind in LINKS else None,
        facts=facts,
        made_at=NOW,
        expires_at=NOW + 1800,
    )


def made(kind: str, templates: Templates = OURS, **facts: str) -> Mail:
    return templates.mail(an_order(kind, **facts), mail_id="one")


class _Page(HTMLParser):
    """Collects what an HTML part refers to and what could load or run something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action")]


class TestEveryMail:
    @pytest.mark.requirement("ACC-08")
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_link_begins_with_the_public_url(self, kind: str) -> None:
        hostile = "http://evil.example/reset"
        mail = made(kind, device=hostile, address=hostile)
        assert mail.html is not None
        links = re.findall(r"\w+://\S+", mail.text) + _Page(mail.html).links
        assert [link for link in links if not link.startswith(f"{URL}/")] == []
        assert "evil.example" not in mail.text + mail.html + mail.subject

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_token_is_in_the_mails_that_have_one_and_nowhere_else(self, kind: str) -> None:
        mail = made(kind)
        page = f"{URL}/{'verify' if kind == 'verify' else 'reset'}?token={TOKEN}"
        assert (page in mail.text) is (kind in LINKS)
        assert (page in (mail.html or "")) is (kind in LINKS)
        assert TOKEN not in mail.subject + repr(mail) + repr(an_order(kind))

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_html_part_loads_and_runs_nothing(self, kind: str) -> None:
        page = _Page(made(kind).html or "")
        assert not page.tags & {
            "script",
            "img",
            "link",
            "iframe",
            "form",
            "style",
            "base",
            "object",
            "meta http",
        }
        assert not {name for name in page.attributes if name.startswith("on") or name == "src"}

    @pytest.mark.parametrize("kind", KINDS)
    def test_it_names_the_service_and_leaves_no_placeholder(self, kind: str) -> None:
        mail = made(kind)
        assert "Notes" in mail.subject
        assert "$" not in mail.subject + mail.text + (mail.html or "")

    def test_a_link_says_when_it_ends(self) -> None:
        assert "2023-11-14 22:43 UTC" in made("reset").text

    @pytest.mark.parametrize("kind", ["password_changed", "new_device", "session_reused", "many_failures"])
    def test_a_notice_says_when_and_from_where(self, kind: str) -> None:
        mail = made(kind, device="Firefox on Linux", address="192.0.2.0/24")
        for part in (mail.text, mail.html or ""):
            assert "2023-11-14 22:13 UTC" in part
            assert "Firefox on Linux" in part
            assert "192.0.2.0/24" in part

    def test_values_are_escaped_in_html_and_plain_in_text(self) -> None:
        templates = Templates(public_url=URL, service="Tea & <b>Biscuits</b>")
        mail = made("verify", templates)
        assert "Tea & <b>Biscuits</b>" in mail.text
        assert "Tea &amp; &lt;b&gt;Biscuits&lt;/b&gt;" in (mail.html or "")
        assert "<b>" not in (mail.html or "")


class TestFacts:
    @given(st.text())
    def test_a_device_is_one_short_line_that_is_no_link_and_no_markup(self, text: str) -> None:
        shown = fact("device", text)
        assert re.fullmatch(r"[A-Za-z0-9_ ()+,-]{1,60}", shown)

    @given(st.text() | st.from_regex(r"[0-9a-f:./]{1,80}", fullmatch=True))
    def test_an_address_is_one_or_unknown(self, text: str) -> None:
        shown = fact("address", text)
        assert shown == "an unknown address" or re.fullmatch(r"[0-9A-Fa-f.:]+(/\d+)?", shown)
        assert len(shown) <= 60

    def test_what_is_not_known_is_said_to_be_unknown(self) -> None:
        assert "an unknown device, an unknown address" in made("new_device").text


class TestOrders:
    @pytest.mark.parametrize(
        ("kind", "token", "facts"),
        [
            ("welcome", None, {}),
            ("reset", None, {}),
            ("new_device", Secret(TOKEN), {}),
            ("new_device", None, {"password": "x"}),
        ],
    )
    def test_an_order_that_makes_no_sense_is_refused(self, kind, token, facts) -> None:
        with pytest.raises(ConfigurationError):
            Order(kind=kind, to="ada@example.com", token=token, facts=facts, made_at=0, expires_at=1)

    @pytest.mark.parametrize("token", ["a b", "a&b=c", "a#b", '"><b>', "ä", "", "a\n"])
    def test_a_token_that_is_no_base64url_gets_into_no_link(self, token: str) -> None:
        order = Order(kind="reset", to="ada@example.com", token=Secret(token), made_at=0, expires_at=1)
        with pytest.raises(ConfigurationError) as refused:
            OURS.mail(order, mail_id="one")
        assert not token.strip() or token not in str(refused.value)

    @pytest.mark.parametrize(
        "path", ["", "verify", "//evil.example", "/a?b=c", "/a#b", "/a b", "/a\n", "/%2e"]
    )
    def test_a_page_is_a_plain_path(self, path: str) -> None:
        with pytest.raises(ConfigurationError):
            Pages(verify=path)

    def test_pages_may_lie_elsewhere_in_the_app(self) -> None:
        templates = Templates(public_url=URL, pages=Pages(reset="/konto/neu", forgot="/konto/vergessen"))
        assert f"{URL}/konto/neu?token={TOKEN}" in made("reset", templates).text
        assert f"{URL}/konto/vergessen" in made("password_changed", templates).text

    def test_the_service_is_called_by_its_host_if_nothing_else_is_said(self) -> None:
        assert "notes.example" in made("verify", Templates(public_url=URL)).subject

    def test_a_service_name_is_one_line(self) -> None:
        with pytest.raises(UnsafeMail):
            Templates(public_url=URL, service="Notes\nBcc: eve@example.com")


class TestOwnTemplates:
    def test_a_text_of_ones_own_stands_in_for_both_parts(self, tmp_path: Path) -> None:
        (tmp_path / "verify.txt").write_text("Subject: Hallo bei $service\n\nBestätigen: $link\n", "utf-8")
        mail = made("verify", Templates(public_url=URL, service="Notes", directory=tmp_path))
        assert mail.subject == "Hallo bei Notes"
        assert mail.text == f"Bestätigen: {URL}/verify?token={TOKEN}\n"
        assert mail.html is None
        assert made("reset", Templates(public_url=URL, directory=tmp_path)).html is not None

    def test_an_html_part_of_ones_own_gets_escaped_values_in_its_own_frame(self, tmp_path: Path) -> None:
        (tmp_path / "verify.txt").write_text("Subject: Hi\r\n\r\n$link\r\n")
        (tmp_path / "verify.html").write_text("<i>$service $$5</i> $link")
        (tmp_path / "frame.html").write_text("<title>$subject</title>[$content]")
        mail = made("verify", Templates(public_url=URL, service="<Notes>", directory=tmp_path))
        assert mail.html == (f"<title>Hi</title>[<i>&lt;Notes&gt; $5</i> {URL}/verify?token={TOKEN}]")
        assert mail.text == f"{URL}/verify?token={TOKEN}\n"

    @pytest.mark.parametrize(
        ("name", "content", "told"),
        [
            ("verify.txt", "Subject: Hi\n\nno link", "verify.txt lacks $link"),
            ("verify.txt", "Hi\n\n$link", "verify.txt must begin with a line 'Subject: ...'"),
            ("verify.txt", "Subject:\n\n$link", "verify.txt must begin with a line 'Subject: ...'"),
            ("verify.txt", "Subject: $link\n\n$link", "verify.txt has $link"),
            ("verify.txt", "Subject: Hi\n\n$link $passwort", "verify.txt has $passwort"),
            ("verify.txt", "Subject: Hi\n\n$link 5$", "verify.txt has a $ that begins no name"),
            ("new_device.txt", "Subject: Hi\n\n$link", "new_device.txt has $link"),
            ("verify.html", "no link", "verify.html lacks $link"),
            ("frame.html", "nothing", "frame.html lacks $content"),
            ("verfy.txt", "Subject: Hi\n\n$link", "verfy.txt is no mail of ours"),
        ],
    )
    def test_a_template_that_cannot_serve_is_told_before_any_mail(
        self, tmp_path: Path, name: str, content: str, told: str
    ) -> None:
        (tmp_path / name).write_text(content)
        with pytest.raises(ConfigurationError) as refused:
            Templates(public_url=URL, directory=tmp_path)
        assert [problem for problem in refused.value.problems if problem.startswith(told)]

    def test_a_directory_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError):
            Templates(public_url=URL, directory=tmp_path / "none")

    def test_a_file_that_is_no_text_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "verify.txt").write_bytes(b"\xff\xfe")
        with pytest.raises(ConfigurationError):
            Templates(public_url=URL, directory=tmp_path)


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(module).attempted >= 3
    assert doctest.testmod(module).failed == 0
