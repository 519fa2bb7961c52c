"""Registrations as rows, the deals that follow them, and the derived counts of a deal.

A deal's column follows a registration only while that is the deal's single open one; with two or more the column is the node's own.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, case, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.documents import LIFE
from shared_schema.contract.identifiers import is_uid
from shared_schema.contract.policy import Policy, value_of
from shared_schema.contract.records import PLAIN_DEAL_FIELDS, is_valid
from shared_schema.contract.registers import Side
from shared_schema.contract.registration import COUNTED_ACTIVE, OPEN, status_of
from shared_schema.crm.matching import create_deals, normalise_domain, normalise_email, text_of
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.rows import Among, change_rows, upsert
from shared_schema.crm.shared_records import SharedRecord
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import deals, users

ENDED = ("unshared", "erased")
CHANGING = ("status", "reason", "domain", "contact_email", "initiated_by", "rep_person", "expires", "left_here")


OF_REGISTRATIONS = (shared_deals.c.partnership == bindparam("partnership"), Among(shared_deals.c.uid, "uids"))
DEALS_OF = Statement(select(shared_deals.c.uid, shared_deals.c.deal_id).where(*OF_REGISTRATIONS))


def shown(record: SharedRecord, policy: Policy, name: str) -> Any:
    """The value to project: the displayed one, or None where it is not one that this version understands."""
    value = value_of(record.document, name, policy.display_rule(record.kind, name))
    return value if value is not None and is_valid(record.kind, name, value) else None


def shown_part(record: SharedRecord, policy: Policy, name: str, part: str) -> Any:
    value = shown(record, policy, name)
    return value.get(part) if isinstance(value, dict) else None


def uid_of(value: Any) -> str | None:
    return value if isinstance(value, str) and is_uid(value) else None


async def project_registrations(tx: AsyncConnection, side: Side, records: Sequence[SharedRecord], policy: Policy, now_ms: int) -> None:
    """Rows of registrations, with a deal for each that this node meets for the first time."""
    if not records:
        return
    deal_ids = await find_deals(tx, records)
    arrived = [each for each in records if each.uid not in deal_ids and status_of(each.document) not in ENDED]
    deal_ids |= await adopt(tx, side, arrived, policy, now_ms)
    known = [each for each in records if each.uid in deal_ids]
    rows = [{**registration_row(each, side, policy), "deal_id": deal_ids[each.uid], "created_ms": now_ms} for each in known]
    await upsert(tx, shared_deals, rows, CHANGING, key=("partnership", "uid"))
    await recount(tx, deal_ids.values())
    if side == "vendor":
        await follow_reps(
            tx, [(deal_ids[each.uid], uid_of(shown_part(each, policy, "rep", "person"))) for each in known if "rep" in each.touched]
        )


async def find_deals(tx: AsyncConnection, records: Sequence[SharedRecord]) -> dict[str, int]:
    """Deal ids by registration, of those that have a row."""
    named = {"partnership": records[0].partnership, "uids": [each.uid for each in records]}
    return {uid: deal_id for uid, deal_id in await DEALS_OF.fetch(tx, named)}


async def adopt(tx: AsyncConnection, side: Side, arrived: Sequence[SharedRecord], policy: Policy, now_ms: int) -> dict[str, int]:
    """Deals for registrations that the peer made: its earlier deal if the registration names a previous one, else a new one."""
    if not arrived:
        return {}
    previous = {each.uid: shown(each, policy, "previous") for each in arrived}
    named = {"partnership": arrived[0].partnership, "uids": [uid for uid in previous.values() if uid]}
    earlier = {uid: deal_id for uid, deal_id in await DEALS_OF.fetch(tx, named)} if named["uids"] else {}
    found = {uid: earlier[before] for uid, before in previous.items() if before in earlier}
    if found:  # shared again, so it is in the lists again
        again = (deals.c.id.in_(sorted(set(found.values()))), deals.c.merged_into.is_(None))
        await tx.execute(update(deals).where(*again).values(deleted_ms=None))
    new = {each.uid: describe_customer(each, policy) for each in arrived if each.uid not in found}
    return found | await create_deals(tx, new, side, now_ms)


def describe_customer(record: SharedRecord, policy: Policy) -> dict[str, Any]:
    company, contact = shown(record, policy, "company") or {}, shown(record, policy, "contact") or {}
    return {"partnership": record.partnership, "company": company, "contact": contact}


def registration_row(record: SharedRecord, side: Side, policy: Policy) -> dict[str, Any]:
    return {
        "partnership": record.partnership,
        "uid": record.uid,
        "registration": record.uid,
        "status": status_of(record.document),
        "reason": text_of(shown(record, policy, "decision") or {}, "reason"),
        "domain": normalise_domain(shown(record, policy, "domain")),
        "contact_email": normalise_email(text_of(shown(record, policy, "contact") or {}, "email")),
        "initiated_by": "vendor" if shown(record, policy, "initiated_by") == "vendor" else "partner",
        "rep_person": uid_of(shown_part(record, policy, "rep", "person")),
        "expires": shown(record, policy, "expires"),
        "left_here": shown(record, policy, f"{side}_left") is not None and not shown_part(record, policy, f"{side}_left", "back"),
        "side": record.side,
        "state": "alive",
    }


async def recount(tx: AsyncConnection, deal_ids: Iterable[int]) -> None:
    """The derived counts of these deals, from their registrations: never settable otherwise."""
    active = func.coalesce(func.sum(case((shared_deals.c.status.in_(sorted(COUNTED_ACTIVE)), 1), else_=0)), 0)
    of_deal = shared_deals.c.deal_id == deals.c.id
    all_count = select(func.count()).select_from(shared_deals).where(of_deal).scalar_subquery()
    active_count = select(active).where(of_deal).scalar_subquery()
    values = {
        "number_of_deal_registrations": all_count,
        "number_of_active_deal_registrations": active_count,
        "is_active_shared_deal": active_count > 0,
    }
    await tx.execute(update(deals).where(deals.c.id.in_(sorted(set(deal_ids)))).values(values))


async def follow_reps(tx: AsyncConnection, assigned: Sequence[tuple[int, str | None]]) -> None:
    """The rep owns the deal in the vendor's CRM."""
    owner = select(users.c.id).where(users.c.uid == bindparam("person")).scalar_subquery()
    rows = [{"deal": deal_id, "person": person} for deal_id, person in assigned if person]
    if rows:
        await tx.execute(update(deals).where(deals.c.id == bindparam("deal")).values(owner_id=owner), rows)


