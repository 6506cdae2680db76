"""What accounts stand on, as the settings and the mode choose it: keys, a store, who takes mails.

Production has what was set for it. Development makes its own on first use and keeps it in `.thebes/`; test
mode keeps everything in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from thebes.accounts import openapi
from thebes.accounts.mail import Mailer, Sender
from thebes.accounts.outbox import Mailbox, Outbox
from thebes.accounts.smtp import SmtpMailer, SmtpServer
from thebes.errors import ConfigurationError
from thebes.facts import Mode
from thebes.passwords.breaches import BreachSource, PwnedFile, PwnedRanges
from thebes.passwords.policy import PasswordPolicy
from thebes.secret import Secret
from thebes.secrets.project import development_keys, ensure_project_state
from thebes.secrets.strength import SecretKey, parse_secret_keys
from thebes.settings import Settings
from thebes.stores.memory import MemoryStore
from thebes.stores.sqlite import SQLiteStore
from thebes.stores.store import Store
from thebes.tokens.cookie_jar import CookieJar

TEST_ISSUER = "https://testserver"
DEVELOPMENT_ISSUER = "https://localhost"
TEST_KEY = SecretKey("test", Secret(b"for tests only, and known to all"))


def secret_keys_of(settings: Settings, directory: Path) -> Sequence[SecretKey]:
    """Return the master keys: those that are set, else development's own or the test key."""
    if settings.secret_keys is not None:
        return parse_secret_keys(settings.secret_keys.reveal_text())
    if settings.mode is Mode.TEST:
        return (TEST_KEY,)
    return parse_secret_keys(development_keys(ensure_project_state(directory)))


def open_store(settings: Settings, directory: Path, workers: int) -> Store:
    """Return the store that the settings name, not opened yet.

    Raises:
        ConfigurationError: It can't be shared by so many workers, or isn't known.
    """
    if settings.mode is Mode.TEST and settings.database_url is None:
        return MemoryStore()
    if settings.database_url is None:
        return SQLiteStore(ensure_project_state(directory) / "thebes.db")
    path = sqlite_path(settings.database_url.reveal_text())
    if path is None and workers > 1:
        raise ConfigurationError("database_url names memory, which several workers can't share")
    return MemoryStore() if path is None else SQLiteStore(directory / path)


def sqlite_path(url: str) -> Path | None:
    """Return the file that a database URL names, or None for memory.

    Raises:
        ConfigurationError: It is none of the known kinds.
    """
    if url == "memory:":
        return None
    scheme, separator, path = url.partition(":///")
    if scheme == "sqlite" and separator and path:
        return Path(path)
    raise ConfigurationError(
        "database_url can't be read: write sqlite:///thebes.db or sqlite:////var/lib/..."
    )


def issuer_of(settings: Settings) -> str:
    """Return the name under which this service makes tokens, and where its links lead."""
    if settings.public_url is not None:
        return settings.public_url
    if settings.mode is Mode.PRODUCTION:
        if not settings.hosts:
            raise ConfigurationError("THEBES_PUBLIC_URL is missing: links and tokens name the service by it")
        return f"https://{settings.hosts[0]}"
    return TEST_ISSUER if settings.mode is Mode.TEST else DEVELOPMENT_ISSUER


def mailer_for(settings: Settings, directory: Path, issuer: str) -> Mailer:
    """Return who takes mails: a server, development's outbox, or a mailbox in tests."""
    if settings.mode is Mode.TEST and settings.mail_url is None:
        return Mailbox()
    sender = Sender.parse(settings.mail_from) if settings.mail_from else Sender.of(issuer)
    if settings.mail_url is None:
        return Outbox(ensure_project_state(directory) / "outbox", sender=sender)
    return SmtpMailer(SmtpServer.parse(settings.mail_url), sender=sender)


def password_policy(settings: Settings, directory: Path) -> PasswordPolicy:
    """Return what is asked of new passwords; the source of breaches is opened.

    Raises:
        ConfigurationError: The source can't be read, or strictness is asked for without one.
    """
    source = settings.breached_passwords
    breaches: BreachSource | None = None
    if source is not None:
        breaches = PwnedRanges(source) if "://" in source else PwnedFile(directory / source)
    elif settings.breached_passwords_strict:
        raise ConfigurationError("breached_passwords_strict needs a source: set breached_passwords")
    return PasswordPolicy(breaches=breaches, is_strict=settings.breached_passwords_strict)


def context_words(settings: Settings) -> Sequence[str]:
    """Return the words that are no good as a password of this service (PWD-08)."""
    hosts = (*settings.hosts, *((urlsplit(settings.public_url).netloc,) if settings.public_url else ()))
    return tuple(host.partition(":")[0] for host in hosts)


def is_described(settings: Settings) -> bool:
    """Say whether the account API's OpenAPI document is served: in production if docs are asked for."""
    return settings.docs or settings.mode is not Mode.PRODUCTION


def api_document(settings: Settings) -> dict[str, Any]:
    """Return the account API's OpenAPI document, of what this mode serves."""
    return openapi.describe(
        prefix=settings.accounts_prefix,
        cookie=CookieJar(namespace=settings.cookie_namespace).session_name,
        with_password_grant=settings.mode is not Mode.PRODUCTION,
        is_served=is_described(settings),
    )


def with_accounts(document: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return an app's own document with what is true of its accounts; with their routes if asked for."""
    if not settings.accounts:
        return document
    accounts = api_document(settings)
    scheme = accounts["components"]["securitySchemes"][openapi.SCHEME]
    described = openapi.with_scheme(document, scheme)
    return openapi.merged(described, accounts) if settings.include_accounts else described
