"""What people do, scene after scene: short plays that together use every type of event and control message, every command and every
reaction, surely and not by chance. What is to be concurrent is done while nothing that is published arrives."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from partner_node.registrations import convert_deal, share_from_company, share_from_contact
from shared_schema.contract.envelope import Heartbeat, Resend
from shared_schema.contract.topics import record_topic
from shared_schema.crm import private_notes
from shared_schema.crm.deals import add_deal, load_deal
from shared_schema.crm.problems import Problem
from shared_schema.sync import (
    braking,
    conflicts,
    erasing,
    notes,
    offers,
    partnerships,
    people,
    registrations,
    restoration,
)
from shared_schema.sync.deals import save_deal, save_shared
from shared_schema.sync.limits import Limits
from shared_schema.sync.merging import merge_companies, merge_contacts, merge_deals
from shared_schema.sync.registrations import submit_again, unshare
from shared_schema.sync.station import Keeping, Work
from tests.simulation import deleting, sharing, tampering
from tests.simulation.actor import EPOCH_MS, Actor, count, one, shared_deal
from tests.simulation.agreeing import begin_verification
from tests.simulation.inviting import ask_twice, invite
from tests.simulation.tampering import say, tear_field
from tests.simulation.template import DETAILS, secret_of
from tests.simulation.world import Play, Rules, World
from vendor_node.assigning import accept, reassign
from vendor_node.decisions import decide

HOUR_MS = 3_600_000
EUR_10, EUR_20 = {"amount": "10", "currency": "EUR"}, {"amount": "20", "currency": "EUR"}


async def share(world: World) -> None:
    """A deal from a contact, one from a company, one that was there already; each gets a rep, and one another rep."""
    partner, vendor = world.partner, world.vendor
    await partner.act("contact", lambda work: share_from_contact(work, None, 1, {"name": "One"}, DETAILS))
    await partner.act("company", lambda work: share_from_company(work, None, 2, {"name": "Two"}, DETAILS))
    deal_id = await partner.act("deal", add_own_deal)  # a command asked for again after a lost answer may have made a deal more
    await partner.act("convert", lambda work: convert_deal(work, None, deal_id, DETAILS))
    await world.until(lambda: count(partner, "shared_deals", "rep_person IS NOT NULL") >= 3, "every deal has a rep")
    other = "SELECT r.user_id FROM reps r JOIN users u ON u.id = r.user_id JOIN shared_deals s ON s.id = 1 AND s.rep_person <> u.uid"
    another = one(vendor, other)
    await vendor.act("reassign", lambda work: reassign(work, 1, another))
    for actor in (partner, vendor):
        await actor.act("private", keep_private(actor, 1))


def keep_private(actor: Actor, deal_id: int) -> Callable[[Work], Awaitable[int]]:
    """A private note about a deal."""

    async def act(work: Work) -> int:
        deal = await load_deal(work.tx, deal_id)
        return await private_notes.add(work.tx, deal["id"], work.author.user_id, secret_of(actor.name), work.now_ms)

    return act


async def add_own_deal(work: Work) -> int:
    return await add_deal(work.tx, {"name": "Three", "company_id": 3, "contact_ids": [3]}, work.author.user_id, work.now_ms)


async def talk(world: World) -> None:
    """Notes of both sides, a comment, and what becomes of them."""
    partner, vendor = world.partner, world.vendor
    with world.apart():
        await partner.act("note", lambda work: notes.add_note(work, 1, "from the partner"))
        await vendor.act("note", lambda work: notes.add_note(work, 1, "from the vendor"))
    await world.until(lambda: count(vendor, "shared_notes") >= 2 and count(partner, "shared_notes") >= 2, "the notes are there")
    theirs = one(vendor, "SELECT min(id) FROM shared_notes WHERE side = 'partner'")
    own = one(partner, "SELECT min(id) FROM shared_notes WHERE side = 'partner'")
    with world.apart():
        await vendor.act("comment", lambda work: notes.add_comment(work, theirs, "a comment"))
        await partner.act("edit note", lambda work: notes.edit(work, "note", own, "edited by the partner"))
        await partner.act("delete note", lambda work: notes.remove(work, "note", own))
    await vendor.act("edit comment", lambda work: notes.edit(work, "comment", 1, "an edited comment"))
    with world.apart():
        await partner.act("restore note", lambda work: notes.bring_back(work, "note", own))
        await vendor.act("delete comment", lambda work: notes.remove(work, "comment", 1))
    await vendor.act("restore comment", lambda work: notes.bring_back(work, "comment", 1))


async def collide(world: World) -> None:
    """The same fields changed by both before either knew: three conflicts on both sides, one settled by each, and one by another value; and
    the settled one again at the same time, differently."""
    partner, vendor = world.partner, world.vendor
    with world.apart():
        await partner.act("save", lambda work: save_deal(work, 1, {"next_step": "call", "stage": "Won"}))
        await vendor.act("save", lambda work: save_deal(work, 1, {"next_step": "mail", "close_date": "2027-01-01"}))
        await partner.act("save", lambda work: save_shared(work, 2, {"amount": EUR_10}))
        await vendor.act("save", lambda work: save_shared(work, 2, {"amount": EUR_20}))
        for actor, day in ((partner, "2027-01-02"), (vendor, "2027-01-03")):
            await actor.act("save", lambda work, at=day: save_shared(work, 3, {"close_date": at}))
    await world.until(lambda: count(partner, "conflicts") == 3 == count(vendor, "conflicts"), "both sides see all conflicts")
    await partner.act("settle", settle("close_date", "edit", "2027-01-04"))
    with world.apart():
        await partner.act("settle", settle("next_step", "keep"))
        await vendor.act("settle", settle("next_step", "theirs"))
        await vendor.act("settle", settle("amount", "keep"))
    await world.until(lambda: not count(partner, "conflicts", "field = 'amount'"), "it is settled on both sides")


def settle(field: str, choice: Any, value: Any = None) -> Callable[[Work], Awaitable[Any]]:
    async def act(work: Work) -> Any:
        row = next((each for each in await conflicts.list_open(work.tx) if each["field"] == field), None)
        return await conflicts.settle(work, row["id"], choice, value) if row else None  # None: done before an answer was lost

    return act


async def offer(world: World) -> None:
    """Products, a quote, eligibility, the team, and another policy; a line is removed while the other side changes it,
    and one is added by both at once."""
    partner, vendor = world.partner, world.vendor
    line = one(vendor, "SELECT min(id) FROM products")
    with world.apart():
        await partner.act("product", lambda work: offers.put_product(work, 1, "CRM", "CRM", "5"))
        await vendor.act("no product", lambda work: offers.remove(work, "product", line))
        for actor, quantity in ((partner, "2"), (vendor, "3")):
            await actor.act("same product", lambda work, many=quantity: offers.put_product(work, 1, "ERP", None, many))
    await vendor.act("quote", lambda work: offers.put_quote(work, 1, {"number": "Q-1", "status": "sent"}))
    await vendor.act("eligibility", lambda work: offers.put_eligibility(work, 1, {"eligible": True, "rate": "10"}))
    await partner.act("team", lambda work: offers.put_member(work, 1, 1, "sales"))
    rules = {"rules": {"deal.next_step": "partner"}}
    await vendor.act("policy", lambda work: partnerships.change_policy(work, world.partnership, rules))


async def delete(world: World) -> None:
    """A deletion that had not seen an edit is contested: once restored, once deleted anyway; one that nobody contests is restored."""
    partner, vendor = world.partner, world.vendor
    for deal, settled in ((2, registrations.restore), (3, registrations.delete_anyway)):
        with world.apart():
            await partner.act("delete", lambda work, at=deal: registrations.delete_for_both(work, at, None))
            await vendor.act("save", lambda work, at=deal: save_shared(work, at, {"next_step": "too late?"}))
            await vendor.act("note", lambda work, at=deal: notes.add_note(work, at, "under a deleted deal?"))
        contested = f"id = {deal} AND state = 'contested'"
        await world.until(lambda where=contested: count(vendor, "shared_deals", where), "the deletion has met the edit")
        await vendor.act("settle deletion", lambda work, at=deal, by=settled: by(work, at))
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
    await world.until(lambda: count(partner, "shared_deals", "status = 'action required'"), "more is asked for")
    await partner.act("answer", lambda work: submit_again(work, 4, DETAILS | {"pain": "more than we thought"}))
    await world.until(lambda: count(vendor, "shared_deals", "id = 4 AND status = 'submitted'"), "the answer is there")
    await vendor.act("approve", lambda work: decide(work, 4, "approved"))
    await partner.act("rename", lambda work: people.change_user(work, 1, {"name": "Paula Brandt"}))


async def lapse(world: World) -> None:
    """A rep does not accept in time and loses the registration to the next, who accepts; the vendor's clock jumps ahead, and back."""
    partner, vendor = world.partner, world.vendor
    hurry = {"timers": {"accept_hours": 1}}
    await vendor.act("hurry", lambda work: partnerships.change_policy(work, world.partnership, hurry))
    await partner.act("contact", lambda work: share_from_contact(work, None, 4, {"name": "Four"}, DETAILS))
    await world.until(lambda: count(vendor, "reactions", "kind = 'accept'"), "somebody is asked to accept")
    world.skews["vendor"] += 2 * HOUR_MS
    await world.until(lambda: count(vendor, "assignments", "turn = 2"), "it is the next one's turn")
    world.skews["vendor"] -= 2 * HOUR_MS
    lapsed = "FROM assignments a JOIN shared_deals s ON s.uid = a.registration WHERE a.turn = 2 ORDER BY a.id LIMIT 1"
    rep, deal = one(vendor, f"SELECT a.rep_id {lapsed}"), one(vendor, f"SELECT s.id {lapsed}")
    person, name = vendor.rows("SELECT uid, name FROM users WHERE id = ?", rep)[0]
    vendor.author = vendor.author._replace(user_id=rep, person=person, name=name)
    await vendor.act("accept", lambda work: accept(work, deal))


