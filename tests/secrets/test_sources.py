"""Where values come from, in which order, and what a bad source does."""

import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thebes.errors import ConfigurationError, SecretUnavailable
from thebes.secrets.sources import MAX_FILE_BYTES, Found, Sources, env_file_problems, read_text

NAME = "THEBES_SECRET_KEYS"
CANARY = "k1:" + "c4n4ry" * 8


class Vault:
    """A secret manager that knows some names."""

    def __init__(self, **values: str) -> None:
        self.values = values

    def find(self, name: str) -> Found | None:
        return Found(self.values[name], "vault") if name in self.values else None


class SealedVault:
    def find(self, name: str) -> Found | None:
        raise SecretUnavailable("the vault", "it is sealed")


def report(error: BaseException) -> str:
    """All that a traceback with the locals of each frame of ours shows; the first is the test's own."""
    ours = error.__traceback__.tb_next if error.__traceback__ else None
    whole = traceback.TracebackException(type(error), error, ours, capture_locals=True)
    return "".join(whole.format()) + repr(error)


def is_text(raw: bytes) -> bool:
    return raw.decode("utf-8", "replace").encode() == raw


class TestOrder:
    @pytest.fixture
    def places(self, tmp_path: Path) -> list[tuple[str, dict[str, str]]]:
        """All five places hold the name; each entry is an origin and what the environment needs for it."""
        (tmp_path / "named").write_text("from a file\n")
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / NAME).write_text("from the directory\n")
        (tmp_path / ".env").write_text(f"{NAME}=from .env\n")
        return [
            ("from the environment", {NAME: "from the environment"}),
            ("from a file", {f"{NAME}_FILE": str(tmp_path / "named")}),
            ("from the directory", {"THEBES_SECRETS_DIR": str(tmp_path / "run")}),
        ]

    def test_each_place_wins_over_all_that_follow_it(self, tmp_path, places):
        vault = Vault(THEBES_SECRET_KEYS="from the vault")
        for position, (expected, own) in enumerate(places):
            later = {key: value for _, more in places[position + 1 :] for key, value in more.items()}
            environ = own if position == 0 else later | own
            found = Sources(environ, tmp_path, extra=[vault]).find(NAME)
            assert found is not None
            assert found.text == expected

        assert Sources({}, tmp_path, extra=[vault]).find(NAME) == Found("from the vault", "vault")
        assert Sources({}, tmp_path, extra=[Vault()]).find(NAME) == Found("from .env", ".env")

    def test_the_environment_wins_over_the_directory_and_env_file(self, tmp_path, places):
        environ = {NAME: "from the environment", "THEBES_SECRETS_DIR": str(tmp_path / "run")}
        assert Sources(environ, tmp_path).find(NAME) == Found("from the environment", "environment")

    def test_a_name_that_no_place_holds_is_none(self, tmp_path, places):
        environ = {key: value for _, more in places[1:] for key, value in more.items()}
        assert Sources(environ, tmp_path, extra=[Vault()]).find("THEBES_MAIL_URL") is None

    def test_a_variable_beside_its_file_twin_is_ambiguous(self, tmp_path):
        sources = Sources({NAME: CANARY, f"{NAME}_FILE": "/run/secrets/keys"}, tmp_path)

        with pytest.raises(ConfigurationError) as refused:
            sources.find(NAME)
        assert refused.value.problems == (
            f"both {NAME} and {NAME}_FILE are set: keep one, run `unset {NAME}`",
        )
        assert CANARY not in report(refused.value)

    def test_an_empty_variable_is_a_value_and_hides_what_follows(self, tmp_path, places):
        assert Sources({NAME: ""}, tmp_path).find(NAME) == Found("", "environment")

    def test_extra_sources_are_asked_in_their_order(self, tmp_path):
        extra = [Vault(THEBES_X="first"), Vault(THEBES_X="second")]
        assert Sources({}, tmp_path, extra=extra).find("THEBES_X") == Found("first", "vault")

    def test_a_source_that_cannot_be_asked_is_never_passed_over(self, tmp_path):
        (tmp_path / ".env").write_text(f"{NAME}=weaker\n")
        with pytest.raises(SecretUnavailable, match="it is sealed"):
            Sources({}, tmp_path, extra=[SealedVault()]).find(NAME)

    def test_sources_can_stand_in_for_a_source(self, tmp_path):
        inner = Sources({NAME: CANARY}, tmp_path)
        assert Sources({}, tmp_path, extra=[inner]).find(NAME) == Found(CANARY, "environment")

    @pytest.mark.parametrize("name", ["", "HOME", "THEBES_", "thebes_x", "THEBES_../X", "THEBES_X\n"])
    def test_other_names_are_the_programmers_mistake(self, tmp_path, name):
        with pytest.raises(ValueError, match="THEBES_"):
            Sources({name: "x"}, tmp_path).find(name)


