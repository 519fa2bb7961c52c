"""Two deals made one on one side: the survivor has both registrations, ids lead to it, and the other side is offered the same."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import select

from partner_node.registrations import share_from_contact
from shared_schema.crm import customers, private_notes, shared_deals
from shared_schema.crm import deals as crm_deals
from shared_schema.crm.deals import add_deal, change_deal, list_deals, load_deal
from shared_schema.crm.problems import Invalid, WrongState
from shared_schema.crm.tables import contacts, property_history
from shared_schema.sync import merging, views
from shared_schema.sync.deals import save_deal, save_shared
from shared_schema.sync.merging import merge_companies, merge_contacts, merge_deals
from shared_schema.sync.registrations import leave, list_registrations, load_shared_deal, share, unshare
from shared_schema.sync.tables import journal
from tests.integration.pair import DETAILS, Pair, Side, until
from tests.integration.stages import open_two_deals
from vendor_node.invitations import Invitation, bring_in


@pytest.fixture
async def pair(database_url: str, tmp_path: Path) -> AsyncIterator[Pair]:
    async with open_two_deals(database_url, tmp_path) as opened:
        yield opened


async def vendor_ids(pair: Pair) -> list[int]:
    """The vendor's own ids of the registrations, oldest first: PostgreSQL leaves gaps between them."""
    return [each["id"] for each in await pair.vendor.read(views.list_shared_deals, {})]


async def add_contacts(side: Side, *emails: str) -> list[int]:
    async with side.station.working(side.author) as work:
        return [await customers.add_contact(work.tx, {"name": each.split("@")[0], "email": each}, work.now_ms) for each in emails]


async def link(side: Side, deal_id: int, contact_id: int) -> None:
    async with side.station.working(side.author) as work:
        await change_deal(work.tx, deal_id, {"contact_ids": [contact_id]}, None, work.now_ms)


async def share_for_contacts(pair: Pair, *contact_ids: int) -> None:
    """A deal for each of the partner's contacts, the third and so on, active on both sides."""
    for each in contact_ids:
        async with pair.partner.station.working(pair.partner.author) as work:
            await share_from_contact(work, pair.partnership, each, {"name": f"Deal of {each}"}, DETAILS)

    async def active() -> bool:
        return len(await pair.partner.read(views.list_shared_deals, {"status": "active"})) == 2 + len(contact_ids)

    await until(active)
    await pair.settle()


async def deals_of(pair: Pair) -> list[int]:
    """The vendor's deals, as old as the partner's."""
    return [each["deal_id"] for each in await pair.vendor.read(views.list_shared_deals, {})]


async def offers_at(side: Side) -> list[Any]:
    """What each registration offers, oldest first."""
    rows = await side.read(views.list_shared_deals, {})
    return [(await side.read(views.read_shared_deal, side.station.spec.side, each["id"]))["customer_merge_offers"] for each in rows]


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


async def test_a_merge_of_people_whom_the_peer_never_saw_offers_it_nothing(pair: Pair) -> None:
    ann, bob = await add_contacts(pair.partner, "ann@globex.example", "bob@umbrella.example")
    await share_for_contacts(pair, ann, bob)
    ours = await add_contacts(pair.vendor, "consultant@x.example", "consultant2@x.example")
    for deal_id, contact_id in zip((await deals_of(pair))[2:], ours, strict=True):
        await link(pair.vendor, deal_id, contact_id)
    await pair.vendor.do(merge_contacts, *ours)
    await pair.settle()
    assert await offers_at(pair.partner) == [{}, {}, {}, {}]
    assert {each.field for each in await pair.vendor.rows(select(property_history.c.field))}.isdisjoint({"vendor_contact_merged"})
    await pair.check_same()


async def test_a_merge_of_contacts_offers_those_whom_the_registrations_describe(pair: Pair) -> None:
    zed, *people = await add_contacts(pair.partner, "zed@partner.example", "ann@globex.example", "ann@umbrella.example")
    await share_for_contacts(pair, *people)
    for deal_id in (3, 4):
        await link(pair.partner, deal_id, zed)
    theirs = [(await pair.vendor.read(load_deal, each))["contacts"][0]["id"] for each in (await deals_of(pair))[2:]]
    await pair.vendor.do(merge_contacts, *theirs)
    await pair.settle()
    assert await offers_at(pair.partner) == [{}, {}, {}, {"contact": {"keep": people[0], "take_over": people[1]}}]
    (better,) = await add_contacts(pair.partner, "ann@better.example")
    await pair.partner.do(merge_contacts, better, people[0])
    assert (await offers_at(pair.partner))[3] == {"contact": {"keep": better, "take_over": people[1]}}, "Ann goes by another id now"
    await pair.partner.do(merge_contacts, better, people[1])
    await pair.settle()
    assert await offers_at(pair.partner) == await offers_at(pair.vendor) == [{}, {}, {}, {}]
    await pair.check_same()


