"""The two streams of a partnership under disasters of the broker: whatever happens to it, both stores end equal and both outboxes empty."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from sqlalchemy import func, select

from deploy.kafka.embedded import EmbeddedKafka
from shared_schema.contract.registers import Side as SideName
from shared_schema.contract.topics import record_topic
from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.crm.deals import load_deal
from shared_schema.crm.tables import property_history
from shared_schema.sync import partnerships
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.deals import save_shared
from shared_schema.sync.tables import outbox
from shared_schema.sync.transport import Broker
from tests.integration.pair import Pair, Side, open_pair, until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster

DELIVERY_S = 5


class Stage(NamedTuple):
    """Each side's way to one broker, and what can befall that."""

    brokers: tuple[Broker, Broker]
    go_away: Callable[[], Awaitable[None]]
    come_back: Callable[[], Awaitable[None]]
    delete_topic: Callable[[str], Awaitable[None]]


def set_memory_stage() -> Stage:
    cluster = MemoryCluster()

    async def go_away() -> None:
        cluster.unavailable = True

    async def come_back() -> None:
        cluster.unavailable = False

    async def delete_topic(name: str) -> None:
        cluster.delete_topic(name)

    return Stage((MemoryBroker(cluster), MemoryBroker(cluster)), go_away, come_back, delete_topic)


def set_kafka_stage(kafka: EmbeddedKafka, starter: Executor) -> Stage:
    async def go_away() -> None:
        kafka.kill()

    async def come_back() -> None:
        await asyncio.get_running_loop().run_in_executor(starter, kafka.start)

    async def delete_topic(name: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
        await admin.start()
        await admin.delete_topics([name])
        await admin.close()

    brokers = KafkaBroker(kafka.address, delivery_s=DELIVERY_S), KafkaBroker(kafka.address, delivery_s=DELIVERY_S)
    return Stage(brokers, go_away, come_back, delete_topic)


@pytest.fixture(scope="module")
def kafka_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Stage]]:
    """A Kafka of this module's own, to be killed at will. It lives no longer than the thread that starts it again."""
    with ThreadPoolExecutor(1) as starter, EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield lambda: set_kafka_stage(kafka, starter)


@pytest.fixture(params=["memory", "kafka"])
def stage(request: pytest.FixtureRequest) -> Stage:
    if request.param == "memory":
        return set_memory_stage()
    made: Stage = request.getfixturevalue("kafka_stage")()
    return made


@pytest.fixture
async def pair(stage: Stage, database_url: str, tmp_path: Path) -> AsyncIterator[Pair]:
    """Two nodes that run and share one active deal; its id is 1 on both sides."""
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", database_url), stage.brokers) as opened:
        await opened.begin_sharing()
        await opened.settle()
        yield opened


class Load:
    """Edits of both sides, each of a field of its own, that keep coming until `end`."""

    def __init__(self, pair: Pair) -> None:
        self.ended = asyncio.Event()
        self.partner_edits: list[str] = []
        self.vendor_edits: list[str] = []
        self.tasks = [
            asyncio.create_task(self.edit(pair.partner, "next_step", self.partner_edits)),
            asyncio.create_task(self.edit(pair.vendor, "name", self.vendor_edits)),
        ]

    async def edit(self, side: Side, field: str, done: list[str]) -> None:
        while not self.ended.is_set():
            value = f"{field} {len(done) + 1}"
            await side.do(save_shared, 1, {field: value})
            done.append(value)
            await asyncio.sleep(0.01)

    async def grow(self, count: int) -> None:
        """Until each side has made so many edits more."""
        goals = len(self.partner_edits) + count, len(self.vendor_edits) + count

        async def reached() -> bool:
            for task in self.tasks:
                if task.done():
                    task.result()
            return len(self.partner_edits) >= goals[0] and len(self.vendor_edits) >= goals[1]

        await until(reached)

    async def end(self) -> None:
        self.ended.set()
        await asyncio.gather(*self.tasks)


async def find_missing(pair: Pair, load: Load) -> list[str]:
    """What is not as it should be once all is quiet: every edit in both histories, the last ones shown on both sides, no row waiting."""
    await pair.settle()
    await pair.check_same()
    missing = []
    for side in (pair.partner, pair.vendor):
        deal, who = await side.read(load_deal, 1), side.station.spec.side
        for field, edits in (("next_step", load.partner_edits), ("name", load.vendor_edits)):
            if deal[field] != edits[-1]:
                missing.append(f"{who} shows {deal[field]} and not {edits[-1]}")
            if (known := await count_edits(side, field)) < len(edits):
                missing.append(f"{who} knows {known} of {len(edits)} edits of {field}")
        if waiting := await side.rows(select(outbox.c.id)):
            missing.append(f"{len(waiting)} rows wait at the {who}")
    return missing


async def count_edits(side: Side, field: str) -> int:
    history = property_history.c
    dots = select(history.uid, history.incarnation, history.counter).where(history.field == field).distinct().subquery()
    return int((await side.rows(select(func.count()).select_from(dots)))[0][0])


async def test_edits_of_both_sides_cross_and_meet(pair: Pair) -> None:
    load = Load(pair)
    await load.grow(25)
    await load.end()
    assert await find_missing(pair, load) == []


async def test_a_broker_killed_and_started_again_under_load_loses_nothing(pair: Pair, stage: Stage) -> None:
    load = Load(pair)
    await load.grow(10)
    await stage.go_away()
    await load.grow(25)
    await stage.come_back()
    await load.grow(10)
    await load.end()
    assert await find_missing(pair, load) == []


@pytest.mark.parametrize("sender", ["partner", "vendor"])
async def test_a_topic_deleted_under_load_and_created_again_loses_nothing(pair: Pair, stage: Stage, sender: SideName) -> None:
    topic = record_topic(pair.partnership, sender)
    load = Load(pair)
    await load.grow(10)
    await stage.delete_topic(topic)
    await load.grow(25)

    async def deleted() -> bool:
        return not await stage.brokers[1].describe_topics([topic])

    await until(deleted)
    await partnerships.create_topics(stage.brokers[1], pair.partnership)
    await load.grow(10)
    await load.end()
    assert await find_missing(pair, load) == []


async def test_a_node_that_starts_before_its_store_waits_and_then_gets_everything(pair: Pair, tmp_path: Path) -> None:
    """The partner's file is away: a command there fails in words, its loops only wait, and the vendor goes on."""
    await pair.partner.stop()
    await pair.partner.station.database.close()
    here, away = tmp_path / "partner.db", tmp_path / "away.db"
    here.rename(away)
    (tmp_path / "nothing").mkdir()
    here.symlink_to(tmp_path / "nothing")  # no file can be opened there, nor made; the real one takes its place at once
    pair.partner.start()
    with pytest.raises(DatabaseUnavailable):
        await pair.partner.do(save_shared, 1, {"name": "lost"})
    await pair.vendor.do(save_shared, 1, {"next_step": "meanwhile"})
    away.replace(here)
    await pair.settle()
    await pair.check_same()
    assert (await pair.partner.read(load_deal, 1))["next_step"] == "meanwhile"
