"""The development tools: which requirements are proven, the browser leg, the sizes.

The plugins are tried as they are used: pytest runs in a process of its own, on tests in a temporary directory.
"""

import csv
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"

MATRIX = """\
id,practice,requirement,sources,level,how_checked,note
TLS-01,tls,Speaks TLS.,,L1,both,
TLS-02,tls,Speaks only TLS.,,L1,both,
TLS-03,tls,Speaks well.,,L1,both,
TLS-04,tls,Speaks of pipes.,,L1,both,withdrawn: pipes are out of fashion
VAL-01,validation,Rejects.,,L1,unit,
VAL-02,validation,Rejects politely.,,L1,unit,
VAL-03,validation,Rejects loudly.,,L1,unit,
VAL-04,validation,Rejects in time.,,L1,unit,
VAL-05,validation,Rejects at start.,,L1,config check,
VAL-06,validation,Rejects later.,,L1,unit,
VAL-07,validation,Rejects everything.,,L1,unit,
TOK-01,tokens,Stops attackers.,,L1,live probe,
TOK-02,tokens,Stops all attackers.,,L1,live probe,
OPS-01,ops,Explains itself.,,L1,doc,
OPS-02,ops,Explains more.,,L1,doc,
OPS-03,ops,Explains in the readme.,,L1,doc,
OPS-04,ops,Explains wrongly.,,L1,doc,
"""

TESTS = """\
import pytest
requirement = pytest.mark.requirement

@requirement("TLS-01", "VAL-01")
def test_code(): pass

@requirement("TLS-01", "TOK-01", by="live")
def test_attack(): pass

@requirement("TLS-02", "TOK-02")
def test_only_code(): pass

@requirement("TLS-03", by="live")
def test_only_attack(): pass

@requirement("VAL-02")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_some_cases_fail(number): assert number != 2

@requirement("VAL-03")
def test_skipped(): pytest.skip("not here")

@requirement("VAL-04")
@pytest.mark.xfail
def test_expected_to_fail(): assert False

@requirement("VAL-04")
@pytest.mark.xfail
def test_passes_unexpectedly(): pass

@requirement("VAL-05")
class TestStart:
    @pytest.mark.parametrize("number", [1, 2])
    def test_each(self, number): pass
    def test_skipped_beside_others(self): pytest.skip("not here")

@requirement("VAL-06")
@pytest.mark.full
def test_left_out(): pass

@pytest.fixture
def breaks_afterwards():
    yield
    raise RuntimeError

@requirement("OPS-04")
def test_breaks_in_teardown(breaks_afterwards): pass
"""

PAGES = {
    "docs/operations.md": "What it calls stands here (OPS-01), but not OPS-022 nor X-OPS-02. OPS-04.",
    "docs/more/nested.md": "OPS-01 again.",
    "README.md": "Reads well: OPS-03.",
}

