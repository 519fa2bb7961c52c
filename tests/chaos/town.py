"""What is broken on purpose: both companies' stores, the broker, and of each node a process for the API and two that sync."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from deploy.demo.processes import NodeProcess
from deploy.kafka.embedded import EmbeddedKafka
from partner_node.spec import SPEC as PARTNER
from shared_schema.crm import customers, users
from shared_schema.crm.deals import add_deal
from shared_schema.sync import partnerships
from shared_schema.sync.station import Work
from tests.chaos.clocks import MovedClock
from tests.chaos.links import BROKER, DATABASE, LinkedKafka, open_links, through
from tests.chaos.schedule import PROCESSES, SIDES
from tests.chaos.toxiproxy import Toxiproxy
from tests.planting import add_admin, create_topics, open_station
from tests.postgres import EmbeddedPostgres
from tests.stores import SQLITE, keep_removed
from vendor_node import reps
from vendor_node.spec import SPEC as VENDOR

COMPANIES = ("Globex", "Umbrella", "Hooli", "Wonka", "Tyrell", "Stark")
OWN_DEALS = 4
THREADS = 8
SETTINGS = {
    "DEALBRIDGE_BRAKE_PERCENT": "100",  # the load deletes more than people should
    "DEALBRIDGE_BRAKE_COUNT": "1000000",
    "DEALBRIDGE_VERIFY_MINUTES": "0",  # what differs at the end is to be seen, and not repaired
}


class Origin(NamedTuple):
    """Where a run takes place: the kind of store, the directory, the PostgreSQL if that is the kind; per side a wrong variant, if any; the
    tools at hand; and where stores in files are."""

    store: str
    directory: Path
    postgres: EmbeddedPostgres | None
    broken: Mapping[str, str]
    tools: Sequence[str]
    disk: Path


class Town:
    """`owner` has the threads that own the processes: they live no longer than those. `links` of each side, where there are any."""

    def __init__(self, origin: Origin, kafka: EmbeddedKafka, owner: Executor, proxy: Toxiproxy | None) -> None:
        self.origin = origin
        self.kafka = kafka
        self.owner = owner
        self.links = open_links(kafka, origin.postgres, proxy)
        self.clocks = {side: MovedClock(origin.directory / f"{side}.clock") for side in SIDES} if "clocks" in origin.tools else {}
        for clock in self.clocks.values():
            clock.move(0)
        self.urls = {side: self.make_url(side) for side in SIDES}
        self.tokens: dict[str, str] = {}
        self.partnership = ""
        self.nodes = {(side, name): self.make_process(side, name) for side in SIDES for name in PROCESSES}
        self.deaths: list[str] = []

    def make_url(self, side: str) -> str:
        if self.origin.postgres is not None:
            return self.origin.postgres.fresh_database()
        return f"{SQLITE}{self.origin.disk}/{side}.db"

    def broker_of(self, side: str) -> str:
        """Where a side finds the broker."""
        link = self.links.get((side, BROKER))
        return f"127.0.0.1:{link.port}" if link else self.kafka.address

    def database_of(self, side: str) -> str:
        link = self.links.get((side, DATABASE))
        return through(link, self.urls[side]) if link else self.urls[side]

    def make_process(self, side: str, name: str) -> NodeProcess:
        node = NodeProcess(side, self.database_of(side), self.broker_of(side), self.origin.directory, name.replace(" ", "-"))
        node.settings |= SETTINGS | {
            "DEALBRIDGE_ROLE": name.split(maxsplit=1)[0],
            "DEALBRIDGE_ERASURE_LIST": str(self.origin.directory / f"{side}.erasures"),
        }
        if self.clocks:
            node.program = ["-m", "tests.chaos.clocks", str(self.clocks[side].file), side, "run"]
        if side in self.origin.broken:
            node.program = ["-m", "tests.chaos.broken", self.origin.broken[side], side, "run"]
        return node

    def of(self, side: str) -> list[NodeProcess]:
        return [self.nodes[side, name] for name in PROCESSES]

    async def by_owner(self, act: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.owner, act)

    async def start(self, nodes: Iterable[NodeProcess]) -> None:
        await asyncio.gather(*(self.by_owner(node.start) for node in nodes))

    async def kill(self, nodes: Iterable[NodeProcess]) -> None:
        await asyncio.gather(*(self.by_owner(node.kill) for node in nodes))

    async def revive(self) -> None:
        """Whatever ended by itself is started again, as its operator's supervisor would; and it is remembered, because nothing should."""
        for node in self.nodes.values():
            if node.process is not None and node.process.poll() is not None:
                self.deaths.append(f"{node.side} {node.name} ended by itself ({node.process.returncode}): {last_error(node.log)}")
                await self.kill([node])
                await self.start([node])


