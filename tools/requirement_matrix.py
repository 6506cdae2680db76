"""Read the requirement matrix and judge which of its rows are proven.

A row is proven by tests that passed, or for documentation by a page that names its id. What counts
depends on the row's `how_checked`: a claim about a running server needs an attack on one.

Does not judge whether a test checks what its row says: that is for whoever reads the test.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Outcome = Literal["passed", "failed", "skipped", "not run"]

HOW_CHECKED = frozenset({"unit", "live probe", "both", "config check", "doc"})


@dataclass(frozen=True, slots=True)
class Row:
    """One requirement; a withdrawn row keeps its id and counts for nothing."""

    id: str
    practice: str
    how_checked: str
    is_withdrawn: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """One test that claims to check a row; `is_live` when it attacks a running server."""

    test: str
    is_live: bool
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found for one row: `missing` is None when nothing is, and the row is proven."""

    row: Row
    missing: str | None
    proof: tuple[str, ...]


def read(path: Path) -> dict[str, Row]:
    """Return the rows of a matrix by id, in the order of the file.

    Raises:
        ValueError: An id stands twice, or a row is checked in a way that is not known.
        OSError: The file cannot be read.
    """
    rows: dict[str, Row] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for fields in csv.DictReader(file):
            row = Row(
                id=fields["id"],
                practice=fields["practice"],
                how_checked=fields["how_checked"],
                is_withdrawn=re.search(r"\bwithdrawn\b", fields["note"] or "") is not None,
            )
            if row.id in rows:
                raise ValueError(f"{path}: {row.id} stands twice")
            if row.how_checked not in HOW_CHECKED:
                raise ValueError(f"{path}: {row.id} is checked by {row.how_checked!r}")
            rows[row.id] = row
    return rows


def pages_naming(ids: Iterable[str], root: Path) -> dict[str, list[str]]:
    """Return for each id the pages that contain it as a word: README.md and docs/**/*.md."""
    wanted = set(ids)
    found: dict[str, list[str]] = {}
    for page in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        if page.is_file():
            # With the hyphen as a letter: an id that is part of a longer name is not that id.
            words = set(re.findall(r"[\w-]+", page.read_text(encoding="utf-8")))
            for row_id in sorted(wanted & words):
                found.setdefault(row_id, []).append(page.relative_to(root).as_posix())
    return found


def judge(row: Row, evidence: Sequence[Evidence], pages: Sequence[str]) -> Verdict:
    """Say whether a row is proven, by what, and if it isn't what is missing."""
    passed = [each for each in evidence if each.outcome == "passed"]
    proof = (*(pages if row.how_checked == "doc" else ()), *_counted(passed))
    return Verdict(row, _missing(row, evidence, passed, pages), proof)


def table(verdicts: Iterable[Verdict], *, verbose: bool = False) -> list[str]:
    """Return the report as lines: what proves each row if verbose, the practices, the sum."""
    counted = [verdict for verdict in verdicts if not verdict.row.is_withdrawn]
    proven = [verdict for verdict in counted if verdict.missing is None]
    lines = _details(counted) if verbose else []
    totals = Counter(verdict.row.practice for verdict in counted)
    done = Counter(verdict.row.practice for verdict in proven)
    lines += [f"{'practice':<12} proven total"]
    lines += [f"{name:<12} {done[name]:>6} {total:>5}" for name, total in totals.items()]
    return [*lines, f"proven {len(proven)} of {len(counted)}"]


def verdicts(
    rows: Mapping[str, Row], evidence: Mapping[str, Sequence[Evidence]], root: Path
) -> list[Verdict]:
    """Judge all rows of a matrix by what a test run brought and the pages under `root` say."""
    pages = pages_naming((row.id for row in rows.values() if row.how_checked == "doc"), root)
    return [judge(row, evidence.get(name, ()), pages.get(name, ())) for name, row in rows.items()]


def _missing(
    row: Row, evidence: Sequence[Evidence], passed: Sequence[Evidence], pages: Sequence[str]
) -> str | None:
    failed = [each for each in evidence if each.outcome == "failed"]
    if failed:
        return f"failed: {', '.join(_counted(failed))}"
    if row.how_checked == "doc":
        return None if pages else "no page names it"
    if not evidence:
        return "no test"
    if not passed:
        return "no test passed: " + ", ".join(sorted({each.outcome for each in evidence}))
    if row.how_checked in {"both", "live probe"} and not any(each.is_live for each in passed):
        return 'needs a passing test with by="live"'
    if row.how_checked == "both" and all(each.is_live for each in passed):
        return 'needs a passing test without by="live"'
    return None


def _counted(evidence: Iterable[Evidence]) -> list[str]:
    """Name each test once, with the number of its parameter sets."""
    cases = Counter((each.test.partition("[")[0], each.is_live) for each in evidence)
    return [
        f"{test}{' (live)' if is_live else ''}{f' x{count}' if count > 1 else ''}"
        for (test, is_live), count in cases.items()
    ]


def _details(counted: Sequence[Verdict]) -> list[str]:
    lines: list[str] = []
    for verdict in counted:
        if verdict.missing is None:
            lines.append(f"{verdict.row.id:<8} proven by")
            lines += [f"         {each}" for each in verdict.proof]
        elif verdict.missing != "no test":
            lines.append(f"{verdict.row.id:<8} not proven: {verdict.missing}")
    untested = [verdict.row.id for verdict in counted if verdict.missing == "no test"]
    return [*lines, f"no test: {' '.join(untested) or 'none'}", ""]
