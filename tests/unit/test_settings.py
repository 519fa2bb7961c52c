"""Settings come from the environment; a bad one is one line that names the variable and what it takes."""

from pathlib import Path

import pytest

from shared_schema.sync.settings import BadSettings, describe, load_settings

STORE = "sqlite:////tmp/store.db"
WRONG = [
    ("DEALBRIDGE_DATABASE", "mysql://here/store", "use sqlite:///"),
    ("DEALBRIDGE_DATABASE", "", "use sqlite:///"),
    ("DEALBRIDGE_KAFKA", "kafka", "host:port"),
    ("DEALBRIDGE_KAFKA", "one:9092,two", "host:port"),
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


def test_the_readme_lists_every_setting_as_it_is() -> None:
    readme = Path("README.md").read_text()
    for variable, default, meaning in describe():
        assert f"| `{variable}` | {default} | {meaning} |" in readme