async def project_deals(tx: AsyncConnection, records: Sequence[SharedRecord], policy: Policy, now_ms: int) -> None:
    """Columns of the deals that follow their single open registration; only what was touched is written."""
    if not records:
        return
    followed = await find_followers(tx, records)
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        target = followed.get(str(record.registration))
        columns = deal_columns(record, policy) if target and target.open == 1 and target.status in OPEN else {}
        if target and columns:
            groups[tuple(columns)].append({"id": target.deal_id, **columns})
    for _, rows in sorted(groups.items()):
        await change_rows(tx, deals, rows, "id")
    await project_lives(tx, [each for each in records if LIFE in each.document or each.erasing], followed, now_ms)


class Follower(NamedTuple):
    """A registration's deal, and whether the deal follows it: `open` counts the deal's open registrations."""

    deal_id: int
    status: str
    left_here: bool
    open: int


def select_followers() -> Select[Any]:
    other = shared_deals.alias()
    open_ones = select(func.count()).select_from(other).where(other.c.deal_id == shared_deals.c.deal_id, other.c.status.in_(sorted(OPEN)))
    columns = (shared_deals.c.uid, shared_deals.c.deal_id, shared_deals.c.status, shared_deals.c.left_here)
    return select(*columns, open_ones.scalar_subquery().label("open")).where(*OF_REGISTRATIONS)


FOLLOWERS = Statement(select_followers())


async def find_followers(tx: AsyncConnection, records: Sequence[SharedRecord]) -> dict[str, Follower]:
    """Per registration its deal, its status, and how many of that deal's registrations are open."""
    uids = sorted({str(each.registration) for each in records})
    found = await FOLLOWERS.fetch(tx, {"partnership": records[0].partnership, "uids": uids})
    return {uid: Follower(*others) for uid, *others in found}


def deal_columns(record: SharedRecord, policy: Policy) -> dict[str, Any]:
    """The touched fields of a deal record as columns of the deal, where they hold something that can be shown."""
    columns: dict[str, Any] = {}
    if "name" in record.touched and (name := shown(record, policy, "name")):
        columns["name"] = name
    if "amount" in record.touched:
        amount = shown(record, policy, "amount") or {}
        columns |= {"amount": amount.get("amount"), "currency": amount.get("currency")}
    columns |= {name: shown(record, policy, name) for name in PLAIN_DEAL_FIELDS if name in record.touched and name != "name"}
    return columns


async def project_lives(tx: AsyncConnection, records: Sequence[SharedRecord], followed: Mapping[str, Follower], now_ms: int) -> None:
    """A deleted deal leaves the lists, a restored or contested one comes back, unless this side had deleted it for itself."""
    for record in records:
        target = followed.get(str(record.registration))
        if target is None:
            continue
        state = record.state
        where = (shared_deals.c.partnership == record.partnership, shared_deals.c.uid == record.registration)
        await tx.execute(update(shared_deals).where(*where).values(state=state))
        if state == "deleted" and target.open <= 1:
            await tx.execute(update(deals).where(deals.c.id == target.deal_id, deals.c.deleted_ms.is_(None)).values(deleted_ms=now_ms))
        if state not in ("deleted", "erased") and not target.left_here:
            await tx.execute(update(deals).where(deals.c.id == target.deal_id).values(deleted_ms=None))
