"""The vendor brings partners into a deal: who owns it there, what each is told, the answer, and the time to give it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from partner_node.invitations import answer
from shared_schema.crm import customers, users
from shared_schema.crm.deals import add_deal, list_deals, load_deal
from shared_schema.crm.problems import Invalid, WrongState
from shared_schema.sync import partnerships, views
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.deals import save_deal
from shared_schema.sync.registrations import unshare
from shared_schema.sync.station import Author
from shared_schema.sync.tables import reactions
from tests.integration.pair import until
from tests.integration.trio import Trio, open_trio
from tests.twins.memory_broker import MemoryBroker, MemoryCluster
from vendor_node import reps
from vendor_node.decisions import DAY_MS, decide
from vendor_node.invitations import Invitation, bring_in

INTRO = "Could you take this one?"


@pytest.fixture
async def trio(database_url: str, tmp_path: Path) -> AsyncIterator[Trio]:
    """The vendor has a deal of its own, worked on by its rep Victor."""
    cluster = MemoryCluster()
    urls = (database_url, f"sqlite:///{tmp_path}/acme.db", f"sqlite:///{tmp_path}/besta.db")
    async with open_trio(urls, (MemoryBroker(cluster), MemoryBroker(cluster), MemoryBroker(cluster))) as opened:
        await opened.become_partners()
        async with opened.vendor.station.working(opened.vendor.author) as work:
            await reps.add_rep(work.tx, 1, {})
            company_id = await customers.add_company(work.tx, {"name": "Globex", "domain": "globex.example"}, work.now_ms)
            hank = {"name": "Hank", "email": "hank@globex.example", "company_id": company_id}
            contact_id = await customers.add_contact(work.tx, hank, work.now_ms)
            own = {"name": "Globex depots", "company_id": company_id, "contact_ids": [contact_id], "next_step": "Call Hank", "owner_id": 1}
            await add_deal(work.tx, own | {"amount": {"amount": "900", "currency": "EUR"}}, 1, work.now_ms)
        opened.start()
        yield opened


async def invite(trio: Trio, name: str, **more: Any) -> int:
    """The vendor's id of the registration, once the partner has it."""
    invitation = Invitation(INTRO, confirmed=True, **more)
    shared_deal_id = int(await trio.vendor.do(bring_in, 1, name, invitation))
    await trio.until_status(name, await trio.uid_of(shared_deal_id), "invited")
    return shared_deal_id


async def status_at(trio: Trio, name: str) -> list[str]:
    return [each["status"] for each in await trio.partners[name].read(views.list_shared_deals, {})]


async def test_an_accepted_invitation_is_active_with_the_deals_own_rep(trio: Trio) -> None:
    shared_deal_id = await invite(trio, "Acme", products=[{"sku": "CRM-PRO"}])
    deal = await trio.partners["Acme"].read(load_deal, 1)
    assert (deal["name"], deal["company"], deal["contacts"][0]["email"]) == ("Globex depots", "Globex", "hank@globex.example")
    assert (deal["next_step"], deal["amount"]) == ("Call Hank", {"amount": "900", "currency": "EUR"})
    assert (deal["number_of_deal_registrations"], deal["is_active_shared_deal"]) == (1, False)
    assert [each["id"] for each in await trio.partners["Acme"].read(list_deals, {"shared": True})] == [1]
    told = (await trio.partners["Acme"].read(views.read_shared_deal, "partner", 1))["registration_record"]["fields"]
    assert (told["intro_note"]["value"], told["invitation"]["by"]) == (INTRO, "Victor")
    await trio.partners["Acme"].do(answer, 1, "accepted")
    await trio.settle()
    for side in (trio.vendor, trio.partners["Acme"]):
        (row,) = await side.read(views.list_shared_deals, {})
        assert (row["status"], row["initiated_by"]) == ("active", "vendor") and row["rep_person"]
        assert (await side.read(load_deal, 1))["number_of_active_deal_registrations"] == 1
    told = (await trio.partners["Acme"].read(views.read_shared_deal, "partner", 1))["registration_record"]["fields"]
    assert told["rep"]["value"]["name"] == "Victor"
    with pytest.raises(WrongState, match="no invitation"):
        await trio.partners["Acme"].do(answer, 1, "declined")
    await trio.check_same()
    assert shared_deal_id


