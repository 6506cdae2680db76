"""What the form tokens of an answer are bound to: the session, or a cookie of nobody's own.

Sources: OWASP CSRF Prevention (signed, session-bound); CSR-04, CSR-07.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thebes.accounts.calls import binding_of_nobody, presession_of
from thebes.csrf_tokens import CsrfTokens
from thebes.encoding import random_id
from thebes.facts import Field, RequestFacts
from thebes.tokens.cookie_jar import CookieJar


class AnswerForms:
    """Give the forms of an answer their token, and say what the tokens of a request must be bound to.

    Args:
        tokens: Make the tokens.
        jar: Sets the cookie to which the forms of nobody are bound.
    """

    def __init__(self, tokens: CsrfTokens, jar: CookieJar) -> None:
        self._tokens = tokens
        self._jar = jar

    def token(self, facts: RequestFacts) -> str:
        """Return the token for the forms of an answer; nobody's answer sets the cookie it is bound to."""
        if facts.form_token is None and facts.claims is not None and facts.credential == "cookie":
            facts.form_token = self._tokens.issue(facts.claims.sid)
        elif facts.form_token is None:
            presession = presession_of(facts, self._jar) or random_id()
            facts.form_token = self._tokens.issue(binding_of_nobody(presession))
            # Set again where it was known: an answer with somebody's token is in no cache (HTTP-06).
            facts.renewal = _Setting(self._jar.set_other(self._jar.presession_name, presession)).fields
        return facts.form_token

    def binding(self, facts: RequestFacts) -> str | None:
        """Return what a request's tokens are bound to; None if it brings nothing that they could be."""
        if facts.claims is not None and facts.credential == "cookie":
            return facts.claims.sid
        presession = presession_of(facts, self._jar)
        return None if presession is None else binding_of_nobody(presession)


@dataclass(frozen=True, slots=True)
class _Setting:
    """A cookie that waits for its answer to begin."""

    field: Field

    async def fields(self) -> Sequence[Field]:
        return (self.field,)
