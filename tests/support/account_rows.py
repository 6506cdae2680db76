"""Accounts, tokens, sessions and jobs as the tests of stores put them in: those of the contract."""

from thebes.testing.contract.rows import ADA, BOB, MAIL, NOW, digest, session, token

__all__ = ["ADA", "BOB", "MAIL", "NOW", "digest", "session", "token"]
