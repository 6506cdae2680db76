"""The account API as an OpenAPI document: what each route takes, and what it answers.

The bodies are the very types that are read; what they allow is what stands here (VAL-02). Schemas carry a
prefix, since the document is merged into that of an app that may have a `Token` of its own.

Does not show: routes that this mode doesn't serve.

Sources: OpenAPI 3.1.1; RFC 6749, 4.3 (password flow); RFC 9457 (problems).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from thebes.accounts import bodies

VERSION = "3.1.1"
TAG = "accounts"
# The name under which `thebes.fastapi` declares its scheme.
SCHEME = "Account"
COOKIE_SCHEME = "AccountCookie"
DOCUMENT = "openapi.json"
JWKS = "/.well-known/jwks.json"
JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
_PREFIX = "thebes."

Shown = Literal["Account", "Sessions", "CsrfToken", "Tokens", "SignedIn", "Keys", "Document"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What one route takes and answers.

    Attributes:
        summary: A sentence.
        body: What is read; None where nothing is.
        is_body_needed: Whether the request has to have one.
        is_form: Whether it is a form and nothing else.
        status: Of success.
        shown: The schema of its answer; None for an empty one.
        is_signed_in: Whether somebody has to be signed in.
    """

    summary: str
    body: type[msgspec.Struct] | None = None
    is_body_needed: bool = True
    is_form: bool = False
    status: int = 200
    shown: Shown | None = None
    is_signed_in: bool = False


# Below the prefix, by path and method; `{session_id}` stands for an id from the list of sessions.
OPERATIONS: Mapping[str, Mapping[str, Operation]] = {
    "register": {
        "POST": Operation(
            summary="Make an account; its address is confirmed by mail", body=bodies.Registration, status=202
        )
    },
    "verify": {"POST": Operation(summary="Confirm an address", body=bodies.Token, status=204)},
    "verify/resend": {
        "POST": Operation(summary="Mail another link to confirm an address", body=bodies.Email, status=202)
    },
    "login": {
        "POST": Operation(
            summary="Sign in: by cookies, or with tokens in the answer", body=bodies.SignIn, shown="SignedIn"
        )
    },
    "token": {
        "POST": Operation(
            summary="Sign in by the password flow, for interactive documentation",
            body=bodies.PasswordGrant,
            is_form=True,
            shown="Tokens",
        )
    },
    "refresh": {
        "POST": Operation(
            summary="Renew a session: by its cookie (204), or by the token in the body",
            body=bodies.Refresh,
            is_body_needed=False,
            shown="Tokens",
        )
    },
    "logout": {"POST": Operation(summary="End this session", status=204)},
    "logout-all": {
        "POST": Operation(summary="End all sessions of the account", status=204, is_signed_in=True)
    },
    "me": {
        "GET": Operation(summary="Show the account", shown="Account", is_signed_in=True),
        "DELETE": Operation(summary="Delete the account", status=204, is_signed_in=True),
    },
    "sessions": {
        "GET": Operation(summary="List the account's live sessions", shown="Sessions", is_signed_in=True)
    },
    "sessions/{session_id}": {"DELETE": Operation(summary="End one session", status=204, is_signed_in=True)},
    "sessions/{session_id}/end": {
        "POST": Operation(summary="End one session, by a form", status=204, is_signed_in=True)
    },
    "password": {
        "POST": Operation(
            summary="Change the password; other sessions end",
            body=bodies.Change,
            shown="SignedIn",
            is_signed_in=True,
        )
    },
    "forgot": {
        "POST": Operation(summary="Mail a link to set another password", body=bodies.Email, status=202)
    },
    "reset": {"POST": Operation(summary="Set a password by a mailed link", body=bodies.Reset, status=204)},
    "reauthenticate": {
        "POST": Operation(
            summary="Confirm the password", body=bodies.Password, shown="SignedIn", is_signed_in=True
        )
    },
    "csrf": {"GET": Operation(summary="Get a token for forms", shown="CsrfToken")},
    DOCUMENT: {"GET": Operation(summary="Get this document", shown="Document")},
}
_KEYS = Operation(summary="Get the keys that verify bearer tokens", shown="Keys")


def describe(*, prefix: str, cookie: str, with_password_grant: bool, is_served: bool) -> dict[str, Any]:
    """Return the document of the account API.

    Args:
        prefix: Where it is served.
        cookie: The name of the session's cookie.
        with_password_grant: Whether the password flow is served.
        is_served: Whether this document is.
    """
    served = {
        path: operations
        for path, operations in OPERATIONS.items()
        if (path != "token" or with_password_grant) and (path != DOCUMENT or is_served)
    }
    kinds = {each.body for operations in served.values() for each in operations.values() if each.body}
    _, read = msgspec.json.schema_components(
        sorted(kinds, key=lambda kind: kind.__name__), ref_template=_reference("{name}")
    )
    paths = {
        f"{prefix}/{path}": {
            method.lower(): _operation(path, method, each) for method, each in operations.items()
        }
        for path, operations in served.items()
    }
    return {
        "openapi": VERSION,
        "info": {"title": "Accounts", "version": "1"},
        "paths": {**paths, JWKS: {"get": _operation("jwks", "GET", _KEYS)}},
        "components": {
            "schemas": {f"{_PREFIX}{name}": schema for name, schema in (read | _ANSWERS).items()},
            "responses": {f"{_PREFIX}Problem": _PROBLEM_ANSWER},
            "securitySchemes": {
                SCHEME: bearer_scheme(prefix=prefix, with_password_grant=with_password_grant),
                COOKIE_SCHEME: {"type": "apiKey", "in": "cookie", "name": cookie},
            },
        },
        "tags": [{"name": TAG}],
    }