def last_error(log: Path) -> str:
    """What a process said last that names an error."""
    lines = [line.strip("│ ") for line in log.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if "Error" in line or "Unavailable" in line), "it said nothing")


def send_signal(node: NodeProcess, which: signal.Signals) -> None:
    if node.process is not None and node.process.poll() is None:
        node.process.send_signal(which)


@asynccontextmanager
async def open_town(origin: Origin) -> AsyncIterator[Town]:
    """Everything planted and running; all gone afterwards but for the stores and the logs."""
    with ThreadPoolExecutor(THREADS) as owner:
        proxy = Toxiproxy(origin.directory / "toxiproxy.log") if "links" in origin.tools else None
        if proxy is not None:
            await asyncio.get_running_loop().run_in_executor(owner, proxy.start)
        kafka = LinkedKafka(origin.directory / "kafka", proxy) if proxy else EmbeddedKafka(origin.directory / "kafka")
        await asyncio.get_running_loop().run_in_executor(owner, kafka.start)
        town = Town(origin, kafka, owner, proxy)
        try:
            town.tokens, town.partnership = await plant(town.urls, town.kafka.address, town.broker_of("partner"))
            await town.start(town.nodes.values())
            yield town
        finally:
            for node in town.nodes.values():
                send_signal(node, signal.SIGCONT)
            await town.kill(town.nodes.values())
            await town.by_owner(kafka.stop)
            if proxy is not None:
                proxy.stop()


async def plant(urls: dict[str, str], kafka: str, partners: str = "") -> tuple[dict[str, str], str]:
    """Both stores as their owners have them, and the partnership with its topics; a token for each side, and the partnership. `partners`:
    where the partner finds the broker, if not there."""
    partner, vendor = await open_station(PARTNER, urls["partner"]), await open_station(VENDOR, urls["vendor"])
    async with vendor.working() as work:
        tokens = {"vendor": await add_admin(work, "Victor")}
        for name, weight in (("Vera", 2), ("Viktor", 1)):
            uid = work.incarnation.new_uid()
            user_id = await users.add_user(work.tx, uid, name, f"{name.lower()}@vendor.example")
            await reps.add_rep(work.tx, user_id, {"weight": weight})
        bundle = await partnerships.invite(work, "Initech", "Acme", partners or kafka)
    await create_topics(kafka, bundle["partnership"])
    async with partner.working() as work:
        tokens["partner"] = await add_admin(work, "Paula")
        await partnerships.join(work, bundle)
    for station in (partner, vendor):
        async with station.working() as work:
            await add_customers(work)
        await station.database.close()
        await keep_removed(urls[station.spec.side])
    return tokens, bundle["partnership"]


async def add_customers(work: Work) -> None:
    """Companies with a contact each, and deals of one's own for them that can be shared."""
    for number, name in enumerate(COMPANIES):
        domain = f"{name.lower()}.example" if work.side == "partner" else f"{name.lower()}.vendor.example"
        company_id = await customers.add_company(work.tx, {"name": name, "domain": domain}, work.now_ms)
        person = {"name": f"Head of {name}", "email": f"head@{domain}", "company_id": company_id}
        contact_id = await customers.add_contact(work.tx, person, work.now_ms)
        if number < OWN_DEALS:
            values = {"name": f"{name} of the {work.side}", "company_id": company_id, "contact_ids": [contact_id]}
            await add_deal(work.tx, values, 1, work.now_ms)
