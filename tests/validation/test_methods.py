"""TRACE, TRACK and CONNECT are answered by the pass and by nothing behind it."""

import pytest

from asking import request_facts
from calling import call, fields_of, http_scope
from thebes import Security
from thebes.validation.methods import MethodCheck


@pytest.mark.parametrize("method", ["TRACE", "TRACK", "CONNECT", "trace", "Track"])
def test_methods_that_echo_or_tunnel_are_refused(method):
    denial = MethodCheck()(request_facts(method))

    assert denial is not None
    assert denial.status == 405


@pytest.mark.parametrize(
    "method",
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "QUERY", "TRACER", "get"],
)
def test_every_other_method_is_the_apps_to_answer(method):
    assert MethodCheck()(request_facts(method)) is None


def test_a_handshake_passes():
    assert MethodCheck()(request_facts(type="websocket")) is None


async def test_the_refusal_names_what_is_allowed_and_never_reaches_the_app(reader):
    sent = await call(Security().wrap(reader), http_scope("/x", "TRACE"))

    assert (sent[0]["status"], reader.received) == (405, [])
    assert b"TRACE" not in fields_of(sent)[b"allow"]
