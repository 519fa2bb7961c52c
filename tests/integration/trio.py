"""A vendor with two partners, three whole nodes in one process; what one of them says must reach no other but by the vendor's own act."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import select

from partner_node.registrations import share_from_company, share_from_contact
from partner_node.spec import SPEC as PARTNER
from shared_schema.crm import customers
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.tables import metadata, property_history, shared_records
from shared_schema.sync import beside, partnerships
from shared_schema.sync.transport import Broker
from tests.integration.pair import DETAILS, Side, until
from vendor_node.spec import SPEC as VENDOR

NAMES = ("Acme", "Besta")
OWN_TABLES = {"reps", "assignments"}


class Trio:
    """The vendor, and both partners and their partnerships by name."""

    def __init__(self, vendor: Side, partners: dict[str, Side]) -> None:
        self.vendor = vendor
        self.partners = partners
        self.partnerships: dict[str, str] = {}

    @property
    def sides(self) -> list[Side]:
        return [self.vendor, *self.partners.values()]

    async def become_partners(self, **terms: Any) -> None:
        """The vendor invites both, and they join."""
        for name, side in self.partners.items():
            bundle = await self.vendor.do(partnerships.invite, "Initech", name, "here", terms)
            self.partnerships[name] = bundle["partnership"]
            await partnerships.create_topics(self.vendor.broker, bundle["partnership"])
            await side.do(partnerships.join, bundle)

    def start(self) -> None:
        for side in self.sides:
            side.start()

    async def register(self, partner: str, company: str = "Globex", details: Any = None, **deal: Any) -> int:
        """A partner registers a deal for a company of its own; the vendor's id of the registration, once it is active on both sides."""
        side = self.partners[partner]
        values = {"name": company, "domain": f"{company.lower()}.example", "country": "DE"}
        async with side.station.working(side.author) as work:
            company_id = await customers.add_company(work.tx, values, work.now_ms)
            made = {"name": f"{company} of {partner}", **deal}
            shared_deal_id = await share_from_company(work, None, company_id, made, details or DETAILS)
        uid = (await side.rows(select(shared_deals.c.uid).where(shared_deals.c.id == shared_deal_id)))[0][0]
        await self.until_status(partner, uid, "active")
        return await self.id_at_vendor(partner, uid)

    async def until_status(self, name: str, uid: str, status: str) -> None:
        """Until a registration has this status at its partner, and nothing is on its way any more."""

        async def reached() -> bool:
            found = select(shared_deals.c.status).where(shared_deals.c.uid == uid)
            return [row[0] for row in await self.partners[name].rows(found)] == [status]

        await until(reached)
        await self.settle()

    async def id_at_vendor(self, name: str, uid: str) -> int:
        where = (shared_deals.c.partnership == self.partnerships[name], shared_deals.c.uid == uid)
        return int((await self.vendor.rows(select(shared_deals.c.id).where(*where)))[0][0])

    async def uid_of(self, shared_deal_id: int) -> str:
        """The uid of a registration by the vendor's id of it."""
        return str((await self.vendor.rows(select(shared_deals.c.uid).where(shared_deals.c.id == shared_deal_id)))[0][0])

    async def deal_of(self, shared_deal_id: int) -> int:
        """The vendor's deal that a registration is about."""
        return int((await self.vendor.rows(select(shared_deals.c.deal_id).where(shared_deals.c.id == shared_deal_id)))[0][0])

    async def settle(self) -> None:
        """Until nothing is on its way any more, at two looks: what one side was still answering is on its way at the second."""

        async def quiet() -> bool:
            return all([await side.is_quiet() for side in (*self.sides, *self.sides)])

        await until(quiet)

    async def beside(self, deal: dict[str, Any]) -> dict[int, dict[str, Any]]:
        """What each registration says beside a deal of the vendor's, by id."""
        return {each["id"]: each for each in await self.vendor.read(beside.read_beside, "vendor", deal)}

    async def check_same(self) -> None:
        """Each partner's store holds the same registers and dots as the vendor's of its partnership, and no others."""
        history = property_history.c
        for name, side in self.partners.items():
            own = self.partnerships[name]
            documents = select(shared_records.c.uid, shared_records.c.document, shared_records.c.hash).order_by(shared_records.c.uid)
            assert await side.rows(documents) == await self.vendor.rows(documents.where(shared_records.c.partnership == own))
            dots = select(history.uid, history.field, history.incarnation, history.counter)
            assert set(await side.rows(dots)) == set(await self.vendor.rows(dots.where(history.partnership == own)))


async def share_with_contact(side: Side, company: str, email: str, **deal: Any) -> int:
    """A deal that a partner registers for a contact; the partner's id of it."""
    async with side.station.working(side.author) as work:
        values = {"name": company, "domain": f"{company.lower()}.example"}
        company_id = await customers.add_company(work.tx, values, work.now_ms)
        contact_id = await customers.add_contact(work.tx, {"name": email, "email": email, "company_id": company_id}, work.now_ms)
        return await share_from_contact(work, None, contact_id, {"name": f"{company} deal", **deal}, DETAILS)


def table_names(side: Side) -> set[str]:
    """The tables that a side has."""
    return set(metadata.tables) - (OWN_TABLES if side.station.spec.side == "partner" else set())


async def read_whole_store(side: Side) -> str:
    """All rows of all tables that a side has, as text."""
    return "".join([repr(await side.rows(select(metadata.tables[name]))) for name in sorted(table_names(side))])


async def read_topic(broker: Broker, topic: str) -> list[bytes]:
    """Everything that a topic holds: keys, values and headers."""
    info = (await broker.describe_topics([topic]))[topic]
    reader = await broker.open_reader(topic, info.start_offset)
    found: list[bytes] = []
    count = 0
    try:
        while count < info.end_offset - info.start_offset:
            batch = await reader.fetch(1_000, 500)
            count += len(batch)
            found += [part for each in batch for part in (each.key or b"", each.value or b"", repr(each.headers).encode())]
    finally:
        await reader.close()
    return found


@asynccontextmanager
async def open_trio(urls: tuple[str, str, str], brokers: tuple[Broker, Broker, Broker]) -> AsyncIterator[Trio]:
    """A vendor and two partners, each on a store and broker of its own, in this order; nobody is anybody's partner yet."""
    vendor = Side(VENDOR, urls[0], brokers[0])
    trio = Trio(vendor, {name: Side(PARTNER, url, broker) for name, url, broker in zip(NAMES, urls[1:], brokers[1:], strict=True)})
    try:
        for side, name in zip(trio.sides, ("Victor", "Anna", "Bruno"), strict=True):
            await side.set_up(name)
        yield trio
    finally:
        for side in trio.sides:
            await side.close()
