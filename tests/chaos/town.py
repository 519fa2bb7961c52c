"""What is broken on purpose: both companies' stores, the broker, and of each node a process for the API and two that sync; wherever they
run."""

import asyncio
import signal
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Protocol

from partner_node.spec import SPEC as PARTNER
from shared_schema.crm import customers, users
from shared_schema.crm.deals import add_deal
from shared_schema.sync import partnerships
from shared_schema.sync.broker import client_options
from shared_schema.sync.security import Security
from shared_schema.sync.station import Work
from tests.chaos.clocks import MovedClock
from tests.chaos.schedule import PROCESSES
from tests.chaos.toxiproxy import Link
from tests.databases import DatabaseServer
from tests.planting import add_admin, create_topics, open_station
from tests.stores import keep_removed
from vendor_node import reps
from vendor_node.spec import SPEC as VENDOR

COMPANIES = ("Globex", "Umbrella", "Hooli", "Wonka", "Tyrell", "Stark")
OWN_DEALS = 4
REPS = (("Vera", 2), ("Viktor", 1))
SETTINGS = {
    "DEALBRIDGE_BRAKE_PERCENT": "100",  # the load deletes more than people should
    "DEALBRIDGE_BRAKE_COUNT": "1000000",
    "DEALBRIDGE_VERIFY_MINUTES": "0",  # what differs at the end is to be seen, and not repaired
}


class Process(Protocol):
    """What runs now."""

    def send_signal(self, which: int, /) -> None: ...

    def poll(self) -> int | None: ...


class Part(Protocol):
    """What can be killed without a goodbye, and started again on what it left."""

    @property
    def process(self) -> Process | None: ...

    def start(self) -> None: ...

    def kill(self) -> None: ...


class Node(Part, Protocol):
    """One process of a side: where it answers now, and all that it ever logged."""

    @property
    def side(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def log(self) -> Path: ...


class Town:
    """`owner` has the threads that own the processes: they live no longer than those. `links` of each side, where there are any; `servers`
    of the stores, where they are not files, and the `databases` that they run in; `deaths`: who ended by itself, as nobody should."""

    nodes: Mapping[tuple[str, str], Node]
    databases: Part | None = None

    def __init__(self, directory: Path, owner: Executor, kafka: Part, address: str, security: Security | None = None) -> None:
        self.directory = directory
        self.owner = owner
        self.kafka = kafka
        self.kafka_address = address
        self.security = security or Security()
        self.links: Mapping[tuple[str, str], Link] = {}
        self.clocks: Mapping[str, MovedClock] = {}
        self.servers: Mapping[str, DatabaseServer] = {}
        self.disk = directory
        self.urls: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.partnership = ""
        self.deaths: list[str] = []

    def of(self, side: str) -> list[Node]:
        return [self.nodes[side, name] for name in PROCESSES]

    def reach_broker(self) -> dict[str, Any]:
        """How a client of Kafka's comes in that may do everything."""
        return {"bootstrap_servers": self.kafka_address, **client_options(self.security)}

    async def make_topics(self) -> None:
        await create_topics(self.kafka_address, self.partnership, security=self.security)

    async def by_owner(self, act: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.owner, act)

    async def start(self, parts: Iterable[Part]) -> None:
        await asyncio.gather(*(self.by_owner(part.start) for part in parts))

    async def kill(self, parts: Iterable[Part]) -> None:
        await asyncio.gather(*(self.by_owner(part.kill) for part in parts))

    async def revive(self) -> None:
        """Whatever ended by itself is started again, as its operator's supervisor would; and it is remembered, because nothing should."""
        for node in self.nodes.values():
            if node.process is not None and node.process.poll() is not None:
                self.deaths.append(f"{node.side} {node.name} ended by itself ({node.process.poll()}): {last_error(node.log)}")
                await self.kill([node])
                await self.start([node])

    async def keep_logs(self) -> None:
        """Have every node's log in its file."""


def last_error(log: Path) -> str:
    """What a process said last that names an error."""
    lines = [line.strip("│ ") for line in log.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if "Error" in line or "Unavailable" in line), "it said nothing")


def send_signal(part: Part, which: signal.Signals) -> None:
    if part.process is not None and part.process.poll() is None:
        part.process.send_signal(which)


async def plant(urls: dict[str, str], kafka: str, partners: str = "") -> tuple[dict[str, str], str]:
    """Both stores as their owners have them, and the partnership with its topics; a token for each side, and the partnership. `partners`:
    where the partner finds the broker, if not there."""
    partner, vendor = await open_station(PARTNER, urls["partner"]), await open_station(VENDOR, urls["vendor"])
    async with vendor.working() as work:
        tokens = {"vendor": await add_admin(work, "Victor")}
        await add_reps(work)
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


async def add_reps(work: Work) -> None:
    for name, weight in REPS:
        user_id = await users.add_user(work.tx, work.incarnation.new_uid(), name, f"{name.lower()}@vendor.example")
        await reps.add_rep(work.tx, user_id, {"weight": weight})


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
