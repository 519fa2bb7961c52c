"""The demo's processes: each node as a process of its own, which dies with the demo."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from deploy.kafka.embedded import die_with_parent

STOP_S = 15


class NodeFailed(RuntimeError):
    """A node ended while starting; the message is what it said."""


class Running(NamedTuple):
    """A node that answers: its side, address, and log."""

    side: str
    address: str
    log: Path

    def client(self, token: str) -> httpx.Client:
        return httpx.Client(base_url=self.address, headers={"Authorization": f"Bearer {token}"}, timeout=30)


@contextmanager
def running_node(side: str, database: str, kafka: str, directory: Path) -> Iterator[Running]:
    """A node's process for as long as the block runs; stopped politely, its output in a log file."""
    log = directory / f"{side}-node.log"
    environment = os.environ | {
        "DEALBRIDGE_DATABASE": database,
        "DEALBRIDGE_KAFKA": kafka,
        "DEALBRIDGE_PORT": "0",
        "DEALBRIDGE_ROLE": "all",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{side}_node.cli", "run"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            env=environment,
            start_new_session=True,  # a Ctrl-C is for the demo, which then stops its nodes
            preexec_fn=die_with_parent(),  # noqa: PLW1509  # one prctl call; the node must not outlive the demo
        )
    try:
        yield Running(side, read_address(process, log), log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def read_address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """The address from the line that a node prints once it listens."""
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    if "http://" not in line:
        raise NodeFailed(log.read_text()[-2_000:] or "the node ended without a word")
    return "http://" + line.split("http://", 1)[1].strip()
