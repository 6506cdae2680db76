"""The texts of our mails, and how values get into them.

Links begin with the configured public URL and nothing else: no request has a say in them (ACC-08). A token
stands in the query of a page of the app, which needs a confirming POST, since mail scanners follow links.
What a client had a say in, such as its name of a device, is cut to what can't be a link or markup: else an
attacker could write to your users in your name.

Each mail is a text, `verify.txt` with a `Subject:` line first, and optionally `verify.html`, set into
`frame.html`. Values are put in for `$name`; in HTML they are escaped. A directory of your own replaces any of
them, and is checked when it is read.

Does not protect: against what your own templates say, or load from elsewhere.

Sources: OWASP Forgot Password Cheat Sheet; ASVS 5.0.0, 1.2.1, 4.1.3; ACC-08, ACC-14, CSR-08.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from thebes.accounts.mail import Mail, require_one_line
from thebes.errors import ConfigurationError
from thebes.secret import Secret

# Which page a mail's link leads to; those without one carry no token.
LINKS: Mapping[str, str] = {"verify": "verify", "reset": "reset", "invite": "reset"}
KINDS = (
    *LINKS,
    "already_registered",
    "password_changed",
    "password_reset",
    "session_reused",
    "new_device",
    "many_failures",
    "password_off",
    "device_off",
    "account_disabled",
    "account_deleted",
)
FACTS = ("device", "address")
NAMES = ("service", "home_page", "login_page", "forgot_page", "sessions_page", "time", *FACTS)
LINK_NAMES = ("link", "expires")
FRAME = "frame.html"

MAX_FACT = 60
UNKNOWN = {"device": "an unknown device", "address": "an unknown address"}
# No dot, slash, colon or @ in a device's name: mail programs make links of what looks like one.
_NO_NAME = re.compile(r"[^\w ()+,_-]", re.ASCII)
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]+(/[0-9]{1,3})?")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+/?|/")
_TOKEN = re.compile(r"[A-Za-z0-9_.~-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """Paths of the app's own pages, below the public URL, to which mails lead.

    Attributes:
        verify: Takes `?token=`, asks for a click, and posts the token to `/auth/verify`.
        reset: Takes `?token=`, asks for a new password, and posts both to `/auth/reset`.
        login: Where one signs in.
        forgot: Where one asks for a reset.
        sessions: Where one sees and ends one's sessions.
        home: The start page.

    Raises:
        ConfigurationError: No plain path.
    """

    verify: str = "/verify"
    reset: str = "/reset"
    login: str = "/login"
    forgot: str = "/forgot"
    sessions: str = "/sessions"
    home: str = "/"

    def __post_init__(self) -> None:
        wrong = [one.name for one in fields(self) if not _PATH.fullmatch(getattr(self, one.name))]
        if wrong:
            raise ConfigurationError(
                *(f"the page {name} needs a plain path such as /{name}" for name in wrong)
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a mail is to say: kept sealed in the queue, made into a mail when it is sent.

    Attributes:
        kind: One of `KINDS`.
        to: The account's own address.
        token: In the link; None in a mail without one.
        facts: Texts of `FACTS`, for the owner.
        made_at: Seconds since the epoch, when it happened.
        expires_at: When the link ends.
    """

    kind: str
    to: str = field(repr=False)
    token: Secret | None = None
    facts: Mapping[str, str] = field(default_factory=dict, repr=False)
    made_at: float
    expires_at: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigurationError(f"there is no mail {self.kind!r}; there are {', '.join(KINDS)}")
        if (self.kind in LINKS) != (self.token is not None):
            raise ConfigurationError(
                f"the mail {self.kind} {'needs a' if self.kind in LINKS else 'has no'} token"
            )
        if unknown := self.facts.keys() - set(FACTS):
            raise ConfigurationError(
                f"mails know no {', '.join(sorted(unknown))}; they know {', '.join(FACTS)}"
            )


