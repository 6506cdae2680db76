"""Mails over real SMTP: TLS or nothing, and what is told of a server that doesn't want them."""

import asyncio
import inspect
import logging
import ssl
import traceback
import warnings
from datetime import timedelta
from pathlib import Path

import pytest

from issuing import Authority
from smtp_server import SmtpServer, server_tls
from thebes.accounts.mail import Mail, MailNotSent, Sender, UnsafeMail
from thebes.accounts.smtp import SmtpMailer, tls_context
from thebes.accounts.smtp import SmtpServer as Where
from thebes.errors import ConfigurationError
from thebes.secret import Secret
from thebes.settings import READERS

SENDER = Sender("Notes", "no-reply@notes.example")
CANARY = "c4n4ry-0f-a-t0k3n"
PASSWORD = "c4n4ry-of-a-p4ssw0rd"


def a_mail(**changes: object) -> Mail:
    values = {
        "id": "one",
        "kind": "reset",
        "to": "ada@example.com",
        "subject": "Set a new password",
        "text": f"https://notes.example/reset?token={CANARY}\n",
        "html": f'<a href="https://notes.example/reset?token={CANARY}">here</a>',
        "made_at": 1_700_000_000.0,
    }
    return Mail(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.issue("localhost", "127.0.0.1")
    return made


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    return server_tls(authority.certificate, authority.key)


def other_context(directory: Path, *names: str, **options: object) -> ssl.SSLContext:
    """Return the context of a server with another certificate, by the same authority unless told otherwise."""
    strange = Authority(directory)
    strange.issue(*names, **options)  # type: ignore[arg-type]
    return server_tls(strange.certificate, strange.key)


async def send(
    server: SmtpServer,
    authority: Authority,
    mail: Mail | None = None,
    *,
    host: str = "localhost",
    **user: object,
) -> None:
    """Send a mail and let go of the threads."""
    where = Where(host=host, port=server.port, tls="implicit" if server.is_implicit else "starttls", **user)  # type: ignore[arg-type]
    mailer = SmtpMailer(where, sender=SENDER, cafile=authority.root, timeout=timedelta(seconds=5))
    try:
        await mailer.send(mail or a_mail())
    finally:
        await mailer.close()


BOTH = pytest.mark.parametrize("is_implicit", [True, False], ids=["implicit TLS", "STARTTLS"])


class TestHandingOver:
    @BOTH
    async def test_a_mail_arrives_whole_over_tls(self, context, authority, is_implicit: bool) -> None:
        async with SmtpServer(context, is_implicit=is_implicit) as server:
            await send(server, authority)

        (mail,) = server.mails
        assert mail.tls in ("TLSv1.2", "TLSv1.3")
        assert mail.recipients == ("ada@example.com",)
        assert mail.sender.startswith("<no-reply@notes.example>")
        assert mail.greeting == "notes.example"  # no name of this machine
        assert CANARY.encode() in mail.content
        assert b"Auto-Submitted: auto-generated\r\n" in mail.content

    @BOTH
    async def test_the_user_logs_in_under_tls_only(self, context, authority, is_implicit: bool) -> None:
        async with SmtpServer(context, is_implicit=is_implicit, users={"ada": PASSWORD}) as server:
            await send(server, authority, user="ada", password=Secret(PASSWORD))

        assert [mail.user for mail in server.mails] == ["ada"]
        order = [line.split(" ")[0] for line in server.commands]
        if not is_implicit:
            assert order.index("STARTTLS") < order.index("AUTH")

    async def test_a_closed_mailer_sends_again(self, context, authority) -> None:
        async with SmtpServer(context, is_implicit=True) as server:
            where = Where(host="localhost", port=server.port, tls="implicit")
            mailer = SmtpMailer(where, sender=SENDER, cafile=authority.root)
            for _ in range(2):
                await mailer.send(a_mail())
                await mailer.close()
                await mailer.close()
        assert len(server.mails) == 2

    async def test_no_more_connections_than_allowed_are_open(self, context, authority) -> None:
        async with SmtpServer(context, is_implicit=True) as server:
            where = Where(host="localhost", port=server.port, tls="implicit")
            mailer = SmtpMailer(where, sender=SENDER, cafile=authority.root, connections=2)
            await asyncio.gather(*(mailer.send(a_mail(id=str(number))) for number in range(6)))
            await mailer.close()
        assert len(server.mails) == 6
        assert server.most_at_once <= 2

    async def test_the_environment_may_name_another_authority(self, context, authority, monkeypatch) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
        async with SmtpServer(context, is_implicit=True) as server:
            mailer = SmtpMailer(Where(host="localhost", port=server.port, tls="implicit"), sender=SENDER)
            await mailer.send(a_mail())
            await mailer.close()
        assert len(server.mails) == 1

    async def test_a_line_that_is_a_dot_ends_nothing(self, context, authority) -> None:
        text = "before\n.\nRCPT TO:<eve@example.com>\n..after\n"
        async with SmtpServer(context, is_implicit=True) as server:
            await send(server, authority, a_mail(text=text, html=None))

        (mail,) = server.mails
        assert mail.content.endswith(text.replace("\n", "\r\n").encode())

    async def test_a_server_that_breaks_off_after_it_took_a_mail_has_it(self, context, authority) -> None:
        async with SmtpServer(context, is_implicit=True, replies={"QUIT": ["421 leaving"]}) as server:
            await send(server, authority)
        assert len(server.mails) == 1

    async def test_an_address_beyond_ascii_needs_a_server_that_knows_such(self, context, authority) -> None:
        mail = a_mail(to="añja@exämple.de")
        async with SmtpServer(context, is_implicit=True) as server:
            with pytest.raises(MailNotSent) as refused:
                await send(server, authority, mail)
            assert refused.value.reason == "unsupported"
        async with SmtpServer(context, is_implicit=True, extensions=("8BITMIME", "SMTPUTF8")) as server:
            await send(server, authority, mail)
        assert server.mails[0].recipients == ("añja@xn--exmple-cua.de",)

    async def test_an_unsafe_mail_connects_to_nobody(self, context, authority) -> None:
        async with SmtpServer(context, is_implicit=True) as server:
            with pytest.raises(UnsafeMail):
                await send(server, authority, a_mail(to="ada@example.com\r\nBcc: eve@example.com"))
        assert server.commands == []


class TestTransportSecurity:
    @pytest.mark.requirement("TLS-25", by="live")
    @BOTH
    @pytest.mark.parametrize(
        ("names", "options"),
        [
            pytest.param(("localhost",), {"days": 30}, id="of an unknown authority"),
            pytest.param(("localhost",), {"self_signed": True}, id="self-signed"),
        ],
    )
    async def test_a_server_of_no_authority_that_we_trust_gets_nothing(
        self, tmp_path, authority, is_implicit: bool, names, options
    ) -> None:
        context = other_context(tmp_path, *names, **options)
        await refuses(SmtpServer(context, is_implicit=is_implicit, users={"ada": PASSWORD}), authority)

    @pytest.mark.requirement("TLS-25", by="live")
    @BOTH
    @pytest.mark.parametrize(
        ("names", "days"),
        [
            pytest.param(("mail.example",), 30, id="for another name"),
            pytest.param(("localhost",), -1, id="expired"),
        ],
    )
    async def test_a_certificate_for_another_name_or_time_gets_nothing(
        self, tmp_path, is_implicit: bool, names, days
    ) -> None:
        ours = Authority(tmp_path)
        ours.issue(*names, days=days)
        context = server_tls(ours.certificate, ours.key)
        await refuses(SmtpServer(context, is_implicit=is_implicit, users={"ada": PASSWORD}), ours)

    @pytest.mark.requirement("TLS-25", by="live")
    @BOTH
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
    async def test_a_server_without_tls_1_2_gets_nothing(self, authority, is_implicit, version) -> None:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            context = server_tls(authority.certificate, authority.key, newest=version)
        await refuses(SmtpServer(context, is_implicit=is_implicit, users={"ada": PASSWORD}), authority)

    async def test_a_server_that_offers_no_starttls_gets_nothing(self, context, authority) -> None:
        server = SmtpServer(context, offers_starttls=False, users={"ada": PASSWORD})
        assert await refuses(server, authority) == "unsupported"

    async def test_a_server_that_refuses_starttls_gets_nothing(self, authority) -> None:
        server = SmtpServer(None, extensions=("STARTTLS",), users={"ada": PASSWORD})
        assert await refuses(server, authority) == "temporary"

    async def test_a_plain_server_on_the_port_of_implicit_tls_gets_nothing(self, authority) -> None:
        async with SmtpServer(None) as server:
            mailer = SmtpMailer(
                Where(host="localhost", port=server.port, tls="implicit"),
                sender=SENDER,
                cafile=authority.root,
            )
            with pytest.raises(MailNotSent) as refused:
                await mailer.send(a_mail())
            await mailer.close()
        assert refused.value.reason == "tls"
        assert server.mails == []

    async def test_what_was_said_in_the_clear_is_not_believed_after_starttls(
        self, context, authority
    ) -> None:
        """CVE-2011-0411 from the other side: replies slipped in before TLS must not answer what comes after."""
        forged = b"250-forged\r\n250 AUTH PLAIN\r\n235 welcome\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n"
        async with SmtpServer(context, users={"ada": PASSWORD}, injected=forged) as server:
            with pytest.raises(MailNotSent):
                await send(server, authority, user="ada", password=Secret("wrong"))
        assert server.mails == []

    @pytest.mark.requirement("TLS-25")
    def test_no_setting_and_no_argument_turns_verification_off(self, authority: Authority) -> None:
        context = tls_context(authority.root)
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        arguments = {*inspect.signature(SmtpMailer).parameters, *inspect.signature(Where).parameters}
        assert arguments == {
            *("server", "sender", "cafile", "connections", "timeout", "deadline"),
            *("host", "port", "tls", "user", "password"),
        }
        assert [name for name in READERS if "mail" in name and name.startswith("insecure")] == []

    def test_a_file_of_authorities_that_is_none_is_told_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError):
            SmtpMailer(Where(host="h", port=1, tls="implicit"), sender=SENDER, cafile=tmp_path / "none.pem")


