"""Where the random values of tokens come from, read off the source."""

import ast

import pytest

from package import SOURCE
from thebes.encoding import IDENTIFIER_BYTES, decode, random_id
from thebes.tokens.signing_keys import new_key
from token_making import ADA, NOW, body_of, seals

OTHER_SOURCES = {"uuid", "random", "os", "secrets", "numpy"}


def imported(source: str) -> set[str]:
    """Return the first names of all modules that a source imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.requirement("TOK-16")
class TestRandomValues:
    def test_come_from_the_one_place_that_asks_the_operating_system(self):
        """So no UUID can be a secret: nothing in the room makes one."""
        files = list((SOURCE / "tokens").glob("*.py"))
        found = {path.name: imported(path.read_text("utf-8")) & OTHER_SOURCES for path in files}
        assert len(found) >= 8
        assert set().union(*found.values()) == set()
        assert imported("from uuid import uuid4\nimport os.path") == {"uuid", "os"}

    def test_have_128_bits_and_more(self, tokens):
        assert IDENTIFIER_BYTES * 8 >= 128
        made = [body_of(tokens.issue(ADA, now=NOW))["jti"] for _ in range(100)]
        made += [new_key(seals("old"), "EdDSA", now=NOW).kid for _ in range(100)]
        assert len(set(made)) == 200
        assert {len(decode(one)) for one in [*made, random_id()]} == {IDENTIFIER_BYTES}
