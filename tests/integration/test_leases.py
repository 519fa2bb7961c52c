"""Several processes of one side share out the work by leases: one at a time reads a partnership's topic, and another goes on without it."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from shared_schema.crm.database import Database
from shared_schema.crm.tables import metadata
from shared_schema.sync import consumer, leases
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.deals import save_shared
from shared_schema.sync.transport import Reader
from tests.integration.pair import Pair, Side, open_pair, until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster
from vendor_node.spec import SPEC as VENDOR

NAME = "consumer:here"


class HandClock(SystemClock):
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at_ms = 1_790_000_000_000

    def now_ms(self) -> int:
        return self.at_ms


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    async with made.transaction() as tx:
        await tx.run_sync(metadata.create_all)
    yield made
    await made.close()


async def test_a_lease_runs_out_and_one_that_a_clock_left_far_ahead_binds_nobody(database: Database) -> None:
    clock = HandClock()
    await leases.wait_for(database, clock, NAME, "first")
    assert await leases.read_left(database, clock, NAME, "first") == 0, "its own it may take again"
    assert await leases.read_left(database, clock, NAME, "second") == leases.LEASE_MS
    clock.at_ms += leases.LEASE_MS - 1
    assert await leases.read_left(database, clock, NAME, "second") == 1
    async with database.transaction() as tx:
        assert await leases.renew(tx, NAME, "first", clock.now_ms())
    assert await leases.read_left(database, clock, NAME, "second") == leases.LEASE_MS
    clock.at_ms -= leases.ASTRAY_MS
    await leases.wait_for(database, clock, NAME, "second")
    async with database.transaction() as tx:
        assert not await leases.renew(tx, NAME, "first", clock.now_ms()), "it has gone to another"


async def test_whoever_ends_lets_the_next_begin_at_once(database: Database) -> None:
    clock = HandClock()
    with suppress(RuntimeError):
        async with leases.let_go(database, NAME, "first"):
            await leases.wait_for(database, clock, NAME, "first")
            raise RuntimeError("it ends badly")
    await asyncio.wait_for(leases.wait_for(database, clock, NAME, "second"), 5)
    async with leases.let_go(database, NAME, "first"):
        pass
    assert await leases.read_left(database, clock, NAME, "third") == leases.LEASE_MS, "nobody lets go what is another's"


async def test_nobody_waits_for_a_process_of_this_machine_that_is_no_more(database: Database) -> None:
    clock = HandClock()
    other = subprocess.Popen(["sleep", "60"])
    owners = {"alive": f"{leases.HOST}:{other.pid}:0dd1fe:000001", "here before": f"{leases.HOST}:{os.getpid()}:0dd1fe:000001"}
    owners |= {"elsewhere": f"elsewhere:{other.pid}:0dd1fe:000001", "of another version": "0123456789abcdef"}
    assert {name for name, owner in owners.items() if leases.is_dead(owner)} == {"here before"}
    await leases.wait_for(database, clock, NAME, owners["alive"])
    ours = leases.name_owner(clock)
    async with database.transaction() as tx:
        assert not await leases.take(tx, NAME, ours, "1", clock.now_ms())
    other.kill()
    other.wait()
    assert leases.is_dead(owners["alive"]) and not leases.is_dead(owners["elsewhere"])
    await asyncio.wait_for(leases.wait_for(database, clock, NAME, ours), 5)
    assert await leases.read_left(database, clock, NAME, owners["elsewhere"]) == leases.LEASE_MS


class CountingBroker(MemoryBroker):
    """Whose readers are open now."""

    def __init__(self, cluster: MemoryCluster) -> None:
        super().__init__(cluster)
        self.reading: list[Reader] = []

    async def open_reader(self, topic: str, offset: int) -> Reader:
        reader = await super().open_reader(topic, offset)
        self.reading.append(reader)
        return reader


@pytest.fixture
async def pair(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: MemoryCluster) -> AsyncIterator[Pair]:
    monkeypatch.setattr(leases, "LEASE_MS", 600)
    monkeypatch.setattr(leases, "RENEW_MS", 100)
    monkeypatch.setattr(consumer, "WAIT_MS", 50)
    monkeypatch.setattr(consumer, "SILENCE_CHECKS", 10_000)
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", database_url), (MemoryBroker(cluster), MemoryBroker(cluster))) as opened:
        await opened.begin_sharing()
        await opened.settle()
        yield opened


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()


async def test_a_second_process_reads_nothing_before_the_first_is_gone_and_then_everything(
    pair: Pair, cluster: MemoryCluster, database_url: str
) -> None:
    broker = CountingBroker(cluster)
    second = Side(VENDOR, database_url, broker)
    second.start()
    try:
        for number in range(20):
            await pair.partner.do(save_shared, 1, {"next_step": f"call {number}"})
            await asyncio.sleep(0.05)
        await pair.settle()
        before = len(broker.reading)
        assert before <= 1, "its own topic it may read once, to see that its store is no older"
        await pair.vendor.stop()
        await pair.partner.do(save_shared, 1, {"next_step": "is anybody there?"})

        async def goes_on() -> bool:
            return len(broker.reading) > before

        await until(goes_on)
        await pair.settle()
        await pair.check_same()
    finally:
        await second.close()
