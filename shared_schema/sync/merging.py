"""Merging two deals, companies or contacts of this CRM: this side's own act. The survivor takes all that hangs on the other, ids redirect;
a peer that shares both is told, and offered the same. It is also how the vendor makes one deal of what two partners registered: the
survivor's columns stay, what each registration says is beside them, and no partner hears of another."""

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import Select, delete, insert, select, update

from shared_schema.contract.policy import value_of
from shared_schema.crm.customers import What as Customer
from shared_schema.crm.customers import find_described, load_company, load_contact, lock_rows, take_over
from shared_schema.crm.deals import load_deal
from shared_schema.crm.problems import Invalid, WrongState
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.rows import take_turn
from shared_schema.crm.shared_deals import lock_deals, recount
from shared_schema.crm.tables import companies, contacts, deal_contacts, deal_history, deals, private_notes
from shared_schema.sync.capture import Write
from shared_schema.sync.deals import hold_records
from shared_schema.sync.journal import note
from shared_schema.sync.registrations import list_registrations
from shared_schema.sync.station import Work

Row = dict[str, Any]
What = Literal["deal"] | Customer
FIELDS: dict[What, str] = {"deal": "merged", "company": "company_merged", "contact": "contact_merged"}
PLURALS: dict[What, str] = {"deal": "deals", "company": "companies", "contact": "contacts"}
LOADERS = {"deal": load_deal, "company": load_company, "contact": load_contact}
ENDED = ("unshared", "erased")


async def merge_deals(work: Work, survivor_id: int, merged_id: int) -> int:
    """Make two deals one; the survivor's id. Raises Invalid where both are the same, WrongState where one is deleted."""
    survivor, merged = await hold_two(work, "deal", survivor_id, merged_id)
    for each in (survivor, merged):
        if each["deleted_ms"] is not None:
            raise WrongState(f"deal {each['id']} is deleted", remedy="restore it first", link=f"/api/deals/{each['id']}")
    staying, moving = await list_registrations(work.tx, survivor["id"]), await list_registrations(work.tx, merged["id"])
    await move(work, survivor["id"], merged)
    await recount(work.tx, [survivor["id"], merged["id"]])
    await note_merge(work, "deal", survivor, merged)
    for row in (*staying, *moving):
        await note_merge(work, "deal", survivor, merged, row)
    await tell_all(work, "deal", moving, staying)
    return int(survivor["id"])


async def merge_companies(work: Work, survivor_id: int, merged_id: int) -> int:
    """Make two companies one; the survivor's id. It takes the other's deals and contacts, and its details where it has none."""
    survivor, merged = await hold_two(work, "company", survivor_id, merged_id)
    staying, moving = await list_described(work, "company", survivor), await list_described(work, "company", merged)
    for table in (deals, contacts):
        await work.tx.execute(update(table).where(table.c.company_id == merged["id"]).values(company_id=survivor["id"]))
    await take_over(work.tx, companies, survivor, merged)
    await note_merge(work, "company", survivor, merged)
    await tell_all(work, "company", moving, staying)
    return int(survivor["id"])


async def merge_contacts(work: Work, survivor_id: int, merged_id: int) -> int:
    """Make two contacts one; the survivor's id. It takes the other's deals, and its details where it has none."""
    survivor, merged = await hold_two(work, "contact", survivor_id, merged_id)
    for each in (survivor, merged):
        if each["erased_ms"] is not None:
            raise WrongState(f"contact {each['id']} is erased", remedy="choose another; nothing is left of this one to be merged")
    staying, moving = await list_described(work, "contact", survivor), await list_described(work, "contact", merged)
    linked = select(deal_contacts.c.deal_id).where(deal_contacts.c.contact_id == survivor["id"])
    there = set((await work.tx.execute(linked)).scalars())
    gone = delete(deal_contacts).where(deal_contacts.c.contact_id == merged["id"]).returning(deal_contacts.c.deal_id)
    fresh = [each for each in (await work.tx.execute(gone)).scalars() if each not in there]
    if fresh:
        await work.tx.execute(insert(deal_contacts), [{"deal_id": each, "contact_id": survivor["id"]} for each in fresh])
    await take_over(work.tx, contacts, survivor, merged)
    await note_merge(work, "contact", survivor, merged)
    await tell_all(work, "contact", moving, staying)
    return int(survivor["id"])


