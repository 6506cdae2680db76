"""Every regular expression of the package is fast on its worst input, and none is made of a client's text.

The inputs are made from the pattern itself: each class, each repeated part and each pair of them, pumped to
10,000 characters behind what has to stand in front, with and without an end that can't match.
"""

import ast
import collections
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest

from package import SOURCE, constants
from thebes import ConfigurationError, Security
from thebes.csrf import CrossOriginProtection
from thebes.facts import Mode

pytestmark = pytest.mark.requirement("VAL-21")

LENGTH = 10_000
BUDGET_SECONDS = 0.1
PATIENCE_SECONDS = 0.25
FUNCTIONS = frozenset(
    {"compile", "match", "search", "fullmatch", "sub", "subn", "split", "findall", "finditer"}
)
ENDS = ("", "\0", "!", "\n", " x")

Pattern = re.Pattern[str] | re.Pattern[bytes]


def calls(module: ast.Module) -> Iterator[tuple[ast.Call, str]]:
    """Yield the calls of functions of `re` that take a pattern, with the function's name."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id == "re" and node.func.attr in FUNCTIONS:
                yield node, node.func.attr


@cache
def sources() -> Sequence[tuple[str, ast.Module]]:
    """Return every module of the package, parsed, with its path."""
    paths = sorted(SOURCE.rglob("*.py"))
    return [(path.relative_to(SOURCE).as_posix(), ast.parse(path.read_text("utf-8"))) for path in paths]


@cache
def attributes() -> Mapping[str, frozenset[str]]:
    """Return by the name of a variable what the source asks of it."""
    found: collections.defaultdict[str, set[str]] = collections.defaultdict(set)
    for _, module in sources():
        for node in ast.walk(module):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                found[node.value.id].add(node.attr)
    return {name: frozenset(attributes) for name, attributes in found.items()}


def literal_patterns() -> Iterator[tuple[str, Pattern, str]]:
    """Yield what is written down as a literal in a call of `re`."""
    for name, module in sources():
        for call, function in calls(module):
            if isinstance(call.args[0], ast.Constant):
                flags = 0
                for node in ast.walk(call):
                    if isinstance(node, ast.Attribute) and node.attr in re.RegexFlag.__members__:
                        flags |= re.RegexFlag[node.attr]
                yield f"{name}:{call.lineno}", re.compile(call.args[0].value, flags), function


def methods_of(name: str) -> frozenset[str]:
    """Return the methods that the source calls on the global of this name; all where it calls none by name."""
    used = attributes().get(name, frozenset())
    return (used & FUNCTIONS) or frozenset({"match", "search", "fullmatch", "finditer"})


def shipped() -> dict[tuple[str | bytes, int], tuple[str, Pattern, set[str]]]:
    """Return every pattern of the package once, with a name and the ways in which it is used."""
    found: dict[Any, tuple[str, Pattern, set[str]]] = {}
    for name, value in constants():
        if isinstance(value, re.Pattern):
            entry = found.setdefault((value.pattern, value.flags), (name, value, set()))
            entry[2].update(methods_of(name.rpartition(".")[2]))
    for name, pattern, function in literal_patterns():
        entry = found.setdefault((pattern.pattern, pattern.flags), (name, pattern, set()))
        entry[2].update({function} - {"compile"})
    return found


SHIPPED = shipped()
CASES = [pytest.param(pattern, sorted(methods), id=name) for name, pattern, methods in SHIPPED.values()]


# A pattern as Python parses it: pairs of operation and argument. The parser is private to `re`, and the
# only one that reads exactly what `re` runs.
def parsed(pattern: Pattern) -> Any:
    return re._parser.parse(pattern.pattern, pattern.flags)  # type: ignore[attr-defined]


CATEGORIES = {"DIGIT": "0", "NOT_DIGIT": "x", "SPACE": " ", "NOT_SPACE": "x", "WORD": "a", "NOT_WORD": "-"}
POOL = "a0Z-_.:/ \t\"'\\,;=x\n"


def members(arguments: Any) -> list[str]:
    """Return a character for each part of a class; some that aren't in it where it is negated."""
    found = []
    for operation, argument in arguments:
        kind = str(operation)
        if kind == "NEGATE":
            inside = members(arguments[1:])
            return [letter for letter in POOL if letter not in inside][:4]
        if kind == "CATEGORY":
            found.append(CATEGORIES[str(argument).removeprefix("CATEGORY_")])
        else:
            found.append(chr(argument if kind == "LITERAL" else argument[0]))
    return found


