"""What a project gets beside its secrets, in which order, and what an interruption leaves."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from thebes.encoding import decode
from thebes.secrets.project import IGNORED, development_keys, ensure_project_state, init_project
from thebes.secrets.sources import Sources
from thebes.secrets.strength import parse_secret_keys, strength_problems

OLD = "k1:q83vEjRWeJASNFZ4kBI0VniQEjRWeJASNFZ4kBI0Vng"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def keys_of(directory: Path) -> str:
    found = Sources({}, directory).find("THEBES_SECRET_KEYS")
    assert found is not None
    return found.text


class TestIgnoreFiles:
    @pytest.mark.requirement("SEC-06")
    def test_git_ignores_secrets_keys_and_certificate_stores(self, tmp_path, git):
        init_project(tmp_path)
        ensure_project_state(tmp_path)
        names = [".env", "a/.env", ".thebes/secret_keys", "ca.pem", "tls/site.key", "store.p12", "store.pfx"]

        assert git("check-ignore", *names).splitlines() == names
        assert git("status", "--porcelain").splitlines() == ["?? .gitignore"]

    @pytest.mark.requirement("SEC-06")
    def test_no_secret_file_is_made_before_git_ignores_it(self, tmp_path):
        (tmp_path / ".gitignore").mkdir()  # can't be written
        with pytest.raises(OSError, match="directory"):
            init_project(tmp_path)
        assert not (tmp_path / ".env").exists()

    def test_an_env_file_that_cannot_be_written_leaves_complete_ignore_files(self, tmp_path):
        (tmp_path / ".env").mkdir()
        (tmp_path / "Dockerfile").touch()
        with pytest.raises(OSError, match="directory"):
            init_project(tmp_path)
        assert (tmp_path / ".gitignore").read_text().splitlines() == list(IGNORED)
        assert "**/.env" in (tmp_path / ".dockerignore").read_text()

    def test_what_stands_there_stays_and_only_what_is_missing_is_added(self, tmp_path):
        (tmp_path / ".gitignore").write_bytes(b"# mine\n*.pem\n\xff\n.env  ")
        (tmp_path / ".gitignore").chmod(0o664)

        init_project(tmp_path)

        added = b".thebes/\n*.key\n*.p12\n*.pfx\n"
        assert (tmp_path / ".gitignore").read_bytes() == b"# mine\n*.pem\n\xff\n.env  \n" + added
        assert mode(tmp_path / ".gitignore") == 0o664

    def test_a_pattern_that_a_later_line_takes_back_is_added_again(self, tmp_path, git):
        (tmp_path / ".gitignore").write_text(".env\n!.env\n")
        init_project(tmp_path)
        assert git("check-ignore", ".env") == ".env\n"

    def test_an_image_leaves_secrets_out_at_every_depth(self, tmp_path):
        """A bare pattern counts in the top directory only (Docker's .dockerignore reference)."""
        (tmp_path / "Dockerfile").touch()
        report = init_project(tmp_path)
        lines = (tmp_path / ".dockerignore").read_text().splitlines()
        assert lines == [f"**/{pattern}" for pattern in IGNORED]
        names = [path.name for path in report.written]
        assert names == [".gitignore", ".dockerignore", ".env"]

    def test_an_existing_dockerignore_is_kept_and_completed(self, tmp_path):
        (tmp_path / ".dockerignore").write_text("*\n!src")
        init_project(tmp_path)
        assert (tmp_path / ".dockerignore").read_text().startswith("*\n!src\n**/.env\n")

    def test_without_a_dockerfile_none_is_made(self, tmp_path):
        init_project(tmp_path)
        assert not (tmp_path / ".dockerignore").exists()


class TestPreCommitHook:
    @pytest.mark.requirement("SEC-06")
    def test_a_hook_that_scans_what_is_staged_is_offered(self, tmp_path, git):
        report = init_project(tmp_path, pre_commit=True)

        hook = tmp_path / ".git" / "hooks" / "pre-commit"
        assert report.written == (tmp_path / ".gitignore", hook, tmp_path / ".env")
        assert "-m thebes secrets scan --staged" in hook.read_text()
        assert os.access(hook, os.X_OK)
        assert subprocess.run(["sh", "-n", str(hook)], check=False).returncode == 0

    def test_the_hook_runs_the_interpreter_that_wrote_it_or_the_one_in_the_path(self, tmp_path, git):
        init_project(tmp_path, pre_commit=True)
        hook = tmp_path / ".git" / "hooks" / "pre-commit"
        # Both stand-ins print what they are asked to do, so that the command itself need not run here.
        stand_in = tmp_path / "bin" / "python"
        stand_in.parent.mkdir()
        stand_in.write_text('#!/bin/sh\necho "$0" "$@"\n')
        stand_in.chmod(0o755)
        for name in (str(stand_in), "/nonexistent/python"):
            hook.write_text(hook.read_text().replace(sys.executable, name))
            done = subprocess.run(
                [str(hook)], env={"PATH": f"{stand_in.parent}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
            )  # fmt: skip
            assert done.stdout == f"{stand_in} -m thebes secrets scan --staged\n"
            hook.write_text(hook.read_text().replace(name, sys.executable))

    @pytest.mark.requirement("SEC-06")
    def test_a_commit_that_holds_a_secret_is_refused(self, tmp_path, git):
        init_project(tmp_path, pre_commit=True)
        git("add", ".gitignore")
        git("commit", "--quiet", "-m", "clean")
        (tmp_path / "settings.py").write_text((tmp_path / ".env").read_text())
        git("add", "settings.py")

        refused = subprocess.run(
            ["git", "-C", str(tmp_path), "commit", "-m", "x"], capture_output=True, text=True, check=False
        )

        assert refused.returncode == 1
        assert "settings.py:1" in refused.stderr
        assert keys_of(tmp_path).partition(":")[2] not in refused.stdout + refused.stderr
        assert git("log", "--format=%s") == "clean\n"

    def test_ours_is_brought_up_to_date_and_written_once(self, tmp_path, git):
        init_project(tmp_path, pre_commit=True)
        hook = tmp_path / ".git" / "hooks" / "pre-commit"
        current = hook.read_text()

        assert init_project(tmp_path, pre_commit=True).written == ()
        hook.write_text(current + "# older\n")
        assert init_project(tmp_path, pre_commit=True).written == (hook,)
        assert hook.read_text() == current

    def test_a_foreign_hook_is_left_alone_and_the_line_to_add_is_told(self, tmp_path, git):
        hook = tmp_path / ".git" / "hooks" / "pre-commit"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\nmake lint\n")

        report = init_project(tmp_path, pre_commit=True)

        assert hook.read_text() == "#!/bin/sh\nmake lint\n"
        assert report.hook_line == "python -m thebes secrets scan --staged"
        assert str(hook) in report.notes[0]
        assert report.made == ("THEBES_SECRET_KEYS",)

    def test_a_hooks_directory_elsewhere_is_left_alone(self, tmp_path, git):
        (tmp_path / "shared").mkdir()
        git("config", "core.hooksPath", str(tmp_path / "shared"))
        report = init_project(tmp_path, pre_commit=True)
        assert list((tmp_path / "shared").iterdir()) == []
        assert report.hook_line is not None

    def test_without_a_repository_the_rest_is_done_and_a_note_says_so(self, tmp_path):
        report = init_project(tmp_path, pre_commit=True)
        assert "run `git init`" in report.notes[0]
        assert report.made == ("THEBES_SECRET_KEYS",)

    def test_a_project_below_the_top_of_its_repository_gets_the_hook_too(self, tmp_path, git):
        (tmp_path / "sub").mkdir()
        init_project(tmp_path / "sub", pre_commit=True)
        assert (tmp_path / ".git" / "hooks" / "pre-commit").exists()

    def test_not_asked_for_no_hook_is_written(self, tmp_path, git):
        init_project(tmp_path)
        assert not (tmp_path / ".git" / "hooks" / "pre-commit").exists()


class TestProjectState:
    def test_the_directory_is_private_and_ignored(self, tmp_path, git):
        state = ensure_project_state(tmp_path)
        (state / "anything").touch()

        assert state == tmp_path / ".thebes"
        assert mode(state) == 0o700
        assert (state / ".gitignore").read_text() == "*\n"
        assert git("status", "--porcelain") == ""

    def test_a_second_call_tightens_and_keeps(self, tmp_path):
        (tmp_path / ".thebes").mkdir()
        (tmp_path / ".thebes").chmod(0o755)
        (tmp_path / ".thebes" / ".gitignore").write_text("mine")
        state = ensure_project_state(tmp_path)
        assert mode(state) == 0o700
        assert (state / ".gitignore").read_text() == "mine"

    @pytest.mark.parametrize("name", ["Dockerfile", ".dockerignore"])
    def test_images_leave_it_out(self, tmp_path, name):
        (tmp_path / name).write_text("")
        for _ in range(2):
            ensure_project_state(tmp_path)
        assert (tmp_path / ".dockerignore").read_text() == "**/.thebes/\n"

    def test_without_a_dockerfile_no_dockerignore_is_made(self, tmp_path):
        ensure_project_state(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [".thebes"]

    def test_a_file_of_that_name_is_an_error(self, tmp_path):
        (tmp_path / ".thebes").touch()
        with pytest.raises(FileExistsError):
            ensure_project_state(tmp_path)


class TestDevelopmentKeys:
    def test_they_are_made_once_and_strong(self, tmp_path):
        state = ensure_project_state(tmp_path)
        text = development_keys(state)

        assert development_keys(state) == text
        assert mode(state / "secret_keys") == 0o600
        assert strength_problems(parse_secret_keys(text), other_values={}) == []
        assert len(decode(text.partition(":")[2])) == 32
        assert sorted(path.name for path in state.iterdir()) == [".gitignore", "secret_keys"]

    def test_permissions_are_tightened(self, tmp_path):
        (tmp_path / "secret_keys").write_text(f"{OLD}\n")
        (tmp_path / "secret_keys").chmod(0o644)
        assert development_keys(tmp_path) == OLD
        assert mode(tmp_path / "secret_keys") == 0o600

    def test_all_who_ask_at_once_get_the_same_keys(self, tmp_path):
        for number in range(20):
            directory = tmp_path / str(number)
            directory.mkdir()
            start, texts = threading.Barrier(8), []

            def ask(directory=directory, start=start, texts=texts) -> None:
                start.wait()
                texts.append(development_keys(directory))

            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(texts) == 8
            assert len(set(texts)) == 1


# Kills itself at the n-th event that changes the file system, for n = 0, 1, 2, ... in a child each.
CRASHES = """
import os, signal, sys
from pathlib import Path
from thebes.secrets.project import init_project

CHANGES = {"open", "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename"}
root, old = Path(sys.argv[1]), sys.argv[2]
for count in range(1000):
    directory = root / str(count)
    directory.mkdir()
    (directory / "Dockerfile").touch()
    if old:
        (directory / ".env").write_text(old)
    child = os.fork()
    if not child:
        left = [count]

        def audit(event, arguments):
            if event in CHANGES and str(root) in str(arguments[0]):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(audit)
        init_project(directory)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        print(count)
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
"""


@pytest.mark.requirement("SEC-06")
@pytest.mark.parametrize("old", ["", "A=1\n# mine\nB=2"])
def test_a_crash_at_any_moment_loses_nothing_and_shows_git_no_secret(tmp_path, git, old):
    done = subprocess.run(
        [sys.executable, "-c", CRASHES, str(tmp_path), old], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    crashes = int(done.stdout)
    assert crashes > 10

    for directory in (tmp_path / str(count) for count in range(crashes)):
        visible = git("ls-files", "--others", "--exclude-standard", "--", str(directory)).split()
        for path in directory.iterdir():
            holds_a_secret = b"THEBES_SECRET_KEYS=" in path.read_bytes()
            is_visible = str(path.relative_to(tmp_path)) in visible
            assert not (holds_a_secret and (is_visible or mode(path) != 0o600)), path
        if old:
            assert (directory / ".env").read_text().startswith(old)
        init_project(directory)
        assert len(parse_secret_keys(keys_of(directory))) == 1
