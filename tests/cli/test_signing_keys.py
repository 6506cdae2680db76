"""`thebes secrets rotate`, `keys` and `reseal`: what an operator sees and what a program reads."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from thebes.cli.secrets import add_key_commands
from thebes.tokens.key_rotation import KeyRotation
from thebes.tokens.signing_keys import SigningKeys
from token_making import KeysInMemory, seals

INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


class Project:
    """A project whose signing keys lie in memory; the commands find it by its directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = KeysInMemory()
        self.secret_keys: tuple[str, ...] = ("old",)
        self.opened = self.closed = 0
        self.commands = typer.Typer()
        add_key_commands(self.commands, self.open_rotation)
        asyncio.run(SigningKeys(self.store, seals("old")).load(now=time.time() - 1000))

    @asynccontextmanager
    async def open_rotation(self, directory: Path) -> AsyncIterator[KeyRotation]:
        assert directory == self.directory
        self.opened += 1
        try:
            yield KeyRotation(self.store, seals(*self.secret_keys))
        finally:
            self.closed += 1

    def run(self, *arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(self.commands, [*arguments, "--directory", str(self.directory)])
        assert result.exit_code == code, result.output
        assert self.opened == self.closed
        return result.output

    def advance(self, *, seconds_ago: float) -> None:
        asyncio.run(KeyRotation(self.store, seals("old")).advance(now=time.time() - seconds_ago))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


class TestRotate:
    def test_takes_one_step_a_run_and_says_what_comes_next(self, project):
        first = project.run("rotate")
        assert re.fullmatch(
            rf"step 1 of 3: published [\w-]{{24}}: .*\nnext  from {INSTANT} on, run it again to promote .*\n",
            first,
        )
        assert re.fullmatch(rf"too early: .*\nnext  from {INSTANT} on, .*\n", project.run("rotate"))

    def test_promotes_and_retires_what_is_due(self, project):
        project.advance(seconds_ago=100)
        assert re.fullmatch(
            r"step 2 of 3: promoted .*\nnext  run it again to retire .*\n", project.run("rotate")
        )
        assert re.fullmatch(
            rf"step 3 of 3: retired [\w-]{{24}}: it verifies nothing from {INSTANT} on\nnext  nothing.*\n",
            project.run("rotate"),
        )

    def test_tells_programs_the_same(self, project):
        steps = [json.loads(project.run("rotate", "--json")) for _ in range(2)]
        assert [step["step"] for step in steps] == ["published", "waiting"]
        assert steps[0]["kid"] == steps[1]["kid"] in project.store.rows
        assert re.fullmatch(INSTANT, steps[0]["due_at"])

    def test_replaces_all_at_once_where_a_key_leaked(self, project):
        output = project.run("rotate", "--at-once")
        assert "bearer tokens signed before no longer count" in output
        assert sorted(row.status for row in project.store.rows.values()) == ["promoted", "retired"]
        step = json.loads(project.run("rotate", "--at-once", "--json"))
        assert (step["step"], step["kid"] in project.store.rows) == ("promoted", True)


class TestKeys:
    def test_lists_where_each_key_stands(self, project):
        project.advance(seconds_ago=100)
        old, new = project.run("keys").splitlines()
        assert re.fullmatch(
            rf"[\w-]{{24}}  ES256  promoted   created {INSTANT}, promoted {INSTANT}, in use", old
        )
        assert re.fullmatch(rf"[\w-]{{24}}  ES256  published  created {INSTANT}", new)

    def test_tells_programs_the_same(self, project):
        (key,) = json.loads(project.run("keys", "--json"))
        assert list(key) == ["kid", "alg", "status", "in_use", "created_at", "promoted_at", "retire_at",
                             "sealed_under_key_in_use", "problem"]  # fmt: skip
        assert (key["alg"], key["status"], key["in_use"], key["retire_at"]) == (
            "ES256",
            "promoted",
            True,
            None,
        )

    def test_fails_when_a_key_cannot_be_used(self, project):
        project.secret_keys = ("new",)
        assert "CAN'T BE USED: sealed value refused: unknown_key" in project.run("keys", code=1)
        (key,) = json.loads(project.run("keys", "--json", code=1))
        assert (key["in_use"], key["problem"]) == (False, "sealed value refused: unknown_key")

    @pytest.mark.parametrize("options", [[], ["--json"]])
    def test_shows_nothing_that_is_sealed(self, project, options):
        output = project.run("keys", *options)
        assert all(row.sealed not in output for row in project.store.rows.values())


class TestReseal:
    def test_moves_keys_to_the_secret_key_in_use(self, project):
        project.secret_keys = ("new", "old")
        assert "run `thebes secrets reseal`" in project.run("keys")
        assert project.run("reseal") == "resealed 1\n"
        assert json.loads(project.run("reseal", "--json")) == {"resealed": 0}
        project.secret_keys = ("new",)
        assert "in use" in project.run("keys")
