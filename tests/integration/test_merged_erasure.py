"""What is deleted or erased as one goes with all that was merged into it: deals that were taken over, and people."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from partner_node.registrations import share_from_contact
from shared_schema.crm import customers
from shared_schema.crm.deals import list_deals
from shared_schema.crm.tables import contacts
from shared_schema.sync import emptier, erasing, relay
from shared_schema.sync.deals import save_deal
from shared_schema.sync.merging import merge_contacts, merge_deals
from shared_schema.sync.registrations import delete_for_both
from shared_schema.sync.station import Keeping
from tests.integration.erasure_stage import MARK, rows_with
from tests.integration.pair import DETAILS, Pair, have_said_all, until
from tests.integration.stages import open_two_deals
from tests.integration.test_merging import beside


@pytest.fixture
async def pair(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    monkeypatch.setattr(relay, "HEARTBEAT_MS", 200)
    async with open_two_deals(database_url, tmp_path) as opened:
        yield opened


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
    await until(lambda: have_said_all(pair.partner, pair.vendor))
    for side in (pair.partner, pair.vendor):
        side.station.keeping = Keeping(trash_days=-8)
        await emptier.sweep(side.station)
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


async def test_with_a_contact_goes_what_it_took_over_while_its_erasure_waited(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    partner, vendor = pair.partner, pair.vendor
    async with partner.station.working(partner.author) as work:
        told = {"name": f"Hank {MARK}", "email": f"{MARK}@old.example", "phone": "+4930901820"}
        await share_from_contact(
            work, pair.partnership, await customers.add_contact(work.tx, told, work.now_ms), {"name": "Depots"}, DETAILS
        )
    await pair.settle()
    (old,) = [each.id for each in await vendor.rows(select(contacts.c.id))]
    async with vendor.station.working(vendor.author) as work:
        new = await customers.add_contact(work.tx, {"name": "Hank S", "email": "hank@new.example"}, work.now_ms)
    erase, merge = (lambda: vendor.do(erasing.erase_contact, new)), (lambda: vendor.do(merge_contacts, new, old))
    await beside(monkeypatch, (customers, "lock_rows"), erase, merge, vendor)
    await pair.settle()
    assert await marked_rows(pair) == []
    assert [tuple(each) for each in await vendor.rows(select(contacts.c.name, contacts.c.phone))] == [("(erased)", None)] * 2
    await pair.check_same()


async def test_with_a_contact_that_was_known_by_name_alone_goes_what_it_was_merged_into(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    async with partner.station.working(partner.author) as work:
        told = await customers.add_contact(work.tx, {"name": f"Hank {MARK}"}, work.now_ms)
        await share_from_contact(work, pair.partnership, told, {"name": "Depots"}, DETAILS)
    await pair.settle()
    (theirs,) = [each.id for each in await vendor.rows(select(contacts.c.id))]
    async with vendor.station.working(vendor.author) as work:
        new = await customers.add_contact(work.tx, {"name": f"Hank S {MARK}", "email": f"{MARK}@new.example"}, work.now_ms)
    await vendor.do(merge_contacts, new, theirs)
    await partner.do(erasing.erase_contact, told)
    await pair.settle()
    assert await marked_rows(pair) == []
