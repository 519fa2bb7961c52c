"""Toxiproxy between the nodes and what they talk to: the program itself, and a link through it that can be harmed and mended.

The program is Toxiproxy's own server: DEALBRIDGE_TOXIPROXY names it, else Go builds a pinned version once into the cache.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from deploy.kafka.embedded import cache_directory, die_with_parent, free_port

VERSION = "2.12.0"
MODULE = f"github.com/Shopify/toxiproxy/v2/cmd/server@v{VERSION}"
VARIABLE = "DEALBRIDGE_TOXIPROXY"
BUILD_S = 600
READY_S = 30
BOTH = ("upstream", "downstream")


class ToxiproxyUnavailable(RuntimeError):
    """No Toxiproxy can be run here; the message says what to install or to set."""


def find_toxiproxy() -> Path:
    """The program: the operator's, the cached one, or built now; raises ToxiproxyUnavailable."""
    if given := os.environ.get(VARIABLE):
        if not os.access(given, os.X_OK):
            raise ToxiproxyUnavailable(f"{VARIABLE} is {given}, which is no program: name Toxiproxy's server")
        return Path(given)
    target = cache_directory().parent / f"toxiproxy-{VERSION}"
    if not target.exists():
        build(target)
    return target


def build(target: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise ToxiproxyUnavailable(f"go not found: install Go (Debian: golang), set {VARIABLE} to Toxiproxy's server, or leave links alone")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="toxiproxy-", dir=target.parent) as place:
        environment = os.environ | {"GOBIN": place}
        done = subprocess.run([go, "install", MODULE], env=environment, capture_output=True, text=True, timeout=BUILD_S, check=False)
        if done.returncode != 0:
            raise ToxiproxyUnavailable(f"Go could not build {MODULE} (or set {VARIABLE}): {done.stderr.strip()[-300:]}")
        (Path(place) / "server").rename(target)


class Toxiproxy:
    """One server with its proxies, on loopback; it ends with the thread that starts it. With an `address` it runs already."""

    def __init__(self, log: Path, address: str = "") -> None:
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.address = address or f"http://127.0.0.1:{free_port()}"
        self.links: list[dict[str, Any]] = []

    def start(self) -> None:
        """Returns once it answers."""
        host, port = self.address.removeprefix("http://").split(":")
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(find_toxiproxy()), f"-host={host}", f"-port={port}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509  # one prctl call; it must not outlive its owner
            )
        deadline_s = time.monotonic() + READY_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                raise ToxiproxyUnavailable(f"Toxiproxy did not start: {self.log.read_text(errors='replace')[-300:]}")
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.address}/version", timeout=1).is_success
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request to its API; raises httpx.HTTPStatusError where it refuses."""
        answer = httpx.request(method, f"{self.address}{path}", json=body, timeout=10)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def open_link(self, name: str, port: int) -> "Link":
        """A way to a port of this machine."""
        made = self.ask("POST", "/proxies", {"name": name, "listen": "127.0.0.1:0", "upstream": f"127.0.0.1:{port}", "enabled": True})
        self.links.append({each: made[each] for each in ("name", "listen", "upstream", "enabled")})
        return Link(self, name, int(made["listen"].rsplit(":", 1)[1]))

    def renew(self) -> None:
        """Another server in its place, with the same links, none of them harmed: one may hang for ever when a toxic is taken off a
        connection that has just broken (Shopify/toxiproxy#558)."""
        self.stop()
        self.start()
        for each in self.links:
            self.ask("POST", "/proxies", each)


class Link:
    """One way through the proxy; `port` is where it begins."""

    def __init__(self, proxy: Toxiproxy, name: str, port: int) -> None:
        self.proxy = proxy
        self.name = name
        self.port = port

    def cut(self) -> None:
        """Every connection ends, and none can be made."""
        self.proxy.ask("POST", f"/proxies/{self.name}", {"enabled": False})

    def join(self) -> None:
        self.proxy.ask("POST", f"/proxies/{self.name}", {"enabled": True})

    def harm(self, toxic: str, attributes: dict[str, int], streams: tuple[str, ...] = BOTH) -> None:
        """Begin a toxic of Toxiproxy's in one direction or both."""
        for stream in streams:
            body = {"name": f"{toxic} {stream}", "type": toxic, "stream": stream, "attributes": attributes}
            self.proxy.ask("POST", f"/proxies/{self.name}/toxics", body)

    def mend(self) -> None:
        """End everything. A toxic may have swallowed bytes, so no connection outlives it: a stream of TCP has no holes."""
        try:
            self.cut()
            for toxic in self.proxy.ask("GET", f"/proxies/{self.name}/toxics"):
                self.proxy.ask("DELETE", f"/proxies/{self.name}/toxics/{toxic['name']}")
            self.join()
        except httpx.TimeoutException:
            if self.proxy.process is None:
                raise
            self.proxy.renew()