def bearer_scheme(*, prefix: str, with_password_grant: bool) -> dict[str, Any]:
    """Return the scheme of bearer tokens: what *Authorize* in `/docs` fills in."""
    if not with_password_grant:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    # Relative, so that it is right behind a proxy that serves the app below a path.
    flow = {"tokenUrl": f"{prefix.removeprefix('/')}/token", "scopes": {}}
    return {"type": "oauth2", "flows": {"password": flow}}


def with_scheme(document: dict[str, Any], scheme: dict[str, Any]) -> dict[str, Any]:
    """Return an app's document whose account scheme, if it has one, is this."""
    components = document.get("components", {})
    schemes = components.get("securitySchemes", {})
    if SCHEME not in schemes:
        return document
    return {**document, "components": {**components, "securitySchemes": {**schemes, SCHEME: scheme}}}


def merged(document: dict[str, Any], accounts: dict[str, Any]) -> dict[str, Any]:
    """Return an app's document with the account API in it; what the app says itself stays."""
    components: dict[str, Any] = {**accounts["components"], **document.get("components", {})}
    for kind, ours in accounts["components"].items():
        components[kind] = {**ours, **document.get("components", {}).get(kind, {})}
    return {
        **document,
        "paths": {**document.get("paths", {}), **accounts["paths"]},
        "components": components,
        "tags": [*document.get("tags", ()), *accounts["tags"]],
    }


def _operation(path: str, method: str, operation: Operation) -> dict[str, Any]:
    name = path.replace("/{session_id}", "_one").translate(str.maketrans("/-.", "___"))
    answer: dict[str, Any] = {"description": "Done"}
    if operation.shown is not None:
        answer["content"] = {JSON: {"schema": {"$ref": _reference(operation.shown)}}}
    described: dict[str, Any] = {
        "tags": [TAG],
        "summary": operation.summary,
        "operationId": f"thebes_{name}_{method.lower()}",
        "responses": {
            str(operation.status): answer,
            "default": {"$ref": f"#/components/responses/{_PREFIX}Problem"},
        },
    }
    if "{session_id}" in path:
        described["parameters"] = [
            {"name": "session_id", "in": "path", "required": True, "schema": {"type": "string"}}
        ]
    if operation.body is not None:
        media = "application/x-www-form-urlencoded" if operation.is_form else JSON
        described["requestBody"] = {
            "required": operation.is_body_needed,
            "content": {media: {"schema": {"$ref": _reference(operation.body.__name__)}}},
        }
    if operation.is_signed_in:
        described["security"] = [{SCHEME: []}, {COOKIE_SCHEME: []}]
    return described


def _reference(name: str) -> str:
    return f"#/components/schemas/{_PREFIX}{name}"


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_YES_OR_NO = {"type": "boolean"}
_INSTANT = {"type": "string", "format": "date-time"}
_MODE = {"enum": ["bearer", "cookie"]}
_ACCOUNT = _object(
    id={"type": "string", "format": "uuid"},
    email=_TEXT,
    is_verified=_YES_OR_NO,
    roles=_TEXTS,
    scopes=_TEXTS,
    created_at=_INSTANT,
)
_SESSION = _object(
    id=_TEXT,
    is_current=_YES_OR_NO,
    mode=_MODE,
    device=_TEXT,
    address=_TEXT,
    created_at=_INSTANT,
    used_at=_INSTANT,
)
_ANSWERS: dict[str, dict[str, Any]] = {
    "Account": _object(account=_ACCOUNT),
    "Sessions": _object(sessions={"type": "array", "items": _SESSION}),
    "CsrfToken": _object(csrf_token=_TEXT),
    "Tokens": _object(
        access_token=_TEXT,
        refresh_token=_TEXT,
        token_type={"const": "Bearer"},
        expires_in={"type": "integer"},
    ),
    "SignedIn": {"anyOf": [{"$ref": _reference("Account")}, {"$ref": _reference("Tokens")}]},
    "Keys": _object(keys={"type": "array", "items": {"type": "object"}}),
    "Document": {"type": "object"},
    "Problem": {
        **_object(type=_TEXT, title=_TEXT, status={"type": "integer"}, request_id=_TEXT, detail=_TEXT),
        "required": ["type", "title", "status", "request_id"],
    },
}
_PROBLEM_ANSWER = {
    "description": "Refused (RFC 9457)",
    "content": {PROBLEM_JSON: {"schema": {"$ref": _reference("Problem")}}},
}