async def refuses(server: SmtpServer, authority: Authority) -> str:
    """Return why nothing was sent, and see that not even the user's name was."""
    async with server:
        with pytest.raises(MailNotSent) as refused:
            await send(server, authority, user="ada", password=Secret(PASSWORD))
    assert server.mails == []
    assert [line for line in server.commands if line.startswith(("AUTH", "MAIL", "RCPT", "DATA"))] == []
    assert refused.value.reason in ("tls", "unsupported", "temporary")
    assert not refused.value.is_final
    return refused.value.reason


class TestRefusals:
    @pytest.mark.parametrize(
        ("replies", "reason", "code", "is_final"),
        [
            pytest.param({"CONNECT": ["554 not you"]}, "temporary", 554, False, id="at the door"),
            pytest.param({"MAIL": ["550 not from you"]}, "temporary", 550, False, id="the sender"),
            pytest.param({"RCPT": ["450 later"]}, "temporary", 450, False, id="the recipient, for now"),
            pytest.param({"RCPT": ["421 later"]}, "temporary", 421, False, id="the recipient, and leaves"),
            pytest.param({"RCPT": ["550 nobody"]}, "refused", 550, True, id="the recipient, for good"),
            pytest.param({"CONTENT": ["451 later"]}, "temporary", 451, False, id="the content, for now"),
            pytest.param({"CONTENT": ["554 spam"]}, "refused", 554, True, id="the content, for good"),
            pytest.param({"DATA": ["554 no"]}, "refused", 554, True, id="before the content, for good"),
            pytest.param({"RCPT": ["what"]}, "temporary", -1, False, id="in no language"),
        ],
    )
    async def test_what_a_server_says_decides_about_another_try(
        self, context, authority, replies, reason, code, is_final
    ) -> None:
        async with SmtpServer(context, is_implicit=True, replies=replies) as server:
            with pytest.raises(MailNotSent) as refused:
                await send(server, authority)
        assert (refused.value.reason, refused.value.code, refused.value.is_final) == (reason, code, is_final)

    async def test_a_wrong_password_is_tried_again_since_it_can_be_mended(self, context, authority) -> None:
        async with SmtpServer(context, is_implicit=True, users={"ada": "other"}) as server:
            with pytest.raises(MailNotSent) as refused:
                await send(server, authority, user="ada", password=Secret(PASSWORD))
        assert (refused.value.reason, refused.value.code) == ("authentication", 535)
        assert not refused.value.is_final

    async def test_nobody_there_is_told_as_that(self, authority, unused_tcp_port: int) -> None:
        mailer = SmtpMailer(Where(host="127.0.0.1", port=unused_tcp_port, tls="implicit"), sender=SENDER)
        with pytest.raises(MailNotSent) as refused:
            await mailer.send(a_mail())
        await mailer.close()
        assert refused.value.reason == "unreachable"

    @pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "CONTENT"])
    async def test_a_server_that_says_nothing_is_left_at_the_deadline(self, context, authority, verb) -> None:
        async with SmtpServer(context, is_implicit=True, held=frozenset({verb})) as server:
            mailer = SmtpMailer(
                Where(host="localhost", port=server.port, tls="implicit"),
                sender=SENDER,
                cafile=authority.root,
                timeout=timedelta(seconds=60),
                deadline=timedelta(seconds=0.3),
            )
            with pytest.raises(MailNotSent) as refused:
                await mailer.send(a_mail())
            assert refused.value.reason == "timed_out"
            # The thread was freed with the connection: closing waits for it, and for no time-out.
            async with asyncio.timeout(5):
                await mailer.close()

    async def test_a_cancelled_mail_frees_its_thread(self, context, authority) -> None:
        async with SmtpServer(context, is_implicit=True, held=frozenset({"CONTENT"})) as server:
            mailer = SmtpMailer(
                Where(host="localhost", port=server.port, tls="implicit"),
                sender=SENDER,
                cafile=authority.root,
                timeout=timedelta(seconds=60),
            )
            sending = asyncio.ensure_future(mailer.send(a_mail()))
            await server.taken.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            async with asyncio.timeout(5):
                await mailer.close()


