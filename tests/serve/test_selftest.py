"""The self-test finds each guard that is missing, and is quick where none is."""

import time
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gated import slower
from thebes.errors import ConfigurationError
from thebes.serve import framing, gate, protocol, selftest
from thebes.serve.connections import Connections
from thebes.serve.protocol import GuardedProtocol
from thebes.serve.renewal import CertificateFiles
from thebes.serve.selftest import self_test

pytestmark = pytest.mark.slow


@pytest.fixture
def files(authority) -> CertificateFiles:
    return CertificateFiles(certificate=authority.certificate, key=authority.key, hosts=["localhost"])


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    """What is missing is missing at the first attempt, and soon."""
    monkeypatch.setattr(selftest, "ATTEMPTS", 1)
    monkeypatch.setattr(selftest, "PATIENCE_SECONDS", 1.0)


def test_a_whole_server_passes_in_under_a_second(loop, files):
    began = time.monotonic()
    self_test(loop, files)
    self_test(loop)
    assert time.monotonic() - began < 2


class Stock(GuardedProtocol):
    """As if uvicorn had gone back to its own ways of reading."""

    data_received = HttpToolsProtocol.data_received
    _start_asgi_task = HttpToolsProtocol._start_asgi_task
    on_response_complete = HttpToolsProtocol.on_response_complete
    on_body = HttpToolsProtocol.on_body
    on_message_complete = HttpToolsProtocol.on_message_complete


def test_without_our_way_of_reading_nearly_everything_is_missing(loop):
    with pytest.raises(ConfigurationError) as refused:
        self_test(loop, protocol=Stock)
    text = str(refused.value)
    for missing in (
        "a coding other than chunked is not answered with 400",
        "a header section over the limit is not answered with 431",
        "too many header fields is not answered with 431",
        "a target over the limit is not answered with 414",
        "a header section that doesn't end is not cut off after 0.1 s",
        "a body that doesn't end is not cut off after 0.1 s",
    ):
        assert missing in text
    assert "nothing is served; this is uvicorn" in text


class Lenient(GuardedProtocol):
    """As if llhttp had become lenient about everything that it may be lenient about."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_optional_cr_before_lf=True,
            lenient_optional_lf_after_cr=True,
        )


def test_a_parser_that_takes_folded_lines_and_bare_line_ends_is_noticed(loop):
    with pytest.raises(ConfigurationError) as refused:
        self_test(loop, protocol=Lenient)
    for missing in ("a bare LF is not answered with 400", "a folded line is not answered with 400"):
        assert missing in str(refused.value)


class Patient(GuardedProtocol):
    """As if timers never rang."""

    def _on_deadline(self) -> None:
        pass


def no_gate(*_: Any) -> None:
    raise RuntimeError("no gate")


@pytest.mark.parametrize(
    ("break_", "missing"),
    [
        pytest.param(
            lambda patch: patch.setattr(Connections, "admit", lambda self, host: lambda: None),
            "one address gets more than the 6 connections",
            id="no caps",
        ),
        pytest.param(
            lambda patch: patch.setattr(Connections, "_release", lambda self, keys: None),
            "connections are counted that are closed|no answer at all",
            id="nothing given back",
        ),
        pytest.param(
            lambda patch: patch.setattr(protocol, "judge_head", lambda head, guards: None),
            "a header section over the limit is not answered with 431",
            id="no sizes",
        ),
        pytest.param(
            lambda patch: patch.setattr(framing, "_VERSIONS", ()),
            "an honest request is not answered",
            id="no honest answer",
        ),
        pytest.param(
            lambda patch: patch.setattr(gate.Gate, "open", no_gate), "no answer at all", id="no server"
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_each_missing_guard_is_named(loop, monkeypatch, break_, missing):
    break_(monkeypatch)
    with pytest.raises(ConfigurationError, match=missing):
        self_test(loop)


def test_without_deadlines_a_slow_handshake_and_slow_requests_are_named(loop, files, monkeypatch):
    monkeypatch.setattr(selftest, "QUICK", slower(selftest.QUICK, handshake_seconds=60))
    with pytest.raises(ConfigurationError) as refused:
        self_test(loop, files, protocol=Patient)
    for missing in ("a TLS handshake", "a header section", "a body"):
        assert f"{missing} that doesn't end is not cut off" in str(refused.value)


def test_one_bad_moment_of_a_busy_machine_does_not_stop_the_start(loop, monkeypatch):
    monkeypatch.setattr(selftest, "ATTEMPTS", 2)
    problems = iter([["a bad moment"], []])
    monkeypatch.setattr(selftest, "_problems", lambda *_: next(problems))
    self_test(loop)
