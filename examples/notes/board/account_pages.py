"""The pages around an account: forms that post to `/auth/...`, which answers by a redirect back to a page.

`?done=` and `?problem=` name what happened; the sentence that the page then says is ours.
"""

from collections.abc import Mapping
from datetime import timedelta
from time import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from board.rendering import page
from thebes.fastapi import CurrentAccount, CurrentPrincipal, CurrentSessions, OptionalPrincipal

router = APIRouter(include_in_schema=False)

Word = Annotated[str, Query(max_length=64)]
# Where somebody wanted to go. For the sign-in form only, whose service takes no other site's address for it.
WayBack = Annotated[str, Query(alias="next", max_length=2000)]

# ACC-11: ending a session elsewhere asks for a password that was confirmed so lately.
FRESH = timedelta(minutes=5)
# The address of these pages holds a token: no other site may learn it, and no cache may keep it.
_WITH_TOKEN = {"referrer-policy": "same-origin", "cache-control": "no-store"}

_DONE = {
    "registered": "We have sent you a link. Open it, and confirm your address there.",
    "verified": "Your address is confirmed. Sign in to go on.",
    "sent": "If that address has an account, a link is on its way. It is good for 30 minutes.",
    "reset": "Your password was changed, and all sessions were ended. Sign in with the new one.",
    "signed-out": "You are signed out.",
    "signed-out-everywhere": "You are signed out, here and everywhere else.",
    "confirmed": "Thank you. For five minutes you may end sessions here.",
    "ended": "That session was ended.",
    "password": "Your password was changed, and all other sessions were ended.",
}
_PROBLEMS = {
    "wrong-credentials": "The address or the password is wrong. After several tries, wait a little.",
    "email-unverified": "Your address isn't confirmed yet: follow the link that we have sent you.",
    "password-compromised": "Others know this password. Set a new one to sign in again.",
    "sign-in-required": "Sign in first.",
    "session-ended": "The session has ended. Sign in again.",
    "not-fresh": "Confirm your password first, then try again.",
    "link-invalid": "This link is not valid any more: it was used, it has expired, or a newer one was sent.",
    "no-session": "That session had ended already.",
    "bad-address": "This is not an e-mail address. Write it like name@example.com.",
    "sign-in-busy": "Too many people sign in just now. Try again in a few seconds.",
    "too-many-mails": "Too many messages were asked for. Try again later.",
    "password-too-short": "Use at least 15 characters. Several words in a row are easy to remember.",
    "password-too-long": "Use at most 256 characters.",
    "password-blocklisted": "Attackers try this password first. Choose another, such as several words "
    "that don't belong together.",
    "password-breached": "This password is known from a data breach. Choose another, and change it "
    "wherever else you use it.",
    "password-context": "This password is made of your address or of our name. Choose another, such as "
    "several words that don't belong together.",
    "csrf-token": "The form was out of date. It is fresh now: send it once more.",
    "bad-fields": "Please fill in the whole form.",
    "store-unavailable": "We can't reach our records just now. Try again in a moment.",
}
_UNKNOWN_PROBLEM = "That did not work. Please try again."
_WRONG_PASSWORD = {"wrong-credentials": "That is not your password. After several tries, wait a little."}


@router.get("/")
def welcome(request: Request, done: Word = "") -> Response:
    """Show what this is."""
    return page(request, "welcome.html", **_told(done))


@router.get("/register")
def register(request: Request, who: OptionalPrincipal, problem: Word = "") -> Response:
    """Ask for an address and a password."""
    if who is not None:
        return RedirectResponse("/notes", status_code=303)
    return page(request, "register.html", **_told(problem=problem))


@router.get("/verify")
def verify(request: Request, token: Word = "", done: Word = "", problem: Word = "") -> Response:
    """Ask for a click that confirms an address: opening the link alone changes nothing."""
    told = _told(done, problem)
    return page(request, "verify.html", headers=_WITH_TOKEN, token=token, kind=problem, **told)


@router.get("/login")
def login(
    request: Request, who: OptionalPrincipal, done: Word = "", problem: Word = "", goes_to: WayBack = "/notes"
) -> Response:
    """Ask who it is."""
    if who is not None:
        return RedirectResponse("/notes", status_code=303)
    return page(request, "login.html", kind=problem, goes_to=goes_to, **_told(done, problem))


@router.get("/forgot")
def forgot(request: Request, done: Word = "", problem: Word = "") -> Response:
    """Ask where to send a link that sets another password."""
    return page(request, "forgot.html", **_told(done, problem))


@router.get("/reset")
def reset(request: Request, token: Word = "", problem: Word = "") -> Response:
    """Ask for a new password."""
    told = _told(problem=problem)
    return page(request, "reset.html", headers=_WITH_TOKEN, token=token, kind=problem, **told)


@router.get("/sessions")
async def sessions(
    request: Request,
    who: CurrentPrincipal,
    account: CurrentAccount,
    own: CurrentSessions,
    done: Word = "",
    problem: Word = "",
) -> Response:
    """Show where the account is signed in, and let its owner end that."""
    return page(
        request,
        "sessions.html",
        account=account,
        sessions=sorted(own, key=lambda one: not one.is_current),
        is_fresh=time() - who.auth_time < FRESH.total_seconds(),
        **_told(done, problem, instead=_WRONG_PASSWORD),
    )


def _told(done: str = "", problem: str = "", *, instead: Mapping[str, str] | None = None) -> dict[str, Any]:
    sentences = _PROBLEMS | dict(instead or {})
    return {
        "done": _DONE.get(done, ""),
        "problem": sentences.get(problem, _UNKNOWN_PROBLEM) if problem else "",
    }
