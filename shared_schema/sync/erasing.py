"""Erasing by a person's word: a deal with all that is below it, a note or comment, or a contact's personal data, here and at the peers.

It can not be undone. The peer answers when nothing of it is left there either; until when topics and backups may still hold it is stated.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import Event, EventData, RecordChange, format_time
from shared_schema.contract.policy import value_of
from shared_schema.crm.customers import erase_contacts, find_family, hold_family, load_contact
from shared_schema.crm.deals import erase_deals
from shared_schema.crm.matching import normalise_email
from shared_schema.crm.policies import load_policy
from shared_schema.crm.problems import NotAllowed, NotFound, WrongState
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.shared_deals import lock_deals
from shared_schema.crm.shared_records import SharedRecord, load_record
from shared_schema.crm.tables import contacts, deal_contacts
from shared_schema.sync import brake, outbox
from shared_schema.sync.braking import Act, count_as
from shared_schema.sync.effects import follow
from shared_schema.sync.erasures import ERASED, Erased, keep
from shared_schema.sync.journal import note
from shared_schema.sync.notes import load_text
from shared_schema.sync.registrations import load_shared_deal
from shared_schema.sync.restate import state_of
from shared_schema.sync.scrubbing import erase_below, load_around
from shared_schema.sync.station import Keeping, Work
from shared_schema.sync.tables import erasures, peer_outcomes
from shared_schema.sync.tables import outbox as queue

Row = dict[str, Any]
DAY_MS = 86_400_000
CONTACT = "contact"
PAGE_MAX = 200


async def erase_deal(work: Work, shared_deal_id: int) -> None:
    """Erase a shared deal: the registration and every record of it on both sides, and this side's own deal, unless that is kept for
    another registration. Private notes and custom properties of the other side are its own."""
    row = await load_shared_deal(work.tx, shared_deal_id)
    check_there(row["status"], "deal")
    await erase(work, row["partnership"], row["uid"], row["uid"])
    await erase_deals(work.tx, row["partnership"], [row["uid"]], work.now_ms)


async def erase_text(work: Work, kind: str, text_id: int) -> None:
    """Erase a note with its comments, or a comment; its author may, and an admin."""
    row = await load_text(work, kind, text_id)
    check_there(row["state"], kind)
    if work.author.role != "admin" and row["author"] != work.author.person:
        raise NotAllowed(f"only its author or an admin erases a {kind}", remedy="ask an admin of your company")
    await erase(work, row["partnership"], row["uid"], row["registration"])


def check_there(state: str, kind: str) -> None:
    if state == "erased":
        raise WrongState(f"this {kind} is erased already", remedy="see `erasures list` for when it is gone everywhere")


async def erase_contact(work: Work, contact_id: int) -> None:
    """Erase a contact's personal data, with that of all it took over: here, and in every registration that described one of them to a peer.
    What people wrote about them in notes is to be erased as notes."""
    contact = await load_contact(work.tx, contact_id)
    meant = contacts.c.id == contact["id"]
    await hold_mentions(work, await list_mentions(work, await load_members(work, await find_family(work.tx, meant))))
    family = await hold_family(work.tx, meant)
    members = await load_members(work, family)
    if any(each["erased_ms"] is not None for each in members if each["merged_into"] is None):
        raise WrongState("this contact is erased already", remedy="see `erasures list` for when it is gone everywhere")
    for row in await list_mentions(work, members):
        record = await load_record(work.tx, row["partnership"], row["uid"])
        if any(describes(record, each) for each in members):
            await erase(work, row["partnership"], row["uid"], row["uid"], (CONTACT,))
    await erase_contacts(work.tx, family, work.now_ms)
    await keep(work.tx, [Erased("", str(each), CONTACT, None, None, work.side, (), None, "here") for each in family], work.now_ms)
    await note(work, "", None, "erased", f"contact {contact['id']}")
    work.woken.add("erasures")


async def load_members(work: Work, family: Sequence[int]) -> list[Row]:
    return [dict(row) for row in (await work.tx.execute(select(contacts).where(contacts.c.id.in_(family)))).mappings()]


async def hold_mentions(work: Work, rows: Sequence[Row]) -> None:
    """Hold all that is of these registrations, and then their deals: before contacts are, as a merge does it."""
    for partnership in sorted({row["partnership"] for row in rows}):
        await load_around(work.tx, partnership, [row["uid"] for row in rows if row["partnership"] == partnership])
    await lock_deals(work.tx, [row["deal_id"] for row in rows])


async def list_mentions(work: Work, members: Sequence[Row]) -> list[Row]:
    """The registrations that may describe a person, by all contacts that are that one: by e-mail, or because their deal has one of them."""
    linked = select(deal_contacts.c.deal_id).where(deal_contacts.c.contact_id.in_([each["id"] for each in members]))
    emails = sorted({each["email"] for each in members if each["email"]})
    meant = (shared_deals.c.deal_id.in_(linked), shared_deals.c.contact_email.in_(emails))
    columns = (shared_deals.c.partnership, shared_deals.c.uid, shared_deals.c.deal_id)
    there = select(*columns).where(or_(*meant), shared_deals.c.status != "erased").order_by(shared_deals.c.uid)
    return [dict(row) for row in (await work.tx.execute(there)).mappings()]


def describes(record: SharedRecord, contact: Row) -> bool:
    told = value_of(record.document, CONTACT)
    if not isinstance(told, dict):
        return False
    email = told.get("email")
    if contact["email"] and isinstance(email, str):
        return bool(normalise_email(email) == contact["email"])
    return bool(told.get("name") == contact["name"])


async def erase(work: Work, partnership: str, uid: str, registration: str | None, names: Iterable[str] = ()) -> None:
    """Erase a record with all below it, or fields of it, here; and tell the peer, past the brake."""
    around = await load_around(work.tx, partnership, {registration})
    record = around[uid]
    if names:
        record.erase(names)
    else:
        erase_below(record, around.values())
    await follow(work.tx, work.incarnation, work.due, await load_policy(work.tx, partnership), around.values())
    event = await tell_peer(work, record)
    await keep(work.tx, [Erased.of(record, names, event, "here")], work.now_ms)
    await note(work, partnership, registration, "erased", f"{record.kind} {uid} {' '.join(names)}".strip())
    work.woken |= {partnership, "erasures", "reactions", "changes"}


async def tell_peer(work: Work, record: SharedRecord) -> str:
    """Queue what is erased of a record for the peer, if the brake lets it; its event."""
    event = make_event(work, record)
    acts = [Act(count_as(record.kind), record.uid, "erased", record.registration)]
    held = await brake.judge(work.tx, work.keeping.brake, brake.Deed(record.partnership, event.id, acts), work.now_ms)
    await outbox.append(work.tx, [event], work.now_ms, held, destroys=True)
    return event.id


def make_event(work: Work, record: SharedRecord) -> Event:
    whole = state_of(record)
    change = RecordChange(whole.uid, whole.kind, whole.parent, whole.registration, whole.side, {}, whole.erased, whole.erased_fields)
    return Event(
        id=work.incarnation.new_uid(),
        source=f"/{record.partnership}/{work.side}",
        type=ERASED,
        subject=record.registration or record.partnership,
        time=format_time(work.now_ms),
        partnership=record.partnership,
        registration=record.registration,
        stamp=work.incarnation.next_stamp(),
        actor=work.author.person,
        data=EventData(records=(change,)),
    )


async def list_erasures(connection: AsyncConnection, keeping: Keeping, after: int = 0, limit: int = 50) -> list[Row]:
    """A page of erasures with where each stands: waiting, held, sent, or gone; and the date by which it is gone everywhere."""
    statement = select(*erasures.c).where(erasures.c.id > after).order_by(erasures.c.id).limit(min(limit, PAGE_MAX))
    rows = [dict(row) for row in (await connection.execute(statement)).mappings()]
    events = [row["event"] for row in rows if row["event"]]
    queued = {row.event: row.held for row in await connection.execute(select(queue.c.event, queue.c.held).where(queue.c.event.in_(events)))}
    said = select(peer_outcomes).where(peer_outcomes.c.event.in_(events)).order_by(peer_outcomes.c.at_ms)
    answers = {(each.partnership, each.event): f"{each.outcome}: {each.reason}" for each in await connection.execute(said)}
    return [describe(row, queued, answers.get((row["partnership"], row["event"])), keeping) for row in rows]


def describe(row: Row, queued: dict[str, str | None], answer: str | None, keeping: Keeping) -> Row:
    """One erasure as people read it. `gone_by` is the later of both sides' dates; None as long as either has not cleaned up."""
    state = "gone" if row["cleaned_ms"] else "being cleaned up"
    ours = gone_by(row, keeping) if row["cleaned_ms"] else None
    dates = [ours]
    if row["origin"] == "here" and row["event"]:
        dates.append(row["peer_gone_by"])
        if row["event"] in queued:
            state = "held by the brake" if queued[row["event"]] else "on its way"
        elif row["peer_gone_by"] is None:
            state = answer or "the peer cleans up"
    known = [each for each in dates if each is not None]
    named = ("id", "partnership", "uid", "kind", "registration", "fields", "origin", "at_ms")
    return {**{name: row[name] for name in named}, "state": state, "gone_by": max(known) if len(known) == len(dates) else None}


def gone_by(row: Row, keeping: Keeping) -> str:
    """The date by which no topic and no backup of this side holds it any more."""
    return format_time(row["cleaned_ms"] + max(keeping.topic_days, keeping.backup_days) * DAY_MS)[:10]


def say_gone(row: Row, keeping: Keeping) -> str:
    """What the peer is told, as JSON: the erasure is done here, and by when every copy of it is gone."""
    return json.dumps({"gone_by": gone_by(row, keeping)})


async def load_erasure(connection: AsyncConnection, keeping: Keeping, erasure_id: int) -> Row:
    found = await list_erasures(connection, keeping, erasure_id - 1, 1)
    if not found or found[0]["id"] != erasure_id:
        raise NotFound("erasure", erasure_id)
    return found[0]