def sample(parts: Any) -> str:
    """Return a text that the parts match, or nearly: each repetition once more than it has to be."""
    text = ""
    for operation, argument in parts:
        kind = str(operation)
        if kind == "LITERAL":
            text += chr(argument)
        elif kind in ("ANY", "NOT_LITERAL"):
            text += "x"
        elif kind == "IN":
            text += members(argument)[0]
        elif kind.endswith("REPEAT"):
            text += sample(argument[2]) * max(argument[0], 1)
        elif kind == "SUBPATTERN":
            text += sample(argument[3])
        elif kind == "BRANCH":
            text += sample(argument[1][0])
    return text


def pumps(parts: Any, front: str = "") -> Iterator[tuple[str, str]]:
    """Yield what to repeat, with what stands in front of it: classes, repeated parts, all parts of those."""
    for place, (operation, argument) in enumerate(parts):
        kind = str(operation)
        here = front + sample(parts[:place])
        if kind == "LITERAL":
            yield here, chr(argument)
        elif kind == "IN":
            yield from ((here, letter) for letter in members(argument))
        elif kind.endswith("REPEAT"):
            yield here, sample(argument[2])
            yield from pumps(argument[2], here)
        elif kind == "SUBPATTERN":
            yield from pumps(argument[3], here)
        elif kind.startswith("ASSERT"):
            yield from pumps(argument[1], here)
        elif kind == "BRANCH":
            for branch in argument[1]:
                yield from pumps(branch, here)
        elif kind in ("ANY", "NOT_LITERAL"):
            yield here, "x"


def inputs(pattern: Pattern) -> Iterator[Any]:
    """Yield texts of 10,000 characters made to keep the pattern busy, of its own type."""
    found = dict.fromkeys(pumps(parsed(pattern)))
    units = list(dict.fromkeys(unit for _, unit in found if unit))[:12]
    pairs = [("", first + second) for first in units for second in units if first != second]
    for front, unit in [*found, *(("", unit) for unit in units), *pairs]:
        for end in ENDS if front or len(unit) == 1 else ENDS[:2]:
            body = (unit or "x") * LENGTH
            text = front + body[: LENGTH - len(front) - len(end)] + end
            yield text.encode("latin-1", "replace") if isinstance(pattern.pattern, bytes) else text


class TooSlow(Exception):
    """The patience is over."""


@contextmanager
def patience() -> Iterator[None]:
    """Raise TooSlow after a quarter of a second of computing; `re` looks for signals while it backtracks."""

    def give_up(*_: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def seconds(pattern: Pattern, method: str, text: Any) -> float:
    """Return the time that this thread computed: a busy machine doesn't count."""
    begun = time.thread_time()
    try:
        with patience():
            if method in ("match", "search", "fullmatch"):
                getattr(pattern, method)(text)
            else:
                collections.deque(pattern.finditer(text), maxlen=0)
    except TooSlow:
        return PATIENCE_SECONDS
    return time.thread_time() - begun


def slow_inputs(pattern: Pattern, methods: Sequence[str]) -> Iterator[str]:
    """Yield what takes longer than the budget, in the best of three tries."""
    for text in inputs(pattern):
        assert len(text) == LENGTH
        for method in methods:
            if seconds(pattern, method, text) > BUDGET_SECONDS:
                taken = min(seconds(pattern, method, text) for _ in range(2))
                if taken > BUDGET_SECONDS:
                    yield f"{method} takes {taken:.2f} s for {text[:30]!r} ... {text[-5:]!r}"


@pytest.mark.parametrize(("pattern", "methods"), CASES)
def test_it_takes_less_than_100_ms_for_10_000_hostile_characters(pattern: Pattern, methods: list[str]):
    assert next(slow_inputs(pattern, methods), None) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"(a+)+\Z", "match"),
        (r"(?:a|aa)*b", "match"),
        (r"(?:[a-z]+\.?)*@", "search"),
        (r"(?:[a-z0-9]\.?)+=", "search"),
        (r"x[ \t]*\w?[ \t]*;", "match"),
        (r"\s*[0-9]{1,3}\s*[a-z]*\s*", "fullmatch"),
        (rb"(?P<quote>['\"])(?:[^\\]|\\.|.)*(?P=quote)\Z", "match"),
    ],
)
def test_the_inputs_find_a_pattern_that_backtracks(pattern: str | bytes, method: str):
    """Exponential ones, quadratic ones, and one whose alternatives overlap."""
    assert next(slow_inputs(re.compile(pattern), [method]), None) is not None


def test_no_pattern_of_the_source_is_missing():
    tested = {pattern for pattern, _ in SHIPPED}
    written = {pattern.pattern for _, pattern, _ in literal_patterns()}

    assert len(tested) >= 15
    assert written <= tested


CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")


