"""The broker launcher: its messages without Java, its cache, and a broker that comes back on its port and dies with its owner."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.kafka import embedded
from deploy.kafka.embedded import EmbeddedKafka, KafkaUnavailable, answers, broker_address, running_kafka

OWNER = """
import sys, time
from pathlib import Path
from deploy.kafka.embedded import EmbeddedKafka
kafka = EmbeddedKafka(Path(sys.argv[1]))
kafka.start()
print(kafka.process.pid, flush=True)
time.sleep(600)
"""


def test_without_java_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(KafkaUnavailable) as raised:
        EmbeddedKafka(tmp_path / "kafka").start()
    message = str(raised.value)
    assert "install Java" in message and "DEALBRIDGE_KAFKA=host:port" in message and "\n" not in message


def test_a_failed_fetch_leaves_no_half_filled_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("java", "mvn"):
        (programs / name).write_text("#!/bin/sh\necho no network\nexit 1\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(KafkaUnavailable, match="no network"):
        embedded.fetch_libraries()
    assert not embedded.cache_directory().exists()


def test_a_given_address_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEALBRIDGE_KAFKA", "kafka.example:9092")
    assert broker_address() == "kafka.example:9092"
    with running_kafka() as address:
        assert address == "kafka.example:9092"


@pytest.fixture
def java(kafka_address: str) -> None:
    """Skips without Java; the shared broker itself is left alone."""


@pytest.mark.usefixtures("java")
def test_a_killed_broker_comes_back_on_its_port(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as kafka:
        address, port = kafka.address, kafka.port or 0
        kafka.kill()
        assert not answers(port)
        kafka.start()
        kafka.restart()
        assert kafka.address == address
        assert answers(port)
    assert not answers(port)
    assert (tmp_path / "data").exists()


@pytest.mark.usefixtures("java")
def test_the_broker_dies_with_its_owner(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        broker = int(owner.stdout.readline())
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert is_gone(broker)


def is_gone(process: int) -> bool:
    """Whether it ends within some seconds; a zombie, which only its new parent can bury, has ended."""
    for _ in range(200):
        stat = Path(f"/proc/{process}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.usefixtures("java")
def test_what_java_says_of_a_failure_is_its_reason_and_not_its_stack(tmp_path: Path) -> None:
    kafka = EmbeddedKafka(tmp_path / "kafka")
    kafka.port = kafka.controller_port = embedded.free_port()
    with pytest.raises(KafkaUnavailable, match="on the same port") as raised:
        kafka.start()
    assert "scala:" not in str(raised.value)


def test_processes_that_start_beside_each_other_choose_among_different_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    for process in (1_000, 1_001):
        monkeypatch.setattr(embedded.os, "getpid", lambda process=process: process)
        given.append({embedded.free_port() for _ in range(200)})
    assert not given[0] & given[1] and len(given[0]) == len(given[1]) == 200


def test_a_port_on_which_somebody_listens_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        taken = int(listener.getsockname()[1])
        free = embedded.free_port()
        chosen = iter((taken, free))
        monkeypatch.setattr(embedded, "GIVEN", set())
        monkeypatch.setattr(embedded.secrets, "choice", lambda _: next(chosen))
        assert embedded.free_port() == free
