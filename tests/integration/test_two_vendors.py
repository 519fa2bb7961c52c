"""A partner with two vendors on one deal: the mirror of several partners, by the same code."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import select

from partner_node.registrations import convert_deal
from partner_node.spec import SPEC as PARTNER
from shared_schema.crm import customers
from shared_schema.crm.deals import add_deal, load_deal
from shared_schema.crm.tables import shared_records
from shared_schema.sync import beside, partnerships, views
from shared_schema.sync.deals import save_deal, take_over
from shared_schema.sync.registrations import withdraw
from tests.integration.pair import DETAILS, Side, until
from tests.integration.trio import read_whole_store
from tests.twins.memory_broker import MemoryBroker, MemoryCluster
from vendor_node.decisions import decide
from vendor_node.spec import SPEC as VENDOR

WORDS = {"Initech": "ibis", "Umbrella": "urchin"}


class Three(NamedTuple):
    """The partner, both vendors and their partnerships by name."""

    partner: Side
    vendors: dict[str, Side]
    partnerships: dict[str, str]

    async def settle(self) -> None:
        async def quiet() -> bool:
            sides = (self.partner, *self.vendors.values())
            return all(
                [await side.is_quiet() for side in (*sides, *sides)]
            )  # what one was still answering is on its way at the second look

        await until(quiet)


@pytest.fixture
async def three(database_url: str, tmp_path: Path) -> AsyncIterator[Three]:
    """The partner has one deal, shared with both vendors and active there."""
    cluster = MemoryCluster()
    async with AsyncExitStack() as stack:
        partner = Side(PARTNER, database_url, MemoryBroker(cluster))
        vendors = {name: Side(VENDOR, f"sqlite:///{tmp_path}/{name}.db", MemoryBroker(cluster)) for name in WORDS}
        names: dict[str, str] = {}
        for side, name in ((partner, "Paula"), *((vendors[each], f"{each} rep") for each in WORDS)):
            stack.push_async_callback(side.close)
            await side.set_up(name.replace(" ", "-"))
        for name, vendor in vendors.items():
            bundle = await vendor.do(partnerships.invite, name, "Acme", "here", {})
            names[name] = bundle["partnership"]
            await partnerships.create_topics(vendor.broker, names[name])
            await partner.do(partnerships.join, bundle)
        async with partner.station.working(partner.author) as work:
            company_id = await customers.add_company(work.tx, {"name": "Globex", "domain": "globex.example"}, work.now_ms)
            contact_id = await customers.add_contact(work.tx, {"name": "Hank", "company_id": company_id}, work.now_ms)
            own = {"name": "Depots", "company_id": company_id, "contact_ids": [contact_id], "next_step": "Call"}
            await add_deal(work.tx, own, 1, work.now_ms)
        opened = Three(partner, vendors, names)
        for side in (partner, *vendors.values()):
            side.start()
        for name in WORDS:
            await partner.do(convert_deal, names[name], 1, DETAILS)
        await until(both_active(opened))
        await opened.settle()
        yield opened


def both_active(three: Three) -> Callable[[], Awaitable[bool]]:
    async def active() -> bool:
        return len(await three.partner.read(views.list_shared_deals, {"status": "active"})) == 2

    return active


async def said_beside(three: Three) -> dict[str, Any]:
    """What each vendor's registration says, by the vendor's name."""
    deal = await three.partner.read(load_deal, 1)
    return {each["peer"]: each for each in await three.partner.read(beside.read_beside, "partner", deal)}


async def test_each_vendors_values_stay_beside_the_partners_and_reach_no_other_vendor(three: Three) -> None:
    for name, word in WORDS.items():
        await three.vendors[name].do(save_deal, 1, {"next_step": f"{word} says"})
    await three.settle()
    deal = await three.partner.read(load_deal, 1)
    assert (deal["next_step"], deal["number_of_active_deal_registrations"]) == ("Call", 2)
    said = await said_beside(three)
    assert {name: each["fields"]["next_step"]["value"] for name, each in said.items()} == {
        name: f"{word} says" for name, word in WORDS.items()
    }
    first, second = (said[name]["id"] for name in WORDS)
    await three.partner.do(take_over, first)
    await three.partner.do(save_deal, 1, {"close_date": "2027-01-01"})
    await three.settle()
    assert (await three.partner.read(load_deal, 1))["next_step"] == "ibis says"
    for name, word in WORDS.items():
        deal = await three.vendors[name].read(load_deal, 1)
        assert (deal["next_step"], deal["close_date"]) == (f"{word} says", "2027-01-01")
        other = next(each for each in WORDS if each != name)
        store = await read_whole_store(three.vendors[name])
        assert word in store and WORDS[other] not in store and other not in store and three.partnerships[other] not in store
    await three.partner.do(save_deal, 1, {"next_step": "to one"}, None, {second: {}})
    await three.settle()
    assert [(await three.vendors[name].read(load_deal, 1))["next_step"] for name in WORDS] == ["ibis says", "to one"]


async def test_when_one_vendor_ends_it_the_partners_deal_follows_the_other_where_they_agree(three: Three) -> None:
    said = await said_beside(three)
    await three.partner.do(save_deal, 1, {"next_step": "ours"}, None, {})
    await three.vendors["Umbrella"].do(decide, 1, "lost", None)
    await three.settle()
    assert (await three.partner.read(load_deal, 1))["number_of_active_deal_registrations"] == 1
    await three.vendors["Initech"].do(save_deal, 1, {"close_date": "2027-02-02", "next_step": "theirs"})
    await three.settle()
    deal = await three.partner.read(load_deal, 1)
    assert (deal["close_date"], deal["next_step"]) == ("2027-02-02", "ours")
    await three.partner.do(withdraw, said["Initech"]["id"], None)
    await three.settle()
    assert (await three.partner.read(load_deal, 1))["is_active_shared_deal"] is False
    uids = [row.uid for row in await three.partner.rows(select(shared_records.c.uid).where(shared_records.c.kind == "deal"))]
    assert len(uids) == 2
