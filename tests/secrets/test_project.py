"""The secrets that a project gets, and what becomes of an existing .env file."""

import os
import re
import stat
import subprocess
import sys
import threading
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.errors import ConfigurationError
from thebes.secrets.project import IGNORED, init_project
from thebes.secrets.sources import Sources, env_file_problems
from thebes.secrets.strength import parse_secret_keys, strength_problems

DAY = date(2026, 11, 24)
OLD = "k1:q83vEjRWeJASNFZ4kBI0VniQEjRWeJASNFZ4kBI0Vng"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def keys_of(directory: Path) -> str:
    found = Sources({}, directory).find("THEBES_SECRET_KEYS")
    assert found is not None
    return found.text


class TestSecrets:
    @pytest.mark.requirement("SEC-03")
    def test_every_needed_secret_gets_256_bits_from_the_system(self, tmp_path):
        report = init_project(tmp_path, today=DAY)

        (key,) = parse_secret_keys(keys_of(tmp_path))
        assert len(key.value) * 8 == 256
        assert strength_problems([key], other_values={}) == []
        assert (key.id, report.key_ids, report.made) == ("k20261124", ("k20261124",), ("THEBES_SECRET_KEYS",))

    @pytest.mark.requirement("SEC-03")
    def test_two_projects_get_different_secrets(self, tmp_path):
        texts = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            init_project(tmp_path / name)
            texts.append(keys_of(tmp_path / name))
        assert texts[0] != texts[1]

    def test_the_key_is_named_by_today_in_utc(self, tmp_path):
        (key_id,) = init_project(tmp_path).key_ids
        assert re.fullmatch(r"k20\d{6}", key_id)

    def test_the_file_is_private_whatever_the_umask(self, tmp_path):
        before = os.umask(0)
        try:
            init_project(tmp_path)
        finally:
            os.umask(before)
        assert mode(tmp_path / ".env") == 0o600
        assert env_file_problems(tmp_path / ".env") == []

    def test_a_second_run_changes_nothing(self, tmp_path):
        init_project(tmp_path)
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}

        report = init_project(tmp_path)

        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
        assert (report.written, report.made, report.kept) == ((), (), ("THEBES_SECRET_KEYS",))

    def test_nothing_but_the_named_files_is_left(self, tmp_path):
        report = init_project(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".env", ".gitignore"]
        assert report.written == (tmp_path / ".gitignore", tmp_path / ".env")

    def test_the_report_holds_no_secret(self, tmp_path):
        report = init_project(tmp_path)
        assert keys_of(tmp_path).partition(":")[2] not in repr(report)