class TestFiles:
    @pytest.mark.parametrize(
        ("written", "read"),
        [
            pytest.param(b"value", "value", id="without a newline"),
            pytest.param(b"value\n", "value", id="one newline is taken off"),
            pytest.param(b"value\r\n", "value", id="one Windows newline is taken off"),
            pytest.param(b"value\n\n", "value\n", id="only one is taken off"),
            pytest.param(b" value \n", " value ", id="spaces stay"),
            pytest.param(b"value\r", "value\r", id="a lone carriage return stays"),
            pytest.param(b"", "", id="empty"),
            pytest.param("pässword".encode(), "pässword", id="UTF-8"),
        ],
    )
    def test_a_file_gives_its_text(self, tmp_path, written, read):
        (tmp_path / "keys").write_bytes(written)
        found = Sources({f"{NAME}_FILE": str(tmp_path / "keys")}, tmp_path).find(NAME)
        assert found == Found(read, f"file {tmp_path / 'keys'} ({NAME}_FILE)")

    def test_relative_names_start_in_the_project_directory(self, tmp_path):
        (tmp_path / "keys").write_text("value")
        found = Sources({f"{NAME}_FILE": "keys"}, tmp_path).find(NAME)
        assert found is not None
        assert found.text == "value"

    @pytest.mark.parametrize("name", [NAME, NAME.lower(), "secret_keys"])
    def test_three_names_are_known_in_the_directory(self, tmp_path, name):
        (tmp_path / name).write_text("value\n")
        found = Sources({"THEBES_SECRETS_DIR": str(tmp_path)}, tmp_path).find(NAME)
        assert found == Found("value", f"file {tmp_path / name} (THEBES_SECRETS_DIR)")

    @pytest.mark.parametrize(
        ("given", "reason"),
        [
            pytest.param("/nonexistent/keys", "No such file", id="missing"),
            pytest.param("nonexistent", "no such file", id="missing, relative"),
            pytest.param("", "no such file", id="empty name"),
            pytest.param("a\0b", "no such file", id="NUL in the name"),
            pytest.param("x" * 5000, "no such file", id="name too long"),
            pytest.param("large", "larger than", id="too large"),
            pytest.param("latin", "not UTF-8", id="another encoding"),
            pytest.param("/dev/zero", "larger than", id="endless"),
            pytest.param(".", "directory", id="a directory"),
        ],
    )
    def test_a_file_that_cannot_be_read_is_named(self, tmp_path, given, reason):
        (tmp_path / "large").write_bytes(b"c4n4ry" + bytes(MAX_FILE_BYTES))
        (tmp_path / "latin").write_bytes(b"c4n4ry\xe9")

        with pytest.raises(SecretUnavailable, match=reason) as refused:
            Sources({f"{NAME}_FILE": given}, tmp_path).find(NAME)
        assert f"{NAME}_FILE" in refused.value.source
        assert "c4n4ry" not in report(refused.value)

    def test_a_secret_set_in_the_place_of_its_file_name_is_not_shown(self, tmp_path):
        """The usual slip: THEBES_SECRET_KEYS_FILE=k1:..., or a database URL with its password."""
        for slip in (CANARY, "postgres://ada:" + "c4n4ry@db/app"):
            with pytest.raises(SecretUnavailable) as refused:
                Sources({f"{NAME}_FILE": slip}, tmp_path).find(NAME)
            assert "c4n4ry" not in report(refused.value)

    def test_a_directory_that_is_missing_is_an_error(self, tmp_path):
        with pytest.raises(SecretUnavailable, match="THEBES_SECRETS_DIR"):
            Sources({"THEBES_SECRETS_DIR": str(tmp_path / "none")}, tmp_path).find(NAME)

    def test_an_empty_directory_name_counts_as_unset(self, tmp_path):
        assert Sources({"THEBES_SECRETS_DIR": ""}, tmp_path).find(NAME) is None

    def test_a_file_that_cannot_be_looked_at_is_an_error_and_not_absent(self, tmp_path):
        for file in (tmp_path / ".env", tmp_path / NAME):
            file.symlink_to(file)  # leads nowhere for root too
        for environ in ({}, {"THEBES_SECRETS_DIR": str(tmp_path)}):
            with pytest.raises(SecretUnavailable, match="symbolic links"):
                Sources(environ, tmp_path).find(NAME)

    def test_a_found_value_is_not_in_its_repr(self):
        assert repr(Found(CANARY, "environment")) == "Found(origin='environment')"

    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
    def test_every_text_is_read_as_written(self, tmp_path_factory, text):
        path = tmp_path_factory.mktemp("files") / "keys"
        path.write_bytes(text.encode() + b"\n")

        found = Sources({f"{NAME}_FILE": str(path)}, path.parent).find(NAME)

        assert found is not None
        assert found.text in (text, text.removesuffix("\r"))

    @given(st.binary(max_size=300))
    def test_any_bytes_give_text_or_secret_unavailable(self, tmp_path_factory, raw):
        path = tmp_path_factory.mktemp("files") / "keys"
        path.write_bytes(raw)
        if is_text(raw):
            assert read_text(path, "file").encode() == raw
        else:
            with pytest.raises(SecretUnavailable, match="cannot read file: not UTF-8 text") as refused:
                read_text(path, "file")
            assert refused.value.__context__ is None