async def part(world: World) -> None:
    """Won, withdrawn and registered once more, unshared while somebody saves, merged, left and taken back."""
    partner, vendor = world.partner, world.vendor
    await vendor.act("won", lambda work: decide(work, 1, "won"))
    await partner.act("withdraw", lambda work: registrations.withdraw(work, 2, "lost interest"))
    again = one(partner, "SELECT deal_id FROM shared_deals WHERE id = 2")
    await partner.act("share again", lambda work: convert_deal(work, None, again, DETAILS))
    with world.apart():
        await partner.act("unshare", lambda work: unshare(work, 3))
        await vendor.act("save", lambda work: save_shared(work, 3, {"next_step": "while it is unshared"}))
    survivor, merged = (one(vendor, f"SELECT id FROM deals WHERE name = '{name}'") for name in ("One", "Two"))
    await vendor.act("merge", lambda work: merge_deals(work, survivor, merged))
    await vendor.act("leave", lambda work: registrations.leave(work, 2))
    await world.settle()
    await vendor.act("come back", lambda work: registrations.come_back(work, 2))


async def unify(world: World) -> None:
    """Two companies of the vendor's are one, and two contacts of the partner's."""
    partner, vendor = world.partner, world.vendor
    await vendor.act("merge companies", lambda work: merge_companies(work, 1, 2))
    await partner.act("merge contacts", lambda work: merge_contacts(work, 1, 2))


