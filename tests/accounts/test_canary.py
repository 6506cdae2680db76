"""Canaries: passwords and tokens that are looked for in everything that the service writes and says."""

import json
import logging
from pathlib import Path

import pytest

from account_api import (
    DEVICE,
    PRESESSION,
    REFRESH,
    SESSION,
    Service,
    both,
    document,
)
from attack import Answered

ADA = "ada@example.com"
CANARY = "canary-4f9a1c of the mine"
NEW_CANARY = "canary-7be02d of the mine"
WRONG_CANARY = "canary-c81d5e of the mine"
CANARIES = ("canary-4f9a1c", "canary-7be02d", "canary-c81d5e")
# What one event name each is written for (LOG-01), as far as there are such flows.
EVENTS = {
    "registered",
    "email_verified",
    "verification_requested",
    "sign_in",
    "sign_in_delayed",
    "signed_out",
    "refresh",
    "password_check",
    "password_changed",
    "reset_requested",
    "password_reset",
    "session_revoked",
    "sessions_revoked",
    "account_deleted",
    "token_refused",
}


class Watched:
    """Everything that came out of a service while its flows were gone through."""

    def __init__(self) -> None:
        self.answers: list[Answered] = []
        self.tokens: dict[str, set[str]] = {}

    def keep(self, answer: Answered) -> Answered:
        self.answers.append(answer)
        return answer

    def token(self, kind: str, value: str) -> str:
        self.tokens.setdefault(kind, set()).add(value)
        return value


def go_through(service: Service) -> Watched:
    """Use every flow, with right and wrong values."""
    seen = Watched()
    keep = seen.keep
    caller, email = service.caller(), {"email": ADA}
    keep(caller.post("register", {**email, "password": "canary-4f9a1c"}))  # too short
    keep(caller.post("register", {**email, "password": CANARY}))
    keep(service.caller().post("register", {**email, "password": NEW_CANARY}))
    keep(caller.post("verify/resend", email))
    keep(caller.sign_in(ADA, CANARY))
    verify = seen.token("verify", service.token("verify", ADA))
    keep(caller.post("verify", {"token": verify + "x"}))
    keep(caller.post("verify", {"token": verify}))
    for body in ({**email, "password": CANARY, "mode": "x"}, {"password": [CANARY]}, {"canary-4f9a1c": 1}):
        keep(caller.post("login", body))
    keep(
        caller.ask("POST", "login", b'{"password":"' + CANARY.encode(), {"Content-Type": "application/json"})
    )
    keep(caller.form("login", {**email, "password": WRONG_CANARY}))
    keep(caller.sign_in(ADA, WRONG_CANARY))
    keep(caller.sign_in(ADA, CANARY, remember=True))
    for cookie in (SESSION, REFRESH, DEVICE):
        seen.token(cookie, caller.cookies[cookie])
    seen.token("csrf", document(keep(caller.get("csrf")))["csrf_token"])
    keep(caller.get("me"))
    keep(caller.get("/who"))
    keep(caller.post("reauthenticate", {"password": WRONG_CANARY}))
    keep(caller.post("reauthenticate", {"password": CANARY}))
    keep(caller.post("refresh"))
    keep(caller.post("password", {"current_password": WRONG_CANARY, "password": NEW_CANARY}))
    keep(caller.post("password", {"current_password": CANARY, "password": NEW_CANARY}))
    for cookie in (SESSION, REFRESH, DEVICE):
        seen.token(cookie, caller.cookies[cookie])
    bearer = document(keep(service.caller().sign_in(ADA, NEW_CANARY, mode="bearer")))
    seen.token("access", bearer["access_token"])
    seen.token("bearer refresh", bearer["refresh_token"])
    forged = bearer["access_token"][:-4] + "AAAA"
    keep(service.caller().ask("GET", "/who", fields={"Authorization": f"Bearer {forged}"}))
    keep(service.caller().get(f"/who?access_token={bearer['access_token']}"))
    keep(service.caller().ask("GET", "/who", fields={"Cookie": f"{SESSION}={forged}"}))
    keep(service.caller().post("refresh", {"refresh_token": bearer["refresh_token"][:-1] + "A"}))
    keep(caller.ask("DELETE", "sessions/nothing"))
    [other] = [each for each in document(caller.get("sessions"))["sessions"] if each["mode"] == "bearer"]
    keep(caller.ask("DELETE", f"sessions/{other['id']}"))
    stranger = service.caller()
    seen.token("presession", (stranger.csrf_token(), stranger.cookies[PRESESSION])[1])
    keep(caller.post("logout"))
    for _ in range(7):
        keep(service.caller().sign_in(ADA, WRONG_CANARY))
    service.age(3600, "failures.last_at", "failures.blocked_until")
    keep(stranger.post("forgot", email))
    reset = seen.token("reset", service.token("reset", ADA))
    keep(stranger.post("reset", {"token": reset + "x", "password": CANARY}))
    keep(stranger.post("reset", {"token": reset, "password": "canary-4f9a1c"}))
    keep(stranger.post("reset", {"token": reset, "password": CANARY}))
    for last in ("logout-all", "me"):
        keep(caller.sign_in(ADA, CANARY))
        keep(caller.ask("DELETE" if last == "me" else "POST", last))
    service.mailed(ADA)
    service.security.events.flush()
    return seen


