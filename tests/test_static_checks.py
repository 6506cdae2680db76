"""Nothing in the source runs text as code: no eval, no pickle, no shell; and a build with one of them fails."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from package import SOURCE

pytestmark = pytest.mark.requirement("VAL-18")

ROOT = Path(__file__).parents[1]
RUNNING_BUILTINS = frozenset({"eval", "exec", "compile", "__import__"})
# Modules that rebuild objects or code from bytes, or hand text to a shell.
REFUSED_MODULES = frozenset(
    {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "jsonpickle", "shelve", "marshal", "joblib"}
    | {"yaml", "ruamel", "code", "codeop", "builtins", "pty", "commands", "popen2", "timeit"}
)
SHELLS = frozenset(
    {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
    | {"asyncio.create_subprocess_shell", "asyncio.subprocess.create_subprocess_shell"}
)
STARTERS = frozenset(f"subprocess.{name}" for name in ("run", "call", "check_call", "check_output", "Popen"))


def findings(module: ast.Module) -> Iterator[str]:
    """Yield what could run text as code, by line."""
    for node in ast.walk(module):
        for name in names_in(node):
            # A module has to be imported before it is used; a variable may be called `code`.
            is_refused_module = isinstance(node, ast.Import | ast.ImportFrom) and (
                name.partition(".")[0] in REFUSED_MODULES
            )
            if name in RUNNING_BUILTINS | SHELLS or is_refused_module:
                yield f"line {node.lineno}: {name}"
        if isinstance(node, ast.ImportFrom) and STARTERS.intersection(names_in(node)):
            yield f"line {node.lineno}: hides what it starts from this check"
        if isinstance(node, ast.Call):
            yield from started(node, module)


def names_in(node: ast.AST) -> list[str]:
    """Return the dotted names that one node uses or imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [ast.unparse(node)] if isinstance(node, ast.Name | ast.Attribute) else []


def started(call: ast.Call, module: ast.Module) -> Iterator[str]:
    """Yield a subprocess that isn't started by a list of arguments, or goes through a shell."""
    if any(keyword.arg in ("shell", None) for keyword in call.keywords) and "subprocess" in ast.unparse(
        call.func
    ):
        yield f"line {call.lineno}: {ast.unparse(call)}"
    if ast.unparse(call.func) in STARTERS and not (call.args and is_list(call.args[0], module)):
        yield f"line {call.lineno}: not a list: {ast.unparse(call)}"


def is_list(node: ast.AST, module: ast.Module) -> bool:
    """Say whether an expression is a list display, or a name that nothing but lists is assigned to."""
    if isinstance(node, ast.Name):
        values = [
            assignment.value
            for assignment in ast.walk(module)
            if isinstance(assignment, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == node.id for target in assignment.targets)
        ]
        return bool(values) and all(isinstance(value, ast.List) for value in values)
    return isinstance(node, ast.List)


def test_nothing_in_the_source_runs_text_as_code():
    found = {
        path.relative_to(SOURCE).as_posix(): list(findings(ast.parse(path.read_text(encoding="utf-8"))))
        for path in SOURCE.rglob("*.py")
    }

    assert len(found) > 30
    assert {name: lines for name, lines in found.items() if lines} == {}


