"""Our cookies: their names, how they are set, and what the app behind the pass gets to see of them.

All carry `__Host-`: no subdomain and no plain-HTTP page can set them (cookie tossing). A namespace in the
name keeps two services on one host apart, since cookies ignore ports. The refresh cookie has to have
`Path=/` for that prefix, so the pass takes it out of every request before the app sees it.

A name counts only as it is written here: one that came twice, or in another case, authenticates nobody. But
it is taken out in any case and however often it came.

Sources: RFC 6265bis, 4.1.3 and 5.7.3; TOK-29 to TOK-33, TOK-35.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from thebes import cookies
from thebes.errors import ConfigurationError
from thebes.facts import Field

SameSite = Literal["lax", "strict"]

SESSION = "__Host-thebes-session"
REFRESH = "__Host-thebes-refresh"
PRESESSION = "__Host-thebes-presession"
DEVICE = "__Host-thebes-device"
# RFC 6265bis, 5.5: browsers keep no cookie for longer.
MAX_AGE_SECONDS = 400 * 24 * 3600
# Cookie fields that are remembered by their exact bytes; a browser sends the same one again and again.
_REMEMBERED = 4096
_MAX_REMEMBERED_BYTES = 8192
# Whatever we set is base64url and dots. Another value may go into no answer, and binds no form.
_VALUE = re.compile(rb"[A-Za-z0-9._-]{1,512}")
_NAMESPACE = re.compile(r"[a-z0-9-]{1,32}")


@dataclass(frozen=True, slots=True)
class Brought:
    """What a Cookie field holds for us.

    Attributes:
        session: The access token; None if there is none, or if the name came twice.
        refresh: The refresh token, likewise.
        others: The field without refresh cookies, as the app sees it; None if nothing had to be taken out.
    """

    session: bytes | None
    refresh: bytes | None
    others: bytes | None


NOTHING = Brought(None, None, None)


class CookieJar:
    """Read and write our cookies.

    Args:
        namespace: Appended to every name, for several services on one host.
        same_site: Of the session and refresh cookies. A Strict one signs out whoever follows a link.

    Raises:
        ConfigurationError: A namespace that can't stand in a name.
    """

    def __init__(self, *, namespace: str = "", same_site: SameSite = "lax") -> None:
        if namespace and not _NAMESPACE.fullmatch(namespace):
            raise ConfigurationError(
                f"cookie_namespace={namespace!r}: 1 to 32 characters of a to z, 0 to 9 and - are allowed"
            )
        suffix = f"-{namespace}" if namespace else ""
        self.session_name = SESSION + suffix
        self.refresh_name = REFRESH + suffix
        self.presession_name = PRESESSION + suffix
        self.device_name = DEVICE + suffix
        self._same_site = same_site.capitalize()
        self._session = self.session_name.encode()
        self._refresh = self.refresh_name.encode()
        self._lower_refresh = self._refresh.lower()
        self._seen: dict[bytes, Brought] = {}

    def brought(self, field: bytes) -> Brought:
        """Return what a Cookie field holds for us."""
        known = self._seen.get(field)
        if known is not None:
            return known
        brought = self._read(field)
        if len(field) <= _MAX_REMEMBERED_BYTES:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()  # rarely, and then each is read once more
            self._seen[field] = brought
        return brought

    def value(self, field: bytes | None, name: str) -> bytes | None:
        """Return the value of another cookie of ours; None if it is missing, came twice or isn't ours."""
        wanted = name.encode()
        found = [value for each, value in cookies.pairs(field or b"") if each == wanted]
        return found[0] if len(found) == 1 and _VALUE.fullmatch(found[0]) else None

    def set_session(self, token: str, *, max_age: int | None) -> Field:
        """Return the field that sets the access token; `max_age` None ends it with the browser."""
        return self._set(self.session_name, token, max_age)

    def set_refresh(self, token: str, *, max_age: int | None) -> Field:
        """Return the field that sets the refresh token."""
        return self._set(self.refresh_name, token, max_age)

    def set_other(self, name: str, value: str, *, max_age: int | None = None) -> Field:
        """Return the field that sets another cookie of ours, with the same attributes."""
        return self._set(name, value, max_age)

    def expire(self, *names: str) -> tuple[Field, ...]:
        """Return the fields that delete cookies, with the attributes that they were set with (TOK-26)."""
        return tuple(self._set(name, "", 0) for name in names)

    def _set(self, name: str, value: str, max_age: int | None) -> Field:
        age = "" if max_age is None else f"; Max-Age={min(max_age, MAX_AGE_SECONDS)}"
        same_site = self._same_site
        text = f"{name}={value}; Path=/; Secure; HttpOnly; SameSite={same_site}{age}"
        return (b"set-cookie", text.encode("ascii"))

    def _read(self, field: bytes) -> Brought:
        if b"__host-thebes-" not in field.lower():
            return NOTHING
        sessions, refreshes, is_stripped = [], [], False
        for name, value in cookies.pairs(field):
            if name == self._session:
                sessions.append(value)
            elif name == self._refresh:
                refreshes.append(value)
            is_stripped = is_stripped or name.lower() == self._lower_refresh
        return Brought(
            sessions[0] if len(sessions) == 1 else None,
            refreshes[0] if len(refreshes) == 1 else None,
            self._without_refresh(field) if is_stripped else None,
        )

    def _without_refresh(self, field: bytes) -> bytes:
        pieces = (piece for piece in field.split(b";") if not self._is_refresh(piece))
        return b";".join(pieces).strip(b" \t")

    def _is_refresh(self, piece: bytes) -> bool:
        name, equals, _ = piece.partition(b"=")
        return bool(equals) and name.strip(b" \t").lower() == self._lower_refresh
