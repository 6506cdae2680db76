"""A Secret shows its mask wherever Python or a framework prints values."""

import copy
import dataclasses
import io
import json
import logging
import pickle
import pprint
import subprocess
import sys
import traceback
from collections.abc import Callable

import pytest
import rich.console
import rich.traceback
from hypothesis import given
from hypothesis import strategies as st
from starlette.middleware.errors import ServerErrorMiddleware

from thebes.secret import MASK, Secret

# Only ever named, so that the source lines in a traceback don't hold it.
CANARY = "canary-" + "4f9a1c" * 4

pytestmark = pytest.mark.requirement("SEC-08")


@dataclasses.dataclass
class Account:
    name: str
    password: Secret


@pytest.fixture
def secret() -> Secret:
    return Secret(CANARY)


def failing(secret: Secret) -> None:
    copied, holder = secret, {"list": [secret], "account": Account("ada", secret)}
    raise RuntimeError("refused", copied, holder["list"])


def caught(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(repr, id="repr"),
        pytest.param(str, id="str"),
        pytest.param(format, id="format"),
        pytest.param(lambda s: format(s, ">60"), id="format with a width"),
        pytest.param(lambda s: f"{s} {s!r} {s!s} {s!a} {s:x}", id="f-string"),
        pytest.param(lambda s: "%s %r %60s" % (s, s, s), id="percent"),  # noqa: UP031
        pytest.param("{0} {0!r:>40}".format, id="str.format"),
        pytest.param(lambda s: pprint.pformat({"key": [s]}), id="pprint"),
        pytest.param(lambda s: repr(Account("ada", s)), id="dataclass repr"),
        pytest.param(lambda s: pprint.pformat(Account("ada", s)), id="dataclass pprint"),
        pytest.param(lambda s: repr(vars(Account("ada", s))), id="vars of a dataclass"),
        pytest.param(lambda s: repr(dataclasses.asdict(Account("ada", s))), id="asdict"),
        pytest.param(lambda s: json.dumps({"key": s}, default=str), id="JSON with default=str"),
        pytest.param(lambda s: repr(copy.copy(s)), id="copy"),
        pytest.param(lambda s: repr(copy.deepcopy({"key": s})), id="deep copy"),
    ],
)
def test_every_way_of_printing_shows_the_mask(secret: Secret, shown: Callable[[Secret], str]):
    text = shown(secret)

    assert MASK in text
    assert CANARY not in text


@pytest.mark.parametrize(
    "serialize",
    [
        pytest.param(json.dumps, id="JSON"),
        pytest.param(lambda s: json.dumps({"key": s}), id="JSON, nested"),
        *(
            pytest.param(lambda s, p=p: pickle.dumps([s], p), id=f"pickle {p}")
            for p in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
        pytest.param(lambda s: s.__getstate__(), id="the state that serializers ask for"),
        pytest.param(bytes, id="bytes"),
        pytest.param(list, id="iteration"),
        pytest.param(vars, id="vars"),
    ],
)
def test_what_cannot_be_masked_is_refused_without_showing_the_value(secret: Secret, serialize):
    error = caught(lambda: serialize(secret))

    assert isinstance(error, TypeError)
    assert CANARY not in "".join(traceback.format_exception(error)) + repr(error)


def test_fastapi_cannot_put_a_secret_into_an_answer(secret: Secret):
    from fastapi.encoders import jsonable_encoder

    error = caught(lambda: jsonable_encoder({"key": secret}))

    assert isinstance(error, ValueError)
    assert CANARY not in "".join(traceback.format_exception(error)) + repr(error)


def test_logging_shows_the_mask(secret: Secret):
    stream = io.StringIO()
    logger = logging.Logger("canary")
    logger.addHandler(logging.StreamHandler(stream))

    logger.warning("%s %r", secret, secret)
    logger.warning("%(key)s", {"key": secret})
    logger.warning(secret)
    try:
        failing(secret)
    except RuntimeError:
        logger.exception("failed")

    assert stream.getvalue().count(MASK) >= 4
    assert CANARY not in stream.getvalue()


def test_tracebacks_show_the_mask_even_with_the_locals_of_each_frame(secret: Secret):
    error = caught(lambda: failing(secret))

    plain = "".join(traceback.format_exception(error))
    with_locals = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())

    assert MASK in plain
    assert "copied = Secret(****)" in with_locals
    assert CANARY not in plain + with_locals


def test_rich_tracebacks_show_the_mask(secret: Secret):
    error = caught(lambda: failing(secret))
    console = rich.console.Console(file=io.StringIO(), width=200)

    console.print(
        rich.traceback.Traceback.from_exception(type(error), error, error.__traceback__, show_locals=True)
    )

    assert isinstance(console.file, io.StringIO)
    assert MASK in console.file.getvalue()
    assert CANARY not in console.file.getvalue()


async def test_starlette_debug_pages_show_the_mask(secret: Secret):
    sent = []

    async def app(scope, receive, send):
        failing(secret)

    async def send(message):
        sent.append(message)

    page = ServerErrorMiddleware(app, debug=True)
    with pytest.raises(RuntimeError):
        await page({"type": "http", "headers": [(b"accept", b"text/html")]}, None, send)

    body = b"".join(message.get("body", b"") for message in sent).decode()
    assert MASK in body
    assert CANARY not in body


def test_django_debug_pages_show_the_mask():
    # In a process of its own, since Django's settings are global.
    made = subprocess.run([sys.executable, "-c", DJANGO], capture_output=True, check=False, text=True)

    assert made.returncode == 0, made.stderr
    assert "copied" in made.stdout
    assert MASK in made.stdout
    assert "can" + "ary" not in made.stdout


DJANGO = """
import sys
import django
from django.conf import settings
settings.configure(DEBUG=True, SECRET_KEY="x")
django.setup()
from django.views.debug import ExceptionReporter
from thebes.secret import Secret

def failing(secret):
    copied = secret
    raise RuntimeError("refused", copied)

try:
    failing(Secret("".join(["can", "ary"])))
except RuntimeError:
    print(ExceptionReporter(None, *sys.exc_info()).get_traceback_html())
"""


def test_a_value_that_is_not_text_raises_an_error_without_the_value():
    error = caught(Secret(b"\xff" + CANARY.encode()).reveal_text)

    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert isinstance(error, ValueError)
    assert error.__context__ is None
    assert CANARY not in "".join(report.format()) + repr(error)


@pytest.mark.parametrize("value", [32, None, ["a"], bytearray(32)])
def test_a_secret_is_made_of_text_or_bytes_only(value):
    """bytes(32) would be a key of 32 zero bytes."""
    with pytest.raises(TypeError):
        Secret(value)


def test_secrets_are_compared_by_value_and_with_secrets_only(secret: Secret):
    assert secret == Secret(CANARY.encode())
    assert hash(secret) == hash(Secret(CANARY))
    assert secret != Secret(CANARY + "x")
    assert secret != CANARY


def test_a_copy_is_the_same_object_so_that_settings_stay_copyable(secret: Secret):
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\udc80\udce9\udcff")))
def test_text_from_the_environment_keeps_its_bytes(text: str):
    assert Secret(text).reveal() == text.encode("utf-8", "surrogateescape")


@given(st.binary(max_size=300))
def test_reveal_returns_the_bytes(raw: bytes):
    assert Secret(raw).reveal() == raw
    assert len(Secret(raw)) == len(raw)
    assert f"{Secret(raw)!r}{Secret(raw)}" == MASK * 2
