"""Where settings come from: the order, the origin, and what is refused."""

import stat
from datetime import timedelta
from pathlib import Path

import pytest

from thebes import ConfigurationError, Secret, Security
from thebes.facts import Mode
from thebes.settings import READERS, Settings, read_value


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in READERS:
        monkeypatch.delenv(f"THEBES_{name.upper()}", raising=False)
    return tmp_path


def write_env(project: Path, text: str) -> None:
    path = project / ".env"
    path.write_text(text)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)


class TestTheOrder:
    def test_each_source_gives_way_to_the_one_before(self, project, monkeypatch):
        def hosts(*keyword: str) -> tuple[tuple[str, ...], str]:
            settings = Security(hosts=list(keyword) or None).settings()
            return settings.hosts, settings.origin["hosts"]

        assert hosts() == ((), "default")
        (project / "pyproject.toml").write_text('[tool.thebes]\nhosts = ["five.example"]\n')
        assert hosts() == (("five.example",), "pyproject.toml")
        write_env(project, "THEBES_HOSTS=four.example\n")
        assert hosts() == (("four.example",), ".env")
        (project / "secrets").mkdir()
        (project / "secrets" / "thebes_hosts").write_text("three.example\n")
        monkeypatch.setenv("THEBES_SECRETS_DIR", str(project / "secrets"))
        assert hosts()[0] == ("three.example",)
        assert "THEBES_SECRETS_DIR" in hosts()[1]
        (project / "hosts").write_text("two.example\n")
        monkeypatch.setenv("THEBES_HOSTS_FILE", str(project / "hosts"))
        assert hosts()[0] == ("two.example",)
        monkeypatch.delenv("THEBES_HOSTS_FILE")
        monkeypatch.setenv("THEBES_HOSTS", "one.example, other.example")
        assert hosts() == (("one.example", "other.example"), "environment")
        assert hosts("zero.example") == (("zero.example",), "keyword")

    def test_the_mode_is_never_read_from_a_file(self, project, monkeypatch):
        monkeypatch.delenv("THEBES_ENV")
        write_env(project, "THEBES_ENV=development\n")
        assert Security().settings().mode is Mode.PRODUCTION

    def test_a_mode_in_pyproject_is_refused(self, project):
        (project / "pyproject.toml").write_text('[tool.thebes]\nmode = "development"\n')
        with pytest.raises(ConfigurationError, match="mode; allowed are hosts"):
            Security().settings()

    def test_an_unknown_mode_names_the_three(self, project, monkeypatch):
        monkeypatch.setenv("THEBES_ENV", "staging")
        with pytest.raises(ConfigurationError, match="'staging'; allowed are production, development, test"):
            Security().settings()

    @pytest.mark.parametrize("table", ['secret_keys = "k1:AAAA"', "insecure_debug = true"])
    def test_a_secret_or_a_weakening_in_pyproject_is_refused(self, project, table):
        (project / "pyproject.toml").write_text(f"[tool.thebes]\n{table}\n")
        with pytest.raises(ConfigurationError, match="allowed are"):
            Security().settings()

    @pytest.mark.parametrize("value", ["true", "1"])
    def test_no_environment_variable_weakens_a_defence(self, project, monkeypatch, value):
        monkeypatch.setenv("THEBES_INSECURE_DEBUG", value)
        write_env(project, f"THEBES_INSECURE_DEBUG={value}\n")
        assert Security().settings().insecure_debug is False


class TestValues:
    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("hosts", "Example.COM, b.example:8443", ("example.com", "b.example:8443")),
            ("origins", ["https://App.example:443/"], ("https://app.example",)),
            ("public_url", "https://example.com/", "https://example.com"),
            ("proxies", "10.0.0.0/8, unix", ("10.0.0.0/8", "unix")),
            ("proxy_hops", "2", 2),
            ("body_limit", "2MiB", 2 * 1024 * 1024),
            ("hsts_max_age", "86400", timedelta(days=1)),
            ("hsts_include_subdomains", "yes", True),
            ("docs", "0", False),
            ("secret_keys", "k1:x", Secret("k1:x")),
        ],
    )
    def test_text_and_python_values_are_read_alike(self, name, value, expected):
        assert read_value(name, value) == expected

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("hosts", ["*.example.com"]),
            ("hosts", ["https://example.com"]),
            ("hosts", ["exa mple.com"]),
            ("origins", ["https://example.com/path"]),
            ("origins", ["https://*.example.com"]),
            ("origins", ["null"]),
            ("origins", ["http://example.com"]),
            ("origins", ["https://user@example.com"]),
            ("public_url", "http://localhost"),
            ("proxy_header", "x-real-ip"),
            ("proxy_hops", "many"),
            ("body_limit", "12 parsecs"),
            ("body_limit", -1),
            ("csp", "loose"),
            ("hsts_max_age", -1),
            ("docs", "perhaps"),
            ("health", "healthz"),
            ("health", "GET //healthz"),
        ],
    )
    def test_what_cannot_be_read_is_refused_where_it_was_typed(self, name, value):
        with pytest.raises(ConfigurationError, match=f"^{name}: "):
            Security(**{name: value})

    @pytest.mark.parametrize("value", [{"proxies": ["everyone"]}, {"proxy_hops": 0}, {"proxy_hops": 17}])
    def test_impossible_proxies_are_refused(self, value):
        with pytest.raises(ConfigurationError, match="prox"):
            Security(**value)

    def test_every_setting_has_a_keyword_a_reader_and_a_docstring(self):
        for name in READERS:
            assert f"        {name}:" in (Security.__doc__ or "").replace("\n    ", "\n        ")
            assert f"{name}:" in (Settings.__doc__ or "")

    def test_a_secret_among_the_settings_is_masked(self, project, monkeypatch):
        monkeypatch.setenv("THEBES_SECRET_KEYS", "k1:canary-of-this-test")
        assert "canary" not in repr(Security().settings())
