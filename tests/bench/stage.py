"""What the figures are measured on: a Kafka, a durable PostgreSQL, files for SQLite, and the two nodes as processes."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from sqlalchemy import select

from deploy.demo.processes import NodeProcess
from shared_schema.contract.registers import Side
from shared_schema.contract.topics import all_topics
from shared_schema.crm.database import Database
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.tables import inbound_epochs
from tests.bench.population import PARTNERSHIP
from tests.postgres import EmbeddedPostgres

Store = Literal["postgresql", "sqlite"]
STALL_S = 120


class Stage:
    """Gives out empty stores of one kind, and a broker with the bench's topics."""

    def __init__(self, store: Store, kafka: str, directory: Path, postgres: EmbeddedPostgres) -> None:
        self.store = store
        self.kafka = kafka
        self.directory = directory
        self.postgres = postgres
        self.count = 0

    def fresh_url(self, side: Side) -> str:
        self.count += 1
        if self.store == "postgresql":
            return self.postgres.fresh_database()
        return f"sqlite:///{self.directory}/{side}-{self.count}.db"

    def clone(self, side: Side, template: str) -> str:
        """Another store with the template's content; nobody may be connected to that."""
        self.count += 1
        if self.store == "postgresql":
            return self.postgres.fresh_database(template=template.rpartition("/")[2])
        target = self.directory / f"{side}-{self.count}.db"
        shutil.copy(template.removeprefix("sqlite:///"), target)
        return f"sqlite:///{target}"

    def drop(self, url: str) -> None:
        """A store that is not needed any more: large ones fill disks."""
        if self.store == "postgresql":
            self.postgres.drop_database(url.rpartition("/")[2])
            return
        for suffix in ("", "-wal", "-shm"):
            Path(url.removeprefix("sqlite:///") + suffix).unlink(missing_ok=True)

    @contextmanager
    def running(self, side: Side, url: str) -> Iterator[NodeProcess]:
        """A node that only syncs, and verifies only when it is asked to: else it would begin to at its start, amid what is measured."""
        node = NodeProcess(side, url, self.kafka, self.directory)
        node.settings |= {"DEALBRIDGE_ROLE": "sync", "DEALBRIDGE_VERIFY_MINUTES": "0"}
        node.start()
        try:
            yield node
        finally:
            node.stop()

    async def renew_topics(self) -> None:
        """Empty topics."""
        broker = KafkaBroker(self.kafka)
        await broker.start()
        if there := await broker.describe_topics(all_topics(PARTNERSHIP)):
            await broker.line.ask(lambda admin: admin.delete_topics(list(there)))
        await until(lambda: no_topics(broker))
        await broker.create_topics(all_topics(PARTNERSHIP))
        await broker.stop()


async def no_topics(broker: KafkaBroker) -> bool:
    return not await broker.describe_topics(all_topics(PARTNERSHIP))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait; raises TimeoutError after two minutes."""
    async with asyncio.timeout(STALL_S):
        while not await condition():
            await asyncio.sleep(0.05)


class Sample(NamedTuple):
    """How many of the peer's events were applied at a time (s)."""

    at_s: float
    applied: int


async def watch_progress(url: str, goal: int) -> list[Sample]:
    """Samples until all is applied; raises TimeoutError when nothing moves for two minutes."""
    database, samples = Database(url), [Sample(time.perf_counter(), 0)]
    moved_s = samples[0].at_s
    try:
        while samples[-1].applied < goal:
            await asyncio.sleep(0.05)
            async with database.reading() as connection:
                reached = (await connection.execute(select(inbound_epochs.c.next_sequence))).scalars().all()
            samples.append(Sample(time.perf_counter(), sum(each - 1 for each in reached)))
            moved_s = samples[-1].at_s if samples[-1].applied > samples[-2].applied else moved_s
            if samples[-1].at_s - moved_s > STALL_S:
                raise TimeoutError(f"{samples[-1].applied:,} of {goal:,} events were applied, then nothing for {STALL_S} s")
    finally:
        await database.close()
    return samples


def rate(samples: list[Sample]) -> float:
    """Events per second from the first that were applied to the last."""
    first = next(each for each in samples if each.applied)
    last = samples[-1]
    return (last.applied - first.applied) / max(last.at_s - first.at_s, 1e-9)


def peak_mib(node: NodeProcess) -> float:
    """The most memory that a process ever had."""
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@asynccontextmanager
async def opened(*databases: Database) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for database in databases:
            await database.close()
