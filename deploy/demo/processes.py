"""A node as a process of its own, which dies with whoever started it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from deploy.kafka.embedded import die_with_parent

STOP_S = 15


class NodeFailed(RuntimeError):
    """A node ended while starting; the message is what it said."""


class NodeProcess:
    """One node, or one process of it with a name of its own: started, killed and started again at will. `address` is where it answers now;
    its log is one file for all its lives; `program` is what Python runs."""

    def __init__(self, side: str, database: str, kafka: str, directory: Path, name: str = "node", command: str = "run") -> None:
        self.side = side
        self.name = name
        self.log = directory / f"{side}-{name}.log"
        self.program = ["-m", f"{side}_node.cli", command]
        self.address = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.settings = {"DEALBRIDGE_DATABASE": database, "DEALBRIDGE_KAFKA": kafka, "DEALBRIDGE_PORT": "0", "DEALBRIDGE_ROLE": "all"}
        self.settings["DEALBRIDGE_INSIGHTS_PORT"] = "0"

    def start(self) -> None:
        """Returns when the node listens; raises NodeFailed with what it said. The node lives no longer than the thread that starts it."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *self.program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                env=os.environ | self.settings,
                start_new_session=True,  # a Ctrl-C is for the owner, which then stops its nodes
                preexec_fn=die_with_parent(),  # noqa: PLW1509  # one prctl call; the node must not outlive its owner
            )
        self.address = read_address(self.process, self.log)

    def kill(self) -> None:
        """kill -9."""
        self.end(signal.SIGKILL)

    def stop(self) -> None:
        """Politely; after a while not so."""
        self.end(signal.SIGTERM)

    def end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def client(self, token: str) -> httpx.Client:
        return httpx.Client(base_url=self.address, headers={"Authorization": f"Bearer {token}"}, timeout=30)


@contextmanager
def running_node(side: str, database: str, kafka: str, directory: Path) -> Iterator[NodeProcess]:
    """A node's process for as long as the block runs."""
    node = NodeProcess(side, database, kafka, directory)
    node.start()
    try:
        yield node
    finally:
        node.stop()


def read_address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """The address from the line that a node prints once it listens."""
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    if "http://" not in line:
        raise NodeFailed(log.read_text()[-2_000:] or "the node ended without a word")
    return "http://" + line.split("http://", 1)[1].strip()
