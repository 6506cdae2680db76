"""The contract of a store, run by somebody who has the installed package and nothing else of this project."""

import ast
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from thebes.testing import contract

DOCUMENT = Path(__file__).parents[2] / "docs" / "testing.md"
IMPORTS = """
import asyncio
import time

from thebes.stores.failures import FailureVerdict
from thebes.stores.memory import MemoryStore

"""
AS_IT_IS = """
class MyStore(MemoryStore):
    def __init__(self, path):
        super().__init__()
"""
WITH_TUPLES = """
class Part:
    def __init__(self, part):
        self.part = part

    def __getattr__(self, name):
        verb = getattr(self.part, name)
        if name in ("sequence", "settle"):
            return verb

        async def answering(*arguments, **options):
            answer = await verb(*arguments, **options)
            return tuple(answer) if isinstance(answer, list) else answer

        return answering


class MyStore(MemoryStore):
    def __init__(self, path):
        super().__init__()
        for name in ("accounts", "sessions", "failures", "jobs", "keys"):
            setattr(self, name, Part(getattr(self, name)))
"""
FAULTY = """
class Faulty:
    def __init__(self, part):
        self.part = part

    def __getattr__(self, name):
        return getattr(self.part, name)

{fault}

class MyStore(MemoryStore):
    def __init__(self, path):
        super().__init__()
        self.{part} = Faulty(self.{part})
"""

LOADERS = """
import pkgutil
from importlib import import_module

from thebes.testing import contract


def test_the_asserts_of_each_module_are_rewritten():
    for info in pkgutil.iter_modules(contract.__path__, "thebes.testing.contract."):
        assert type(import_module(info.name).__loader__).__name__ == "AssertionRewritingHook", info.name
"""


def modules() -> Iterator[ModuleType]:
    for info in pkgutil.iter_modules(contract.__path__, "thebes.testing.contract."):
        yield import_module(info.name)


def defined_in(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        if name.startswith(("Test", "test_")) and value.__module__ == module.__name__:
            yield name, value


def names_of_tests() -> set[str]:
    """Return the names that the tests have in a run, without their parameters."""
    names = set()
    for module in modules():
        for name, value in defined_in(module):
            methods = [method for method in vars(value) if method.startswith("test_")]
            names |= {f"{name}::{method}" for method in methods} if inspect.isclass(value) else {name}
    return names


def example() -> str:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (found,) = [block for block in blocks if "thebes.testing.contract" in block]
    return found


def run(
    directory: Path, store: str, *, mode: str = "auto", tests: str = ""
) -> subprocess.CompletedProcess[str]:
    (directory / "my_store.py").write_text(IMPORTS + store)
    (directory / "test_my_store.py").write_text(tests or example())
    (directory / "pytest.ini").write_text(
        f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n"
    )
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin"]
    command += ["--strict-markers", "--strict-config", "-W", "error"]
    environ = {"PATH": os.environ["PATH"], "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=directory, env=environ, capture_output=True, text=True, check=False)


def outcomes(done: subprocess.CompletedProcess[str], outcome: str) -> set[str]:
    return set(re.findall(rf"^test_my_store\.py::([\w:]+).*? {outcome} ", done.stdout, re.MULTILINE))


def test_each_test_of_its_modules_is_exported_under_a_name_of_its_own():
    found = [pair for module in modules() for pair in defined_in(module)]

    assert sorted(name for name, _ in found) == sorted(contract.__all__)
    assert all(getattr(contract, name) is value for name, value in found)


def test_it_needs_no_package_beside_pytest():
    """Not even pytest-asyncio is imported: it acts on the marks."""
    known = sys.stdlib_module_names | {"pytest", "thebes"}
    for module in modules():
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = (
                    [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
                )
                assert {str(name).partition(".")[0] for name in names} <= known, module.__name__


def test_its_docstring_shows_the_example_of_the_documentation():
    assert textwrap.indent(example(), "    ") in (contract.__doc__ or "")


@pytest.mark.slow
class TestRun:
    def test_the_example_passes_as_it_stands(self, tmp_path: Path):
        done = run(tmp_path, AS_IT_IS)

        assert done.returncode == 0, done.stdout
        assert outcomes(done, "PASSED") == names_of_tests()

    def test_it_passes_in_strict_mode_too(self, tmp_path: Path):
        tests = example().replace("import pytest\n", "import pytest_asyncio\n")
        tests = tests.replace("@pytest.fixture", "@pytest_asyncio.fixture")

        done = run(tmp_path, AS_IT_IS, mode="strict", tests=tests)

        assert done.returncode == 0, done.stdout
        assert outcomes(done, "PASSED") == names_of_tests()

    def test_a_sequence_may_be_a_tuple(self, tmp_path: Path):
        done = run(tmp_path, WITH_TUPLES)

        assert done.returncode == 0, done.stdout

    def test_each_module_of_it_says_what_was_found_where_an_assert_fails(self, tmp_path: Path):
        done = run(tmp_path, AS_IT_IS, tests=LOADERS)

        assert done.returncode == 0, done.stdout

    @pytest.mark.parametrize(
        ("part", "fault", "test", "shown"),
        [
            pytest.param(
                "accounts",
                """
                async def confirm_email(self, digest, *, jobs=(), now=None):
                    return await self.part.look(digest, "verify", now=now)
                """,
                "TestUsingTokens::test_a_token_works_once",
                "assert Account(",
                id="a token that is not used up",
            ),
            pytest.param(
                "sessions",
                """
                async def revoke(self, *arguments, **options):
                    return []
                """,
                "TestRevokingSessions::test_one_session_ends",
                "assert [] == ['a']",
                id="a session that goes on",
            ),
            pytest.param(
                "failures",
                """
                async def settle(self, keys, judge, *, now=None):
                    rows = await self.part.settle(keys, lambda rows, now: FailureVerdict(list(rows)))
                    await asyncio.sleep(0)
                    verdict = judge(rows, time.time() if now is None else now)
                    await self.part.settle(keys, lambda rows, now: verdict)
                    return verdict.answer
                """,
                "TestParallelFailures::test_of_parallel_charges_every_one_sees_another_count",
                "At index 1 diff: [0, 0] != [1, 1]",
                id="room between a read and a write",
            ),
            pytest.param(
                "jobs",
                """
                async def take(self, kind, *, most, lease, now=None):
                    return await self.part.take(kind, most=most, lease=0, now=now)
                """,
                "TestTakingJobs::test_nobody_else_gets_a_taken_job_until_its_lease_is_over",
                "assert ['a'] == []",
                id="a job for two",
            ),
            pytest.param(
                "keys",
                """
                async def reseal(self, kid, *, was, sealed):
                    rows = {key.kid: key.sealed for key in await self.part.keys()}
                    return kid in rows and await self.part.reseal(kid, was=rows[kid], sealed=sealed)
                """,
                "TestResealingKeys::test_a_changed_row_keeps_its_text",
                "assert not True",
                id="a row that somebody else has changed",
            ),
        ],
    )
    def test_a_fault_is_found_and_shown(self, tmp_path: Path, part: str, fault: str, test: str, shown: str):
        verb = textwrap.indent(textwrap.dedent(fault), "    ")

        done = run(tmp_path, FAULTY.format(fault=verb, part=part))

        assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
        assert test in outcomes(done, "FAILED")
        assert outcomes(done, "FAILED") | outcomes(done, "PASSED") == names_of_tests()
        assert shown in done.stdout
