"""One mail: a value without surprises, and the message (RFC 5322) that is made of it.

Protects the recipient's mailbox from what others typed: an address, a subject or a display name with a line
break would add headers, recipients or a body of the attacker's. Such a mail is never built (ASVS 1.3.11).

Does not protect: the content on its way beyond the first server, nor in the mailbox; mail isn't encrypted
from end to end. Passwords are never in a mail; the link in it signs nobody in by itself.

Sources: RFC 5322; RFC 6532 (addresses beyond ASCII); RFC 3834, 5 (Auto-Submitted); ASVS 5.0.0, 1.3.11.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit

from thebes.errors import ConfigurationError, ThebesError

if TYPE_CHECKING:
    from email.message import EmailMessage

MAX_SUBJECT = 200
MAX_LINE = 998  # RFC 5322, 2.1.1: octets of one line, without its end
# Line and paragraph separators too: str.splitlines, which the header code of Python uses, ends lines there.
_BREAKING = frozenset({"Cc", "Cs", "Zl", "Zp"})
_NAMED = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)> *")

Part = Literal["recipient", "subject", "display name"]
NotSent = Literal[
    "unreachable", "tls", "authentication", "unsupported", "temporary", "refused", "timed_out", "unwritable"
]


class UnsafeMail(ThebesError):
    """A mail was not built: one of its headers could have become several, or is no address at all.

    Attributes:
        part: Which one; its text is in no message, since it may be an attacker's.
    """

    def __init__(self, part: Part, problem: str) -> None:
        super().__init__(f"mail not built: the {part} {problem}")
        self.part = part


class MailNotSent(ThebesError):
    """A mail was not handed over, as far as we know; nothing here holds its content or its recipient.

    Attributes:
        reason: From a closed set, for logs and for deciding what to do.
        code: The server's reply code, if it gave one.
        is_final: Whether the server refuses this mail for good: another try would end alike.
        detail: More for whoever runs the service: what is wrong with a certificate.
    """

    def __init__(
        self, reason: NotSent, *, code: int | None = None, is_final: bool = False, detail: str = ""
    ) -> None:
        told = [f"mail not sent: {reason}", f"reply {code}" if code is not None else "", detail]
        super().__init__(", ".join(part for part in told if part))
        self.reason = reason
        self.code = code
        self.is_final = is_final
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A mail to one person. Its repr shows neither address nor content: a link in it may open an account.

    Attributes:
        id: The same for every attempt to send it, so that whoever gets it twice can tell.
        kind: Which of our mails it is, such as `verify`.
        to: One address, without a name.
        subject: One line.
        text: The plain part.
        html: The other part; None for a mail of text alone.
        made_at: Seconds since the epoch: its Date.
    """

    id: str
    kind: str
    to: str = field(repr=False)
    subject: str = field(repr=False)
    text: str = field(repr=False)
    html: str | None = field(repr=False)
    made_at: float


class Mailer(Protocol):
    """Sends mails: over SMTP, or into the outbox of development, or through a service of your own."""

    async def send(self, mail: Mail) -> None:
        """Hand a mail over, and return when it is safe with somebody else.

        Raises:
            MailNotSent: It isn't, or nobody knows; it will be tried again unless `is_final`.
            UnsafeMail: It can't be built.
        """

    async def close(self) -> None:
        """Let go of what is held."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Whom our mails are from.

    Attributes:
        name: The display name, or an empty text.
        address: With its domain in ASCII (IDNA).
    """

    name: str
    address: str

    @classmethod
    def parse(cls, text: str) -> Sender:
        """Read `Notes <no-reply@example.com>`, or an address alone.

        Raises:
            ConfigurationError: It is neither.
        """
        match = _NAMED.fullmatch(text)
        name, address = (match["name"].strip(" "), match["address"]) if match else ("", text.strip())
        try:
            require_one_line("display name", name)
            return cls(name.strip('"'), wire_address(address))
        except UnsafeMail as error:
            raise ConfigurationError(
                f"{text!r} is no sender ({error}); write it as 'Notes <no-reply@example.com>'"
            ) from None

    @classmethod
    def of(cls, public_url: str) -> Sender:
        """Return `no-reply` at the public URL's host.

        On localhost it is one of a reserved name (RFC 6761, 6.2): an address can't end in localhost, and what
        is sent from there goes into the outbox.

        Raises:
            ConfigurationError: The host can't stand in an address: name a sender.
        """
        host = urlsplit(public_url).hostname or ""
        if host == "localhost" or host.endswith(".localhost"):
            host = "thebes.test"
        return cls.parse(f"no-reply@{host}")

    @property
    def domain(self) -> str:
        """The part behind the @."""
        return self.address.rpartition("@")[2]


