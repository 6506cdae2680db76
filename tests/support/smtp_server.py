"""An SMTP server for tests: real sockets, real TLS, and as rude as a test needs it."""

import asyncio
import base64
import contextlib
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Received:
    """A mail that was taken.

    Attributes:
        sender: Of the envelope, with the parameters of MAIL.
        recipients: Of the envelope.
        content: As it came, with the dots of transparency taken off.
        user: Who had logged in.
        tls: The version, None without.
        greeting: What the client called itself.
    """

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    user: str | None
    tls: str | None
    greeting: str


@dataclass
class SmtpServer:
    """Takes mails on a loopback port while its block lasts.

    Attributes:
        context: For TLS; None speaks none.
        is_implicit: TLS from the first byte.
        offers_starttls: Whether EHLO names it.
        users: Who may log in; none is offered where there is none.
        extensions: Further lines of EHLO.
        replies: What is said in place of the usual, by verb (`CONNECT`, `MAIL`, `DATA`, `CONTENT`): the first
            of the list each time, until it is empty.
        injected: Sent in the clear behind the reply to STARTTLS, as somebody on the line would.
        held: Verbs that are never answered.
        mails: What was taken.
        commands: All lines, those of AUTH without what they prove.
        taken: Set with every mail, before its reply.
        most_at_once: How many connections there were at the same time.
    """

    context: ssl.SSLContext | None = None
    is_implicit: bool = False
    offers_starttls: bool = True
    users: dict[str, str] = field(default_factory=dict)
    extensions: tuple[str, ...] = ("8BITMIME", "SIZE 1000000")
    replies: dict[str, list[str]] = field(default_factory=dict)
    injected: bytes = b""
    held: frozenset[str] = frozenset()
    mails: list[Received] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    most_at_once: int = 0

    async def saw(self, verb: str) -> None:
        """Wait until a client has come to a step that is held."""
        while verb not in self._reached:
            self._step.clear()
            await self._step.wait()

    def reached(self, verb: str) -> None:
        """Note a step, before its reply."""
        self._reached.add(verb)
        self._step.set()

    async def __aenter__(self) -> Self:
        self._reached: set[str] = set()
        self._step = asyncio.Event()
        self._talks: set[asyncio.Task[None]] = set()
        context = self.context if self.is_implicit else None
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for talk in [*self._talks]:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        self.most_at_once = max(self.most_at_once, len(self._talks))
        try:
            await _Talk(self, reader, writer).run()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left, or the test is over
        finally:
            self._talks.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class _Talk:
    def __init__(
        self, server: SmtpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._greeting = ""
        self._sender = ""
        self._recipients: list[str] = []
        self._user: str | None = None

    async def run(self) -> None:
        await self._say("CONNECT", "220 test ESMTP")
        while line := (await self._reader.readline()).decode("utf-8", "replace").rstrip("\r\n"):
            verb = line.split(" ")[0].upper()
            self._server.commands.append(" ".join(line.split(" ")[:2]) if verb == "AUTH" else line)
            if verb == "QUIT":
                await self._say("QUIT", "221 bye")
                return
            await getattr(self, f"_{verb.lower()}", self._unknown)(line)

    async def _ehlo(self, line: str) -> None:
        self._greeting = line[5:]
        offers = ["test", *self._server.extensions]
        if self._server.context is not None and self._server.offers_starttls and self._tls is None:
            offers.append("STARTTLS")
        if self._server.users:
            offers.append("AUTH PLAIN")
        await self._say("EHLO", "\r\n".join(f"250-{one}" for one in offers[:-1]) + f"\r\n250 {offers[-1]}")

    async def _starttls(self, line: str) -> None:
        if self._server.context is None:
            await self._say("STARTTLS", "454 not now")
            return
        self._writer.write(b"220 go ahead\r\n" + self._server.injected)
        await self._writer.drain()
        await self._writer.start_tls(self._server.context)

    async def _auth(self, line: str) -> None:
        _, _, proof = line.split(" ", 2)
        _, user, password = base64.b64decode(proof).decode().split("\0")
        if self._server.users.get(user) == password:
            self._user = user
            await self._say("AUTH", "235 welcome")
        else:
            await self._say("AUTH", f"535 no, {user} with {password} is wrong")

    async def _mail(self, line: str) -> None:
        self._sender = line[len("MAIL FROM:") :]
        await self._say("MAIL", "250 ok")

    async def _rcpt(self, line: str) -> None:
        self._recipients.append(line[len("RCPT TO:") :].strip("<>"))
        await self._say("RCPT", "250 ok")

    async def _data(self, line: str) -> None:
        await self._say("DATA", "354 go ahead")
        content = await self._reader.readuntil(b"\r\n.\r\n")
        lines = content[: -len(b".\r\n")].split(b"\r\n")
        plain = b"\r\n".join(one[1:] if one.startswith(b".") else one for one in lines)
        mail = Received(self._sender, tuple(self._recipients), plain, self._user, self._tls, self._greeting)
        self._server.mails.append(mail)
        self._server.taken.set()
        await self._say("CONTENT", "250 taken")

    async def _rset(self, line: str) -> None:
        await self._say("RSET", "250 ok")

    async def _unknown(self, line: str) -> None:
        await self._say("UNKNOWN", "502 no such command")

    @property
    def _tls(self) -> str | None:
        found = self._writer.get_extra_info("ssl_object")
        return None if found is None else found.version()

    async def _say(self, verb: str, text: str) -> None:
        self._server.reached(verb)
        if verb in self._server.held:
            await asyncio.get_running_loop().create_future()
        others = self._server.replies.get(verb)
        self._writer.write((others.pop(0) if others else text).encode() + b"\r\n")
        await self._writer.drain()


def server_tls(
    certificate: Path, key: Path, *, newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
) -> ssl.SSLContext:
    """Return the context of a server, which may be as old as a test wants it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = newest
    context.load_cert_chain(certificate, key)
    return context
