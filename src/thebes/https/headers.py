"""Response fields on the user's answers: enforced where nothing can break, reported where it could.

A field that the app sets itself wins. Two completions: a Content-Security-Policy of the app that says
nothing about framing gets ours beside it, and an app that asks for `X-Frame-Options: DENY` gets the
matching policy, since browsers ignore that field once a policy speaks of frame-ancestors.

Answers to somebody who is signed in are for them alone, and for no other site.

Sources: OWASP HTTP Headers; CSP Level 3; RFC 6797 (HSTS); ASVS 5.0.0, 14.3.2; HTTP-01 to HTTP-06.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import timedelta
from typing import Literal

from thebes.facts import Field, Mode, RequestFacts, in_lower_case

# OWASP HSTS: two years, the value that preload lists ask for; set a short one while trying out.
HSTS_MAX_AGE = timedelta(days=730)

FRAMED_BY_ITSELF = b"frame-ancestors 'self'"
UNFRAMED = b"frame-ancestors 'none'"
BASE_POLICY = FRAMED_BY_ITSELF + b"; object-src 'none'; base-uri 'none'"
UNFRAMED_POLICY = UNFRAMED + b"; object-src 'none'; base-uri 'none'"
MAX_REMEMBERED_TYPES = 100
CSP: bytes = b"content-security-policy"
HSTS: bytes = b"strict-transport-security"
FRAME_OPTIONS: bytes = b"x-frame-options"
REPORT_ONLY: bytes = b"content-security-policy-report-only"

_EVERYWHERE: tuple[Field, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"permissions-policy", b"browsing-topics=()"),
)
_ON_HTML: tuple[Field, ...] = (
    (FRAME_OPTIONS, b"SAMEORIGIN"),
    (b"cross-origin-opener-policy", b"same-origin-allow-popups"),
)
FOR_SOMEBODY: tuple[Field, ...] = (
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class SecurityHeaders:
    """Add the fields that every answer carries.

    Args:
        mode: HSTS is sent in production only; an app's own is taken off elsewhere, since it would
            bind every other program on localhost.
        hsts: The value of Strict-Transport-Security.
        csp: `report` leaves the nonce policy on HTML to reports, `strict` enforces it.
    """

    name = "headers"

    def __init__(
        self, *, mode: Mode, hsts: bytes | None, csp: Literal["report", "strict"] = "report"
    ) -> None:
        self._sends_hsts = mode is Mode.PRODUCTION and hsts is not None
        everywhere = (*_EVERYWHERE, (HSTS, hsts)) if self._sends_hsts and hsts else _EVERYWHERE
        self._everywhere = everywhere
        added = (*everywhere, (CSP, BASE_POLICY))
        watched = (*(name for name, _ in (*everywhere, *_ON_HTML)), CSP, REPORT_ONLY, HSTS, b"content-type")
        # What is added, and which of the app's own fields need a closer look first: told by the length of
        # their names, which is the same in any spelling.
        self._to_anybody = added, frozenset(map(len, watched))
        watched += tuple(name for name, _ in FOR_SOMEBODY)
        self._to_somebody = (*added, *FOR_SOMEBODY), frozenset(map(len, watched))
        # The schemes over which nothing has to be left out.
        self._schemes: Container[str | None] = ("https",) if self._sends_hsts else ("https", "http", None)
        self._is_strict = csp == "strict"
        # Types seen that aren't HTML: looking one up is a fraction of searching it.
        self._plain: set[bytes] = set()

    def __call__(self, facts: RequestFacts, headers: list[Field]) -> None:
        """Add what is missing. Over plain HTTP no HSTS goes out (RFC 6797, 7.2)."""
        if facts.arrival.scheme in self._schemes:
            added, lengths = self._to_anybody if facts.claims is None else self._to_somebody
            plain = self._plain
            # An answer has a handful of fields: walking them costs half of what a dict of them would.
            for name, value in headers:
                if len(name) in lengths and not (name == b"content-type" and value in plain):
                    break
            else:
                headers += added
                return
        self._complete(facts, headers, in_lower_case(headers))

    def _complete(
        self,
        facts: RequestFacts,
        headers: list[Field],
        fields: Mapping[bytes, bytes],
    ) -> None:
        content_type = fields.get(b"content-type", b"")
        is_html = b"html" in content_type.lower()
        if not is_html and len(self._plain) < MAX_REMEMBERED_TYPES:
            self._plain.add(content_type)
        wanted = [*self._everywhere, *(_ON_HTML if is_html else ())]
        wanted += () if facts.claims is None else FOR_SOMEBODY
        policies = [value.lower() for name, value in headers if name.lower() == CSP]
        headers += [field for field in wanted if field[0] not in fields]
        _keep_one_hsts(headers, at_most=1 if self._sends_hsts and facts.scheme == "https" else 0)
        is_unframed = fields.get(FRAME_OPTIONS, b"").strip().upper() == b"DENY"
        if policies:
            if not any(b"frame-ancestors" in policy for policy in policies):
                headers.append((CSP, UNFRAMED if is_unframed else FRAMED_BY_ITSELF))
            return
        self._add_policies(facts, headers, fields, is_html=is_html, is_unframed=is_unframed)

    def _add_policies(
        self,
        facts: RequestFacts,
        headers: list[Field],
        fields: Mapping[bytes, bytes],
        *,
        is_html: bool,
        is_unframed: bool,
    ) -> None:
        base = UNFRAMED_POLICY if is_unframed else BASE_POLICY
        if is_html and self._is_strict:
            headers.append((CSP, base + b"; " + nonce_policy(facts.nonce)))
            return
        headers.append((CSP, base))
        if is_html and REPORT_ONLY not in fields:
            headers.append((REPORT_ONLY, nonce_policy(facts.nonce)))


def _keep_one_hsts(headers: list[Field], *, at_most: int) -> None:
    """Leave the first Strict-Transport-Security field, or none (RFC 6797, 7.1 and 7.2)."""
    positions = [position for position, (name, _) in enumerate(headers) if name.lower() == HSTS]
    for position in reversed(positions[at_most:]):
        del headers[position]


def nonce_policy(nonce: str) -> bytes:
    """Return the policy by which only scripts with this answer's nonce run (CSP3, strict-dynamic).

    `https:` and `'unsafe-inline'` are left out: browsers that need them are gone since 2022.
    """
    return (f"script-src 'nonce-{nonce}' 'strict-dynamic'; form-action 'self'").encode()


def hsts_value(max_age: timedelta, *, include_subdomains: bool, preload: bool) -> bytes:
    """Return the value of Strict-Transport-Security (RFC 6797, 6.1)."""
    parts = [f"max-age={int(max_age.total_seconds())}"]
    parts += ["includeSubDomains"] if include_subdomains else []
    parts += ["preload"] if preload else []
    return "; ".join(parts).encode()
