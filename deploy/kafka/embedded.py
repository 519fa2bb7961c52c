"""A real Apache Kafka broker as a child process: one node, KRaft, loopback, for the tests, the demo and a look by hand.

The jars are fetched once with Maven into a cache, then nothing needs the network. The broker dies with its owner. Not for production.
"""

import atexit
import contextlib
import ctypes
import fcntl
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from shared_schema.sync.security import write_secret

VERSION = "4.1.1"
HERE = Path(__file__).parent
ADDRESS_VARIABLE = "DEALBRIDGE_KAFKA"
CLUSTER_ID = "ZGVhbGJyaWRnZS10ZXN0cw"  # 16 bytes in base64url; any constant serves
READY_S = 60.0
STOP_S = 15.0
MAVEN_S = 600.0
JAVA = (
    "-Xms128m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}",
)
# The last lines are for a quick restart after kill -9 and for a small heap.
COMMON_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
log.dirs={directory}/data
offsets.topic.replication.factor=1
auto.create.topics.enable=false
offsets.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=4194304
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
"""
SETTINGS = """\
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
"""
FRAMES = ("at ", "... ")  # of a stack of Java's: the reason stands above it
API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)  # size, ApiVersions, version 0, correlation id, no client id
PR_SET_PDEATHSIG = 1
# Below those that a system gives to outgoing connections, one of which could get the port of a broker that starts or is down.
PORTS = range(10_000, 32_000)
SHARES = 16
GIVEN: set[int] = set()


class KafkaUnavailable(RuntimeError):
    """No broker can be run here; the message says what to install or to set."""


def broker_address() -> str | None:
    """The address of a broker that somebody else runs, from DEALBRIDGE_KAFKA; None means: start an EmbeddedKafka."""
    return os.environ.get(ADDRESS_VARIABLE) or None


@contextlib.contextmanager
def running_kafka() -> Iterator[str]:
    """The address of a broker for as long as the block runs: the one of DEALBRIDGE_KAFKA, else an embedded one."""
    address = broker_address()
    if address:
        yield address
        return
    with EmbeddedKafka() as kafka:
        yield kafka.address


class EmbeddedKafka:
    """One broker on a port of its own, kept across `restart`; its data are in `directory`, or in a temporary one until `stop`."""

    def __init__(self, directory: Path | None = None, port: int | None = None) -> None:
        self.owns_directory = directory is None
        self.directory = directory
        self.port = port
        self.controller_port: int | None = None
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Return once the broker answers. Starts on the same data and port as before, after `kill` too."""
        if self.process is not None:
            return
        libraries = fetch_libraries()
        self.prepare()
        self.process = run_java(libraries, self.home, "kafka.Kafka", str(self.home / "server.properties"))
        atexit.register(self.kill)
        try:
            self.await_ready()
        except BaseException:
            self.kill()
            raise

    @property
    def home(self) -> Path:
        if self.directory is None:
            self.directory = Path(tempfile.mkdtemp(prefix="dealbridge-kafka-"))
        return self.directory

    def prepare(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        self.controller_port = self.controller_port or free_port()
        settings = self.home / "server.properties"
        write_secret(settings, self.write_settings())
        if not (self.home / "data" / "meta.properties").exists():
            self.format(settings)

    def write_settings(self) -> str:
        return (COMMON_SETTINGS + SETTINGS).format(port=self.port, controller=self.controller_port, directory=self.home)

    def first_users(self) -> tuple[str, ...]:
        """What the storage is formatted with beyond the cluster's id."""
        return ()

    def answers(self) -> bool:
        """Whether the broker answers an ApiVersions request."""
        return answers(self.port or 0)

    def format(self, settings: Path) -> None:
        arguments = ("format", "--standalone", "-t", CLUSTER_ID, "-c", str(settings), *self.first_users())
        process = run_java(fetch_libraries(), self.home, "kafka.tools.StorageTool", *arguments)
        if process.wait(READY_S) != 0:
            raise KafkaUnavailable(f"formatting Kafka's storage failed: {self.last_words()}")

    def await_ready(self) -> None:
        deadline_s = time.monotonic() + READY_S
        while not self.answers():
            if self.process is None or self.process.poll() is not None:
                raise KafkaUnavailable(f"Kafka ended while starting: {self.last_words()}")
            if time.monotonic() > deadline_s:
                raise KafkaUnavailable(f"Kafka was not ready after {READY_S:.0f} s: {self.last_words()}")
            time.sleep(0.05)

    def last_words(self) -> str:
        output = self.home / "output.log"
        lines = output.read_text(errors="replace").strip().splitlines() if output.exists() else []
        said = [line.strip() for line in lines if not line.lstrip().startswith(FRAMES)]
        return " | ".join(said[-3:]) or "it said nothing"

    def stop(self) -> None:
        """A polite shutdown; or, of a temporary directory, none: nothing is left to be flushed, and it is removed."""
        self.end(signal.SIGKILL if self.owns_directory else signal.SIGTERM)
        if self.owns_directory and self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory = None

    def kill(self) -> None:
        """As kill -9: the data stay for the next `start`."""
        self.end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop politely and start on the same data and port."""
        self.end(signal.SIGTERM)
        self.start()

    def end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        atexit.unregister(self.kill)
        process.send_signal(how)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> "EmbeddedKafka":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()


def run_java(libraries: Path, home: Path, main: str, *arguments: str) -> "subprocess.Popen[bytes]":
    """A Java process that writes to home/output.log and is killed when the thread that started it ends."""
    command = [find_program("java"), *JAVA, "-cp", f"{libraries}/*", main, *arguments]
    with (home / "output.log").open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C at the terminal is for the owner, which then stops the broker
            preexec_fn=die_with_parent(),  # noqa: PLW1509  # one prctl call; the broker must not outlive its owner
        )


def die_with_parent() -> Callable[[], None] | None:
    """What a child runs before exec so that the kernel kills it with its owner; elsewhere than on Linux atexit has to do."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return arrange


def find_program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise KafkaUnavailable(
            f"{name} not found: install Java 17 and Maven (Debian: default-jre-headless maven) or set {ADDRESS_VARIABLE}=host:port"
        )
    return path


def cache_directory() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "dealbridge" / f"kafka-{VERSION}"


def fetch_libraries() -> Path:
    """The directory of Kafka's jars; fetched at first use, by one process at a time, and never seen half full."""
    target = cache_directory()
    if target.is_dir():
        return target
    find_program("java")
    maven = find_program("mvn")
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            copy_jars(maven, target)
    return target


def copy_jars(maven: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="kafka-", dir=target.parent) as work:
        jars = Path(work) / "libs"
        command = [maven, "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=MAVEN_S, check=False)
        if done.returncode != 0 or not any(jars.glob("kafka_*.jar")):
            said = (done.stdout + done.stderr).strip().splitlines()
            reason = said[0] if said else f"exit code {done.returncode}"
            raise KafkaUnavailable(f"Maven could not fetch Kafka's jars (or set {ADDRESS_VARIABLE}=host:port): {reason}")
        jars.rename(target)


def free_port() -> int:
    """A port that nobody listens on, and that this process was not given before: one broker needs several. Processes that start beside each
    other choose among different ones."""
    mine = PORTS[os.getpid() % SHARES :: SHARES]
    while True:
        port = secrets.choice(mine)
        if port not in GIVEN and is_free(port):
            GIVEN.add(port)
            return port


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Whether a broker on this port answers an ApiVersions request."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return answers_on(connection)
    except OSError:
        return False


def answers_on(connection: socket.socket) -> bool:
    """The same over a connection; raises OSError."""
    connection.settimeout(2)
    connection.sendall(API_VERSIONS)
    answer = connection.recv(10)
    return len(answer) == 10 and struct.unpack(">iih", answer)[1:] == (1, 0)


def main() -> None:
    """Run a broker in the foreground until a signal comes; the port may be given."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with EmbeddedKafka(port=int(sys.argv[1]) if len(sys.argv) > 1 else None) as kafka:
            print(f"Kafka {VERSION} on {kafka.address}; Ctrl-C stops it.", flush=True)
            while kafka.process is not None and kafka.process.poll() is None:
                time.sleep(0.5)
    except KafkaUnavailable as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
