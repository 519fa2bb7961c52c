"""Two whole nodes in one process, each on a store of its own: what the integration tests act through and look at."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from sqlalchemy import select

from partner_node.registrations import share_from_company
from partner_node.spec import SPEC as PARTNER
from shared_schema.crm import customers, users
from shared_schema.crm.database import Database
from shared_schema.crm.tables import property_history, shared_records
from shared_schema.sync import partnerships, views
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.limits import Limits
from shared_schema.sync.node import Node
from shared_schema.sync.station import Author, NodeSpec, Station
from shared_schema.sync.status import read_status
from shared_schema.sync.tables import peers
from shared_schema.sync.transport import Broker
from tests.tables import make_tables
from vendor_node.spec import SPEC as VENDOR

DEADLINE_S = 60
DETAILS = {"intro_note": "They know us.", "pain": "Spreadsheets.", "next_steps": "Demo on Monday."}


class Side:
    """One node: its station, a rep who acts, and the task that syncs it."""

    def __init__(self, spec: NodeSpec, url: str, broker: Broker) -> None:
        self.url = url
        self.station = Station(spec, Database(url), SystemClock())
        self.broker = broker
        self.author = Author()
        self.task: asyncio.Task[None] | None = None

    async def set_up(self, name: str) -> None:
        await make_tables(self.url)
        async with self.station.working() as work:
            uid = work.incarnation.new_uid()
            user_id = await users.add_user(work.tx, uid, name, f"{name.lower()}@{self.station.spec.side}.example")
            await customers.add_pipeline(work.tx, "Sales", [("New", "open"), ("Proposal", "open"), ("Won", "won")])
        self.author = Author(user_id, uid, name, "rep")

    def start(self, *limits: Limits) -> None:
        self.task = asyncio.create_task(Node(self.station, self.broker, *limits).run())

    async def stop(self) -> None:
        task, self.task = self.task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def restart(self, url: str) -> None:
        """Another process, that has yet to be started, on this store."""
        await self.close()
        self.url = url
        self.station = Station(self.station.spec, Database(url), SystemClock())

    async def close(self) -> None:
        await self.stop()
        await self.station.database.close()

    async def do(self, command: Callable[..., Awaitable[Any]], *arguments: Any, **named: Any) -> Any:
        """Run one command as the rep of this side."""
        async with self.station.working(self.author) as work:
            return await command(work, *arguments, **named)

    async def read(self, reading: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        async with self.station.database.reading() as connection:
            return await reading(connection, *arguments)

    async def rows(self, statement: Any) -> list[Any]:
        async with self.station.database.reading() as connection:
            return list((await connection.execute(statement)).all())

    async def is_quiet(self) -> bool:
        """Nothing waits here: no row unacknowledged, no gap, no reaction."""
        statuses = await self.read(read_status, self.station.clock.now_ms())
        waits = ("unacknowledged", "gaps", "reactions", "owed", "restoring_since_ms")
        return all(not any(each[name] for name in waits) for each in statuses)


class Pair:
    """A partner and a vendor."""

    def __init__(self, partner: Side, vendor: Side) -> None:
        self.partner = partner
        self.vendor = vendor
        self.partnership = ""

    async def become_partners(self, **terms: Any) -> None:
        """The vendor invites, the partner joins."""
        bundle = await self.vendor.do(partnerships.invite, "Initech", "Acme", "here", terms)
        self.partnership = bundle["partnership"]
        await partnerships.create_topics(self.vendor.broker, self.partnership)
        await self.partner.do(partnerships.join, bundle)

    async def share_deal(self, company: str = "Globex", **deal: Any) -> int:
        """A company of the partner's, and a deal of it that is registered; the shared deal's id at the partner."""
        values = {"name": company, "domain": f"{company.lower()}.example", "country": "DE", "industry": "Energy"}
        async with self.partner.station.working(self.partner.author) as work:
            company_id = await customers.add_company(work.tx, values, work.now_ms)
            return await share_from_company(work, self.partnership, company_id, {"name": f"{company} roll-out", **deal}, DETAILS)

    async def begin_sharing(self) -> None:
        """Partners whose nodes run, and one deal of theirs that is active."""
        await self.become_partners()
        self.partner.start()
        self.vendor.start()
        await self.share_deal()

        async def active() -> bool:
            return bool(await self.partner.read(views.list_shared_deals, {"status": "active"}))

        await until(active)

    async def settle(self) -> None:
        """Until nothing is on its way any more."""

        async def quiet() -> bool:
            return await self.partner.is_quiet() and await self.vendor.is_quiet()

        await until(quiet)

    async def check_same(self) -> None:
        """Both stores hold the same registers and the same set of dots."""
        documents = select(shared_records.c.uid, shared_records.c.document, shared_records.c.hash).order_by(shared_records.c.uid)
        assert await self.partner.rows(documents) == await self.vendor.rows(documents)
        history = property_history.c
        dots = select(history.uid, history.field, history.incarnation, history.counter)
        assert set(await self.partner.rows(dots)) == set(await self.vendor.rows(dots))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition, under a deadline that only a bug reaches."""
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def open_pair(urls: tuple[str, str], brokers: tuple[Broker, Broker]) -> AsyncIterator[Pair]:
    """Two nodes that run, and are partners."""
    pair = Pair(Side(PARTNER, urls[0], brokers[0]), Side(VENDOR, urls[1], brokers[1]))
    try:
        await pair.partner.set_up("Paula")
        await pair.vendor.set_up("Victor")
        yield pair
    finally:
        await pair.partner.close()
        await pair.vendor.close()


async def have_said_all(*sides: Side) -> bool:
    """Whether the peers of these sides have said, once at least, that nothing waits with them."""
    rows = [row for side in sides for row in await side.rows(select(peers.c.whole_ms))]
    return len(rows) >= len(sides) and all(row.whole_ms for row in rows)