async def test_a_merge_of_companies_that_the_peer_did_not_name_offers_it_nothing(pair: Pair) -> None:
    vendor = pair.vendor
    async with vendor.station.working(vendor.author) as work:
        ours = [await customers.add_company(work.tx, {"name": name}, work.now_ms) for name in ("Holding", "Holding Ltd")]
        for deal_id, company_id in zip((1, 2), ours, strict=True):
            await change_deal(work.tx, deal_id, {"company_id": company_id}, None, work.now_ms)
    await vendor.do(merge_companies, *ours)
    await pair.settle()
    assert await offers_at(pair.partner) == [{}, {}]


async def test_a_company_is_still_the_one_described_when_its_website_was_corrected(pair: Pair) -> None:
    vendor = pair.vendor
    companies = [(await vendor.read(load_deal, deal))["company_id"] for deal in (1, 2)]
    async with vendor.station.working(vendor.author) as work:
        await customers.change_company(work.tx, companies[1], {"domain": "umbrella.test"})
    await vendor.do(merge_companies, *companies)
    await pair.settle()
    assert await offers_at(pair.partner) == [{}, {"company": {"keep": 1, "take_over": 2}}]


@pytest.mark.parametrize("what", ["deal", "company", "contact"])
async def test_two_merges_at_once_make_no_circle(pair: Pair, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    merge, load, ids = await choose_two(pair, what)
    meet(monkeypatch, pair.vendor)
    first, second = ids
    results = await asyncio.gather(*(pair.vendor.do(merge, *each) for each in (ids, (second, first))), return_exceptions=True)
    (survivor,) = (each for each in results if isinstance(each, int))
    (refusal,) = (each for each in results if not isinstance(each, int))
    assert isinstance(refusal, Invalid) and "itself" in str(refusal)
    assert [(await pair.vendor.read(load, each))["id"] for each in ids] == [survivor, survivor]


@pytest.mark.parametrize("what", ["deal", "company", "contact"])
async def test_what_was_merged_meanwhile_takes_nothing_over(pair: Pair, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    merge, load, (first, second) = await choose_two(pair, what)
    async with pair.vendor.station.working(pair.vendor.author) as work:
        add = {"deal": lambda: add_deal(work.tx, {"name": "Third"}, None, 0)}
        add["company"] = lambda: customers.add_company(work.tx, {"name": "Third"}, 0)
        add["contact"] = lambda: customers.add_contact(work.tx, {"name": "Third"}, 0)
        third = await add[what]()
    outcome = await overtake(monkeypatch, pair.vendor, merge, ((first, second), (third, first)))
    heads = [(await pair.vendor.read(load, each))["id"] for each in (first, second, third)]
    if pair.vendor.station.database.dialect == "postgresql":
        assert isinstance(outcome, WrongState) and "meanwhile" in str(outcome)
        assert heads == [third, second, third]
    else:
        assert (outcome, heads) == (third, [third] * 3)


async def test_a_deal_that_is_shared_while_it_is_merged_is_shared_as_its_survivor(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = pair.vendor
    third, _ = await part_with_the_second(pair)
    (contact,) = await add_contacts(vendor, "ann@umbrella.example")
    await link(vendor, 2, contact)
    made = await beside(
        monkeypatch,
        (crm_deals, "lock_deals"),
        lambda: vendor.do(bring_in, 2, None, Invitation("join us", True)),
        lambda: vendor.do(merge_deals, third, 2),
        vendor,
    )
    assert (await vendor.read(load_shared_deal, made))["deal_id"] == third
    await check_all_hangs_on(vendor, third)


async def test_a_deal_that_comes_back_while_it_is_merged_comes_to_its_survivor(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    third, company = await part_with_the_second(pair)
    await beside(
        monkeypatch,
        (shared_deals, "lock_deals"),
        lambda: pair.partner.do(share, pair.partnership, 2, company, {}, DETAILS),
        lambda: pair.vendor.do(merge_deals, third, 2),
        pair.vendor,
    )
    await pair.settle()
    await check_all_hangs_on(pair.vendor, third)
    await pair.check_same()


async def part_with_the_second(pair: Pair) -> tuple[int, dict[str, Any]]:
    """The second deal is no longer shared, and the vendor has a third, for the same customer; its id, and that customer."""
    await pair.partner.do(unshare, 2)
    await pair.settle()
    async with pair.vendor.station.working(pair.vendor.author) as work:
        company = await customers.load_company(work.tx, (await load_deal(work.tx, 2))["company_id"])
        return await add_deal(work.tx, {"name": "Third", "company_id": company["id"]}, None, 0), company


async def check_all_hangs_on(side: Side, survivor: int) -> None:
    """Both registrations of the second deal, of which one is open."""
    deal = await side.read(load_deal, 2)
    assert (deal["id"], deal["number_of_deal_registrations"], deal["open_registrations"]) == (survivor, 2, 1)
    assert [each["id"] for each in await side.read(list_deals, {})] == [1, survivor]


async def beside(
    monkeypatch: pytest.MonkeyPatch,
    locking: tuple[ModuleType, str],
    command: Callable[[], Awaitable[Any]],
    merge: Callable[[], Awaitable[Any]],
    side: Side,
) -> Any:
    """What comes of a command for which this side had read something, and then waited to hold it (`locking`) while it was merged; where a
    store has one writer, it has waited before it read."""
    if side.station.database.dialect == "sqlite":
        await merge()
        return await command()
    real, read, made = getattr(*locking), asyncio.Event(), asyncio.Event()

    async def lock_late(*arguments: Any) -> None:
        read.set()
        await made.wait()
        await real(*arguments)

    monkeypatch.setattr(*locking, lock_late)
    task = asyncio.ensure_future(command())
    await read.wait()
    await merge()
    made.set()
    return await task


async def overtake(monkeypatch: pytest.MonkeyPatch, side: Side, merge: Any, pairs: tuple[tuple[int, int], tuple[int, int]]) -> Any:
    """What comes of the first merge, which had read both and then waited while the second was made; where a store has one writer, it has
    waited before it read."""
    late, first = pairs
    if side.station.database.dialect == "sqlite":
        await side.do(merge, *first)
        return await side.do(merge, *late)
    real, read, made = merging.hold_records, asyncio.Event(), asyncio.Event()

    async def hold_late(work: Any, rows: Any) -> Any:
        if asyncio.current_task() is task:
            read.set()
            await made.wait()
        return await real(work, rows)

    monkeypatch.setattr(merging, "hold_records", hold_late)
    task = asyncio.create_task(side.do(merge, *late))
    await read.wait()
    await side.do(merge, *first)
    made.set()
    return (await asyncio.gather(task, return_exceptions=True))[0]


async def choose_two(pair: Pair, what: str) -> tuple[Callable[..., Awaitable[int]], Callable[..., Awaitable[Any]], tuple[int, int]]:
    """Two of the vendor's, how they are merged and how they are loaded."""
    if what == "deal":
        return merge_deals, load_deal, (1, 2)
    if what == "company":
        first, second = [(await pair.vendor.read(load_deal, deal))["company_id"] for deal in (1, 2)]
        return merge_companies, customers.load_company, (first, second)
    first, second = await add_contacts(pair.vendor, "ann@x.example", "bob@x.example")
    return merge_contacts, customers.load_contact, (first, second)


def meet(monkeypatch: pytest.MonkeyPatch, side: Side) -> None:
    """Two merges have read what they are to merge before either holds it, where a store has two writers at all."""
    real, entered = merging.hold_records, asyncio.Barrier(2)
    waiting = 2 if side.station.database.dialect == "postgresql" else 0

    async def hold_late(work: Any, rows: Any) -> Any:
        nonlocal waiting
        if waiting:
            waiting -= 1
            await entered.wait()
        return await real(work, rows)

    monkeypatch.setattr(merging, "hold_records", hold_late)


async def test_a_merge_is_in_the_audit_of_every_registration_and_says_who_did_it(pair: Pair) -> None:
    await pair.vendor.do(merge_deals, 1, 2)
    for shared_deal_id in await vendor_ids(pair):
        told = (await pair.vendor.read(views.read_audit, shared_deal_id))["journal"]
        assert [(each["what"], each["detail"]) for each in told if "merged" in each["what"]] == [("deals merged", "2 into 1")]
    lines = select(journal.c.partnership, journal.c.actor).where(journal.c.what == "deals merged").order_by(journal.c.id)
    assert [tuple(row) for row in await pair.vendor.rows(lines)] == [("", "Victor"), *[(pair.partnership, "Victor")] * 2]


async def test_lists_that_name_what_was_merged_find_its_survivors(pair: Pair) -> None:
    vendor = pair.vendor
    companies = [(await vendor.read(load_deal, deal))["company_id"] for deal in (1, 2)]
    await vendor.do(merge_companies, *companies)
    for company_id in companies:
        assert len(await vendor.read(list_deals, {"company_id": company_id})) == 2
        for operator, value, count in (("equals", company_id, 2), ("in", [company_id], 2), ("differs", company_id, 0)):
            view = [{"property": "company_id", "operator": operator, "value": value}]
            assert len(await vendor.read(list_deals, {"view": view})) == count
    await vendor.do(merge_deals, 1, 2)
    assert [len(await vendor.read(views.list_shared_deals, {"deal_id": each})) for each in (1, 2)] == [2, 2]
    assert await vendor.read(views.list_shared_deals, {"deal_id": 2**31 + 1}) == []
    assert await vendor.read(list_deals, {"company_id": 2**31 + 1}) == []
