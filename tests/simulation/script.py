"""What people do in a history: every event type is used, some of it at the same moment on both sides."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from partner_node.registrations import convert_deal, share_from_company, share_from_contact
from shared_schema.contract.codec import HEADER_CONTROL, encode_control
from shared_schema.contract.envelope import Resend
from shared_schema.contract.topics import record_topic
from shared_schema.crm import private_notes
from shared_schema.crm.deals import add_deal
from shared_schema.sync import conflicts, notes, offers, partnerships, people, registrations
from shared_schema.sync.deals import save_deal, save_shared
from shared_schema.sync.merging import merge_deals
from shared_schema.sync.registrations import submit_again, unshare
from shared_schema.sync.station import Work
from shared_schema.sync.transport import Record
from tests.simulation.world import EPOCH_MS, Actor, World
from vendor_node.assigning import reassign
from vendor_node.decisions import decide

SECRET = "our margin is twenty-two per cent"
DETAILS = {"intro_note": "hello", "pain": "much", "next_steps": "soon", "products": [{"sku": "CRM", "quantity": "3"}]}


async def play(world: World) -> None:
    """The whole script, scene after scene."""
    for scene in (share, talk, collide, offer, delete, review, part, ask_again):
        await scene(world)


def count(actor: Actor, table: str, where: str = "1") -> int:
    return int(actor.rows(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])


async def together(*commands: Awaitable[Any]) -> None:
    """Both sides at the same moment."""
    await asyncio.gather(*commands)


async def share(world: World) -> None:
    partner, vendor = world.partner, world.vendor
    await partner.act("contact", lambda work: share_from_contact(work, None, 1, {"name": "One"}, DETAILS))
    await partner.act("company", lambda work: share_from_company(work, None, 2, {"name": "Two"}, DETAILS))
    await partner.act("deal", add_own_deal)
    await partner.act("convert", lambda work: convert_deal(work, None, 3, DETAILS))
    await partner.act("private", lambda work: private_notes.add(work.tx, 1, work.author.user_id, SECRET, work.now_ms))
    await world.until(lambda: count(partner, "shared_deals", "rep_person IS NOT NULL") >= 3, "every deal has a rep")
    await vendor.act("reassign", lambda work: reassign(work, 1, 2))


async def add_own_deal(work: Work) -> int:
    return await add_deal(work.tx, {"name": "Three", "company_id": 3, "contact_ids": [3]}, work.author.user_id, work.now_ms)


async def talk(world: World) -> None:
    partner, vendor = world.partner, world.vendor
    await together(
        partner.act("note", lambda work: notes.add_note(work, 1, "from the partner")),
        vendor.act("note", lambda work: notes.add_note(work, 1, "from the vendor")),
    )
    await world.until(lambda: count(vendor, "shared_notes") >= 2, "the note is there")
    theirs = int(vendor.rows("SELECT id FROM shared_notes WHERE side = 'partner' ORDER BY id LIMIT 1")[0][0])
    own = int(partner.rows("SELECT id FROM shared_notes WHERE side = 'partner' ORDER BY id LIMIT 1")[0][0])
    await together(
        vendor.act("comment", lambda work: notes.add_comment(work, theirs, "a comment")),
        partner.act("edit note", lambda work: notes.edit(work, "note", own, "edited by the partner")),
        partner.act("delete note", lambda work: notes.remove(work, "note", own)),
    )
    await vendor.act("edit comment", lambda work: notes.edit(work, "comment", 1, "an edited comment"))
    await together(
        partner.act("restore note", lambda work: notes.bring_back(work, "note", own)),
        vendor.act("delete comment", lambda work: notes.remove(work, "comment", 1)),
    )
    await vendor.act("restore comment", lambda work: notes.bring_back(work, "comment", 1))


async def collide(world: World) -> None:
    partner, vendor = world.partner, world.vendor
    await together(
        partner.act("save", lambda work: save_deal(work, 1, {"next_step": "call", "stage": "Won"})),
        vendor.act("save", lambda work: save_deal(work, 1, {"next_step": "mail", "close_date": "2027-01-01"})),
        partner.act("save", lambda work: save_shared(work, 2, {"amount": {"amount": "10", "currency": "EUR"}})),
        vendor.act("save", lambda work: save_shared(work, 2, {"amount": {"amount": "20", "currency": "EUR"}})),
    )
    await world.until(lambda: not count(vendor, "outbox") and not count(partner, "outbox"), "the edits have met")
    for actor, choice in ((partner, "keep"), (vendor, "theirs")):
        await actor.act("settle", settle_first(choice))


def settle_first(choice: Any) -> Callable[[Work], Awaitable[Any]]:
    async def settle(work: Work) -> Any:
        rows = await conflicts.list_open(work.tx)
        return await conflicts.settle(work, rows[0]["id"], choice) if rows else None

    return settle


async def offer(world: World) -> None:
    partner, vendor = world.partner, world.vendor
    await together(
        partner.act("product", lambda work: offers.put_product(work, 1, "CRM", "CRM", "5")),
        vendor.act("product", lambda work: offers.remove(work, "product", 1)),
        vendor.act("quote", lambda work: offers.put_quote(work, 1, {"number": "Q-1", "status": "sent"})),
        vendor.act("eligibility", lambda work: offers.put_eligibility(work, 1, {"eligible": True, "rate": "10"})),
        partner.act("team", lambda work: offers.put_member(work, 1, 1, "sales")),
        vendor.act("policy", lambda work: partnerships.change_policy(work, world.partnership, {"rules": {"deal.next_step": "partner"}})),
    )


async def delete(world: World) -> None:
    partner, vendor = world.partner, world.vendor
    await together(
        partner.act("delete", lambda work: registrations.delete_for_both(work, 2, None)),
        vendor.act("save", lambda work: save_shared(work, 2, {"next_step": "too late?"})),
        vendor.act("note", lambda work: notes.add_note(work, 2, "under a deleted deal?")),
    )
    await world.until(lambda: not count(vendor, "outbox") and not count(partner, "outbox"), "the deletion has met the edit")
    await vendor.act("restore", lambda work: registrations.restore(work, 2))
    await partner.act("delete again", lambda work: registrations.delete_for_both(work, 1, None))
    await partner.act("restore", lambda work: registrations.restore(work, 1))


async def review(world: World) -> None:
    """The vendor wants to look itself, asks for more, gets it, and approves; and somebody has another name now."""
    partner, vendor = world.partner, world.vendor
    await vendor.act("manual", lambda work: partnerships.change_policy(work, world.partnership, {"approval": "manual"}))
    await world.until(lambda: not count(vendor, "outbox"), "the policy is there")
    await partner.act("contact", lambda work: share_from_contact(work, None, 4, {"name": "Four"}, DETAILS))
    await world.until(lambda: count(vendor, "shared_deals") >= 4 and not count(vendor, "reactions"), "it is there")
    await vendor.act("ask", lambda work: decide(work, 4, "action required", "who signs?"))
    await world.until(lambda: bool(count(partner, "shared_deals", "status = 'action required'")), "more is asked for")
    await partner.act("answer", lambda work: submit_again(work, 4, DETAILS | {"pain": "more than we thought"}))
    await world.until(lambda: bool(count(vendor, "shared_deals", "id = 4 AND status = 'submitted'")), "the answer is there")
    await together(
        vendor.act("approve", lambda work: decide(work, 4, "approved")),
        partner.act("rename", lambda work: people.change_user(work, 1, {"name": "Paula Brandt"})),
    )


async def part(world: World) -> None:
    partner, vendor = world.partner, world.vendor
    await together(
        vendor.act("won", lambda work: decide(work, 1, "won")),
        partner.act("withdraw", lambda work: registrations.withdraw(work, 2, "lost interest")),
        partner.act("unshare", lambda work: unshare(work, 3)),
        vendor.act("save", lambda work: save_shared(work, 3, {"next_step": "while it is unshared"})),
    )
    await vendor.act("leave", lambda work: registrations.leave(work, 2))
    await vendor.act("merge", lambda work: merge_deals(work, 4, 1))


async def ask_again(world: World) -> None:
    """Numbers are asked for that were acknowledged long ago, as by a peer whose store went back: it gets whole states."""
    partner = world.partner
    await world.until(lambda: not count(partner, "outbox"), "all is acknowledged")
    epoch = partner.rows("SELECT epoch FROM outbound_epochs WHERE acknowledged > 0 LIMIT 1")[0][0]
    asked = Resend(partnership=world.partnership, sent_ms=EPOCH_MS, epochs={epoch: [(1, 1)]})
    record = Record(None, encode_control(asked), ((HEADER_CONTROL, asked.type.encode()),))
    world.cluster.append(record_topic(world.partnership, "vendor"), [record])
    await world.until(lambda: "record.restated" in world.cluster.types, "states are sent")
