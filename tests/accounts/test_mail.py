"""One mail: what its headers may hold, and the message that is made of it."""

import email
import email.policy
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.accounts.mail import Mail, MailNotSent, Sender, UnsafeMail, message, wire_address
from thebes.errors import ConfigurationError

SENDER = Sender("Notes", "no-reply@notes.example")
MAIL = Mail(
    id="one",
    kind="reset",
    to="ada@example.com",
    subject="Set a new password",
    text="https://notes.example/reset?token=abc\n",
    html="<p>here</p>",
    made_at=1_700_000_000.0,
)
# Each ends a line for some reader: RFC 5322's own, those of str.splitlines, and what a terminal obeys.
BREAKS = [
    "\r\n",
    "\n",
    "\r",
    "\0",
    "\v",
    "\f",
    "\x1c",
    "\x1d",
    "\x1e",
    "\x85",
    "\u2028",
    "\u2029",
    "\x1b",
    "\ud800",
]


def parsed(mail: Mail, sender: Sender = SENDER) -> email.message.EmailMessage:
    """Read a mail as its recipient's program does."""
    read = email.message_from_bytes(message(mail, sender).as_bytes(), policy=email.policy.default)
    assert isinstance(read, email.message.EmailMessage)
    return read


class TestHeaders:
    @pytest.mark.requirement("VAL-22")
    @pytest.mark.parametrize("line_break", BREAKS, ids=ascii)
    @pytest.mark.parametrize("place", ["begin", "middle", "end"])
    @pytest.mark.parametrize("part", ["recipient", "subject", "display name"])
    def test_a_line_break_in_a_header_stops_the_mail(self, part: str, place: str, line_break: str) -> None:
        def broken(text: str) -> str:
            at = {"begin": 0, "middle": 3, "end": len(text)}[place]
            return (
                text[:at] + line_break + "Bcc: eve@example.com"[: 0 if place == "end" else None] + text[at:]
            )

        mail, sender = MAIL, SENDER
        if part == "recipient":
            mail = replace(mail, to=broken(mail.to))
        elif part == "subject":
            mail = replace(mail, subject=broken(mail.subject))
        else:
            sender = replace(sender, name=broken(sender.name))
        with pytest.raises(UnsafeMail) as refused:
            message(mail, sender)
        assert refused.value.part == part
        assert "eve" not in str(refused.value)

    @pytest.mark.parametrize(
        "to",
        [
            "",
            "ada",
            "ada@",
            "@example.com",
            "ada@example.com, eve@example.com",
            "ada@example.com;eve@example.com",
            "Ada <ada@example.com>",
            "<ada@example.com>",
            "ada@example.com eve@example.com",
            "ada@exa mple.com",
            "ada@[127.0.0.1]",
            "a" * 250 + "@example.com",
        ],
    )
    def test_what_is_not_exactly_one_address_stops_the_mail(self, to: str) -> None:
        with pytest.raises(UnsafeMail):
            message(replace(MAIL, to=to), SENDER)

    def test_the_message_says_that_no_person_wrote_it(self) -> None:
        read = parsed(MAIL)
        assert read["Auto-Submitted"] == "auto-generated"
        assert read["Date"].datetime.timestamp() == MAIL.made_at
        assert [name for name in read if name.lower().startswith(("list-", "bcc", "cc", "reply-to"))] == []

    @pytest.mark.parametrize("mail_id", ["one", "reused session 7>\r\nBcc: eve@example.com"])
    def test_each_attempt_has_the_same_message_id_which_says_nothing_of_the_job(self, mail_id: str) -> None:
        mail = replace(MAIL, id=mail_id)
        assert parsed(mail)["Message-ID"] == parsed(replace(mail, subject="Other"))["Message-ID"]
        assert re.fullmatch(r"<[0-9a-f]{32}@notes\.example>", parsed(mail)["Message-ID"])
        assert parsed(mail)["Message-ID"] != parsed(replace(MAIL, id="two"))["Message-ID"]

    def test_a_subject_beyond_ascii_and_a_long_one_arrive(self) -> None:
        for subject in ("Passwort geändert für „Notizen“", "word " * 29 + "end", "я" * 100):
            assert parsed(replace(MAIL, subject=subject))["Subject"] == subject

    def test_no_line_is_longer_than_smtp_allows(self) -> None:
        mail = replace(MAIL, subject="x" * 200, text="y" * 3000, html="<p>" + "z" * 3000)
        lines = message(mail, SENDER).as_bytes().split(b"\r\n")
        assert max(map(len, lines)) <= 998
        assert parsed(mail).get_body(("plain",)).get_content().strip() == "y" * 3000

    def test_both_parts_arrive_as_they_were(self) -> None:
        mail = replace(MAIL, text="Grüße\n.\nFrom here\n", html="<p>Grüße</p>\n")
        read = parsed(mail)
        assert read.get_content_type() == "multipart/alternative"
        assert read.get_body(("plain",)).get_content().splitlines() == mail.text.splitlines()
        assert read.get_body(("html",)).get_content().strip() == "<p>Grüße</p>"

    def test_a_link_stands_in_one_piece_in_the_file(self) -> None:
        link = "https://notes.example/reset?token=" + "A" * 64
        assert link.encode() in message(replace(MAIL, text=link + "\n"), SENDER).as_bytes()

    @given(
        st.text(max_size=40),
        st.text(max_size=40),
        st.from_regex(r"[^@\s]{1,10}@[a-z]{1,10}\.example", fullmatch=True) | st.text(max_size=30),
    )
    def test_no_text_makes_another_header_or_recipient(self, subject: str, name: str, to: str) -> None:
        expected = parsed(MAIL).keys()
        try:
            read = parsed(replace(MAIL, subject=subject, to=to), replace(SENDER, name=name))
        except UnsafeMail:
            return
        assert read.keys() == expected
        assert len(read["To"].addresses) == len(read["From"].addresses) == 1


