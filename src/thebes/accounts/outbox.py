"""Mails that go nowhere: the outbox of development, and the mailbox of tests.

In development a mail is a file that every mail program opens, `.thebes/outbox/*.eml`, and three lines in the
terminal with the link, so that registering can be tried without a mail server.

Does not protect: whoever reads the terminal or the directory can follow the links. It is for one's own
machine.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path

from thebes.accounts.mail import Mail, MailNotSent, Sender, message
from thebes.events import timestamp

KEPT = 200  # files; older ones are deleted
_LINK = re.compile(r"https?://[^\s<>\"]+")
_TOKEN = re.compile(r"[?&]token=([A-Za-z0-9_.-]+)")
_PLAIN = re.compile(r"[^A-Za-z0-9_-]")


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Outbox:
    """A `Mailer` that writes mails into a directory and tells of them.

    Args:
        directory: Made when it is missing, for this user alone.
        sender: Whom the mails are from.
        say: Where the lines for people go; stderr by default.
    """

    def __init__(self, directory: Path, *, sender: Sender, say: Callable[[str], None] = _print) -> None:
        self._directory = directory
        self._sender = sender
        self._say = say

    async def send(self, mail: Mail) -> None:
        """Write the file, mode 0600, and say where it is and what link is in it.

        A mail that is sent again replaces its own file.

        Raises:
            MailNotSent: The file can't be written.
            UnsafeMail: The mail can't be built.
        """
        content = message(mail, self._sender).as_bytes()
        path = self._directory / _file_name(mail)
        try:
            await asyncio.to_thread(self._write, path, content)
        except OSError as error:
            raise MailNotSent("unwritable", detail=error.strerror or "") from None
        self._say(f"mail to {mail.to}: {mail.subject}")
        if (link := link_of(mail)) is not None:
            self._say(f"  {link}")
        self._say(f"  {path}")

    async def close(self) -> None:
        """Nothing is held."""

    def _write(self, path: Path, content: bytes) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_bytes(content)
        draft.replace(path)
        for old in sorted(self._directory.glob("*.eml"))[:-KEPT]:
            old.unlink(missing_ok=True)


class Mailbox:
    """A `Mailer` that keeps mails in memory, so that a test can look at them.

    Attributes:
        messages: What was sent, the latest last.
    """

    def __init__(self) -> None:
        self.messages: list[Mail] = []

    async def send(self, mail: Mail) -> None:
        """Keep a mail that could have been sent.

        Raises:
            UnsafeMail: The mail can't be built.
        """
        message(mail, Sender("", "no-reply@testserver.example"))
        self.messages.append(mail)

    async def close(self) -> None:
        """Nothing is held; the messages stay."""

    def last(self, *, to: str | None = None, kind: str | None = None) -> Mail:
        """Return the latest mail, to one address or of one kind if asked for.

        Raises:
            LookupError: There is none.
        """
        for mail in reversed(self.messages):
            if (to is None or mail.to == to) and (kind is None or mail.kind == kind):
                return mail
        wanted = " ".join(part for part in (kind, f"to {to}" if to else None) if part)
        raise LookupError(f"no mail {wanted}".rstrip() + f" among {len(self.messages)}")

    def last_token(self, *, to: str | None = None, kind: str | None = None) -> str:
        """Return the token in the link of the latest mail that has one.

        Raises:
            LookupError: There is none.
        """
        for mail in reversed(self.messages):
            is_wanted = (to is None or mail.to == to) and (kind is None or mail.kind == kind)
            if is_wanted and (found := _TOKEN.search(mail.text)) is not None:
                return found[1]
        raise LookupError(f"no mail with a token among {len(self.messages)}")

    def clear(self) -> None:
        """Forget all mails."""
        self.messages.clear()


def link_of(mail: Mail) -> str | None:
    """Return the link that a mail is about: the first one in its text."""
    found = _LINK.search(mail.text)
    return None if found is None else found[0].rstrip(".,)")


def _file_name(mail: Mail) -> str:
    """Return a name that sorts by time, the same for every attempt; nothing in it can be a path."""
    moment = _PLAIN.sub("", timestamp(mail.made_at))
    return f"{moment}-{_PLAIN.sub('', mail.kind)}-{_PLAIN.sub('', mail.id)}.eml"