class TestEnvFile:
    @pytest.mark.parametrize(
        ("line", "value"),
        [
            pytest.param("THEBES_X=value", "value", id="plain"),
            pytest.param("export THEBES_X=value", "value", id="export"),
            pytest.param("THEBES_X='va lue' # why", "va lue", id="quoted, with a comment"),
            pytest.param("THEBES_X=${HOME}/$USER", "${HOME}/$USER", id="nothing is interpolated"),
            pytest.param("THEBES_X=\u00e9", "\u00e9", id="UTF-8"),
            pytest.param("THEBES_X=one\nTHEBES_X=two", "two", id="the last one counts"),
            pytest.param("THEBES_X=", "", id="empty"),
            pytest.param("# THEBES_X=value", None, id="comment"),
            pytest.param("THEBES_X", None, id="without a value"),
            pytest.param("OTHER=value", None, id="another name"),
        ],
    )
    def test_lines_of_an_env_file(self, tmp_path, line, value):
        (tmp_path / ".env").write_text(f"{line}\n", encoding="utf-8")
        found = Sources({"HOME": "/home/ada"}, tmp_path).find("THEBES_X")
        assert found == (None if value is None else Found(value, ".env"))

    def test_nothing_is_put_into_the_environment(self, tmp_path):
        (tmp_path / ".env").write_text("THEBES_UNSEEN=value\n")
        environ: dict[str, str] = {}

        Sources(environ, tmp_path).find("THEBES_UNSEEN")

        assert environ == {}
        assert "THEBES_UNSEEN" not in os.environ

    def test_the_mode_is_never_read_from_a_file(self, tmp_path):
        """A file travels into deployments; development mode must not travel with it."""
        for name in (".env", "THEBES_ENV", "thebes_env", "env"):
            (tmp_path / name).write_text("THEBES_ENV=development\n")
        environ = {"THEBES_SECRETS_DIR": str(tmp_path), "THEBES_ENV_FILE": str(tmp_path / "env")}
        vault = Vault(THEBES_ENV="development")

        assert Sources(environ, tmp_path, extra=[vault]).find("THEBES_ENV") is None
        assert Sources({"THEBES_ENV": "test"}, tmp_path).find("THEBES_ENV") == Found("test", "environment")

    def test_names_that_do_not_count_in_an_env_file_are_listed(self, tmp_path):
        (tmp_path / ".env").write_text(
            "THEBES_HOSTS=example.com\nTHEBES_SECRETS_DIR=/run\nTHEBES_ENV=test\n"
            "THEBES_X_FILE=/run/x\nOTHER_FILE=/run/y\n"
        )
        sources = Sources({}, tmp_path)

        assert sources.ignored == ["THEBES_ENV", "THEBES_SECRETS_DIR", "THEBES_X_FILE"]
        assert sources.find("THEBES_SECRETS_DIR") is None
        assert sources.find("THEBES_X_FILE") is None

    def test_without_an_env_file_nothing_is_ignored(self, tmp_path):
        assert Sources({}, tmp_path).ignored == []

    def test_a_file_replaced_meanwhile_counts_at_the_next_call(self, tmp_path):
        sources = Sources({}, tmp_path)
        for value in ("one", "two"):
            (tmp_path / ".env").write_text(f"THEBES_X={value}\n")
            assert sources.find("THEBES_X") == Found(value, ".env")

    def test_an_env_file_that_is_a_directory_is_an_error(self, tmp_path):
        (tmp_path / ".env").mkdir()
        with pytest.raises(SecretUnavailable, match=r"\.env"):
            Sources({}, tmp_path).find("THEBES_X")

    @pytest.mark.parametrize("line", ["THEBES_X=c4n4ry", "  export\tTHEBES_X=c4n4ry"])
    def test_without_python_dotenv_our_lines_are_an_error_that_names_the_command(self, tmp_path, line):
        (tmp_path / ".env").write_text(f"A=1\n{line}\n")
        made = self.find_without_dotenv(tmp_path)

        assert made.returncode == 1
        assert "pip install 'thebes[standard]'" in made.stderr
        assert "c4n4ry" not in made.stderr

    def test_without_python_dotenv_a_foreign_env_file_is_left_alone(self, tmp_path):
        (tmp_path / ".env").write_text("DJANGO_KEY=x\n# THEBES_X=1\n")
        made = self.find_without_dotenv(tmp_path)
        assert (made.returncode, made.stdout) == (0, "None\n")

    def find_without_dotenv(self, directory: Path) -> subprocess.CompletedProcess[str]:
        """Ask for a name in a process where `import dotenv` fails."""
        code = (
            "import sys, traceback; sys.modules['dotenv'] = None\n"
            "from pathlib import Path\n"
            "from thebes.secrets.sources import Sources\n"
            "try:\n"
            f"    print(Sources({{}}, Path({str(directory)!r})).find('THEBES_X'))\n"
            "except Exception as error:\n"
            "    whole = traceback.TracebackException.from_exception(error, capture_locals=True)\n"
            "    sys.exit(''.join(whole.format()))\n"
        )
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
    def test_any_env_file_gives_a_value_or_none(self, tmp_path_factory, text):
        directory = tmp_path_factory.mktemp("project")
        (directory / ".env").write_bytes(f"THEBES_X={text}\nTHEBES_Y={text}".encode())
        sources = Sources({}, directory)

        for name in ("THEBES_X", "THEBES_Y", "THEBES_Z"):
            found = sources.find(name)
            assert found is None or found.origin == ".env"
        assert isinstance(sources.ignored, list)


