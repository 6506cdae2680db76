"""The lines of docs/testing.md are what a user types: they are run as they stand there, for each framework."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "testing.md"

APPS = {
    "main": """
from fastapi import FastAPI

from thebes import Security
from thebes.fastapi import CurrentPrincipal

app = FastAPI()


@app.get("/notes")
def notes(who: CurrentPrincipal) -> dict[str, str]:
    return {"owner": who.id}


Security(passwords="test").protect(app)
""",
    "service": """
from litestar import Litestar, Request, get

from thebes import Security
from thebes.guards import principal_of


@get("/notes", sync_to_thread=False)
def notes(request: Request) -> dict[str, str]:
    return {"owner": principal_of(request.scope).id}


application = Security().wrap(Litestar([notes]))
""",
    "asgi": """
import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path

from thebes import Security
from thebes.guards import principal_of

urlpatterns = [path("notes", lambda request: JsonResponse({"owner": principal_of(request.scope).id}))]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="only for this test")
django.setup()
application = Security().wrap(get_asgi_application())
""",
}


@pytest.mark.slow
def test_each_example_passes_as_it_stands(tmp_path):
    blocks = [
        block
        for block in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
        if "thebes.testing.contract" not in block  # test_contract.py runs that one
    ]
    for number, block in enumerate(blocks):
        # Each block is a project of its own, whose app the later ones of a page import no more.
        imported = re.search(r"^from (main|service|asgi) import", block, re.MULTILINE)
        name = imported[1] if imported else "main"
        (tmp_path / f"{name}_{number}.py").write_text(APPS[name])
        lines = re.sub(rf"^from {name} import", f"from {name}_{number} import", block, flags=re.MULTILINE)
        known = "" if imported else f"from main_{number} import app\nfrom thebes.testing import client\n"
        (tmp_path / f"test_{number}.py").write_text(known + lines)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nthebes_mode = test\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\npythonpath = .\n"
    )

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-W", "ignore::DeprecationWarning:django"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )

    assert f"{len(blocks)} passed" in done.stdout, done.stdout
    assert len(blocks) == 5
