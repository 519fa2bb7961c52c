"""Two deals made one on one side: the survivor has both registrations, ids lead to it, and the other side is offered the same."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from partner_node.registrations import share_from_contact
from shared_schema.crm import customers, private_notes
from shared_schema.crm.deals import change_deal, list_deals, load_deal
from shared_schema.crm.problems import Invalid, WrongState
from shared_schema.crm.tables import contacts
from shared_schema.sync import erasing, trash, views
from shared_schema.sync.deals import save_deal, save_shared
from shared_schema.sync.merging import merge_companies, merge_contacts, merge_deals
from shared_schema.sync.registrations import delete_for_both, leave, list_registrations
from shared_schema.sync.station import Keeping
from tests.integration.erasure_stage import MARK, rows_with
from tests.integration.pair import DETAILS, Pair, open_pair, until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster


@pytest.fixture
async def pair(database_url: str, tmp_path: Path) -> AsyncIterator[Pair]:
    """Two deals, active on both sides, with the same ids there."""
    cluster = MemoryCluster()
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", database_url), (MemoryBroker(cluster), MemoryBroker(cluster))) as opened:
        await opened.become_partners()
        opened.partner.start()
        opened.vendor.start()
        await opened.share_deal("Globex")
        await opened.share_deal("Umbrella")

        async def active() -> bool:
            return len(await opened.partner.read(views.list_shared_deals, {"status": "active"})) == 2

        await until(active)
        await opened.settle()
        yield opened


async def vendor_ids(pair: Pair) -> list[int]:
    """The vendor's own ids of the registrations, oldest first: PostgreSQL leaves gaps between them."""
    return [each["id"] for each in await pair.vendor.read(views.list_shared_deals, {})]


async def test_the_survivor_takes_everything_and_the_peer_is_offered_the_same(pair: Pair) -> None:
    vendor, partner = pair.vendor, pair.partner
    async with vendor.station.working(vendor.author) as work:
        await private_notes.add(work.tx, 2, vendor.author.user_id, "ours", work.now_ms)
    assert await vendor.do(merge_deals, 1, 2) == 1
    await pair.settle()
    deal = await vendor.read(load_deal, 2)
    assert (deal["id"], deal["number_of_active_deal_registrations"], deal["number_of_deal_registrations"]) == (1, 2, 2)
    assert [each["id"] for each in await vendor.read(list_deals, {})] == [1]
    assert [each["body"] for each in await vendor.read(private_notes.list_of, 1)] == ["ours"]
    assert len(await vendor.read(list_registrations, 1)) == 2
    second = (await vendor_ids(pair))[1]
    assert (await vendor.read(views.read_shared_deal, "vendor", second))["merge_offer"] is None
    shown = await partner.read(views.read_shared_deal, "partner", 2)
    assert shown["merge_offer"] == {"shared_deal_id": 1, "deal_id": 1}
    assert len(await partner.read(list_deals, {})) == 2
    await partner.do(merge_deals, shown["merge_offer"]["deal_id"], shown["deal_id"])
    assert (await partner.read(views.read_shared_deal, "partner", 2))["merge_offer"] is None
    await pair.settle()
    await pair.check_same()


async def test_after_it_edits_still_cross_and_old_ids_are_written_to(pair: Pair) -> None:
    await pair.vendor.do(merge_deals, 1, 2)
    second = (await vendor_ids(pair))[1]
    await pair.vendor.do(save_deal, 2, {"next_step": "for the second"}, None, {second: {}})
    await pair.partner.do(save_shared, 1, {"next_step": "for the first"})
    await pair.settle()
    steps = [(await pair.partner.read(views.read_shared_deal, "partner", each))["deal"]["fields"]["next_step"]["value"] for each in (1, 2)]
    assert steps == ["for the first", "for the second"]
    await pair.check_same()


async def test_what_can_not_be_merged_says_why(pair: Pair) -> None:
    with pytest.raises(Invalid, match="itself"):
        await pair.vendor.do(merge_deals, 1, 1)
    await pair.vendor.do(merge_deals, 1, 2)
    with pytest.raises(Invalid, match="itself"):
        await pair.vendor.do(merge_deals, 1, 2)
    async with pair.partner.station.working(pair.partner.author) as work:
        await leave(work, 2)
    with pytest.raises(WrongState, match="deleted"):
        await pair.partner.do(merge_deals, 1, 2)


