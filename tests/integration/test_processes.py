"""Both nodes as processes over a real Kafka, killed at random under load, the broker too; then the one checker."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from deploy.demo.processes import NodeProcess
from deploy.kafka.embedded import EmbeddedKafka
from partner_node.spec import SPEC as PARTNER
from shared_schema.crm import customers, private_notes, users
from shared_schema.crm.database import Database
from shared_schema.crm.deals import add_deal
from shared_schema.crm.migrations import migrate
from shared_schema.sync import partnerships
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.station import NodeSpec, Station, Work
from shared_schema.sync.status import read_status
from tests.checker import check_stores
from tests.integration.load import Client
from tests.integration.stores import copy_store, keep_removed
from tests.postgres import EmbeddedPostgres
from vendor_node import reps
from vendor_node.spec import SPEC as VENDOR

SEED = 20_261
KILLS = 6
SECRET = "we would take half of it"
QUIET_DEADLINE_S = 180
UNBRAKED = {"DEALBRIDGE_BRAKE_PERCENT": "100", "DEALBRIDGE_BRAKE_COUNT": "10000"}  # the load deletes more than people should


class Town(NamedTuple):
    """What the test runs on: both stores, the broker, both nodes, a client at each, and the thread that owns the processes."""

    urls: dict[str, str]
    kafka: EmbeddedKafka
    nodes: list[NodeProcess]
    clients: list[Client]
    owner: Executor


@pytest.fixture(params=["sqlite", "postgresql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    if request.param == "sqlite":
        return {side: f"sqlite:///{tmp_path}/{side}.db" for side in ("partner", "vendor")}
    postgres: EmbeddedPostgres = request.getfixturevalue("postgres")
    return {side: postgres.fresh_database() for side in ("partner", "vendor")}


@pytest.fixture
def owner() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as thread:
        yield thread


@pytest.fixture
async def town(urls: dict[str, str], tmp_path: Path, owner: Executor) -> AsyncIterator[Town]:
    kafka = EmbeddedKafka(tmp_path / "kafka")
    await by(owner, kafka.start)
    nodes: list[NodeProcess] = []
    clients: list[Client] = []
    try:
        tokens = await plant(urls, kafka.address)
        for side, token in tokens.items():
            node = NodeProcess(side, urls[side], kafka.address, tmp_path)
            node.settings |= UNBRAKED
            await by(owner, node.start)
            nodes.append(node)
            clients.append(Client(node, token, Random(f"{SEED}{side}")))
        yield Town(urls, kafka, nodes, clients, owner)
    finally:
        for client in clients:
            await client.http.aclose()
        for node in nodes:
            await by(owner, node.stop)
        await by(owner, kafka.stop)


async def by(owner: Executor, act: Callable[[], Any]) -> Any:
    """In the thread that owns the processes: they live no longer than that."""
    return await asyncio.get_running_loop().run_in_executor(owner, act)


async def plant(urls: dict[str, str], kafka: str) -> dict[str, str]:
    """Both stores as their owners have them, and the partnership; a token for each side."""
    partner, vendor = await open_station(PARTNER, urls["partner"]), await open_station(VENDOR, urls["vendor"])
    async with vendor.working() as work:
        tokens = {"vendor": await add_admin(work, "Victor")}
        await reps.add_rep(work.tx, 1, {"weight": 2})
        bundle = await partnerships.invite(work, "Initech", "Acme", kafka)
    broker = KafkaBroker(kafka)
    await broker.start()
    await partnerships.create_topics(broker, bundle["partnership"])
    await broker.stop()
    async with partner.working() as work:
        tokens = {"partner": await add_admin(work, "Paula"), **tokens}
        for name in ("Globex", "Umbrella", "Hooli", "Wonka", "Tyrell", "Stark"):
            await customers.add_company(work.tx, {"name": name, "domain": f"{name.lower()}.example"}, work.now_ms)
        deal_id = await add_deal(work.tx, {"name": "Not to be shared"}, 1, work.now_ms)
        await private_notes.add(work.tx, deal_id, 1, SECRET, work.now_ms)
        await partnerships.join(work, bundle)
    for station in (partner, vendor):
        await station.database.close()
        await keep_removed(urls[station.spec.side])
    return tokens


async def open_station(spec: NodeSpec, url: str) -> Station:
    database = Database(url)
    await migrate(database, spec.migrations)
    station = Station(spec, database, SystemClock())
    async with station.working() as work:
        await customers.add_pipeline(work.tx, "Sales", [("New", "open"), ("Won", "won")])
    return station


async def add_admin(work: Work, name: str) -> str:
    user_id = await users.add_user(work.tx, work.incarnation.new_uid(), name, f"{name.lower()}@{work.side}.example", "admin")
    return await users.issue_token(work.tx, user_id, "test", work.incarnation.clock.random_bits(192), work.now_ms)


async def test_nodes_and_broker_killed_at_random_under_load_lose_nothing(town: Town, tmp_path: Path) -> None:
    ended = asyncio.Event()
    load = [asyncio.create_task(client.work(ended)) for client in town.clients]
    await harm(town, Random(SEED))
    ended.set()
    await asyncio.gather(*load)
    await until_quiet(town)
    partner, vendor = [await copy_store(url, side, tmp_path / f"copy-{side}.db") for side, url in town.urls.items()]
    check_stores(partner, vendor)
    for client in town.clients:
        assert len(client.acknowledged) > 20 and client.unanswered
        for store in (partner, vendor):
            known = {value for (value,) in store.rows("SELECT value FROM property_history")}
            lost = [text for text in client.acknowledged if not {f'"{text}"', f'"<p>{text}</p>"'} & known]
            assert not lost, f"acknowledged to the {client.node.side}, but not in the history of the {store.side}: {lost[:5]}"
    await check_private(town, vendor.path)


async def harm(town: Town, random: Random) -> None:
    """kill -9 of either node, a while dead, and again; the broker once in between."""
    for time in range(KILLS):
        await asyncio.sleep(0.5 + random.random())
        node = random.choice(town.nodes)
        await by(town.owner, node.kill)
        await asyncio.sleep(random.random())
        await by(town.owner, node.start)
        if time == KILLS // 2:
            await by(town.owner, town.kafka.kill)
            await asyncio.sleep(1)
            await by(town.owner, town.kafka.start)
    await asyncio.sleep(1)


async def until_quiet(town: Town) -> None:
    """Until nothing is on its way any more, under a deadline that only a bug reaches."""
    databases = [Database(url) for url in town.urls.values()]
    try:
        async with asyncio.timeout(QUIET_DEADLINE_S):
            while not all([await is_quiet(database) for database in databases]):
                await asyncio.sleep(0.2)
    finally:
        for database in databases:
            await database.close()


async def is_quiet(database: Database) -> bool:
    async with database.reading() as connection:
        statuses = await read_status(connection, SystemClock().now_ms())
    return all(not (each["unacknowledged"] or each["gaps"] or each["reactions"]) for each in statuses)


async def check_private(town: Town, vendor_copy: Path) -> None:
    """The private note's text is in no log of a node, nowhere in the other side's store, and in nothing that the broker keeps."""
    places = [node.log for node in town.nodes] + [vendor_copy] + list(town.kafka.directory.rglob("*.log"))
    assert len(places) > 4
    for place in places:
        assert SECRET.encode() not in place.read_bytes(), f"{place} has the private note"
