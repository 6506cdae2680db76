"""How pages are made: templates with the nonce, whoever is signed in, and the token of their forms."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates

from thebes import csp_nonce
from thebes.starlette import csrf_token, optional_principal

static_files = StaticFiles(directory=Path(__file__).parent / "static")


def page(request: Request, template: str, *, status: int = 200, **context: Any) -> Response:
    """Return a page made of a template."""
    headers = context.pop("headers", None)
    context["now"] = datetime.now(UTC)
    return _templates.TemplateResponse(request, template, context, status_code=status, headers=headers)


def time_ago(then: datetime, now: datetime) -> str:
    """Say how long ago something was, in the words that people use; after a week the date."""
    age = now - then
    if age < timedelta(minutes=1):  # also when a clock was set back: never "in the future"
        return "just now"
    if age < timedelta(hours=1):
        return count(age // timedelta(minutes=1), "minute") + " ago"
    if age < timedelta(days=1):
        return count(age // timedelta(hours=1), "hour") + " ago"
    if age < timedelta(days=7):
        return count(age // timedelta(days=1), "day") + " ago"
    return f"{then.day} {then:%B %Y}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"1 {noun}" if number == 1 else f"{number:,} {noun}s"


def _for_every_page(request: Request) -> Mapping[str, Any]:
    return {
        "csp_nonce": csp_nonce(request.scope),
        "principal": optional_principal(request),
        # Called by pages that have a form: only their answer sets the cookie of nobody's forms.
        "csrf_token": partial(csrf_token, request),
    }


_templates = Jinja2Templates(
    Path(__file__).parent / "templates", context_processors=[lambda request: dict(_for_every_page(request))]
)
_templates.env.filters["time_ago"] = time_ago
_templates.env.globals["count"] = count
