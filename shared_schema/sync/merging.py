"""Merging two deals, companies or contacts of this CRM: this side's own act. The survivor takes all that hangs on the other, ids redirect;
a peer that shares both is told, and offered the same. It is also how the vendor makes one deal of what two partners registered: the
survivor's columns stay, what each registration says is beside them, and no partner hears of another."""

from typing import Any, Literal

from sqlalchemy import Table, delete, insert, select, update

from shared_schema.crm.customers import load_company, load_contact, take_over
from shared_schema.crm.deals import load_deal
from shared_schema.crm.problems import Invalid, WrongState
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.shared_deals import lock_deals, recount
from shared_schema.crm.tables import companies, contacts, deal_contacts, deal_history, deals, private_notes
from shared_schema.sync.capture import Write
from shared_schema.sync.deals import hold
from shared_schema.sync.journal import note
from shared_schema.sync.registrations import list_registrations
from shared_schema.sync.station import Work

Row = dict[str, Any]
What = Literal["deal", "company", "contact"]
FIELDS: dict[What, str] = {"deal": "merged", "company": "company_merged", "contact": "contact_merged"}
ENDED = ("unshared", "erased")


async def merge_deals(work: Work, survivor_id: int, merged_id: int) -> int:
    """Make two deals one; the survivor's id. Raises Invalid where both are the same, WrongState where one is deleted."""
    survivor, merged = await load_deal(work.tx, survivor_id), await load_deal(work.tx, merged_id)
    check_two("deal", survivor, merged)
    for each in (survivor, merged):
        if each["deleted_ms"] is not None:
            raise WrongState(f"deal {each['id']} is deleted", remedy="restore it first", link=f"/api/deals/{each['id']}")
    await hold(work, survivor["id"])
    await hold(work, merged["id"])
    await lock_deals(work.tx, (survivor["id"], merged["id"]))
    staying, moving = await list_registrations(work.tx, survivor["id"]), await list_registrations(work.tx, merged["id"])
    await move(work, survivor["id"], merged)
    await recount(work.tx, [survivor["id"], merged["id"]])
    await tell_all(work, "deal", moving, staying)
    return int(survivor["id"])


async def merge_companies(work: Work, survivor_id: int, merged_id: int) -> int:
    """Make two companies one; the survivor's id. It takes the other's deals and contacts, and its details where it has none."""
    survivor, merged = await load_company(work.tx, survivor_id), await load_company(work.tx, merged_id)
    check_two("company", survivor, merged)
    staying, moving = await list_of_company(work, survivor["id"]), await list_of_company(work, merged["id"])
    for table in (deals, contacts):
        await work.tx.execute(update(table).where(table.c.company_id == merged["id"]).values(company_id=survivor["id"]))
    await conclude(work, companies, survivor, merged)
    await tell_all(work, "company", moving, staying)
    return int(survivor["id"])


async def merge_contacts(work: Work, survivor_id: int, merged_id: int) -> int:
    """Make two contacts one; the survivor's id. It takes the other's deals, and its details where it has none."""
    survivor, merged = await load_contact(work.tx, survivor_id), await load_contact(work.tx, merged_id)
    check_two("contact", survivor, merged)
    for each in (survivor, merged):
        if each["erased_ms"] is not None:
            raise WrongState(f"contact {each['id']} is erased", remedy="choose another; nothing is left of this one to be merged")
    staying, moving = await list_of_contact(work, survivor["id"]), await list_of_contact(work, merged["id"])
    linked = select(deal_contacts.c.deal_id).where(deal_contacts.c.contact_id == survivor["id"])
    there = set((await work.tx.execute(linked)).scalars())
    gone = delete(deal_contacts).where(deal_contacts.c.contact_id == merged["id"]).returning(deal_contacts.c.deal_id)
    fresh = [each for each in (await work.tx.execute(gone)).scalars() if each not in there]
    if fresh:
        await work.tx.execute(insert(deal_contacts), [{"deal_id": each, "contact_id": survivor["id"]} for each in fresh])
    await conclude(work, contacts, survivor, merged)
    await tell_all(work, "contact", moving, staying)
    return int(survivor["id"])


def check_two(what: What, survivor: Row, merged: Row) -> None:
    if survivor["id"] == merged["id"]:
        raise Invalid(f"{what}_id", f"names {what} {survivor['id']} itself; name the other {what}")


async def conclude(work: Work, table: Table, survivor: Row, merged: Row) -> None:
    await take_over(work.tx, table, survivor, merged)
    await note(work, "", None, f"{table.name} merged", f"{merged['id']} into {survivor['id']}")


async def list_of_company(work: Work, company_id: int) -> list[Row]:
    """The registrations of a company's deals."""
    joined = shared_deals.join(deals, deals.c.id == shared_deals.c.deal_id)
    found = select(shared_deals).select_from(joined).where(deals.c.company_id == company_id).order_by(shared_deals.c.id)
    return [dict(row) for row in (await work.tx.execute(found)).mappings()]


async def list_of_contact(work: Work, contact_id: int) -> list[Row]:
    """The registrations of the deals that a contact is linked to."""
    joined = shared_deals.join(deal_contacts, deal_contacts.c.deal_id == shared_deals.c.deal_id)
    found = select(shared_deals).select_from(joined).where(deal_contacts.c.contact_id == contact_id).order_by(shared_deals.c.id)
    return [dict(row) for row in (await work.tx.execute(found)).mappings()]


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