def message(mail: Mail, sender: Sender) -> EmailMessage:
    """Return the message of a mail, ready for SMTP or a file.

    Raises:
        UnsafeMail: A line break or another control character in a header, or no address.
    """
    from email.headerregistry import Address  # noqa: PLC0415 - loads a parser of headers
    from email.message import EmailMessage  # noqa: PLC0415
    from email.policy import SMTP, SMTPUTF8  # noqa: PLC0415
    from email.utils import format_datetime  # noqa: PLC0415

    to = wire_address(mail.to)
    require_one_line("subject", mail.subject)
    require_one_line("display name", sender.name)
    # Only the part before the @ may still be beyond ASCII, and then the server has to know RFC 6531.
    made = EmailMessage(policy=SMTP if to.isascii() and sender.address.isascii() else SMTPUTF8)
    made["From"] = Address(sender.name, *_halves(sender.address))
    made["To"] = Address("", *_halves(to))
    made["Subject"] = mail.subject[:MAX_SUBJECT]
    made["Date"] = format_datetime(datetime.fromtimestamp(mail.made_at, UTC))
    made["Message-ID"] = f"<{_public_id(mail.id)}@{sender.domain}>"
    made["Auto-Submitted"] = "auto-generated"  # no holiday notices back (RFC 3834)
    made.set_content(mail.text, cte=_coding(mail.text))
    if mail.html is not None:
        made.add_alternative(mail.html, subtype="html", cte=_coding(mail.html))
    return made


def wire_address(address: str) -> str:
    """Return an address as it stands in headers and commands: one, with its domain in ASCII.

    Raises:
        UnsafeMail: It isn't one address.
    """
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415 - loads DNS and IDNA

    # The parser refuses these too; a line break is what must never depend on one barrier.
    require_one_line("recipient", address)
    try:
        # Whether a name can exist in the public DNS is no matter here: a network of one's own has others.
        found = validate_email(
            address, check_deliverability=False, test_environment=True, globally_deliverable=False
        )
    except EmailNotValidError:
        pass  # raised below, outside: a chained error would carry the address
    else:
        return f"{found.local_part}@{found.ascii_domain}"
    raise UnsafeMail("recipient", "is not one e-mail address")


def require_one_line(part: Part, text: str) -> None:
    """Refuse a text that could end a header's line, or hide in it.

    Raises:
        UnsafeMail: It holds a control character, a separator of lines, or half a character.
    """
    if any(unicodedata.category(character) in _BREAKING for character in text):
        raise UnsafeMail(part, "holds a line break or another control character")


def _public_id(mail_id: str) -> str:
    """Return what stands for an id in the mail: it may name a session, and may be no atom of RFC 5322."""
    return sha256(mail_id.encode()).hexdigest()[:32]


def _halves(address: str) -> tuple[str, str]:
    local, _, domain = address.rpartition("@")
    return local, domain


def _coding(text: str) -> str:
    """Return the transfer encoding under which no server has to touch a line."""
    is_plain = text.isascii() and all(len(line) <= MAX_LINE for line in text.splitlines())
    return "7bit" if is_plain else "quoted-printable"