class TestExistingEnvFile:
    @pytest.mark.parametrize(
        "line",
        [
            pytest.param(f"THEBES_SECRET_KEYS={OLD}", id="plain"),
            pytest.param(f"export THEBES_SECRET_KEYS = '{OLD}' # why", id="export, quotes, comment"),
            pytest.param(f'  THEBES_SECRET_KEYS="{OLD}"', id="indented"),
            pytest.param(f"'THEBES_SECRET_KEYS'={OLD}", id="quoted name"),
            pytest.param(f"\ufeffTHEBES_SECRET_KEYS={OLD}", id="byte order mark"),
            pytest.param(f"A=1\rTHEBES_SECRET_KEYS={OLD}", id="old line ends"),
            pytest.param("THEBES_SECRET_KEYS=not a key", id="a value that is no key"),
        ],
    )
    def test_an_existing_secret_is_never_touched(self, tmp_path, line):
        (tmp_path / ".env").write_text(line)
        before = Sources({}, tmp_path).find("THEBES_SECRET_KEYS")

        report = init_project(tmp_path)

        assert report.kept == ("THEBES_SECRET_KEYS",)
        assert (tmp_path / ".env").read_bytes() == line.encode()
        assert Sources({}, tmp_path).find("THEBES_SECRET_KEYS") == before

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("# mine\nB=2\n\nA=1\n", id="comments, order, blank lines"),
            pytest.param("A=1", id="no newline at the end"),
            pytest.param("A=1\r\nB=2\r\n", id="Windows newlines"),
            pytest.param("# THEBES_SECRET_KEYS=k1:x\n", id="the name in a comment"),
            pytest.param("THEBES_SECRET_KEYS=\nA=1\n", id="an empty value"),
            pytest.param("THEBES_SECRET_KEYS='' # fill in\n", id="an empty value in quotes"),
            pytest.param("THEBES_SECRET_KEYS= # fill in", id="an empty value and a comment"),
            pytest.param("OTHER_THEBES_SECRET_KEYS=x\n", id="a longer name"),
            pytest.param("A='open\n", id="an open quote"),
            pytest.param("", id="an empty file"),
        ],
    )
    def test_what_is_missing_is_appended_and_all_lines_stay(self, tmp_path, text):
        (tmp_path / ".env").write_bytes(text.encode())

        report = init_project(tmp_path, today=DAY)

        assert report.made == ("THEBES_SECRET_KEYS",)
        raw = (tmp_path / ".env").read_bytes().decode()
        added = raw.removeprefix(text)
        assert raw.startswith(text)
        assert re.fullmatch(r"(\r?\n)?THEBES_SECRET_KEYS=k20261124:[\w-]{43}\r?\n", added)
        assert ("\r\n" in text) == ("\r\n" in added)
        assert parse_secret_keys(keys_of(tmp_path))[0].id == "k20261124"

    def test_bytes_that_are_not_utf8_stay(self, tmp_path):
        (tmp_path / ".env").write_bytes(b"A=\xe9\xff\n")
        init_project(tmp_path)
        assert (tmp_path / ".env").read_bytes().startswith(b"A=\xe9\xff\nTHEBES_SECRET_KEYS=")

    @pytest.mark.parametrize("text", ["A=1\n", f"THEBES_SECRET_KEYS={OLD}\n"])
    @pytest.mark.parametrize("old", [0o644, 0o666, 0o700, 0o640])
    def test_permissions_are_tightened(self, tmp_path, text, old):
        (tmp_path / ".env").write_text(text)
        (tmp_path / ".env").chmod(old)
        init_project(tmp_path)
        assert mode(tmp_path / ".env") == 0o600

    def test_stricter_permissions_are_not_widened(self, tmp_path):
        (tmp_path / ".env").write_text(f"THEBES_SECRET_KEYS={OLD}\n")
        (tmp_path / ".env").chmod(0o400)
        init_project(tmp_path)
        assert mode(tmp_path / ".env") == 0o400

    def test_a_link_stays_a_link(self, tmp_path):
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared" / "env").write_text("A=1\n")
        (tmp_path / ".env").symlink_to("shared/env")

        init_project(tmp_path)

        assert (tmp_path / ".env").is_symlink()
        assert "THEBES_SECRET_KEYS=" in (tmp_path / "shared" / "env").read_text()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for another owner")
    def test_the_owner_stays_the_owner_under_sudo(self, tmp_path):
        for name in (".env", ".gitignore"):
            (tmp_path / name).write_text("A=1\n")
            os.chown(tmp_path / name, 12345, 12346)
        init_project(tmp_path)
        for name in (".env", ".gitignore"):
            status = (tmp_path / name).stat()
            assert (status.st_uid, status.st_gid) == (12345, 12346)

    @given(st.lists(st.sampled_from(["A=1", "# b", "", "export C='x y'", "D=${A}", 'E="1"']), max_size=6))
    def test_other_settings_read_the_same_afterwards(self, tmp_path_factory, lines):
        directory = tmp_path_factory.mktemp("project")
        text = "\n".join(line.replace("A=", "THEBES_A=") for line in lines)
        (directory / ".env").write_text(text)
        before = Sources({}, directory).find("THEBES_A")

        init_project(directory)

        assert Sources({}, directory).find("THEBES_A") == before
        assert (directory / ".env").read_text().startswith(text)


