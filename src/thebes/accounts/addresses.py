"""E-mail addresses: which two spellings are one account's.

Mail goes only to the address as its owner confirmed it, never to what somebody typed into a form for it:
two texts that look or compare alike are two mailboxes (CVE-2019-19844).

Sources: RFC 5321, 4.1.2; RFC 6531; OWASP Email Validation.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_ADDRESS = 254  # RFC 5321, 4.5.3.1.3, without the angle brackets


@dataclass(frozen=True, slots=True)
class Address:
    """An address that is well formed.

    Attributes:
        text: As it was typed, in NFC, with its domain in lower case.
        key: The same in lower case: what is compared.
    """

    text: str
    key: str


def parse_address(text: str) -> Address | None:
    """Return the address, or None if it isn't one; nothing is asked of the network.

    >>> parse_address("Ada@Example.com")
    Address(text='Ada@example.com', key='ada@example.com')
    """
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415 - loads DNS and IDNA

    if len(text) > MAX_ADDRESS:
        return None
    try:
        found = validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return None
    return Address(found.normalized, found.normalized.lower())