async def test_a_declined_one_counts_nowhere_and_the_partner_can_be_asked_again(trio: Trio) -> None:
    shared_deal_id = await invite(trio, "Acme")
    with pytest.raises(WrongState, match="already shared"):
        await trio.vendor.do(bring_in, 1, "Acme", Invitation(INTRO, confirmed=True))
    await trio.partners["Acme"].do(answer, 1, "declined", "no time")
    await trio.settle()
    assert await status_at(trio, "Acme") == ["declined"]
    deal = await trio.vendor.read(load_deal, 1)
    assert (deal["number_of_deal_registrations"], deal["number_of_active_deal_registrations"], deal["open_registrations"]) == (1, 0, 0)
    again = await invite(trio, "Acme")
    assert again != shared_deal_id and await status_at(trio, "Acme") == ["declined", "invited"]
    assert len(await trio.partners["Acme"].read(list_deals, {})) == 1
    await trio.check_same()


async def test_the_deal_belongs_to_the_named_contact_or_else_to_the_lead_recipient(trio: Trio) -> None:
    acme = trio.partners["Acme"]
    async with acme.station.working(acme.author) as work:
        for name in ("Nora", "Lea"):
            await users.add_user(work.tx, work.incarnation.new_uid(), name, f"{name.lower()}@acme.example")
    await acme.do(partnerships.set_lead_recipient, trio.partnerships["Acme"], 3)
    await acme.do(partnerships.set_lead_recipient, trio.partnerships["Acme"], 2)
    await trio.settle()
    people = await trio.vendor.read(partnerships.list_people, trio.partnerships["Acme"], "partner")
    assert [each["name"] for each in people] == ["Anna", "Lea", "Nora"]
    with pytest.raises(Invalid, match="nobody of this partner's"):
        await trio.vendor.do(bring_in, 1, "Besta", Invitation(INTRO, confirmed=True, contact_id=people[1]["id"]))
    await invite(trio, "Acme", contact_id=people[1]["id"])
    assert (await acme.read(load_deal, 1))["owner"] == "Lea"
    await trio.vendor.do(add_deal_again)
    await trio.vendor.do(bring_in, 2, "Acme", Invitation(INTRO, confirmed=True))
    await trio.settle()
    assert (await acme.read(load_deal, 2))["owner"] == "Nora"


async def add_deal_again(work: Any) -> None:
    await add_deal(work.tx, {"name": "More depots", "company_id": 1, "contact_ids": [1]}, 1, work.now_ms)


async def test_what_is_missing_is_named_and_nothing_is_half_done(trio: Trio) -> None:
    with pytest.raises(Invalid, match="reach out to this partner"):
        await trio.vendor.do(bring_in, 1, "Acme", Invitation(INTRO, confirmed=False))
    with pytest.raises(Invalid, match="intro_note"):
        await trio.vendor.do(bring_in, 1, "Acme", Invitation("<p> </p>", confirmed=True))
    with pytest.raises(Invalid, match="partnership takes one of Acme, Besta"):
        await trio.vendor.do(bring_in, 1, None, Invitation(INTRO, confirmed=True))
    with pytest.raises(Invalid, match="values takes name"):
        await trio.vendor.do(bring_in, 1, "Acme", Invitation(INTRO, confirmed=True, values={"vendor_stage": "x"}))
    async with trio.vendor.station.working(trio.vendor.author) as work:
        bare = await add_deal(work.tx, {"name": "Bare"}, 1, work.now_ms)
    with pytest.raises(WrongState, match="no company and contact yet") as refused:
        await trio.vendor.do(bring_in, bare, "Acme", Invitation(INTRO, confirmed=True))
    assert refused.value.link == f"/api/deals/{bare}"
    assert await trio.vendor.read(views.list_shared_deals, {}) == []


async def test_nobody_is_brought_in_over_a_partnership_that_has_ended(trio: Trio) -> None:
    await trio.vendor.do(partnerships.change_status, trio.partnerships["Acme"], "terminated")
    with pytest.raises(WrongState, match="was revoked"):
        await trio.vendor.do(bring_in, 1, "Acme", Invitation(INTRO, confirmed=True))


async def test_a_second_partner_gets_what_the_vendor_gives_it_and_both_work_with_the_same_rep(trio: Trio) -> None:
    first = await invite(trio, "Acme")
    given = {"next_step": None, "amount": {"amount": "400", "currency": "EUR"}}
    second = await invite(trio, "Besta", values=given)
    deal = await trio.partners["Besta"].read(load_deal, 1)
    assert (deal["name"], deal["next_step"], deal["amount"]) == ("Globex depots", None, given["amount"])
    for name in trio.partners:
        await trio.partners[name].do(answer, 1, "accepted")
    await trio.settle()
    deal = await trio.vendor.read(load_deal, 1)
    assert (deal["number_of_active_deal_registrations"], deal["amount"]["amount"], deal["owner_id"]) == (2, "900", 1)
    said = await trio.beside(deal)
    assert (said[first]["differs"], said[second]["differs"]) == ([], ["amount", "next_step"])
    assert {each["rep_person"] for each in said.values()} == {(await trio.vendor.read(users.list_users))[0]["uid"]}
    await trio.check_same()