async def test_companies_and_contacts_are_merged_their_ids_lead_on_and_the_peer_is_offered_the_same(pair: Pair) -> None:
    vendor, partner = pair.vendor, pair.partner
    async with vendor.station.working(vendor.author) as work:
        ids = [
            await customers.add_contact(work.tx, {"name": name, "email": email, "phone": phone}, work.now_ms)
            for name, email, phone in (("Hank", "hank@globex.example", None), ("Hank S.", "hs@globex.example", "+4930901820"))
        ]
        for deal_id, contact_id in zip((1, 2), ids, strict=True):
            await change_deal(work.tx, deal_id, {"contact_ids": [contact_id]}, None, work.now_ms)
    companies = [(await vendor.read(load_deal, deal))["company_id"] for deal in (1, 2)]
    assert await vendor.do(merge_companies, *companies) == companies[0]
    assert await vendor.do(merge_contacts, *ids) == ids[0]
    await pair.settle()
    deal = await vendor.read(load_deal, 2)
    assert (deal["company_id"], [each["id"] for each in deal["contacts"]]) == (companies[0], [ids[0]])
    assert (await vendor.read(customers.load_contact, ids[1]))["phone"] == "+4930901820", "the survivor got what it lacked"
    assert len(await vendor.read(customers.list_rows, contacts, 0, 50)) == 1
    async with vendor.station.working(vendor.author) as work:
        await customers.change_company(work.tx, companies[1], {"name": "Globex-Umbrella"})
        late = await customers.add_contact(work.tx, {"name": "Ivy", "company_id": companies[1]}, work.now_ms)
        assert (await customers.load_contact(work.tx, late))["company_id"] == companies[0]
        await change_deal(work.tx, 2, {"company_id": companies[1]}, None, work.now_ms)
    assert (await vendor.read(load_deal, 2))["company"] == "Globex-Umbrella"
    shown = await partner.read(views.read_shared_deal, "partner", 2)
    assert shown["customer_merge_offers"] == {"company": {"keep": 1, "take_over": 2}}, "contacts were never two there"
    await partner.do(merge_companies, 1, 2)
    assert (await partner.read(views.read_shared_deal, "partner", 2))["customer_merge_offers"] == {}
    await pair.settle()
    await pair.check_same()


async def test_what_arrives_for_a_company_that_was_merged_finds_its_survivor(pair: Pair) -> None:
    vendor = pair.vendor
    companies = [(await vendor.read(load_deal, deal))["company_id"] for deal in (1, 2)]
    await vendor.do(merge_companies, *companies)
    await pair.share_deal("Umbrella", name="Another one")
    await pair.settle()
    (third,) = [deal for deal in await vendor.read(list_deals, {}) if deal["id"] not in (1, 2)]
    assert third["company_id"] == companies[0]
    with pytest.raises(Invalid, match="itself"):
        await vendor.do(merge_companies, companies[0], companies[1])


async def merge_marked(pair: Pair) -> None:
    """Three deals of each side made one, the third by way of the second; the marked content is the third's."""
    await pair.share_deal("Hooli")
    await pair.settle()
    await pair.partner.do(save_deal, 3, {"name": MARK, "next_step": MARK})
    await pair.settle()
    for side in (pair.partner, pair.vendor):
        await side.do(merge_deals, 2, 3)
        await side.do(merge_deals, 1, 2)
    await pair.settle()


async def marked_rows(pair: Pair) -> list[str]:
    return [each for side in (pair.partner, pair.vendor) for each in await rows_with(side, MARK)]


async def test_with_an_erased_deal_goes_the_content_of_those_that_it_took_over(pair: Pair) -> None:
    await pair.partner.do(save_deal, 2, {"properties": {"ours": MARK}})
    await merge_marked(pair)
    for shared_deal_id in (1, 2, 3):
        await pair.partner.do(erasing.erase_deal, shared_deal_id)
    await pair.settle()
    assert await marked_rows(pair) == []


async def test_what_is_erased_of_a_merged_deal_is_not_kept_where_nobody_sees_it(pair: Pair) -> None:
    """The deals that the survivor took over are in no list and no view; the survivor goes on with its other registrations."""
    await merge_marked(pair)
    await pair.partner.do(erasing.erase_deal, 3)
    await pair.settle()
    assert await marked_rows(pair) == []
    for side in (pair.partner, pair.vendor):
        assert [(each["id"], each["name"]) for each in await side.read(list_deals, {})] == [(1, "Globex roll-out")]


async def test_after_the_days_in_the_trash_the_content_of_taken_over_deals_is_gone_too(pair: Pair) -> None:
    await merge_marked(pair)
    for shared_deal_id in (1, 2, 3):
        await pair.partner.do(delete_for_both, shared_deal_id, None)
    await pair.settle()
    for side in (pair.partner, pair.vendor):
        side.station.keeping = Keeping(trash_days=-8)
        await trash.sweep(side.station)
    await pair.settle()
    assert await marked_rows(pair) == []


async def test_with_a_contact_goes_what_was_told_of_those_that_it_took_over(pair: Pair) -> None:
    partner = pair.partner
    async with partner.station.working(partner.author) as work:
        company = await customers.add_company(work.tx, {"name": "Hooli", "domain": "hooli.example"}, work.now_ms)
        told = {"name": f"Hank {MARK}", "email": f"{MARK}@old.example", "phone": "+4930901820", "company_id": company}
        old = await customers.add_contact(work.tx, told, work.now_ms)
        new = await customers.add_contact(work.tx, {"name": "Hank S", "email": "hank@new.example"}, work.now_ms)
        await share_from_contact(work, pair.partnership, old, {"name": "Depots"}, DETAILS)
    await pair.settle()
    assert len(await marked_rows(pair)) > 2
    await partner.do(merge_contacts, new, old)
    await partner.do(erasing.erase_contact, new)
    await pair.settle()
    assert await marked_rows(pair) == []
    assert [each.name for each in await pair.vendor.rows(select(contacts.c.name))] == ["(erased)"]
    await pair.check_same()
