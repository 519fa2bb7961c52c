"""What a node's owner has done before a test begins: a migrated store with a pipeline, an admin with a token, topics at a broker."""

from shared_schema.crm import customers, users
from shared_schema.crm.database import Database
from shared_schema.crm.migrations import migrate
from shared_schema.sync import partnerships
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.security import Security
from shared_schema.sync.station import NodeSpec, Station, Work


async def open_station(spec: NodeSpec, url: str) -> Station:
    database = Database(url)
    await migrate(database, spec.migrations)
    station = Station(spec, database, SystemClock())
    async with station.working() as work:
        await customers.add_pipeline(work.tx, "Sales", [("New", "open"), ("Won", "won")])
    return station


async def add_admin(work: Work, name: str) -> str:
    """The token of a new admin."""
    address = f"{name.replace(' ', '.').lower()}@{work.side}.example"
    user_id = await users.add_user(work.tx, work.incarnation.new_uid(), name, address, "admin")
    return await users.issue_token(work.tx, user_id, "test", work.incarnation.clock.random_bits(192), work.now_ms)


async def create_topics(kafka: str, *names: str, security: Security | None = None) -> None:
    """As the vendor's operator does; those that are there stay."""
    broker = KafkaBroker(kafka, security or Security())
    await broker.start()
    try:
        for partnership in names:
            await partnerships.create_topics(broker, partnership)
    finally:
        await broker.stop()
