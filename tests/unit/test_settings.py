"""Settings come from the environment; a bad one is one line that names the variable and what it takes."""

from pathlib import Path

import pytest

from shared_schema.crm.database import parse_url
from shared_schema.sync.security import Credential, CredentialUnreadable
from shared_schema.sync.settings import BadSettings, describe, load_settings, locate_store, secure

STORE = "sqlite:////tmp/store.db"
WRONG = [
    ("DEALBRIDGE_DATABASE", "mysql://here/store", "use sqlite:///"),
    ("DEALBRIDGE_DATABASE", "", "use sqlite:///"),
    ("DEALBRIDGE_KAFKA", "kafka", "host:port"),
    ("DEALBRIDGE_KAFKA", "one:9092,two", "host:port"),
    ("DEALBRIDGE_KAFKA_SECURITY", "ssl", "'plaintext', 'tls' or 'sasl_tls'"),
    ("DEALBRIDGE_PORT", "eighty", "integer"),
    ("DEALBRIDGE_PORT", "70000", "65535"),
    ("DEALBRIDGE_ROLE", "everything", "'web', 'sync' or 'all'"),
    ("DEALBRIDGE_LOG_LEVEL", "loud", "'debug'"),
    ("DEALBRIDGE_LOG_FORMAT", "xml", "'json'"),
]


@pytest.mark.parametrize(("variable", "value", "takes"), WRONG)
def test_a_bad_setting_is_one_line_that_names_it(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, takes: str) -> None:
    monkeypatch.setenv("DEALBRIDGE_DATABASE", STORE)
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadSettings) as caught:
        load_settings()
    told = str(caught.value)
    assert told.startswith(variable) and takes in told and "\n" not in told


def test_what_is_required_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEALBRIDGE_DATABASE", raising=False)
    with pytest.raises(BadSettings, match="DEALBRIDGE_DATABASE is not set"):
        load_settings()


def test_a_password_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEALBRIDGE_DATABASE", "oracle://me:hunter2@here/store")
    with pytest.raises(BadSettings) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_the_stores_password_comes_from_its_file_and_is_in_no_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter/2\n")
    monkeypatch.setenv("DEALBRIDGE_DATABASE", "postgresql://me@here:5432/store")
    monkeypatch.setenv("DEALBRIDGE_DATABASE_PASSWORD_FILE", str(file))
    settings = load_settings()
    assert parse_url(locate_store(settings)).password == "hunter/2"
    assert "hunter" not in repr(settings) + str(settings)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://me:x@here/store", "holds a password already"),
        (STORE, "SQLite has no password"),
        ("postgresql://me@here/store", "can not be read"),
    ],
)
def test_a_password_file_without_effect_is_refused(monkeypatch: pytest.MonkeyPatch, url: str, told: str) -> None:
    monkeypatch.setenv("DEALBRIDGE_DATABASE", url)
    monkeypatch.setenv("DEALBRIDGE_DATABASE_PASSWORD_FILE", "/nowhere/password")
    with pytest.raises(BadSettings, match=told) as caught:
        load_settings()
    assert str(caught.value).startswith("DEALBRIDGE_DATABASE_PASSWORD_FILE is wrong")


SECURED = [
    ({}, "plaintext"),
    ({"CA": "/ca.pem"}, "tls"),
    ({"CA": "/ca.pem", "USER": "acme", "PASSWORD_FILE": "/password"}, "sasl_tls"),
    ({"USER": "acme", "PASSWORD": "x"}, "sasl_tls"),
    ({"SECURITY": "tls"}, "tls"),
]


@pytest.mark.parametrize(("values", "protocol"), SECURED)
def test_the_safest_way_that_the_settings_allow_is_taken(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], protocol: str) -> None:
    set_kafka(monkeypatch, values)
    assert secure(load_settings()).protocol == protocol


def set_kafka(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    monkeypatch.setenv("DEALBRIDGE_DATABASE", STORE)
    for name, value in values.items():
        monkeypatch.setenv(f"DEALBRIDGE_KAFKA_{name}", value)


CONTRADICTIONS = [
    ({"SECURITY": "sasl_tls"}, "KAFKA_PASSWORD_FILE is not set"),
    ({"PASSWORD_FILE": "/password"}, "KAFKA_USER is not set"),
    ({"SECURITY": "plaintext", "USER": "acme", "PASSWORD": "x"}, "plaintext has no users"),
    ({"SECURITY": "tls", "USER": "acme", "PASSWORD": "x"}, "tls has no users"),
    ({"USER": "acme"}, "plaintext has no users"),
    ({"SECURITY": "plaintext", "CA": "/ca.pem"}, "plaintext verifies nothing"),
]


@pytest.mark.parametrize(("values", "told"), CONTRADICTIONS)
def test_settings_that_would_only_look_safe_are_refused(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], told: str) -> None:
    set_kafka(monkeypatch, values)
    with pytest.raises(BadSettings, match=told) as caught:
        load_settings()
    assert str(caught.value).startswith("DEALBRIDGE_KAFKA_")


def test_the_password_is_read_from_its_file_at_every_look_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "password"
    set_kafka(monkeypatch, {"USER": "acme", "PASSWORD_FILE": str(file)})
    security = secure(load_settings())
    with pytest.raises(CredentialUnreadable, match=str(file)):
        security.read_credential()
    for password in ("first", "second"):
        file.write_text(f"{password}\n")
        assert security.read_credential() == Credential("acme", password)
        assert password not in repr(security) + repr(security.read_credential())
    monkeypatch.setenv("DEALBRIDGE_KAFKA_PASSWORD", "hunter2")
    settings = load_settings()
    assert "hunter2" not in repr(settings) + str(settings) + repr(secure(settings))


def test_the_readme_lists_every_setting_as_it_is() -> None:
    readme = Path("README.md").read_text()
    for variable, default, meaning in describe():
        assert f"| `{variable}` | {default} | {meaning} |" in readme
