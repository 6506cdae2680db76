"""Turn a Denial or an Answer into status, fields and body: strict values on everything of our own.

Programs get problem details (RFC 9457), a browser's navigation gets a small page without script.
The type URIs are documented in docs/problems.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta

from thebes.facts import Answer, Denial, Field, Reply, RequestFacts

PROBLEM_TYPE = "urn:thebes:problem:"

UNCAUGHT = Denial(
    500,
    "internal-error",
    "Internal server error",
    "",  # HTTP-10: type, title, status and request id only
    # The exception travels on to the server, which closes the connection: so the client is told.
    headers=((b"connection", b"close"),),
)
MISCONFIGURED = Denial(
    500,
    "misconfigured",
    "The service is not configured",
    "",
    headers=((b"connection", b"close"),),
)

SIGN_IN_REQUIRED = Denial(
    401,
    "sign-in-required",
    "Sign in first",
    "This needs an account.",
    headers=((b"www-authenticate", b"Bearer"),),
)

# OWASP REST Security and HTTP Headers: an answer of ours is neither framed, sniffed, cached nor reused.
STRICT_FIELDS: tuple[Field, ...] = (
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"browsing-topics=()"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
API_POLICY: Field = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")


def stale(fresh: timedelta) -> Denial:
    """Return the answer to somebody whose authentication is too old (RFC 9470, 3)."""
    seconds = int(fresh.total_seconds())
    challenge = b'Bearer error="insufficient_user_authentication", max_age="%d"' % seconds
    return Denial(
        401,
        "not-fresh",
        "Confirm your password first",
        f"This needs an authentication of the last {seconds} seconds.",
        headers=((b"www-authenticate", challenge),),
    )


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer ready to send; `Content-Length` is that of `body`."""

    status: int
    headers: tuple[Field, ...]
    body: bytes


def render(reply: Reply, facts: RequestFacts | None = None) -> Rendered:
    """Return the HTTP form of a reply; without facts (nothing could be read) it is problem details."""
    rendered = _rendered(reply, facts)
    if facts is not None and facts.scope.get("http_version", "1.1") > "1.1":
        # HTTP/2 and later know no fields about the connection (RFC 9113, 8.2.2).
        headers = tuple(field for field in rendered.headers if field[0] != b"connection")
        return Rendered(rendered.status, headers, rendered.body)
    return rendered


def _rendered(reply: Reply, facts: RequestFacts | None) -> Rendered:
    if isinstance(reply, Answer):
        return _sized(reply.status, (*reply.headers, *STRICT_FIELDS, API_POLICY), b"")
    if facts is not None and _wants_page(facts):
        return _page(reply, facts)
    problem: dict[str, str | int] = {
        "type": PROBLEM_TYPE + reply.kind,
        "title": reply.title,
        "status": reply.status,
    }
    if reply.detail:
        problem["detail"] = reply.detail
    if facts is not None:
        problem["request_id"] = facts.request_id
    content_type: Field = (b"content-type", b"application/problem+json")
    headers = (content_type, *reply.headers, *STRICT_FIELDS, API_POLICY)
    return _sized(reply.status, headers, json.dumps(problem).encode())


def _wants_page(facts: RequestFacts) -> bool:
    """Say whether a person will see the answer: a navigation, by a form's POST too."""
    return facts.is_navigation or facts.headers.get(b"sec-fetch-mode") == b"navigate"


def _page(denial: Denial, facts: RequestFacts) -> Rendered:
    import html  # noqa: PLC0415 - its table of entities is large, and pages are few

    nonce = facts.nonce
    body = _PAGE.format(
        title=html.escape(denial.title),
        detail=html.escape(denial.detail or "The error was written to the log."),
        status=denial.status,
        request_id=html.escape(facts.request_id),
        nonce=nonce,
    ).encode()
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    )
    headers: tuple[Field, ...] = (
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", policy.encode()),
        *denial.headers,
        *STRICT_FIELDS,
    )
    return _sized(denial.status, headers, body)


def _sized(status: int, headers: tuple[Field, ...], body: bytes) -> Rendered:
    if status in (204, 304):  # RFC 9110, 8.6: no Content-Length on 204
        return Rendered(status, headers, b"")
    return Rendered(status, ((b"content-length", b"%d" % len(body)), *headers), body)


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style nonce="{nonce}">
:root {{ color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center }}
main {{ max-width: 32rem; padding: 2rem }}
h1 {{ font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem }}
small {{ opacity: .75; overflow-wrap: anywhere }}
</style>
<main>
<h1>{title}</h1>
<p>{detail}</p>
<p><small>Status {status} · Request {request_id}</small></p>
</main>
</html>
"""