INI = """\
[pytest]
addopts = --strict-markers
markers =
    requirement(*ids, by=None): ids from the requirement matrix
    browser: needs Chromium
    full: counts for a release
"""


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in {"pytest.ini": INI, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run_pytest(
    folder: Path, plugin: str, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the tests in `folder` with one of our plugins and none but pytest's own."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    own = {"PYTHONPATH": str(TOOLS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", plugin, "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={**inherited, **own, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a run of TESTS prints, line by line."""
    folder = tmp_path_factory.mktemp("project")
    write(folder, {"docs/requirements.csv": MATRIX, "test_it.py": TESTS, **PAGES})
    run = run_pytest(folder, "requirements_plugin", "--requirements", "-v", "-m", "not full")
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    return run.stdout.splitlines()


def details(report: list[str], row: str) -> list[str]:
    """The lines that say what was found for one row."""
    start = next(i for i, line in enumerate(report) if line.startswith(f"{row} "))
    stop = next(i for i, line in enumerate(report) if i > start and not line.startswith(" "))
    return [line.strip() for line in report[start:stop]]


class TestProof:
    def test_the_report_ends_with_the_rows_that_are_proven(self, report: list[str]):
        assert report[-1] == "proven 6 of 16"

    @pytest.mark.parametrize(
        ("practice", "proven", "total"),
        [("tls", 1, 3), ("validation", 2, 7), ("tokens", 1, 2), ("ops", 2, 4)],
    )
    def test_each_practice_has_its_own_count(self, report: list[str], practice: str, proven: int, total: int):
        table = report[report.index("practice     proven total") :]
        assert [practice, str(proven), str(total)] in [line.split() for line in table]

    def test_both_needs_a_test_of_the_code_and_an_attack(self, report: list[str]):
        assert details(report, "TLS-01") == [
            "TLS-01   proven by",
            "test_it.py::test_code",
            "test_it.py::test_attack (live)",
        ]

    def test_a_passing_test_proves_a_unit_row(self, report: list[str]):
        assert details(report, "VAL-01") == ["VAL-01   proven by", "test_it.py::test_code"]

    def test_a_mark_on_a_class_counts_and_a_skip_beside_passes_does_no_harm(self, report: list[str]):
        assert details(report, "VAL-05") == [
            "VAL-05   proven by",
            "test_it.py::TestStart::test_each x2",
        ]

    @pytest.mark.parametrize(
        ("row", "missing"),
        [
            pytest.param("TLS-02", 'needs a passing test with by="live"', id="both, no attack"),
            pytest.param("TLS-03", 'needs a passing test without by="live"', id="both, no code"),
            pytest.param("TOK-02", 'needs a passing test with by="live"', id="live probe"),
            pytest.param("VAL-02", "failed: test_it.py::test_some_cases_fail", id="one case fails"),
            pytest.param("VAL-03", "no test passed: skipped", id="skipped only"),
            pytest.param("VAL-04", "no test passed: skipped", id="expected failures"),
            pytest.param("VAL-06", "no test passed: not run", id="left out of this run"),
            pytest.param("OPS-02", "no page names it", id="part of a longer id is not the id"),
            pytest.param("OPS-04", "failed: test_it.py::test_breaks_in_teardown", id="tear-down"),
        ],
    )
    def test_a_row_that_is_not_proven_says_what_is_missing(self, report: list[str], row: str, missing: str):
        assert details(report, row) == [f"{row}   not proven: {missing}"]

    def test_a_row_without_any_test_is_listed(self, report: list[str]):
        assert "no test: VAL-07" in report

    def test_a_documentation_row_is_proven_by_pages_that_name_it(self, report: list[str]):
        assert details(report, "OPS-01") == [
            "OPS-01   proven by",
            "docs/more/nested.md",
            "docs/operations.md",
        ]
        assert details(report, "OPS-03") == ["OPS-03   proven by", "README.md"]


class TestTheMatrix:
    @pytest.mark.parametrize(
        ("mark", "fault"),
        [
            pytest.param('"VAL-99"', "unknown requirement 'VAL-99'", id="unknown id"),
            pytest.param("", "the requirement marker names no id", id="no id"),
            pytest.param('"VAL-01", by="hand"', "not by='hand'", id="unknown way"),
            pytest.param('"VAL-01", on="live"', "not on='live'", id="unknown argument"),
        ],
    )
    def test_a_marker_that_cannot_be_right_fails_collection_even_if_left_out(
        self, tmp_path: Path, mark: str, fault: str
    ):
        test = f"import pytest\n@pytest.mark.requirement({mark})\ndef test_it(): print('ran')\n"
        write(tmp_path, {"docs/requirements.csv": MATRIX, "test_it.py": test})

        run = run_pytest(tmp_path, "requirements_plugin", "--requirements", "-k", "nothing")

        assert run.returncode == pytest.ExitCode.USAGE_ERROR
        assert "test_it.py::test_it: " in run.stderr
        assert fault in run.stderr
        assert "proven" not in run.stdout

    def test_another_matrix_can_be_named(self, tmp_path: Path):
        matrix = MATRIX.replace("VAL-01", "VAL-77")
        test = "import pytest\n@pytest.mark.requirement('VAL-77')\ndef test_it(): pass\n"
        write(tmp_path, {"other.csv": matrix, "test_it.py": test})

        run = run_pytest(tmp_path, "requirements_plugin", "--requirements", "--matrix", "other.csv")

        assert run.returncode == pytest.ExitCode.OK
        assert run.stdout.endswith("\nproven 1 of 16\n")

    @pytest.mark.parametrize(
        ("matrix", "fault"),
        [
            pytest.param(MATRIX.replace("VAL-02", "VAL-01"), "VAL-01 stands twice", id="twice"),
            pytest.param(MATRIX.replace("doc,", "hope,"), "is checked by 'hope'", id="how"),
            pytest.param("name\nVAL-01\n", "KeyError", id="no such columns"),
            pytest.param(None, "FileNotFoundError", id="no file"),
        ],
    )
    def test_a_matrix_that_cannot_be_read_ends_the_run(self, tmp_path: Path, matrix: str | None, fault: str):
        write(tmp_path, {} if matrix is None else {"docs/requirements.csv": matrix})

        run = run_pytest(tmp_path, "requirements_plugin")

        assert run.returncode == pytest.ExitCode.USAGE_ERROR
        assert fault in run.stderr

    def test_no_table_is_printed_unless_asked_for(self, tmp_path: Path):
        write(tmp_path, {"docs/requirements.csv": MATRIX, "test_it.py": "def test_it(): pass\n"})
        assert "proven" not in run_pytest(tmp_path, "requirements_plugin").stdout

    def test_every_requirement_named_by_the_asvs_map_stands_in_the_matrix(self):
        with (ROOT / "docs" / "requirements.csv").open(newline="") as file:
            known = {row["id"] for row in csv.DictReader(file)}
        with (ROOT / "docs" / "asvs-5.0.0-map.csv").open(newline="") as file:
            named = {name for row in csv.DictReader(file) for name in row["requirement_ids"].split()}
        assert named
        assert named <= known


BROWSER_TESTS = """\
import os
import pytest

def test_that_uses_a_browser(chromium): assert os.access(chromium, os.X_OK)

@pytest.mark.browser
def test_that_is_marked(): pass

def test_of_something_else(): pass
"""

NOT_RUN = "NOT RUN: browser tests (no Chromium: install "


class TestTheBrowserLeg:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        write(tmp_path, {"test_it.py": BROWSER_TESTS, "bin/empty": ""})
        return tmp_path

    def add_browser(self, project: Path, script: str) -> None:
        browser = project / "bin" / "chromium"
        browser.write_text(f"#!/bin/sh\n{script}\n")
        browser.chmod(0o755)

    def run(self, project: Path, *options: str, **environment: str) -> tuple[int, str, str]:
        """Run the project's tests where PATH holds only what lies in bin: exit status, last two lines."""
        run = run_pytest(
            project, "system_packages", *options, **{"PATH": str(project / "bin"), **environment}
        )
        *_, before, last = run.stdout.splitlines()
        return run.returncode, before, last

    def test_without_a_browser_its_tests_are_skipped_and_the_last_line_says_so(self, project: Path):
        status, before, last = self.run(project)
        assert status == pytest.ExitCode.OK
        assert "1 passed, 2 skipped" in before
        assert last.startswith(NOT_RUN)

    def test_in_ci_a_leg_that_was_not_run_is_a_failure(self, project: Path):
        status, _, last = self.run(project, CI="true")
        assert status == pytest.ExitCode.TESTS_FAILED
        assert last.startswith(NOT_RUN)

    def test_a_placeholder_that_does_not_start_is_no_browser(self, project: Path):
        self.add_browser(project, "echo please install me; exit 1")
        _, _, last = self.run(project)
        assert last.startswith(NOT_RUN)

    def test_with_a_browser_all_tests_run(self, project: Path):
        self.add_browser(project, "exit 0")
        status, _, last = self.run(project, CI="true")
        assert status == pytest.ExitCode.OK
        assert "3 passed" in last

    def test_leaving_the_browser_tests_out_on_purpose_is_no_failure(self, project: Path):
        status, _, last = self.run(project, "-m", "not browser", CI="true")
        assert status == pytest.ExitCode.OK
        assert "1 passed, 2 deselected" in last


class TestSizes:
    def run(self, root: Path) -> tuple[int, list[str]]:
        run = subprocess.run(
            [sys.executable, TOOLS / "sizes.py", root], capture_output=True, text=True, check=False
        )
        return run.returncode, run.stdout.splitlines()

    def test_what_has_just_the_allowed_size_passes(self, tmp_path: Path):
        body = "    pass\n" * 59
        write(tmp_path, {"src/a.py": f"def f():\n{body}", "tests/b.py": "pass\n" * 400})
        assert self.run(tmp_path) == (0, [])

    def test_a_file_with_one_line_more_and_a_function_with_one_line_more_are_named(self, tmp_path: Path):
        body = "    pass\n" * 60
        write(
            tmp_path,
            {
                "src/a.py": f"class C:\n    async def f():\n{body.replace('    ', '        ')}",
                "tests/b.py": f"def test_it():\n{body}",
                "examples/notes/c.py": "pass\n" * 401,
            },
        )
        assert self.run(tmp_path) == (
            1,
            [
                "src/a.py:2: f has 61 lines, at most 60 are allowed",
                "examples/notes/c.py: 401 lines, at most 400 are allowed",
            ],
        )
