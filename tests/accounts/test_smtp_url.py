"""The URL of a mail server: what it may say, and that it is never shown."""

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.accounts.smtp import SmtpServer as Where
from thebes.errors import ConfigurationError
from thebes.secret import Secret


class TestMailUrl:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("smtps://mail.example.com", ("mail.example.com", 465, "implicit", None, None)),
            ("smtp://mail.example.com", ("mail.example.com", 587, "starttls", None, None)),
            ("smtp://mail.example.com:2525/", ("mail.example.com", 2525, "starttls", None, None)),
            ("smtps://ada:s%40fe%2F@mail:1465", ("mail", 1465, "implicit", "ada", "s@fe/")),
            ("smtps://a%40b.example:p@[::1]", ("::1", 465, "implicit", "a@b.example", "p")),
        ],
    )
    def test_a_url_says_where_and_how(self, url: str, expected: tuple[object, ...]) -> None:
        found = Where.parse(Secret(url))
        password = None if found.password is None else found.password.reveal_text()
        assert (found.host, found.port, found.tls, found.user, password) == expected

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "mail.example.com",
            "http://mail.example.com",
            "smtp+insecure://mail.example.com",
            "smtps://",
            "smtps://ada@mail.example.com",
            "smtps://:p@mail.example.com:99999",
            "smtps://ada:hunter2@mail.example.com?verify=no",
            "smtps://ada:hunter2@mail.example.com/path",
            "smtps://ada:hunter2@mail.example.com#f",
            "smtps://ada:hunter2@mail.example.com\r\nRCPT",
            "smtps://ada:p%C3%A4ss@mail.example.com",
            "smtps://ada:hunter2@[::1",
        ],
    )
    def test_what_is_no_mail_url_is_refused_without_being_shown(self, url: str) -> None:
        with pytest.raises(ConfigurationError) as refused:
            Where.parse(url)
        assert "hunter2" not in "".join(traceback.format_exception(refused.value)).replace(repr(url), "")

    @given(st.text() | st.from_regex(r"smtps?://[^\s]*", fullmatch=True))
    def test_parsing_raises_nothing_but_configuration_errors(self, url: str) -> None:
        try:
            found = Where.parse(url)
        except ConfigurationError:
            return
        assert found.host
        assert 0 < found.port < 65536
