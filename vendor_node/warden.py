"""The warden: in a vendor's sync it looks after the topics, on whose settings order and safety rest, and takes rights at the broker that
the store has taken already, where the broker was away when that was said.
"""

from shared_schema.contract.topics import all_topics
from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.sync import bell, partnerships
from shared_schema.sync.patience import keep_at
from shared_schema.sync.station import Station
from shared_schema.sync.transport import Broker, BrokerError
from vendor_node.partners import enforce, users_of

LOOK_S = 600.0


async def watch_broker(station: Station, broker: Broker) -> None:
    """At the start, whenever a partnership changes, and every ten minutes, until cancelled."""
    wake = station.bell.listen("partnerships")

    async def look() -> None:
        await look_after(station, broker)
        await bell.wait(wake, LOOK_S)

    try:
        await keep_at("the look after topics and rights", look, (BrokerError, DatabaseUnavailable))
    finally:
        station.bell.forget("partnerships", wake)


async def look_after(station: Station, broker: Broker) -> None:
    """What is wrong with topics is kept among the broker's troubles, and told once in the log."""
    async with station.database.reading() as connection:
        rows = await partnerships.list_all(connection)
    active = [row["id"] for row in rows if row["status"] == "active"]
    await broker.check_topics([topic for each in active for topic in all_topics(each)])
    shut = [row for row in rows if row["status"] in ("suspended", "terminated")]
    if broker.gate is None or not shut:
        return
    known = await broker.gate.list_users()
    for row in shut:
        if users_of(row["id"], known):
            await enforce(broker, row["id"], row["status"], known)
