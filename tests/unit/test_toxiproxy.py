"""Who has no Toxiproxy is told what to install or to set; one that hangs is started anew."""

import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.toxiproxy import VARIABLE, VERSION, Toxiproxy, ToxiproxyUnavailable, find_toxiproxy


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


class Hanging(Toxiproxy):
    """A server that hangs whenever a toxic is taken off, until it is started anew."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull))
        self.asked: list[tuple[str, str]] = []
        self.starts = 0

    def start(self) -> None:
        self.process = subprocess.Popen(["sleep", "60"])
        self.starts += 1

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        self.asked.append((method, path))
        if method == "DELETE":
            raise httpx.ReadTimeout("timed out")
        return [{"name": "latency upstream"}] if method == "GET" else {**(body or {}), "listen": "127.0.0.1:9"}


def test_a_server_that_hangs_is_started_anew_with_all_its_links() -> None:
    proxy = Hanging()
    proxy.start()
    links = [proxy.open_link(name, 1) for name in ("one", "two")]
    proxy.asked.clear()
    links[0].mend()
    proxy.stop()
    assert proxy.starts == 2
    assert [path for method, path in proxy.asked if (method, path) == ("POST", "/proxies")] == ["/proxies"] * len(links)


def test_a_server_of_somebody_else_that_hangs_is_an_error() -> None:
    proxy = Hanging()
    with pytest.raises(httpx.ReadTimeout):
        proxy.open_link("one", 1).mend()
