"""Name the files and functions that have grown too long to be read in one go.

Usage: python tools/sizes.py [ROOT]; exits 1 if there are any.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60  # in src only: a test or an example may tell a longer story
FOLDERS = ("src", "tests", "bench", "examples", "tools")


def too_long(root: Path) -> Iterator[str]:
    """Yield one line for each file and each function under `root` that is too long."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            name = path.relative_to(root).as_posix()
            lines = len(text.splitlines())
            if lines > MAX_FILE_LINES:
                yield f"{name}: {lines} lines, at most {MAX_FILE_LINES} are allowed"
            if folder == "src":
                yield from _long_functions(name, text)


def _long_functions(name: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text, name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield (
                    f"{name}:{node.lineno}: {node.name} has {lines} lines, "
                    f"at most {MAX_FUNCTION_LINES} are allowed"
                )


def main(arguments: list[str]) -> int:
    """Print what is too long; return the exit status."""
    faults = list(too_long(Path(arguments[0]) if arguments else Path.cwd()))
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
