"""The container engine's `docker compose` on one of the files here. Standard library alone: it runs before anything is installed."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).resolve().parents[1]
COMMAND_S = 900
NO_ENGINE = 3


class NoEngine(RuntimeError):
    """There is no container engine with compose; the message says what to install or to start."""


class ComposeFailed(RuntimeError):
    """A command of the engine's failed; the message is what it said last."""


class Compose:
    """`docker compose` on `file`, as the project `name` where one is given; `over` are files that say some of it otherwise."""

    over: Sequence[Path] = ()

    def __init__(self, file: Path = DEPLOY / "compose.yaml", name: str = "", settings: Mapping[str, str] | None = None) -> None:
        self.file = file
        self.name = name
        self.settings = dict(settings or {})

    def command(self, *arguments: str) -> list[str]:
        named = ("--project-name", self.name) if self.name else ()
        files = [word for file in (self.file, *self.over) for word in ("--file", str(file))]
        return ["docker", "compose", *files, *named, *arguments]

    def run(self, *arguments: str, given: str | None = None, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run one command to its end and keep what it says; `given` is its standard input. Raises ComposeFailed."""
        done = subprocess.run(
            self.command(*arguments),
            input=given if given is not None else "",
            env=os.environ | self.settings,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if check and done.returncode != 0:
            raise ComposeFailed(f"docker compose {' '.join(arguments)}: {(done.stderr or done.stdout).strip()[-2_000:]}")
        return done

    def show(self, *arguments: str) -> None:
        """The same with its words on the terminal."""
        if subprocess.run(self.command(*arguments), env=os.environ | self.settings, check=False).returncode != 0:
            raise ComposeFailed(f"docker compose {' '.join(arguments)} failed; see above")

    def read(self, *arguments: str) -> str:
        return self.run(*arguments).stdout.strip()

    def inside(self, service: str, *command: str, given: str | None = None, check: bool = True) -> str:
        """What a command says inside a running service."""
        return self.run("exec", "-T", service, *command, given=given, check=check).stdout

    def address(self, service: str, port: int) -> str:
        return self.read("port", service, str(port)).splitlines()[0]

    def last_words(self) -> str:
        """Of each container that ended badly: with what, and what it said last."""
        ended = [each for each in self.list_containers() if has_failed(each)]
        return "; ".join(f"{each['Service']} ended with {each['ExitCode']}: {self.read_last_line(each['Service'])}" for each in ended)

    def read_last_line(self, service: str) -> str:
        return self.read("logs", "--no-log-prefix", "--no-color", "--tail", "1", service)

    def list_containers(self) -> list[dict[str, Any]]:
        """Every container of the project, ended ones too: Service, State, Health, ExitCode, ID, …"""
        lines = self.read("ps", "--all", "--format", "json").splitlines()
        return [json.loads(line) for line in lines if line.strip()]


def has_failed(container: Mapping[str, Any]) -> bool:
    """Whether a step of `list_containers` ended badly."""
    return bool(container["State"] == "exited" and container["ExitCode"] != 0)


def find_engine() -> None:
    """Raises NoEngine."""
    if shutil.which("docker") is None:
        raise NoEngine("docker is not installed: install a container engine with `docker compose`")
    for command, remedy in (
        (["docker", "compose", "version"], "install its compose plugin"),
        (["docker", "info", "--format", "{{.ServerVersion}}"], "start it, or let this user use it"),
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            said: Sequence[str] = (done.stderr or done.stdout).strip().splitlines() or [""]
            raise NoEngine(f"`{' '.join(command[:2])}` does not work ({said[-1]}): {remedy}")