RUNNING = {
    "eval": "def f(text):\n    return eval(text)\n",
    "exec": "def f(text):\n    exec(text)\n",
    "compile": "def f(text):\n    return compile(text, 'x', 'eval')\n",
    "eval by another name": "run = eval\n",
    "pickle": "import pickle\n\n\ndef f(raw):\n    return pickle.loads(raw)\n",
    "pickle, imported by name": "from pickle import loads\n\n\ndef f(raw):\n    return loads(raw)\n",
    "marshal": "import marshal\n\n\ndef f(raw):\n    return marshal.loads(raw)\n",
    "shelve": "import shelve\n\n\ndef f(path):\n    return shelve.open(path)\n",
    "yaml": "import yaml\n\n\ndef f(text):\n    return yaml.load(text, Loader=yaml.Loader)\n",
    "os.system": "import os\n\n\ndef f(text):\n    os.system(text)\n",
    "os.popen": "import os\n\n\ndef f(text):\n    return os.popen(text)\n",
    "shell": "import subprocess\n\n\ndef f(text):\n    subprocess.run(text, shell=True, check=True)\n",
    "shell, by a variable": "import subprocess\n\n\ndef f(text, how):\n    subprocess.run([text], shell=how, check=True)\n",
    "shell of asyncio": "import asyncio\n\n\ndef f(text):\n    return asyncio.create_subprocess_shell(text)\n",
    "getoutput": "import subprocess\n\n\ndef f(text):\n    return subprocess.getoutput(text)\n",
    "a command in one text": "import subprocess\n\n\ndef f(text):\n    subprocess.run(f'git {text}', check=True)\n",
    "a command that may be text": "import subprocess\n\n\ndef f(text):\n    subprocess.run(text, check=True)\n",
    "arguments that nobody sees": "import subprocess\n\n\ndef f(how):\n    subprocess.run(['git'], **how)\n",
    "a starter by its own name": "from subprocess import run\n\n\ndef f(text):\n    run(text, check=True)\n",
}


@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in RUNNING.items()])
def test_the_check_finds_each_way(code: str):
    assert list(findings(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess\n\n\ndef f(path):\n    subprocess.run(['git', '-C', path], check=True)\n",
        "import subprocess\n\n\ndef f(path):\n    command = ['git', path]\n    subprocess.run(command, check=True)\n",
        "import re\n\nPATTERN = re.compile('a')\n",
        "import ast\n\n\ndef f(text):\n    return ast.literal_eval(text)\n",
        "import json\n\n\ndef f(text):\n    return json.loads(text)\n",
    ],
)
def test_the_check_leaves_the_rest_alone(code: str):
    assert list(findings(ast.parse(code))) == []


# What ruff calls them (flake8-bandit). It has no rule for compile() and none for a plain import of yaml:
# those are found by the test above, which runs in every build.
RULES = {
    "eval": "S307",
    "exec": "S102",
    "pickle": "S301",
    "pickle, imported by name": "S301",
    "marshal": "S302",
    "shelve": "S301",
    "yaml": "S506",
    "os.system": "S605",
    "os.popen": "S605",
    "shell": "S602",
    "getoutput": "S605",
    "a command that may be text": "S603",
}


@pytest.fixture(scope="module")
def linted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the rules that the project's own settings find broken in a source tree with each sample."""
    root = tmp_path_factory.mktemp("project")
    (root / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    package = root / "src" / "thebes"
    package.mkdir(parents=True)
    names = {f"sample_{number}.py": name for number, name in enumerate(RUNNING)}
    for file, name in names.items():
        (package / file).write_text(RUNNING[name], encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    broken: dict[str, set[str]] = {name: set() for name in RUNNING}
    for file, rule in re.findall(r"^src/thebes/(\w+\.py):\d+:\d+: ([A-Z]+[0-9]+)", run.stdout, re.MULTILINE):
        broken[names[file]].add(rule)
    return broken


@pytest.mark.parametrize(("name", "rule"), list(RULES.items()))
def test_the_linter_of_the_build_refuses_it(linted: dict[str, set[str]], name: str, rule: str):
    assert rule in linted[name]


def test_the_build_runs_the_linter_and_the_tests():
    check = re.search(
        r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    build = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert check is not None
    assert "ruff check .\n" in check[1]
    assert re.search(r"^make check$", build, re.MULTILINE)
    assert re.search(r"^make test$", build, re.MULTILINE)
    assert "set -euo pipefail" in build


def test_no_line_of_the_source_is_excused_from_these_rules():
    excused = {"S102", "S301", "S302", "S307", "S506", "S602", "S604", "S605"}
    for path in SOURCE.rglob("*.py"):
        for comment in re.findall(r"#\s*(?:ruff:\s*)?noqa(.*)", path.read_text(encoding="utf-8")):
            codes = set(re.findall(r"\b[A-Z]+[0-9]+\b", comment))
            assert codes, f"{path.name} excuses a line from all rules"
            assert not codes & excused, path.name