class TestEnvFileProblems:
    @pytest.fixture
    def env_file(self, tmp_path: Path) -> Path:
        path = tmp_path / ".env"
        path.write_text("THEBES_X=1\n")
        path.chmod(0o600)
        return path

    def test_a_private_file_outside_of_git_has_none(self, env_file):
        assert env_file_problems(env_file, served=[env_file.parent / "static"]) == []

    def test_a_missing_file_has_none(self, tmp_path):
        assert env_file_problems(tmp_path / ".env", served=[tmp_path]) == []

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o666])
    def test_a_mode_for_group_or_others_names_chmod(self, env_file, mode):
        env_file.chmod(mode)
        (problem,) = env_file_problems(env_file)
        assert f"mode {mode:04o}" in problem
        assert f"run `chmod 600 {env_file}`" in problem

    def test_commands_quote_odd_paths(self, tmp_path):
        path = tmp_path / "it's; here" / ".env"
        path.parent.mkdir()
        path.write_text("")
        path.chmod(0o644)
        (problem,) = env_file_problems(path)
        assert "'\"'\"'s; here/.env'`" in problem

    def test_a_file_in_a_served_directory_names_mv(self, tmp_path, env_file):
        (tmp_path / "other").mkdir()
        (problem,) = env_file_problems(env_file, served=[tmp_path / "other", tmp_path])
        assert f"served directory {tmp_path}: run `mv {env_file} {tmp_path.parent}`" in problem

    def test_links_into_and_out_of_a_served_directory_are_found(self, tmp_path, env_file):
        static = tmp_path / "static"
        static.mkdir()
        (static / "shown").symlink_to(env_file)
        (tmp_path / "public").symlink_to(static)

        assert len(env_file_problems(static / "shown", served=[static])) == 1
        assert len(env_file_problems(static / "shown", served=[tmp_path / "public"])) == 1
        hidden = static / "hidden"
        env_file.rename(hidden)
        env_file.symlink_to(hidden)
        assert len(env_file_problems(env_file, served=[static])) == 1

    def test_a_file_tracked_by_git_names_git_rm(self, env_file, git):
        assert env_file_problems(env_file) == []
        git("add", "--force", ".env")
        (problem,) = env_file_problems(env_file)
        assert f"run `git rm --cached {env_file}`" in problem

    def test_only_the_file_itself_counts_not_what_its_name_matches(self, tmp_path, git):
        tracked, path = tmp_path / ".env1", tmp_path / ".env[1]"
        for file in (tracked, path):
            file.write_text("")
            file.chmod(0o600)
        git("add", ".env1")
        assert env_file_problems(path) == []

    def test_without_git_nothing_is_said_about_tracking(self, env_file, git, monkeypatch):
        git("add", "--force", ".env")
        monkeypatch.setenv("PATH", "/nonexistent")
        assert env_file_problems(env_file) == []
