"""The bodies of the account API: each field named, typed and bounded, and no other one taken.

What a caller may write is what stands here (ASVS 5.0.0, 8.2.3): no body has an id, a role or a flag.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

# Bounds what is parsed and hashed; the rules about passwords and addresses are stricter.
Text = Annotated[str, msgspec.Meta(max_length=4096)]


class _Strict(msgspec.Struct, forbid_unknown_fields=True):
    """A body; fields that it doesn't name are refused."""


class Registration(_Strict):
    """`POST register`."""

    email: Text
    password: Text


class SignIn(_Strict):
    """`POST login`."""

    email: Text
    password: Text
    mode: Literal["cookie", "bearer"] = "cookie"
    remember: bool = False


class PasswordGrant(_Strict):
    """`POST token`, a form as OpenAPI's password flow sends it (RFC 6749, 4.3.2)."""

    username: Text
    password: Text
    grant_type: Literal["password"] = "password"
    scope: Text = ""
    client_id: Text = ""
    client_secret: Text = ""


class Token(_Strict):
    """`POST verify`."""

    token: Text


class Email(_Strict):
    """`POST verify/resend` and `POST forgot`."""

    email: Text


class Reset(_Strict):
    """`POST reset`."""

    token: Text
    password: Text


class Change(_Strict):
    """`POST password`."""

    current_password: Text
    password: Text


class Password(_Strict):
    """`POST reauthenticate`."""

    password: Text


class Refresh(_Strict):
    """`POST refresh` in bearer mode."""

    refresh_token: Text


class Nothing(_Strict):
    """A body that says nothing."""