class TestAddresses:
    @pytest.mark.parametrize(
        ("address", "expected"),
        [
            ("Ada@Example.COM", "Ada@example.com"),
            ("ada@exämple.de", "ada@xn--exmple-cua.de"),
            ("añja@exämple.de", "añja@xn--exmple-cua.de"),
            ("ada@mail.internal", "ada@mail.internal"),
            ("ada@localhost.test", "ada@localhost.test"),
        ],
    )
    def test_the_domain_goes_on_the_wire_in_ascii(self, address: str, expected: str) -> None:
        assert wire_address(address) == expected

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("no-reply@notes.example", Sender("", "no-reply@notes.example")),
            ("Notes <no-reply@notes.example>", SENDER),
            ('"Notes, Inc." <no-reply@notes.example>', Sender("Notes, Inc.", "no-reply@notes.example")),
            ("Notizbücher <post@notizen.example>", Sender("Notizbücher", "post@notizen.example")),
        ],
    )
    def test_a_sender_has_a_name_or_none(self, text: str, expected: Sender) -> None:
        assert Sender.parse(text) == expected
        assert parsed(MAIL, expected)["From"].addresses[0].display_name == expected.name

    @pytest.mark.parametrize(
        ("public_url", "address"),
        [
            ("https://notes.example", "no-reply@notes.example"),
            ("https://notes.example:8443", "no-reply@notes.example"),
            ("https://testserver", "no-reply@testserver"),
            ("https://localhost:8443", "no-reply@thebes.test"),
            ("https://app.localhost:8443", "no-reply@thebes.test"),
        ],
    )
    def test_a_sender_follows_from_the_public_url(self, public_url: str, address: str) -> None:
        assert Sender.of(public_url) == Sender("", address)

    @pytest.mark.parametrize("public_url", ["https://[::1]", "https://notes.local", "notes.example"])
    def test_a_host_that_has_no_mail_needs_a_named_sender(self, public_url: str) -> None:
        with pytest.raises(ConfigurationError):
            Sender.of(public_url)

    @pytest.mark.parametrize(
        "text",
        ["", "Notes", "Notes <>", "a@b.example <c@d.example", "N <a@b.example> x", "N\n <a@b.example>"],
    )
    def test_what_is_no_sender_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigurationError):
            Sender.parse(text)


class TestSilence:
    def test_neither_a_mail_nor_an_error_shows_content_or_address(self) -> None:
        shown = f"{MAIL!r} {MailNotSent('refused', code=550, is_final=True)!r}"
        assert "abc" not in shown
        assert "ada" not in shown
        assert "reset" in shown
