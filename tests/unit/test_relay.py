"""The relay and a store that may have gone back under it."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from shared_schema.contract.codec import HEADER_CONTROL, HEADER_EPOCH
from shared_schema.contract.topics import record_topic
from shared_schema.crm.database import Database
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.relay import LeaseLost, Relay
from shared_schema.sync.tables import outbox
from tests.bench.population import PARTNERSHIP, make_edits, open_store, queue_edits
from tests.twins.memory_broker import MemoryBroker, MemoryCluster


async def is_marked(database: Database) -> bool:
    async with database.reading() as connection:
        return all((await connection.execute(select(outbox.c.published_ms))).scalars())


async def test_after_a_lost_connection_nothing_more_is_published_under_the_epoch_of_before(tmp_path: Path) -> None:
    """What went out last may be what the store has lost. It stays the last of its epoch, so that its acknowledgement is a sign."""
    database, cluster = await open_store("partner", f"sqlite:///{tmp_path}/partner.db"), MemoryCluster()
    topic = record_topic(PARTNERSHIP, "partner")
    cluster.create_topic(topic)
    relay = Relay(database, MemoryBroker(cluster), SystemClock(), "partner", PARTNERSHIP)
    first, second = make_edits(2, 10)

    def published() -> list[bytes]:
        return [dict(each.headers)[HEADER_EPOCH] for each in cluster.logs[topic].records if HEADER_EPOCH in dict(each.headers)]

    await queue_edits(database, [first])
    serving = asyncio.create_task(relay.serve_epoch())
    while not await is_marked(database):
        await asyncio.sleep(0.01)
    database.note_loss()
    await queue_edits(database, [second])
    relay.wake.set()
    with pytest.raises(LeaseLost):
        await serving
    assert len(published()) == 1
    await database.close()


class SetClock(SystemClock):
    """The machine's, but for the time and the chance, which the test says."""

    def __init__(self) -> None:
        self.ms = 1_790_000_000_000
        self.drawn = 0

    def now_ms(self) -> int:
        return self.ms

    def random_bits(self, bits: int) -> int:
        return self.drawn


async def turn(relay: Relay) -> None:
    """Have it go once round, whatever it waits for."""
    for _ in range(2):  # at the second waking the first turn is over
        relay.wake.set()
        while relay.wake.is_set():
            await asyncio.sleep(0.001)


async def test_a_heartbeat_comes_every_five_seconds_while_anything_is_unacknowledged_and_else_within_fifteen(tmp_path: Path) -> None:
    database, cluster, clock = await open_store("partner", f"sqlite:///{tmp_path}/partner.db"), MemoryCluster(), SetClock()
    topic = record_topic(PARTNERSHIP, "partner")
    cluster.create_topic(topic)
    relay = Relay(database, MemoryBroker(cluster), clock, "partner", PARTNERSHIP)

    async def beats_after(*seconds: int) -> list[int]:
        counts = []
        for each in seconds:
            clock.ms += each * 1_000
            await turn(relay)
            counts.append(sum(dict(record.headers).get(HEADER_CONTROL) == b"sync.heartbeat" for record in cluster.logs[topic].records))
        return counts

    serving = asyncio.create_task(relay.serve_epoch())
    try:
        assert await beats_after(0, 14, 1, 14, 1) == [1, 1, 2, 2, 3]
        await beats_after(9)
        await queue_edits(database, make_edits(1, 10))
        assert await beats_after(0, 4, 1, 4, 1, 5) == [3, 3, 4, 4, 5, 6]
        async with database.transaction() as tx:
            await tx.execute(delete(outbox))
        assert await beats_after(5, 14, 1) == [7, 7, 8]
        clock.drawn = 4_000
        assert await beats_after(15, 10, 1) == [9, 9, 10]
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await database.close()
