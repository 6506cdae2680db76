"""The floor runs and tells its figures; how large they are is for people to judge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the CPU clock of a process is Linux's"),
]

FLOOR = Path(__file__).parents[2] / "bench" / "floor.py"
TINY = ("--pairs", "1", "--rounds", "1", "--requests", "16")


def test_the_last_line_is_one_json_object_with_every_figure():
    done = subprocess.run(
        [sys.executable, str(FLOOR), *TINY, "--json"],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) == {
        "layer_ratio_starlette",
        "fields_ratio_starlette",
        "least_get_ratio_starlette",
        "least_get_ratio_fastapi",
        "least_post_ratio_fastapi",
        "least_signed_get_ratio_starlette",
        "least_signed_get_ratio_fastapi",
        "least_signed_post_ratio_fastapi",
    }
    assert all(value > 0 for value in figures.values())


def test_floors_answer_with_the_fields_of_the_pass_and_keep_the_refresh_cookie_too(tmp_path):
    """Else the floor would lie deeper than it is: a stranger's GET and POST, and a signed-in GET."""
    code = """
import asyncio, os, harness
os.environ.update(harness.production_environment())
import apps, least, load, pass_profile

protected, signed = pass_profile.protected()
cheapest = least.least(pass_profile.bare, apps.MANDATED)
layer = apps.Layer(pass_profile.bare, apps.MANDATED)

def answered(app, request):
    said = []
    async def send(message): said.append(message)
    (scope,) = pass_profile.scopes(request, 1)
    asyncio.run(app(scope, pass_profile.receive, send))
    return said[0]["status"], sorted(said[0]["headers"]), [message.get("body") for message in said[1:]]

for request in (*pass_profile.REQUESTS.values(), signed):
    assert answered(cheapest, request) == answered(protected, request), request
get = pass_profile.REQUESTS["GET"]
assert answered(layer, get) == answered(protected, get)

seen = []
async def app(scope, receive, send):
    seen.extend(scope["headers"])
    await pass_profile.bare(scope, receive, send)
answered(least.least(app, apps.MANDATED), signed)
assert b"-session=" in dict(seen)[b"cookie"] and b"-refresh=" not in dict(seen)[b"cookie"]

evil = "https://evil.example"
for hostile in (
    load.navigation("/notes", host="evil.example"),
    load.fetch("/notes", pass_profile.BODY, site="cross-site", origin=evil),
):
    assert answered(cheapest, hostile)[0] == 400
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(FLOOR.parent)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