@both("PWD-26", "LOG-03", store="sqlite")
def test_passwords_and_tokens_stand_nowhere_but_where_they_belong(
    service: Service, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    caplog.set_level(logging.DEBUG)
    seen = go_through(service)

    output = "".join(capfd.readouterr())
    log = "\n".join(f"{record.getMessage()} {record.exc_text} {vars(record)}" for record in caplog.records)
    events = "\n".join(service.lines)
    mails = "\n".join(f"{mail!r} {mail.to} {mail.subject} {mail.text} {mail.html}" for mail in service.mails)
    answers = "\n".join(f"{answer.fields} {answer.body.decode()}" for answer in seen.answers)
    assert len(seen.answers) > 40
    assert min(len(events), len(mails)) > 1000
    for text in (output, log, events, mails, answers):
        assert not [canary for canary in CANARIES if canary in text]
    # A token is found by its random part, wherever its whole isn't written.
    secrets = {
        kind: {piece for token in tokens for piece in pieces(token)} for kind, tokens in seen.tokens.items()
    }
    assert set(secrets) >= {"verify", "reset", "csrf", "access", "bearer refresh", SESSION, REFRESH, DEVICE}
    for kind, found in secrets.items():
        for text in (output, log, events):
            assert not [piece for piece in found if piece in text], kind
        if kind not in ("verify", "reset"):
            assert not [piece for piece in found if piece in mails], kind
    for kind in ("verify", "reset"):
        assert not [piece for piece in secrets[kind] if piece in answers]
        for mail in service.mails:
            if mail.kind != kind:
                assert not [piece for piece in secrets[kind] if piece in mail.text + mail.html]
    assert repr(service.membership).count("canary") == 0


@pytest.mark.parametrize("service", ["sqlite", "socket"], indirect=True)
def test_each_flow_writes_its_event_and_each_event_is_listed(service: Service):
    go_through(service)
    page = (Path(__file__).parents[2] / "docs" / "events.md").read_text("utf-8")

    assert set(service.security.events.counts) >= EVENTS
    for name in service.security.events.counts:
        assert f"`{name}`" in page


@both("LOG-03", store="sqlite")
def test_a_session_appears_by_a_digest_alone_and_no_mailbox_at_all(
    service: Service, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    caplog.set_level(logging.DEBUG)
    seen = go_through(service)

    written = "\n".join(
        [*service.lines, *(record.getMessage() for record in caplog.records), *capfd.readouterr()]
    )
    ids = {token.partition(".")[0] for token in seen.tokens[REFRESH] | seen.tokens["bearer refresh"]}
    assert len(ids) >= 2
    assert not [session_id for session_id in ids if session_id in written]
    assert ADA not in written
    events = [json.loads(line) for line in service.lines]
    named = {event["session"] for event in events if event["session"] is not None}
    assert named >= {service.membership.session_name(session_id) for session_id in ids}
    # The name in the path of a session is that of its events, in whichever log it stands.
    [revoked] = [each for each in events if each["event"] == "session_revoked"]
    assert revoked["route"] == f"/auth/sessions/{revoked['session']}"
    assert revoked["method"] == "DELETE"
    if service.origin != "https://testserver":
        assert f'"DELETE {revoked["route"]} HTTP/1.1" 204' in written


def pieces(token: str) -> list[str]:
    """Return what of a token lets its holder in: each long part but the header that all share."""
    return [part for part in token.split(".") if len(part) > 24 and not part.startswith("eyJhbGci")]
