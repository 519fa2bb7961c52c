"""The fallback queue, as a figure: how many active registrations have no rep, for each partnership."""

import asyncio
from collections import Counter

from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.sync import metrics
from shared_schema.sync.patience import keep_at
from shared_schema.sync.station import Station
from shared_schema.sync.transport import Broker
from vendor_node.assigning import list_unassigned

PAUSE_S = 10.0


async def count_unassigned(station: Station, _broker: Broker) -> None:
    """Every ten seconds, until cancelled."""

    async def look() -> None:
        await measure_queue(station)
        await asyncio.sleep(PAUSE_S)

    await keep_at("the count of the unassigned", look, (DatabaseUnavailable,))


async def measure_queue(station: Station) -> None:
    async with station.database.reading() as connection:
        counts = Counter(row["partnership"] for row in await list_unassigned(connection))
    metrics.unassigned.clear()
    for partnership, count in counts.items():
        metrics.unassigned.labels(partnership).set(count)
