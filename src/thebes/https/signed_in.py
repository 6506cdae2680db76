"""Response fields on answers to somebody who is signed in: for them alone, and for no other site.

Sources: HTTP-05, HTTP-06; ASVS 5.0.0, 14.3.2; OWASP HTTP Headers (Cross-Origin-Resource-Policy).
"""

from __future__ import annotations

from thebes.facts import Field, RequestFacts, in_lower_case

WANTED: tuple[Field, ...] = (
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
# A name in any spelling has its length, and hardly another field has the same.
_LENGTHS = frozenset(len(name) for name, _ in WANTED)


class SignedInFields:
    """Keep an answer to a signed-in request out of caches and other sites, unless the app says otherwise."""

    name = "headers"

    def __call__(self, facts: RequestFacts, headers: list[Field]) -> None:
        """Add what the app didn't set itself."""
        if facts.claims is None:
            return
        # An answer has a handful of fields: walking them costs half of what a set of them would.
        for name, _ in headers:
            if len(name) in _LENGTHS:
                break
        else:
            headers += WANTED
            return
        given = in_lower_case(headers)
        headers += [field for field in WANTED if field[0] not in given]
