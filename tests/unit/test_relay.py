"""The relay and a store that may have gone back under it."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select

from shared_schema.contract.codec import HEADER_EPOCH
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