async def erase(world: World) -> None:
    """A note, a contact's data and a whole deal are erased while the other side still writes about them; and a comment by its author."""
    partner, vendor = world.partner, world.vendor
    await partner.act("note", lambda work: notes.add_note(work, 1, "about a person"))
    await world.until(lambda: count(vendor, "shared_notes"), "the note is there")
    with world.apart():
        await partner.act("erase note", lambda work: erasing.erase_text(work, "note", 1))
        await vendor.act("comment", lambda work: notes.add_comment(work, 1, "too late?"))
        await partner.act("erase contact", lambda work: erasing.erase_contact(work, 2))
        await partner.act("erase deal", lambda work: erasing.erase_deal(work, 3))
        await vendor.act("save", lambda work: save_shared(work, 3, {"next_step": "too late?"}))
    await world.until(lambda: count(vendor, "shared_deals", "status = 'erased'"), "the deal is erased on both sides")
    note = await vendor.act("note", lambda work: notes.add_note(work, 1, "stays"))
    comment = await vendor.act("comment", lambda work: notes.add_comment(work, note, "goes"))
    if isinstance(comment, Problem):  # the note went with the vendor's store before the comment was answered
        raise comment
    await world.settle()
    await vendor.act("erase comment", lambda work: erasing.erase_text(work, "comment", comment))


