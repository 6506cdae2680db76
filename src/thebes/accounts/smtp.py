"""Hand mails to an SMTP server, over TLS that is verified, or not at all.

Protects the links in mails from whoever sits between us and the server: TLS 1.2 or later from the first byte
(`smtps://`) or by STARTTLS that must succeed (`smtp://`), with the chain and the name verified. A server that
doesn't offer STARTTLS gets nothing, no password either: leaving the offer out is how it is stripped. There is
no setting that turns any of that off.

Does not protect: the mail beyond that server, which hands it on by rules of its own.

The standard library's client speaks the protocol, in threads of its own: at most `connections` at once. Each
operation has a time-out and each mail a deadline, after which its connection is cut: a server that answers
one byte at a time holds no thread for long.

Sources: RFC 8314, 3 (TLS for submission); RFC 3207 (STARTTLS); RFC 5321, 4.2.1; ASVS 5.0.0, 12.3.1, 12.3.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from thebes.accounts.mail import Mail, MailNotSent, Sender, message, wire_address
from thebes.errors import ConfigurationError
from thebes.secret import Secret

SMTPS_PORT = 465  # RFC 8314, 3.3
SUBMISSION_PORT = 587  # RFC 6409, 3.1
TIMEOUT = timedelta(seconds=10)  # of one operation
DEADLINE = timedelta(seconds=45)  # of one mail
CONNECTIONS = 2
FORM = "smtps://user:password@mail.example.com or smtp://user:password@mail.example.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpServer:
    """Where mails are handed over.

    Attributes:
        host: Its name, which the certificate must cover.
        port: 465 for TLS from the first byte, 587 for STARTTLS, if the URL names none.
        tls: How TLS begins.
        user: None for a server that asks for none.
        password: Shown by nothing.
    """

    host: str
    port: int
    tls: Literal["implicit", "starttls"]
    user: str | None = None
    password: Secret | None = None

    @classmethod
    def parse(cls, url: Secret | str) -> SmtpServer:
        """Read `smtps://user:password@host:465` or `smtp://user:password@host:587`.

        User and password are percent-encoded, as in every URL.

        Raises:
            ConfigurationError: It is none of these; the message shows nothing of it: it holds a password.
        """
        text = url.reveal_text() if isinstance(url, Secret) else url
        try:
            parts, port = urlsplit(text), urlsplit(text).port
        except ValueError:
            parts, port = urlsplit(""), None  # refused below, outside: a chained error would carry the URL
        if parts.scheme not in ("smtps", "smtp") or not parts.hostname or not text.isprintable():
            raise ConfigurationError(f"the mail URL can't be read: write {FORM}")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ConfigurationError(f"the mail URL has something behind the host: write {FORM}")
        if (parts.username is None) != (parts.password is None):
            raise ConfigurationError(f"the mail URL needs both user and password, or neither: write {FORM}")
        is_implicit = parts.scheme == "smtps"
        user, password = (
            None if part is None else unquote(part) for part in (parts.username, parts.password)
        )
        if not ((user or "") + (password or "")).isascii():
            raise ConfigurationError(
                "the mail URL has a user or password beyond ASCII, which SMTP can't carry"
            )
        return cls(
            host=parts.hostname,
            port=port or (SMTPS_PORT if is_implicit else SUBMISSION_PORT),
            tls="implicit" if is_implicit else "starttls",
            user=user,
            password=None if password is None else Secret(password),
        )


def tls_context(cafile: Path | None = None) -> ssl.SSLContext:
    """Return a context that verifies chain and name, and speaks TLS 1.2 or later.

    Args:
        cafile: PEM of the authorities to trust, in place of the system's, for a server with a private one.
    """
    context = ssl.create_default_context(cafile=cafile)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = True
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class SmtpMailer:
    """A `Mailer` over SMTP.

    Args:
        server: Where to.
        sender: Whom the mails are from; its domain is what we greet the server with.
        cafile: PEM of the authorities to trust, in place of the system's.
        connections: How many mails may be on their way at once; others wait, which counts for their deadline.
        timeout: For one operation: connecting, one reply.
        deadline: For one mail.

    Raises:
        ConfigurationError: The file of authorities can't be read.
    """

    def __init__(
        self,
        server: SmtpServer,
        *,
        sender: Sender,
        cafile: Path | None = None,
        connections: int = CONNECTIONS,
        timeout: timedelta = TIMEOUT,
        deadline: timedelta = DEADLINE,
    ) -> None:
        self._server = server
        self._sender = sender
        self._timeout_s = timeout.total_seconds()
        self._deadline_s = deadline.total_seconds()
        try:
            self._context = tls_context(cafile)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigurationError(f"cannot trust the authorities of {cafile}: {error.strerror}") from error
        self._connections = connections
        self._threads: ThreadPoolExecutor | None = None

    async def send(self, mail: Mail) -> None:
        """Hand a mail over; when this returns the server has taken responsibility for it.

        Raises:
            MailNotSent: It has not, or nobody knows.
            UnsafeMail: The mail can't be built; nothing was connected.
        """
        made = message(mail, self._sender)
        talk = _Conversation(
            self._server, self._context, greeting=self._sender.domain, timeout_s=self._timeout_s
        )
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._connections, thread_name_prefix="thebes-mail")
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, talk.hand_over, made, self._sender.address, wire_address(mail.to)
        )
        try:
            async with asyncio.timeout(self._deadline_s):
                await asyncio.shield(work)
        except TimeoutError:
            raise MailNotSent("timed_out") from None
        finally:
            # A deadline or a cancellation: the thread ends when its connection does.
            talk.cut()
            work.add_done_callback(_seen)

    async def close(self) -> None:
        """Wait for the threads, which end within one time-out; a later mail makes new ones."""
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown, wait=True)

    def __repr__(self) -> str:
        return f"SmtpMailer({self._server.host}:{self._server.port}, {self._server.tls})"


class _Conversation:
    """One connection, in a thread; `cut` alone is called from another one."""

    def __init__(
        self, server: SmtpServer, context: ssl.SSLContext, *, greeting: str, timeout_s: float
    ) -> None:
        self._server = server
        self._context = context
        self._is_cut = False
        if server.tls == "implicit":
            self._smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                local_hostname=greeting, timeout=timeout_s, context=context
            )
        else:
            self._smtp = smtplib.SMTP(local_hostname=greeting, timeout=timeout_s)

    def hand_over(self, made: EmailMessage, sender: str, recipient: str) -> None:
        """Connect, secure, authenticate, send.

        Raises:
            MailNotSent: Whatever is wrong; nothing is chained to it: a server's reply may hold anything.
        """
        failure: MailNotSent | None = None
        try:
            for step in (self._connect, self._secure, self._log_in):
                if not self._is_cut:
                    step()
            if self._is_cut:
                raise MailNotSent("timed_out")
            self._send(made, sender, recipient)
        except MailNotSent as error:
            failure = error
        except Exception as error:
            failure = _told(error)
        finally:
            self._smtp.close()
        if failure is not None:
            raise failure

    def cut(self) -> None:
        """End the connection, whatever the other thread waits for."""
        self._is_cut = True
        if (sock := self._smtp.sock) is not None:
            with contextlib.suppress(OSError):  # it has ended already
                # That of SSLSocket takes TLS off first: what is sent in that moment would be in the clear.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _connect(self) -> None:
        # Connecting in the constructor would hide the socket from `cut` until the server has greeted us. The
        # name that the certificate must cover is then ours to set; unset, TLS refuses to begin.
        self._smtp._host = self._server.host  # type: ignore[attr-defined]
        code, _ = self._smtp.connect(self._server.host, self._server.port)
        if code != 220:
            raise MailNotSent("temporary", code=code)

    def _secure(self) -> None:
        if self._server.tls == "starttls":
            self._smtp.starttls(context=self._context)
        if not isinstance(self._smtp.sock, ssl.SSLSocket):
            raise MailNotSent("tls")
        self._smtp.ehlo_or_helo_if_needed()

    def _log_in(self) -> None:
        if self._server.user is not None and self._server.password is not None:
            try:
                self._smtp.login(self._server.user, self._server.password.reveal_text())
            finally:
                self._smtp.password = ""

    def _send(self, made: EmailMessage, sender: str, recipient: str) -> None:
        self._smtp.send_message(made, sender, [recipient])
        # Taken: what goes wrong with saying goodbye changes nothing any more.
        with contextlib.suppress(OSError, smtplib.SMTPException):
            self._smtp.quit()


def _told(error: Exception) -> MailNotSent:
    """Return what may be said of an error: only what can't hold an address, a link or a password."""
    match error:
        case ssl.SSLCertVerificationError():
            return MailNotSent("tls", detail=error.verify_message)
        case ssl.SSLError():
            return MailNotSent("tls", detail=(error.reason or "").lower().replace("_", " "))
        case smtplib.SMTPNotSupportedError():
            return MailNotSent("unsupported")
        case smtplib.SMTPAuthenticationError():
            return MailNotSent("authentication", code=error.smtp_code)
        case smtplib.SMTPRecipientsRefused():
            return _reply(next(code for code, _ in error.recipients.values()), is_about_the_mail=True)
        case smtplib.SMTPDataError():
            return _reply(error.smtp_code, is_about_the_mail=True)
        case smtplib.SMTPResponseException():
            return _reply(error.smtp_code)
        case TimeoutError():
            return MailNotSent("timed_out")
        case OSError():  # smtplib's own are of this kind too: the connection ended
            return MailNotSent("unreachable", detail=type(error).__name__)
    return MailNotSent("unreachable", detail=type(error).__name__)


def _reply(code: int, *, is_about_the_mail: bool = False) -> MailNotSent:
    """Judge a reply that refuses: 5xx about this recipient or content is final, all else may pass."""
    is_final = is_about_the_mail and 500 <= code < 600
    return MailNotSent("refused" if is_final else "temporary", code=code, is_final=is_final)


def _seen(work: asyncio.Future[None]) -> None:
    if not work.cancelled():
        work.exception()  # nobody may wait for it any more
