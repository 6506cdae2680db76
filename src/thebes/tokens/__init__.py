"""Access tokens: what a request shows instead of a password, and who may read it.

Two kinds, one verifier each, never mixed: `cookie_tokens` for browsers, which only this service reads, and
`bearer_tokens`, which others may verify with the published keys.

Protects against forged, altered, expired and confused tokens. Does not protect against who steals a genuine
one: that is what short lifetimes, HttpOnly cookies and revocation are for.

Sources: RFC 7515, 7519 and 8725 (JWS, JWT, best practice); RFC 9068 (JWT access tokens).
"""