async def hold_two(work: Work, what: What, survivor_id: int, merged_id: int) -> tuple[Row, Row]:
    """Both as they are while they are held, whatever was done to them until they were. Records are held before deals, as apply does it, and
    deals before customers. Raises Invalid where both are the same, WrongState where one was merged meanwhile."""
    load = LOADERS[what]
    ids = [(await load(work.tx, each))["id"] for each in (survivor_id, merged_id)]
    check_two(what, ids)
    deal_ids = (await work.tx.execute(select_deals(what, ids))).scalars().all()
    await hold_records(work, await list_of(work, what, ids))
    await lock_deals(work.tx, deal_ids)
    if what != "deal":
        await take_turn(work.tx, "matching")  # else what arrives meanwhile might still be hung on the one that goes
        await lock_rows(work.tx, what, ids)
    survivor, merged = await load(work.tx, ids[0]), await load(work.tx, ids[1])
    now = [survivor["id"], merged["id"]]
    check_two(what, now)
    if now != ids:
        raise WrongState(f"{what} {ids[0]} or {ids[1]} was merged meanwhile", remedy="read both again")
    return survivor, merged


def check_two(what: What, ids: Sequence[int]) -> None:
    if ids[0] == ids[1]:
        raise Invalid(f"{what}_id", f"names {what} {ids[0]} itself; name the other {what}")


def select_deals(what: What, ids: Sequence[int]) -> Select[Any]:
    """The ids of these deals, or of those of these companies or contacts."""
    if what == "contact":
        return select(deal_contacts.c.deal_id).where(deal_contacts.c.contact_id.in_(ids))
    return select(deals.c.id).where((deals.c.id if what == "deal" else deals.c.company_id).in_(ids))


async def list_of(work: Work, what: What, ids: Sequence[int]) -> list[Row]:
    """The registrations of these deals, or of those of these companies or contacts."""
    found = select(shared_deals).where(shared_deals.c.deal_id.in_(select_deals(what, ids))).order_by(shared_deals.c.id)
    return [dict(row) for row in (await work.tx.execute(found)).mappings()]


async def list_described(work: Work, what: Customer, customer: Row) -> list[Row]:
    """The registrations whose details mean this company or contact: only by those the peer knows of it."""
    rows = await list_of(work, what, [customer["id"]])
    held = await hold_records(work, rows)
    found = []
    for row in rows:
        registration = held.get((row["partnership"], row["uid"]))
        described = value_of(registration.document, what) if registration else None
        if await find_described(work.tx, what, described, row["deal_id"]) == customer["id"]:
            found.append(row)
    return found


async def note_merge(work: Work, what: What, survivor: Row, merged: Row, row: Row | None = None) -> None:
    """A line of this node's own, or of a registration."""
    partnership, registration = (row["partnership"], row["uid"]) if row else ("", None)
    await note(work, partnership, registration, f"{PLURALS[what]} merged", f"{merged['id']} into {survivor['id']}")


async def move(work: Work, survivor: int, merged: Row) -> None:
    """Everything that hangs on the merged deal hangs on the survivor."""
    for table in (shared_deals, private_notes, deal_history):
        await work.tx.execute(update(table).where(table.c.deal_id == merged["id"]).values(deal_id=survivor))
    there = set((await work.tx.execute(select(deal_contacts.c.contact_id).where(deal_contacts.c.deal_id == survivor))).scalars())
    await work.tx.execute(delete(deal_contacts).where(deal_contacts.c.deal_id == merged["id"]))
    links = [{"deal_id": survivor, "contact_id": each["id"]} for each in merged["contacts"] if each["id"] not in there]
    if links:
        await work.tx.execute(insert(deal_contacts), links)
    gone = {"merged_into": survivor, "deleted_ms": work.now_ms}
    await work.tx.execute(update(deals).where(deals.c.id == merged["id"]).values(gone))


async def tell_all(work: Work, what: What, moving: list[Row], staying: list[Row]) -> None:
    """The peer of each registration that moved hears beside which of its own it is now, if it shares one with the survivor."""
    for row in moving:
        mates = (each for each in staying if each["partnership"] == row["partnership"] and each["uid"] != row["uid"])
        beside = next((each for each in mates if each["status"] not in ENDED), None)
        if beside is not None and row["status"] not in ENDED:
            value = {"with": beside["uid"], "at": work.now_ms}
            writes = [Write(row["uid"], f"{work.side}_{FIELDS[what]}", value)]
            await work.capture(row["partnership"], row["uid"], f"{what}.merged", writes)
