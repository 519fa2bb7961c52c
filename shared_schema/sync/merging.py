"""Merging two deals of this CRM: this side's own act. The survivor takes the other's registrations, notes and history; ids redirect; a peer
that shares both is told, and offered the same. It is also how the vendor makes one deal of what two partners registered: the survivor's
columns stay, what each registration says is beside them, and no partner hears of another."""

from typing import Any

from sqlalchemy import delete, insert, select, update

from shared_schema.crm.deals import load_deal
from shared_schema.crm.problems import Invalid, WrongState
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.shared_deals import lock_deals, recount
from shared_schema.crm.tables import deal_contacts, deal_history, deals, private_notes
from shared_schema.sync.capture import Write
from shared_schema.sync.deals import hold
from shared_schema.sync.registrations import list_registrations
from shared_schema.sync.station import Work

Row = dict[str, Any]


async def merge_deals(work: Work, survivor_id: int, merged_id: int) -> int:
    """Make two deals one; the survivor's id. Raises Invalid where both are the same, WrongState where one is deleted."""
    survivor, merged = await load_deal(work.tx, survivor_id), await load_deal(work.tx, merged_id)
    if survivor["id"] == merged["id"]:
        raise Invalid("deal_id", f"names deal {survivor['id']} itself; name the other deal")
    for each in (survivor, merged):
        if each["deleted_ms"] is not None:
            raise WrongState(f"deal {each['id']} is deleted", remedy="restore it first", link=f"/api/deals/{each['id']}")
    await hold(work, survivor["id"])
    await hold(work, merged["id"])
    await lock_deals(work.tx, (survivor["id"], merged["id"]))
    staying, moving = await list_registrations(work.tx, survivor["id"]), await list_registrations(work.tx, merged["id"])
    await move(work, survivor["id"], merged)
    await recount(work.tx, [survivor["id"], merged["id"]])
    for row in moving:
        await tell(work, row, staying)
    return int(survivor["id"])


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


async def tell(work: Work, row: Row, staying: list[Row]) -> None:
    """The peer of a registration that moved hears beside which of its own it is now, if it shares one with the survivor."""
    beside = next((each for each in staying if each["partnership"] == row["partnership"] and each["status"] != "unshared"), None)
    if beside is not None and row["status"] != "unshared":
        value = {"with": beside["uid"], "at": work.now_ms}
        await work.capture(row["partnership"], row["uid"], "deal.merged", [Write(row["uid"], f"{work.side}_merged", value)])
