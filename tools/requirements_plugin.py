"""A pytest plugin: tests name the requirements they check, and a run says which rows are proven.

`@pytest.mark.requirement("TOK-02", by="live")` names rows of docs/requirements.csv. Every run
refuses an id that isn't there. `--requirements` prints a table after the run, with `-v` also what
proves each row. A failed or a skipped test proves nothing; nor does an expected failure. A run that
was cut short prints no table.
"""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import requirement_matrix
from requirement_matrix import Evidence, Outcome

# What a test came to is the worst of what its phases came to.
_SEVERITY: dict[Outcome, int] = {"not run": 0, "passed": 1, "skipped": 2, "failed": 3}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--requirements` and `--matrix`."""
    group = parser.getgroup("requirements", "which requirements are proven")
    group.addoption("--requirements", action="store_true", help="print which rows are proven")
    group.addoption("--matrix", metavar="PATH", help="the matrix (default docs/requirements.csv)")


def pytest_configure(config: pytest.Config) -> None:
    """Read the matrix; a run without one would check no id."""
    path = Path(config.getoption("matrix") or config.rootpath / "docs" / "requirements.csv")
    try:
        rows = requirement_matrix.read(path)
    except (OSError, ValueError, KeyError) as error:
        raise pytest.UsageError(f"the requirement matrix cannot be read: {error!r}") from error
    config.pluginmanager.register(Requirements(config, rows), "requirements")


class Requirements:
    """What the tests of this run claim to check, and what became of them."""

    def __init__(self, config: pytest.Config, rows: dict[str, requirement_matrix.Row]) -> None:
        self._config = config
        self._rows = rows
        self._claims: dict[str, set[tuple[str, bool]]] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._is_complete = False

    # First, so that the ids of tests that this run leaves out are checked too.
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Take down the claims of each test; refuse the run if one cannot be right."""
        faults = []
        for item in items:
            for mark in item.iter_markers("requirement"):
                faults += [f"{item.nodeid}: {fault}" for fault in self._faults(mark)]
                is_live = mark.kwargs.get("by") == "live"
                self._claims.setdefault(item.nodeid, set()).update((row_id, is_live) for row_id in mark.args)
        if faults:
            raise pytest.UsageError("\n".join(faults))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst outcome of a test's set-up, call and tear-down."""
        outcome: Outcome = report.outcome
        if hasattr(report, "wasxfail") and outcome == "passed":
            outcome = "skipped"  # an unexpected pass is not a promise kept
        if outcome == "passed" and report.when != "call":
            return
        before = self._outcomes.get(report.nodeid, "not run")
        self._outcomes[report.nodeid] = max(before, outcome, key=_SEVERITY.__getitem__)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Take down whether all tests had their turn."""
        self._is_complete = exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}

    # The table ends the output: pytest writes its own last line when the session finishes.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_unconfigure(self) -> Generator[None]:
        """Print the table."""
        yield
        if self._is_complete and self._config.getoption("requirements"):
            verbose = self._config.get_verbosity() > 0
            verdicts = requirement_matrix.verdicts(self._rows, self._evidence(), self._config.rootpath)
            writer = self._config.get_terminal_writer()
            for line in requirement_matrix.table(verdicts, verbose=verbose):
                writer.line(line)

    def _faults(self, mark: pytest.Mark) -> Iterator[str]:
        if not mark.args:
            yield "the requirement marker names no id"
        for row_id in mark.args:
            if row_id not in self._rows:
                yield f"unknown requirement {row_id!r}"
        for name, value in mark.kwargs.items():
            if name != "by" or value not in ("live", None):
                yield f'the requirement marker takes by="live", not {name}={value!r}'

    def _evidence(self) -> dict[str, list[Evidence]]:
        evidence: dict[str, list[Evidence]] = {}
        for nodeid, claims in self._claims.items():
            for row_id, is_live in claims:
                outcome = self._outcomes.get(nodeid, "not run")
                evidence.setdefault(row_id, []).append(Evidence(nodeid, is_live, outcome))
        return evidence
