"""What is measured now and then beside the sync path: how far the consumer is behind its topics, and how large store and disk are."""

import asyncio
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select, text

from shared_schema.contract.topics import other, record_topic
from shared_schema.crm.database import Database, DatabaseUnavailable
from shared_schema.crm.tables import partnerships
from shared_schema.sync import metrics
from shared_schema.sync.patience import keep_at
from shared_schema.sync.station import Station
from shared_schema.sync.tables import inbound_positions
from shared_schema.sync.transport import Broker, BrokerError

PAUSE_S = 15.0


async def keep_measuring(station: Station, find_broker: Callable[[str], Broker]) -> None:
    """Until cancelled. A figure that can not be had now is not there, rather than old."""

    async def look() -> None:
        try:
            await measure_store(station.database)
            await measure_consumer(station, find_broker)
        except DatabaseUnavailable:
            metrics.consumer_lag.clear()
            raise
        await asyncio.sleep(PAUSE_S)

    await keep_at("measuring", look, (DatabaseUnavailable, BrokerError))


async def measure_consumer(station: Station, find_broker: Callable[[str], Broker]) -> None:
    """Ask each broker once for the ends of all its topics. Raises BrokerError after all that answer have answered."""
    async with station.database.reading() as connection:
        active = list((await connection.execute(select(partnerships.c.id).where(partnerships.c.status == "active"))).scalars())
        positions = select(inbound_positions.c.topic, inbound_positions.c.next_offset)
        reached = {topic: offset for topic, offset in await connection.execute(positions)}
    topics: defaultdict[Broker, dict[str, str]] = defaultdict(dict)
    for partnership in active:
        topics[find_broker(partnership)][record_topic(partnership, other(station.spec.side))] = partnership
    found = await asyncio.gather(*(broker.describe_topics(list(names)) for broker, names in topics.items()), return_exceptions=True)
    metrics.consumer_lag.clear()
    for names, ends in zip(topics.values(), found, strict=True):
        if not isinstance(ends, BaseException):
            for topic, info in ends.items():
                behind = info.end_offset - reached.get(topic, info.start_offset)
                metrics.consumer_lag.labels(names[topic]).set(max(0, behind))
    for each in found:
        if isinstance(each, BaseException):
            raise each


async def measure_store(database: Database) -> None:
    """The store's size; of SQLite also the disk that it lies on. What PostgreSQL's disk has left is for its own host to say."""
    if database.dialect == "postgresql":
        async with database.glancing() as connection:
            size = (await connection.execute(text("SELECT pg_database_size(current_database())"))).scalar_one()
        metrics.store_size.set(size)
        return
    store = Path(str(database.engine.url.database))
    beside = (store, store.with_name(f"{store.name}-wal"))
    metrics.store_size.set(sum(each.stat().st_size for each in beside if each.exists()))
    disk = shutil.disk_usage(store.parent)
    metrics.disk_free.labels("store").set(disk.free)
    metrics.disk_size.labels("store").set(disk.total)