class TestRotation:
    @pytest.mark.parametrize(
        ("value", "rotated"),
        [
            pytest.param(OLD, f"{OLD},NEW", id="plain"),
            pytest.param(f'"{OLD}"', f'"{OLD},NEW"', id="in quotes"),
            pytest.param(f"'{OLD}' # why", f"'{OLD},NEW' # why", id="before a comment"),
            pytest.param(f"{OLD}, ", f"{OLD},NEW, ", id="after a comma too many"),
            pytest.param(f"{OLD},k2:AAAA", f"{OLD},k2:AAAA,NEW", id="after two keys"),
        ],
    )
    def test_a_new_key_is_appended_so_that_the_one_in_use_stays_first(self, tmp_path, value, rotated):
        (tmp_path / ".env").write_text(f"A=1\nTHEBES_SECRET_KEYS={value}\nB=2\n")

        report = init_project(tmp_path, rotate=True, today=DAY)

        text = (tmp_path / ".env").read_text()
        assert re.sub(r"k20261124:[\w-]{43}", "NEW", text) == f"A=1\nTHEBES_SECRET_KEYS={rotated}\nB=2\n"
        assert (report.made, report.kept) == (("THEBES_SECRET_KEYS",), ())
        assert keys_of(tmp_path).startswith(OLD)

    def test_two_rotations_on_one_day_give_two_ids(self, tmp_path):
        init_project(tmp_path, today=DAY)
        for _ in range(2):
            init_project(tmp_path, rotate=True, today=DAY)
        ids = [key.id for key in parse_secret_keys(keys_of(tmp_path))]
        assert ids == ["k20261124", "k20261124-2", "k20261124-3"]

    def test_the_last_assignment_is_the_one_that_counts(self, tmp_path):
        (tmp_path / ".env").write_text(f"THEBES_SECRET_KEYS=k0:AAAA\nTHEBES_SECRET_KEYS={OLD}\n")
        init_project(tmp_path, rotate=True, today=DAY)
        assert [key.id for key in parse_secret_keys(keys_of(tmp_path))] == ["k1", "k20261124"]

    def test_without_a_key_rotation_makes_the_first(self, tmp_path):
        assert init_project(tmp_path, rotate=True, today=DAY).key_ids == ("k20261124",)

    @pytest.mark.parametrize("value", ["${OTHER}", f'"{OLD}', "k1:a/b+c="])
    def test_what_is_no_plain_list_is_refused_and_left_as_it_is(self, tmp_path, value):
        text = f"THEBES_SECRET_KEYS={value}\n"
        (tmp_path / ".env").write_text(text)

        with pytest.raises(ConfigurationError, match="isn't a plain list"):
            init_project(tmp_path, rotate=True)

        assert (tmp_path / ".env").read_text() == text


def test_two_who_start_at_once_end_with_one_secret(tmp_path):
    start = threading.Barrier(8)
    reports = []

    def run() -> None:
        start.wait()
        reports.append(init_project(tmp_path))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(reports) == 8
    assert sum(bool(report.made) for report in reports) == 1
    assert len(parse_secret_keys(keys_of(tmp_path))) == 1


def test_an_error_while_writing_shows_no_secret_even_with_the_locals_of_each_frame(tmp_path):
    """A full disk: the limit on file sizes stands in for it, in a process of its own."""
    (tmp_path / ".gitignore").write_text("\n".join(IGNORED))
    (tmp_path / ".env").write_text("CANARY=" + "c4n4ry" * 20)
    code = (
        "import resource, signal, sys, traceback\n"
        "from pathlib import Path\n"
        "from thebes.secrets.project import init_project\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n"
        "    init_project(Path(sys.argv[1]))\n"
        "except OSError as error:\n"
        "    whole = traceback.TracebackException.from_exception(error, capture_locals=True)\n"
        "    print(''.join(whole.format()))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )

    assert "File too large" in done.stdout
    assert "content = Secret(****)" in done.stdout
    assert "c4n4ry" not in done.stdout
    assert not re.search(r"k20\d{6}:", done.stdout)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env", ".gitignore"]