class Templates:
    """Makes mails of orders.

    Args:
        public_url: The service's own origin, `https://example.com`; all links begin with it.
        service: What the service is called; the host of the public URL if None.
        pages: Where the links lead.
        directory: Of templates of your own; those that are missing there are ours.

    Raises:
        ConfigurationError: A template that doesn't say what it must, or names what there isn't.
    """

    def __init__(
        self,
        *,
        public_url: str,
        service: str | None = None,
        pages: Pages | None = None,
        directory: Path | None = None,
    ) -> None:
        pages = pages or Pages()
        self._url = public_url.rstrip("/")
        self._paths = {one.name: getattr(pages, one.name) for one in fields(pages)}
        self._service = service or self._url.partition("://")[2]
        require_one_line("display name", self._service)
        ours = files("thebes.accounts") / "mails"
        own = directory if directory is not None else None
        problems = [] if own is None else _strangers(own)
        self._frame = _read(own, FRAME) or Template((ours / FRAME).read_text("utf-8"))
        problems += _names_in(FRAME, self._frame, ("subject", "content"), needed=("content",))
        self._texts: dict[str, _Text] = {}
        for kind in KINDS:
            self._texts[kind] = text = _Text.of(kind, own, ours)
            problems += text.problems()
        if problems:
            raise ConfigurationError(*problems)

    def mail(self, order: Order, *, mail_id: str) -> Mail:
        """Return the mail of an order.

        Raises:
            UnsafeMail: Its subject would be more than one line.
        """
        text, values = self._texts[order.kind], self._values(order)
        subject = text.subject.substitute(values)
        require_one_line("subject", subject)
        html = None
        if text.html is not None:
            content = text.html.substitute({name: escape(value) for name, value in values.items()})
            html = self._frame.substitute(subject=escape(subject), content=content)
        return Mail(
            id=mail_id,
            kind=order.kind,
            to=order.to,
            subject=subject,
            text=text.body.substitute(values),
            html=html,
            made_at=order.made_at,
        )

    def _values(self, order: Order) -> dict[str, str]:
        values = {f"{name}_page": self._url + path for name, path in self._paths.items()}
        values |= {"service": self._service, "time": _clock_time(order.made_at)}
        values |= {name: fact(name, order.facts.get(name)) for name in FACTS}
        if order.token is not None:
            values["link"] = f"{self._url}{self._paths[LINKS[order.kind]]}?token={_checked(order.token)}"
            values["expires"] = _clock_time(order.expires_at)
        return values


def fact(name: str, text: str | None) -> str:
    """Return a client's word in a form that can be no link, no markup and no second line.

    >>> fact("device", "Firefox on Linux")
    'Firefox on Linux'
    >>> fact("device", "win http://evil.example/x")
    'win http evil example x'
    >>> fact("address", "<b>192.0.2.0</b>")
    'an unknown address'
    """
    if not text:
        return UNKNOWN[name]
    if name == "address":
        return text if len(text) <= MAX_FACT and _ADDRESS.fullmatch(text) else UNKNOWN[name]
    return " ".join(_NO_NAME.sub(" ", text).split())[:MAX_FACT].strip() or UNKNOWN[name]


@dataclass(frozen=True, slots=True)
class _Text:
    """The template of one mail."""

    kind: str
    subject: Template
    body: Template
    html: Template | None

    @classmethod
    def of(cls, kind: str, own: Path | None, ours: Traversable) -> _Text:
        mine = _read(own, f"{kind}.txt")
        html = _read(own, f"{kind}.html")
        if mine is None:
            whole = (ours / f"{kind}.txt").read_text("utf-8")
            html = html or Template((ours / f"{kind}.html").read_text("utf-8"))
        else:
            # Two parts that say different things would be worse than a mail of text alone.
            whole = mine.template
        first, _, body = whole.replace("\r\n", "\n").partition("\n")
        is_told, _, subject = first.partition("Subject:")
        return cls(kind, Template("" if is_told else subject.strip()), Template(body.strip() + "\n"), html)

    def problems(self) -> list[str]:
        allowed = (*NAMES, *LINK_NAMES) if self.kind in LINKS else NAMES
        needed = ("link",) if self.kind in LINKS else ()
        found = _names_in(f"{self.kind}.txt", self.body, allowed, needed=needed)
        found += _names_in(f"{self.kind}.txt", self.subject, NAMES)
        if self.html is not None:
            found += _names_in(f"{self.kind}.html", self.html, allowed, needed=needed)
        if not self.subject.template:
            found.append(f"{self.kind}.txt must begin with a line 'Subject: ...'")
        return found


def _names_in(
    file: str, template: Template, allowed: Iterable[str], *, needed: Iterable[str] = ()
) -> list[str]:
    if not template.is_valid():
        return [f"{file} has a $ that begins no name; write $$ for the sign itself"]
    there = template.get_identifiers()
    unknown = [name for name in there if name not in allowed]
    problems = [
        f"{file} has ${name}; there are {', '.join('$' + one for one in allowed)}" for name in unknown
    ]
    return problems + [f"{file} lacks ${name}" for name in needed if name not in there]


def _read(directory: Path | None, name: str) -> Template | None:
    if directory is None or not (directory / name).is_file():
        return None
    try:
        return Template((directory / name).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the mail template {name}: {type(error).__name__}") from None


def _strangers(directory: Path) -> list[str]:
    """Return a sentence for each file that would never be read: a misspelt name sends our text, not yours."""
    if not directory.is_dir():
        return [f"the directory of mail templates {directory} is none"]
    known = {FRAME, *(f"{kind}.{ending}" for kind in KINDS for ending in ("txt", "html"))}
    found = sorted(path.name for path in directory.iterdir() if path.suffix in (".txt", ".html"))
    return [f"{name} is no mail of ours; there are {', '.join(KINDS)}" for name in found if name not in known]


def _checked(token: Secret) -> str:
    text = token.reveal_text()
    if not _TOKEN.fullmatch(text):
        raise ConfigurationError("a token in a mail must be base64url")
    return text


def _clock_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
