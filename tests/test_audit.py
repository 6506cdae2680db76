"""What `thebes audit` finds, from inside."""

import os
from pathlib import Path

import pytest
from starlette.applications import Starlette

from thebes import Security
from thebes.audit import Report, look


@pytest.fixture(autouse=True)
def _empty_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def report_on(security: Security) -> Report:
    return look(security, security.protect(Starlette()), environ=os.environ, directory=Path.cwd())


def found(security: Security, finding_id: str) -> list[str]:
    return [finding.text for finding in report_on(security).findings if finding.id == finding_id]


def test_each_effective_value_has_an_origin(monkeypatch):
    monkeypatch.setenv("THEBES_BODY_LIMIT", "2MiB")
    rows = {name: (value, origin) for name, value, origin in report_on(Security(docs=True)).settings}
    assert rows["body_limit"] == ("2097152", "environment")
    assert rows["docs"] == ("True", "keyword")
    assert rows["csp"] == ("report", "default")
    assert rows["mode"] == ("test", "environment")


def test_a_secret_is_listed_but_not_shown(monkeypatch):
    monkeypatch.setenv("THEBES_SECRET_KEYS", "k1:canary-in-the-audit")
    assert "canary" not in repr(report_on(Security()))


def test_an_exemption_is_listed_with_its_reason():
    security = Security()
    security.exempt("POST /saml/acs", "csrf", reason="signed by the identity provider")
    assert found(security, "exempt") == [
        "POST /saml/acs is exempt from csrf: signed by the identity provider"
    ]


def test_routes_with_wider_limits_are_listed():
    security = Security()
    security.route("PUT /upload/*", body_limit="1GiB", codings=["gzip"], xml=True)
    assert report_on(security).routes == [
        ("PUT /upload/*", "body limit 1,073,741,824 bytes; codings gzip; XML")
    ]


def test_the_bounds_of_each_limit_are_printed_and_a_free_route_is_listed():
    security = Security(limits="300/minute burst 100")
    security.route("POST /search", limit="10/minute", cost=2)
    security.route("GET /assets/*", limit=None)
    report = report_on(security)
    assert [limit.partition(":")[0] for limit in report.limits] == ["default", "post-search"]
    assert all("bytes for" in limit for limit in report.limits)
    assert found(security, "limit-none") == ["GET /assets/* has no limit"]


def test_an_insecure_switch_is_a_warning():
    assert found(Security(insecure_debug=True), "insecure") == ["insecure_debug is set"]
    assert found(Security(), "insecure") == []


def test_a_check_that_was_taken_out_is_an_error_and_shows_as_off():
    report = report_on(Security().without("csrf"))
    assert report.has_errors
    assert [practice.name for practice in report.practices if practice.is_on] == [
        "https",
        "validation",
        "passwords",
        "tokens",
        "ratelimit",
        "secrets",
    ]


def test_a_misspelt_variable_is_a_warning(monkeypatch):
    monkeypatch.setenv("THEBES_HOST", "example.com")
    assert found(Security(), "variable-unknown") == ["THEBES_HOST is no setting and is not read"]


def test_what_production_lacks_is_an_error(monkeypatch):
    monkeypatch.setenv("THEBES_ENV", "production")
    assert len(found(Security(accounts=None), "start")) == 2
    assert len(found(Security(), "start")) == 4


def test_what_nobody_could_ever_pass_is_an_error():
    closed, open_to_its_people = (Security(accounts=None, require_account=True) for _ in range(2))
    open_to_its_people.identify(lambda scope: None)
    assert any("require_account needs accounts" in text for text in found(closed, "start"))
    assert found(open_to_its_people, "start") == []


class TestDeclaring:
    @pytest.mark.parametrize(
        "pattern", ["POST /saml/*", "post /saml", "/saml", "POST saml", "POST /a//b", "POST /%61"]
    )
    def test_an_exemption_names_one_plain_route(self, pattern):
        from thebes import ConfigurationError

        with pytest.raises(ConfigurationError):
            Security().exempt(pattern, "csrf", reason="a good one")

    def test_an_exemption_needs_a_known_check_and_a_reason(self):
        from thebes import ConfigurationError

        with pytest.raises(ConfigurationError, match="allowed: csrf"):
            Security().exempt("POST /a", "body", reason="a good one")
        with pytest.raises(ConfigurationError, match="why this is safe"):
            Security().exempt("POST /a", "csrf", reason=" ")

    def test_no_route_frees_all_of_a_method_from_its_limit(self):
        from thebes import ConfigurationError

        with pytest.raises(ConfigurationError, match="name those you mean"):
            Security().route("GET /*", limit=None)
        Security().route("GET /assets/*", limit=None)

    def test_a_copy_without_a_check_leaves_the_original_whole(self):
        from thebes import ConfigurationError

        security = Security()
        assert security.without("csrf").without("body").removed == {"csrf", "body"}
        assert security.removed == frozenset()
        with pytest.raises(ConfigurationError, match="there are hosts, methods"):
            security.without("scrf")