def is_written_down(node: ast.AST, module: ast.Module) -> bool:
    """Say whether an expression is made of literals, of constants of a module and of escaped text."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.BinOp):
        return is_written_down(node.left, module) and is_written_down(node.right, module)
    if isinstance(node, ast.JoinedStr):
        return all(is_written_down(part, module) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return is_written_down(node.value, module)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        owner, attribute = node.func.value, node.func.attr
        is_escaped = isinstance(owner, ast.Name) and (owner.id, attribute) == ("re", "escape")
        return is_escaped or (attribute == "encode" and is_written_down(owner, module))
    if isinstance(node, ast.Name):
        return CONSTANT.fullmatch(node.id) is not None or _runs_over_a_constant(node.id, module)
    return False


def _runs_over_a_constant(name: str, module: ast.Module) -> bool:
    """Say whether a name is the variable of a comprehension over a constant of the module."""
    runs = [
        loop.iter
        for loop in ast.walk(module)
        if isinstance(loop, ast.comprehension)
        and any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(loop.target))
    ]
    return bool(runs) and all(isinstance(run, ast.Name) and CONSTANT.fullmatch(run.id) for run in runs)


def unescaped(module: ast.Module) -> Iterator[str]:
    """Yield what could make a pattern of text that isn't written down in the source."""
    for call, function in calls(module):
        if not call.args or not is_written_down(call.args[0], module):
            yield f"line {call.lineno}: re.{function} of {ast.unparse(call)}"
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module in ("re", "fnmatch", "regex", "glob"):
            yield f"line {node.lineno}: hides patterns from this test"
        if isinstance(node, ast.Import) and any(
            alias.name in ("fnmatch", "regex", "glob") or (alias.name == "re" and alias.asname)
            for alias in node.names
        ):
            yield f"line {node.lineno}: hides patterns from this test"


@pytest.mark.parametrize(("name", "module"), [pytest.param(*source, id=source[0]) for source in sources()])
def test_no_pattern_is_made_of_text_that_is_not_escaped(name: str, module: ast.Module):
    assert list(unescaped(module)) == []


@pytest.mark.parametrize(
    ("code", "is_safe"),
    [
        ("re.compile(r'a+')", True),
        ("re.search(re.escape(host) + r'\\Z', text)", True),
        ("re.sub(rf'{re.escape(name)}=.*', '', text)", True),
        ("[re.compile(pattern) for pattern in _PATTERNS]", True),
        ("re.compile(rb'a' + NAME.encode('ascii'))", True),
        ("re.compile(host)", False),
        ("re.search(host + r'\\Z', text)", False),
        ("re.sub(rf'{name}=.*', '', text)", False),
        ("re.match(request.path, text)", False),
        ("re.fullmatch(str(value), text)", False),
        ("re.compile('|'.join(hosts))", False),
        ("[re.compile(pattern) for pattern in hosts]", False),
        ("re.compile(pattern=host)", False),
        ("from re import compile", False),
        ("import re as expressions", False),
        ("import fnmatch", False),
    ],
)
def test_the_search_for_such_patterns_finds_them(code: str, is_safe: bool):
    assert (list(unescaped(ast.parse(code))) == []) is is_safe


class TestSettings:
    @pytest.mark.parametrize(
        "keywords",
        [
            {"hosts": ["exam.*"]},
            {"hosts": ["(example).com"]},
            {"hosts": ["^example.com$"]},
            {"hosts": ["[a-z]+.com"]},
            {"hosts": [r"example\.com"]},
            {"hosts": ["*.example.com"]},
            {"public_url": "https://.*"},
            {"origins": ["https://*.example.com"]},
            {"origins": ["https://(a+)+.example.com/.*"]},
            {"proxies": ["10.*"]},
            {"health": "GET /(healthz|ready)*"},
            {"health": "GET /.*"},
        ],
    )
    def test_what_looks_like_a_pattern_is_refused(self, keywords: dict[str, Any]):
        with pytest.raises(ConfigurationError):
            Security(**keywords)

    def test_a_dot_in_a_setting_is_a_dot(self):
        """CVE-2026-25479: a list of hosts that was compiled as a pattern let `exampleXcom` through."""
        from asking import request_facts
        from thebes.https.hosts import HostCheck

        check = HostCheck(["example.com"])
        assert check(request_facts(headers={"Host": "example.com"})) is None
        assert check(request_facts(headers={"Host": "exampleXcom"})) is not None

        csrf = CrossOriginProtection(
            mode=Mode.PRODUCTION, origins=["https://example.com"], session_cookies=["s.d"]
        )
        assert csrf(request_facts("POST", "/", {"Origin": "https://exampleXcom"})) is not None
        assert csrf(request_facts("POST", "/", {"Cookie": "s.d=1"})) is not None
        assert csrf(request_facts("POST", "/", {"Cookie": "sXd=1"})) is None
