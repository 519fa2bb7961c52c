"""Who has no Toxiproxy is told what to install or to set."""

from pathlib import Path

import pytest

from tests.chaos.toxiproxy import VARIABLE, VERSION, ToxiproxyUnavailable, find_toxiproxy


def test_without_go_it_says_what_to_install_or_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToxiproxyUnavailable, match=f"install Go .* set {VARIABLE}"):
        find_toxiproxy()


def test_a_program_that_is_named_has_to_be_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "toxiproxy-server"
    monkeypatch.setenv(VARIABLE, str(program))
    with pytest.raises(ToxiproxyUnavailable, match="is no program"):
        find_toxiproxy()
    program.touch(mode=0o755)
    assert find_toxiproxy() == program


def test_what_was_built_once_is_found_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    built = tmp_path / "dealbridge" / f"toxiproxy-{VERSION}"
    built.parent.mkdir()
    built.touch(mode=0o755)
    assert find_toxiproxy() == built