class TestSilence:
    async def test_no_error_shows_password_token_or_address(self, context, authority, caplog) -> None:
        caplog.set_level(logging.DEBUG)
        hostile = {
            "RCPT": [f"550 ada@example.com {CANARY}"],
            "MAIL": [f"550 {PASSWORD}"],
        }
        texts = [repr(a_mail()), str(a_mail())]
        for replies in ({}, {"RCPT": hostile["RCPT"]}, {"MAIL": hostile["MAIL"]}):
            users = {"ada": PASSWORD} if replies else {"ada": "other"}
            async with SmtpServer(context, is_implicit=True, users=users, replies=replies) as server:
                with pytest.raises(MailNotSent) as refused:
                    await send(server, authority, user="ada", password=Secret(PASSWORD))
            texts += ["".join(traceback.format_exception(refused.value)), repr(refused.value)]
            assert refused.value.__cause__ is None
            assert refused.value.__context__ is None
        texts.append(caplog.text)
        assert [text for text in texts if CANARY in text or PASSWORD in text or "ada@" in text] == []

    def test_a_mailer_shows_no_password(self) -> None:
        where = Where.parse(f"smtps://ada:{PASSWORD}@mail.example.com")
        mailer = SmtpMailer(where, sender=SENDER)
        assert PASSWORD not in f"{where!r} {mailer!r}"