async def revive(world: World) -> None:
    """Each store in turn is put back from an older copy, and gets back what the other side has; then an operator says that one was."""
    partner, vendor = world.partner, world.vendor
    for actor, peer in ((vendor, partner), (partner, vendor)):
        actor.keep_commits()
        await actor.act("save", lambda work: save_shared(work, 1, {"next_step": "call"}))
        await peer.act("note", lambda work: notes.add_note(work, 1, "to be remembered"))
        await world.settle()
        await actor.go_back_by(8)
        await actor.act("note", lambda work: notes.add_note(work, 1, "after it went back"), free=True)
        await world.until(lambda who=actor: not count(who, "restorations"), "its store is mended")
        await world.settle()
    await partner.act("confirm", restoration.confirm)
    await world.until(lambda: not count(partner, "restorations"), "its store is mended again")


async def ask_again(world: World) -> None:
    """Numbers are asked for that were acknowledged long ago, as by a peer whose store went back: it gets whole states."""
    partner = world.partner
    await partner.act("note", lambda work: notes.add_note(work, 1, "something new"))
    await world.settle()
    epoch = one(partner, "SELECT epoch FROM outbound_epochs WHERE acknowledged > 0 ORDER BY epoch LIMIT 1")
    say(world, "vendor", Resend(partnership=world.partnership, sent_ms=EPOCH_MS, epochs={epoch: [(1, 1)]}))
    await world.until(lambda: world.cluster.types["record.restated"], "states are sent")


async def void(world: World) -> None:
    """Numbers of an epoch that is over, whose rows went again under others: sent, never marked, and lost by the broker."""
    partner, vendor = world.partner, world.vendor
    await world.settle()
    ended = one(vendor, "SELECT epoch FROM inbound_epochs ORDER BY epoch LIMIT 1")
    say(world, "partner", Heartbeat(partnership=world.partnership, sent_ms=EPOCH_MS, epochs={ended: 100}))
    await world.until(lambda: count(vendor, "inbound_epochs", "next_sequence = 101"), "the vendor misses them")
    await partner.act("note", lambda work: notes.add_note(work, 1, "meanwhile"))
    await world.until(lambda: count(vendor, "inbound_epochs", "next_sequence = 101 AND gaps = '[]'"), "they are void")


async def heal(world: World) -> None:
    """A row is torn out of the partner's store, and a field out of another, behind the product's back: a verification names both, a repair
    brings them back."""
    partner, vendor = world.partner, world.vendor
    await world.settle()
    uid = one(partner, "SELECT uid FROM shared_records WHERE kind = 'person' AND side = 'vendor' ORDER BY uid LIMIT 1")
    world.torn = True
    partner.rows("DELETE FROM shared_records WHERE uid = ?", uid)
    tear_field(partner, "expires")
    await begin_verification(world, partner, repair=False)
    named = "SELECT 1 FROM verifications WHERE phase = 'done' AND (SELECT count(*) FROM drifts WHERE looks >= 2) = 2"
    # A vendor that was struck sends states by itself: then there may be no drift to be named.
    await world.until(lambda: partner.rows(named) or is_whole(partner, uid), "the drift is named")
    await begin_verification(world, vendor, repair=True)
    await world.until(lambda: is_whole(partner, uid), "what was torn out is there again")
    await begin_verification(world, partner, repair=True)