async def test_two_partners_brought_in_at_once_are_both_counted(trio: Trio) -> None:
    async with trio.vendor.station.working(trio.vendor.author) as work:
        await bring_in(work, 1, "Acme", Invitation(INTRO, confirmed=True))
        second = asyncio.create_task(trio.vendor.do(bring_in, 1, "Besta", Invitation(INTRO, confirmed=True)))
        await asyncio.sleep(0.3)  # it has come as far as it comes before this one is committed
    await second
    deal = await trio.vendor.read(load_deal, 1)
    assert (deal["number_of_deal_registrations"], deal["open_registrations"]) == (2, 2)
    await trio.settle()
    await asyncio.gather(*(trio.partners[name].do(answer, 1, "accepted") for name in trio.partners))
    await trio.settle()
    assert (await trio.vendor.read(load_deal, 1))["number_of_active_deal_registrations"] == 2
    await trio.check_same()


class Later(SystemClock):
    """The same clock in fifteen days."""

    def now_ms(self) -> int:
        return super().now_ms() + 15 * DAY_MS


async def let_time_pass(trio: Trio) -> None:
    """The fortnight is over for the vendor, whose node then starts anew."""
    await trio.vendor.stop()
    station = trio.vendor.station
    station.clock = station.incarnation.clock = Later()
    trio.vendor.start()


async def test_an_invitation_that_nobody_answers_expires_but_never_one_that_was_answered(trio: Trio) -> None:
    await invite(trio, "Acme")
    second = await invite(trio, "Besta")
    due = await trio.vendor.rows(select(reactions.c.due_ms - reactions.c.created_ms).where(reactions.c.kind == "invitation"))
    assert [round(row[0] / DAY_MS, 2) for row in due] == [14, 14]
    await trio.partners["Acme"].do(answer, 1, "accepted")
    await trio.settle()
    await let_time_pass(trio)
    await trio.until_status("Besta", await trio.uid_of(second), "invitation expired")
    assert (await status_at(trio, "Acme"), await status_at(trio, "Besta")) == (["active"], ["invitation expired"])
    with pytest.raises(WrongState, match="invitation expired"):
        await trio.partners["Besta"].do(answer, 1, "accepted")
    await trio.check_same()


async def test_an_answer_on_its_way_is_not_overruled_by_the_timer(trio: Trio) -> None:
    await invite(trio, "Besta")
    await trio.partners["Besta"].stop()
    await trio.partners["Besta"].do(answer, 1, "accepted")
    await let_time_pass(trio)

    async def expired() -> bool:
        return [each["status"] for each in await trio.vendor.read(views.list_shared_deals, {})] == ["invitation expired"]

    await until(expired)
    trio.partners["Besta"].start()
    await trio.settle()
    assert await status_at(trio, "Besta") == ["active"]
    assert [each["status"] for each in await trio.vendor.read(views.list_shared_deals, {})] == ["active"]
    await trio.check_same()


async def test_the_vendor_takes_an_invitation_back(trio: Trio) -> None:
    shared_deal_id = await invite(trio, "Acme")
    await trio.vendor.do(decide, shared_deal_id, "revoked", "the customer asked for another partner")
    await trio.settle()
    assert await status_at(trio, "Acme") == ["revoked"]
    with pytest.raises(WrongState):
        await trio.partners["Acme"].do(answer, 1, "accepted")


async def test_sharing_again_finds_the_deal_and_overwrites_nothing_of_it(trio: Trio) -> None:
    shared_deal_id = await invite(trio, "Acme")
    await trio.vendor.do(unshare, shared_deal_id)
    await trio.settle()
    acme = trio.partners["Acme"]
    async with acme.station.working(Author(1, None, "Anna", "rep")) as work:
        await save_deal(work, 1, {"next_step": "Our own way"})
    await invite(trio, "Acme")
    (deal,) = await acme.read(list_deals, {})
    assert (deal["next_step"], deal["amount"]["amount"]) == ("Our own way", "900")
    await trio.check_same()
