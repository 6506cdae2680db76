"""Where the package's cryptography and randomness come from, read off its source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import thebes

PACKAGE = Path(thebes.__file__).parent
# The attacker's side imports nothing of the house, so it asks the operating system itself.
ASKS_FOR_ITSELF = ("prove/",)

# Uses of MD5 or SHA-1 that a protocol or an old format demands, as "file: name": hashes of others that are
# verified once and replaced, and what Pwned Passwords is asked by. None of them protects anything of ours.
WEAK_HASH_INVENTORY = {
    "passwords/breaches.py: sha1",
    "passwords/costs.py: sha1",
    "passwords/formats.py: md5",
    "passwords/formats.py: sha1",
    "passwords/hashing.py: sha1",
}

RANDOM_SOURCES = {"secrets", "os.urandom", "os.getrandom", "uuid.uuid1", "uuid.uuid4", "ssl.RAND_bytes"}
NEVER_FOR_SECURITY = {"random", "numpy.random"}
# Unmaintained, or known for errors in their own code.
FOREIGN_CRYPTOGRAPHY = {
    "Crypto",
    "Cryptodome",
    "M2Crypto",
    "ecdsa",
    "jose",
    "nacl",
    "pyaes",
    "rsa",
    "simplecrypt",
}
BROKEN = re.compile(r"(md5|sha1|sha_1)(?![0-9])", re.IGNORECASE)
OBSOLETE_CIPHERS = {"ARC4", "Blowfish", "CAST5", "CBC", "DES", "ECB", "IDEA", "SEED", "TripleDES", "PKCS1v15"}


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Yield each file of the package, by its path inside it."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text("utf-8"))


def names_used(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted names of all imports, and of what is used of them."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                aliases[alias.asname or alias.name.split(".")[0]] = alias.name
                yield alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            if first in aliases:  # else a variable, whatever its name
                yield f"{aliases[first]}.{rest}"


def uses(wanted: set[str]) -> list[str]:
    """Return "file: name" for each use of one of the names, or of something inside it."""
    return sorted(
        {
            f"{path}: {name}"
            for path, tree in sources()
            for name in names_used(tree)
            if any(name == one or name.startswith(f"{one}.") for one in wanted)
        }
    )


def weak_hashes(tree: ast.Module) -> Iterator[str]:
    """Yield names, imports and algorithm strings that mean MD5 or SHA-1."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and BROKEN.fullmatch(node.attr):
            yield node.attr
        elif isinstance(node, ast.Name) and BROKEN.fullmatch(node.id):
            yield node.id
        elif isinstance(node, ast.alias) and BROKEN.fullmatch(node.name.rpartition(".")[2]):
            yield node.name
        elif isinstance(node, ast.Constant) and re.fullmatch(r"(?i)md-?5|sha-?1", str(node.value)):
            yield str(node.value)


@pytest.mark.requirement("SEC-13")
@pytest.mark.slow
class TestTheSourceOfThePackage:
    def test_the_random_module_is_never_imported(self):
        assert uses(NEVER_FOR_SECURITY) == []

    def test_all_randomness_comes_from_one_module(self):
        found = [use for use in uses(RANDOM_SOURCES) if not use.startswith(("encoding.py", *ASKS_FOR_ITSELF))]
        assert found == []
        assert any(use.startswith("encoding.py: ") for use in uses(RANDOM_SOURCES))

    def test_md5_and_sha1_are_used_only_where_the_inventory_says_so(self):
        found = {f"{path}: {name}" for path, tree in sources() for name in weak_hashes(tree)}
        assert found == WEAK_HASH_INVENTORY

    def test_cryptography_comes_from_maintained_libraries(self):
        assert uses(FOREIGN_CRYPTOGRAPHY) == []
        assert uses({f"cryptography.hazmat.primitives.ciphers.{kind}" for kind in ("Cipher", "modes")}) == []

    def test_no_obsolete_cipher_or_mode_is_named(self):
        found = {name for _, tree in sources() for name in names_used(tree)}
        assert {name for name in found if name.rpartition(".")[2] in OBSOLETE_CIPHERS} == set()


class TestTheSearchItself:
    """The searches above pass on an empty package too, so each must find what is planted."""

    @pytest.mark.parametrize(
        ("source", "name"),
        [
            ("import random", "random"),
            ("import random as r\nr.choice([])", "random.choice"),
            ("from random import choice", "random.choice"),
            ("import os\nos.urandom(3)", "os.urandom"),
            ("from os import urandom", "os.urandom"),
            ("def f():\n    import secrets\n    return secrets.token_hex()", "secrets.token_hex"),
        ],
    )
    def test_imports_and_attributes_are_found(self, source, name):
        assert name in set(names_used(ast.parse(source)))

    def test_a_variable_is_not_taken_for_a_module(self):
        assert list(names_used(ast.parse("secrets = App()\nsecrets.command()"))) == []

    def test_our_own_room_is_not_taken_for_the_standard_module(self):
        names = set(names_used(ast.parse("from thebes.secrets.sources import Sources")))
        assert names == {"thebes.secrets.sources.Sources"}

    @pytest.mark.parametrize(
        "source",
        ["hashlib.md5(b'')", "hashlib.new('SHA1')", "from hashlib import sha1", "hashes.SHA1()", "hmac.new(k, m, 'md5')"],
    )  # fmt: skip
    def test_weak_hashes_are_found(self, source):
        assert list(weak_hashes(ast.parse(source)))

    @pytest.mark.parametrize("source", ["hashlib.sha256(b'')", "hashes.SHA512()", "'sha1 is broken'"])
    def test_other_hashes_and_texts_pass(self, source):
        assert list(weak_hashes(ast.parse(source))) == []