def is_whole(actor: Actor, uid: str) -> bool:
    """Whether the record is here again, and every registration says until when it is protected."""
    stored = actor.rows("SELECT document FROM shared_records WHERE kind = 'registration'")
    return bool(count(actor, "shared_records", f"uid = '{uid}'")) and all('"expires"' in document for (document,) in stored)


async def lose_a_parent(world: World) -> None:
    """The deal is lost with the topic, the note about it is not: the note comes first and waits."""
    partner, vendor = world.partner, world.vendor
    await world.until(lambda: not count(partner, "outbox") and not count(vendor, "outbox"), "the policy is there")
    vendor.hold()
    await partner.act("contact", lambda work: share_from_contact(work, None, 1, {"name": "One"}, DETAILS))
    await world.until(lambda: not count(partner, "outbox", "published_ms IS NULL"), "it is published")
    world.cluster.recreate_topic(record_topic(world.partnership, "partner"))
    await partner.act("note", lambda work: notes.add_note(work, 1, "which deal?"))
    await world.until(lambda: not count(partner, "outbox", "published_ms IS NULL"), "the note is published")
    vendor.held = False


async def crowd(world: World) -> None:
    """Two partners of one vendor, at the same time; neither has anything of the other."""
    partner, second, vendor = world.partner, world.second, world.vendor
    ours, theirs = (shared_deal(vendor, f"First of {name}") for name in ("partner", "second"))
    with world.apart():
        for actor, text in ((partner, "only for Initech and Acme"), (second, "only for Initech and Cyberdyne")):
            await actor.act("note", lambda work, body=text: notes.add_note(work, 1, body))
            await actor.act("save", lambda work: save_shared(work, 1, {"next_step": "call"}))
        for deal in (ours, theirs):
            await vendor.act("save", lambda work, at=deal: save_shared(work, at, {"next_step": "mail", "amount": EUR_10}))
    await second.act("contact", lambda work: share_from_contact(work, None, 2, {"name": "Second"}, DETAILS))
    await world.until(lambda: count(vendor, "conflicts") == 2 and count(second, "shared_deals", "rep_person IS NOT NULL") >= 2, "all met")
    await vendor.act("settle", settle("next_step", "keep"))


class Script(NamedTuple):
    """A play, the stage that it begins on, and what its nodes are set to."""

    stage: str
    play: Play
    rules: Rules = Rules()


HOLDING = Rules(Keeping(brake=braking.Limits(5, 1)))
FORGETTING = Rules(Keeping(trash_days=1))
FEW_PARKED = Rules(limits=Limits(parked_max=2))


SCRIPTS: dict[str, Script] = {
    "share": Script("bare", share),
    "talk": Script("shared", talk),
    "collide": Script("shared", collide),
    "offer": Script("shared", offer),
    "delete": Script("shared", delete),
    "review": Script("shared", review),
    "lapse": Script("shared", lapse),
    "invite": Script("shared", invite),
    "twice": Script("shared", ask_twice),
    "part": Script("shared", part),
    "unify": Script("shared", unify),
    "erase": Script("shared", erase),
    "revive": Script("shared", revive),
    "ask": Script("shared", ask_again),
    "void": Script("shared", void),
    "heal": Script("shared", heal),
    "parent": Script("bare", lose_a_parent),
    "spoil": Script("shared", tampering.spoil),
    "flood": Script("shared", deleting.flood, FEW_PARKED),
    "forge": Script("shared", tampering.forge),
    "brake": Script("shared", deleting.brake, HOLDING),
    "trash": Script("shared", deleting.trash_and_empty, FORGETTING),
    "crowd": Script("three", crowd),
    "several": Script("three", sharing.share_with_several),
}
