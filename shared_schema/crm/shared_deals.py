"""Registrations as rows, the deals that follow them, and the derived counts of a deal.

A deal's column follows a registration only while that is the deal's single open one; with two or more the column is the node's own. When
one is left again, the column follows it where the two say the same, and keeps its value where they do not: what this side chose is not
overwritten by a registration that it was never told to follow. The difference is shown until a save or a take-over ends it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, ScalarSelect, Select, Update, bindparam, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.documents import LIFE
from shared_schema.contract.identifiers import is_uid
from shared_schema.contract.policy import Policy, value_of
from shared_schema.contract.records import DEAL_FIELDS, is_valid
from shared_schema.contract.registers import EMPTY, Register, Side
from shared_schema.contract.registration import COUNTED_ACTIVE, OPEN, status_of
from shared_schema.crm.matching import create_deals, normalise_domain, normalise_email, text_of
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.rows import Among, change_rows, hold, upsert
from shared_schema.crm.shared_records import SharedRecord
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import deals, users

ENDED = ("unshared", "erased")
CHANGING = ("status", "reason", "domain", "contact_email", "initiated_by", "rep_person", "expires", "left_here")


OF_REGISTRATIONS = (shared_deals.c.partnership == bindparam("partnership"), Among(shared_deals.c.uid, "uids"))
DEALS_OF = Statement(select(shared_deals.c.uid, shared_deals.c.deal_id, shared_deals.c.status).where(*OF_REGISTRATIONS))
GONE = ("deleted", "erased")
LIVING_OPEN = (shared_deals.c.status.in_(sorted(OPEN)), shared_deals.c.state.not_in(GONE))
HELD = select(deals.c.id).order_by(deals.c.id).with_for_update(key_share=True)
HOLD = Statement(HELD.where(Among(deals.c.id, "ids")))
HOLD_DEALS_OF = Statement(HELD.where(deals.c.id.in_(select(shared_deals.c.deal_id).where(*OF_REGISTRATIONS))))


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
    found = await find_deals(tx, records)
    deal_ids = {uid: before.deal_id for uid, before in found.items()}
    arrived = [each for each in records if each.uid not in deal_ids and status_of(each.document) not in ENDED]
    deal_ids |= await adopt(tx, side, arrived, policy, now_ms)
    known = [each for each in records if each.uid in deal_ids]
    rows = [{**registration_row(each, side, policy), "deal_id": deal_ids[each.uid], "created_ms": now_ms} for each in known]
    await upsert(tx, shared_deals, rows, CHANGING, key=("partnership", "uid"))
    await recount(tx, [row["deal_id"] for row in rows if is_turned(found.get(row["uid"]), row["status"])])
    if side == "vendor":
        await follow_reps(
            tx, [(deal_ids[each.uid], uid_of(shown_part(each, policy, "rep", "person"))) for each in known if "rep" in each.touched]
        )


class Before(NamedTuple):
    """What a registration's row said so far."""

    deal_id: int
    status: str


async def find_deals(tx: AsyncConnection, records: Sequence[SharedRecord]) -> dict[str, Before]:
    """By registration, of those that have a row."""
    named = {"partnership": records[0].partnership, "uids": [each.uid for each in records]}
    return {uid: Before(deal_id, status) for uid, deal_id, status in await DEALS_OF.fetch(tx, named)}


def is_turned(before: Before | None, status: str) -> bool:
    """Whether the counts of its deal may change; a draft's row is there before it is counted."""
    return before is None or before.status == "draft" or before.status != status


async def adopt(tx: AsyncConnection, side: Side, arrived: Sequence[SharedRecord], policy: Policy, now_ms: int) -> dict[str, int]:
    """Deals for registrations that the peer made: its earlier deal if the registration names a previous one, else a new one."""
    if not arrived:
        return {}
    previous = {each.uid: shown(each, policy, "previous") for each in arrived}
    named = {"partnership": arrived[0].partnership, "uids": [uid for uid in previous.values() if uid]}
    earlier = await hold_deals(tx, named) if named["uids"] else {}
    found = {uid: earlier[before] for uid, before in previous.items() if before in earlier}
    if found:  # shared again, so it is in the lists again
        again = (deals.c.id.in_(sorted(set(found.values()))), deals.c.merged_into.is_(None))
        await tx.execute(update(deals).where(*again).values(deleted_ms=None))
    new = {each.uid: describe_customer(each, policy) for each in arrived if each.uid not in found}
    return found | await create_deals(tx, new, side, now_ms)


async def hold_deals(tx: AsyncConnection, named: Mapping[str, Any]) -> dict[str, int]:
    """The deals of these registrations, held. They are read again once they are, because one may have been merged until then."""
    found: dict[str, int] = {}
    while (now := {uid: deal_id for uid, deal_id, _ in await DEALS_OF.fetch(tx, named)}) != found:
        found = now
        await lock_deals(tx, found.values())
    return found


def describe_customer(record: SharedRecord, policy: Policy) -> dict[str, Any]:
    company, contact = shown(record, policy, "company") or {}, shown(record, policy, "contact") or {}
    owner = uid_of(shown_part(record, policy, "invitation", "contact"))
    return {"partnership": record.partnership, "company": company, "contact": contact, "owner": owner}


def registration_row(record: SharedRecord, side: Side, policy: Policy) -> dict[str, Any]:
    return {
        "partnership": record.partnership,
        "uid": record.uid,
        "registration": record.uid,
        "status": status_of(record.document),
        "reason": text_of(shown(record, policy, "decision") or {}, "reason"),
        "domain": normalise_domain(shown(record, policy, "domain")),
        "contact_email": normalise_email(text_of(shown(record, policy, "contact") or {}, "email")),
        "initiated_by": record.side,
        "rep_person": uid_of(shown_part(record, policy, "rep", "person")),
        "expires": shown(record, policy, "expires"),
        "left_here": shown(record, policy, f"{side}_left") is not None and not shown_part(record, policy, f"{side}_left", "back"),
        "side": record.side,
        "state": "alive",
    }


async def lock_deals_of(tx: AsyncConnection, records: Sequence[SharedRecord]) -> None:
    """Hold the deals of these records' registrations, in id order, until the transaction ends: two partners' streams may meet in one."""
    uids = sorted({str(each.registration) for each in records})
    await hold(tx, HOLD_DEALS_OF, {"partnership": records[0].partnership, "uids": uids})


async def lock_deals(tx: AsyncConnection, deal_ids: Iterable[int]) -> None:
    await hold(tx, HOLD, {"ids": sorted(set(deal_ids))})


class Tie(NamedTuple):
    """What decides whether a registration's deal is kept for it."""

    id: int
    partnership: str
    uid: str
    deal_id: int
    status: str
    state: str


def keeps(other: Tie, gone: Tie, own_word: bool) -> bool:
    """Whether a registration keeps its deal although another one's content went: while it is open, or if it came later. An earlier one of
    the same partnership that has ended does not; one of another partnership does, but the copy that was kept of it when sharing stopped
    only until this side's own word is to erase."""
    if other.state in GONE or other.status == "erased":
        return False
    if other.status in OPEN or other.id > gone.id:
        return True
    return other.partnership != gone.partnership and not (own_word and other.status == "unshared")


OF_THEIR_DEALS = shared_deals.c.deal_id.in_(select(shared_deals.c.deal_id).where(*OF_REGISTRATIONS))
TIES = Statement(select(*(shared_deals.c[name] for name in Tie._fields)).where(OF_THEIR_DEALS))
UNLIST = Statement(
    update(deals).where(Among(deals.c.id, "ids"), deals.c.deleted_ms.is_(None)).values(deleted_ms=bindparam("now_ms", type_=BigInteger()))
)


async def find_kept(tx: AsyncConnection, partnership: str, registrations: Collection[str], own_word: bool = False) -> dict[int, bool]:
    """The deals of registrations whose content went, deleted or erased, and whether each is kept for another one."""
    ties: dict[int, list[Tie]] = defaultdict(list)
    for row in await TIES.fetch(tx, {"partnership": partnership, "uids": sorted(registrations)}):
        tie = Tie(*row)
        ties[tie.deal_id].append(tie)
    return {deal_id: is_kept(each, partnership, registrations, own_word) for deal_id, each in ties.items()}


def is_kept(ties: Sequence[Tie], partnership: str, registrations: Collection[str], own_word: bool) -> bool:
    """Whether one of a deal's registrations keeps it from going with the last of those that went."""
    last = max(each for each in ties if each.partnership == partnership and each.uid in registrations)
    return any(keeps(each, last, own_word) for each in ties)


def count_registrations(*which: ColumnElement[bool]) -> ScalarSelect[int]:
    """How many of a deal's registrations are such; for an UPDATE of deals."""
    return select(func.count()).select_from(shared_deals).where(shared_deals.c.deal_id == deals.c.id, *which).scalar_subquery()


def set_counts() -> Update:
    active = count_registrations(shared_deals.c.status.in_(sorted(COUNTED_ACTIVE)), shared_deals.c.state.not_in(GONE))
    values = {
        "number_of_deal_registrations": count_registrations(),
        "number_of_active_deal_registrations": active,
        "is_active_shared_deal": active > 0,
        "open_registrations": count_registrations(*LIVING_OPEN),
    }
    return update(deals).where(Among(deals.c.id, "ids")).values(values)


RECOUNT = Statement(set_counts())


async def recount(tx: AsyncConnection, deal_ids: Iterable[int]) -> None:
    """The derived counts of these deals, from their registrations: never settable otherwise. The caller holds deals that others may know,
    because a count beside another transaction's would miss what that one adds."""
    if ids := sorted(set(deal_ids)):
        await RECOUNT.fetch(tx, {"ids": ids})


async def follow_reps(tx: AsyncConnection, assigned: Sequence[tuple[int, str | None]]) -> None:
    """The rep owns the deal in the vendor's CRM; of a deal with several open registrations only where nobody does yet."""
    owner = select(users.c.id).where(users.c.uid == bindparam("person")).scalar_subquery()
    rows = [{"deal": deal_id, "person": person} for deal_id, person in assigned if person]
    if rows:
        free = or_(deals.c.open_registrations < 2, deals.c.owner_id.is_(None))
        await tx.execute(update(deals).where(deals.c.id == bindparam("deal"), free).values(owner_id=owner), rows)


async def project_deals(tx: AsyncConnection, records: Sequence[SharedRecord], policy: Policy, now_ms: int) -> None:
    """Columns of the deals that follow their single open registration; only what was touched is written."""
    if not records:
        return
    await project_lives(tx, [each for each in records if LIFE in each.document or each.erasing], now_ms)
    followed = await find_followers(tx, records)
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        target = followed.get(str(record.registration))
        columns = deal_columns(record, policy, target) if target and is_followed(target) else {}
        if target and columns:
            groups[tuple(columns)].append({"id": target["deal_id"], **columns})
    for _, rows in sorted(groups.items()):
        await change_rows(tx, deals, rows, "id")


OF_FOLLOWER = ("uid", "deal_id", "status", "state", "left_here")
OF_FOLLOWED = ("open_registrations", "stand_in", "currency", *DEAL_FIELDS)


def select_followers() -> Select[Any]:
    """The deals are held: what is read of them here is still so when their columns are written."""
    columns = [*(shared_deals.c[name] for name in OF_FOLLOWER), *(deals.c[name] for name in OF_FOLLOWED)]
    joined = shared_deals.join(deals, deals.c.id == shared_deals.c.deal_id)
    statement = select(*columns).select_from(joined).where(*OF_REGISTRATIONS)
    return statement.order_by(deals.c.id).with_for_update(of=deals, key_share=True)


FOLLOWERS = Statement(select_followers())


async def find_followers(tx: AsyncConnection, records: Sequence[SharedRecord]) -> dict[str, Mapping[str, Any]]:
    """Per registration its status and life, and its deal's columns with how many of that deal's registrations are open."""
    uids = sorted({str(each.registration) for each in records})
    found = await FOLLOWERS.fetch(tx, {"partnership": records[0].partnership, "uids": uids})
    return {row[0]: dict(zip((*OF_FOLLOWER, *OF_FOLLOWED), row, strict=True)) for row in found}


def is_followed(target: Mapping[str, Any]) -> bool:
    """Whether this registration is its deal's single open one."""
    return target["open_registrations"] == 1 and target["status"] in OPEN and target["state"] not in GONE


def deal_columns(record: SharedRecord, policy: Policy, target: Mapping[str, Any]) -> dict[str, Any]:
    """The touched fields of a deal record as columns of the deal, where the column went with the field and it can be shown. A record that
    comes back to a deal whose content went tells that all of its fields."""
    columns: dict[str, Any] = {}
    otherwise = EMPTY if target["stand_in"] and LIFE in record.touched else None
    for name in DEAL_FIELDS:
        before = record.touched.get(name, otherwise)
        if before is not None and went_with(name, before, target):
            columns |= columns_of(name, shown(record, policy, name))
    return columns


def went_with(name: str, before: Register, target: Mapping[str, Any]) -> bool:
    """Whether the deal's column had a value of this register: then nothing of this side's own is lost when it follows what comes after.
    A column without a value follows the first one, and so does a name that only stands in."""
    column = read_column(target, name)
    if not before.siblings:
        return column is None or (name == "name" and bool(target["stand_in"]))
    return any(column == (each.value if is_valid("deal", name, each.value) else None) for each in before.siblings)


def read_column(row: Mapping[str, Any], name: str) -> Any:
    """A shared field as a deal's row has it."""
    if name != "amount":
        return row[name]
    return {"amount": row["amount"], "currency": row["currency"]} if row["amount"] is not None else None


def columns_of(name: str, value: Any) -> dict[str, Any]:
    """A shared field's value as columns of a deal; a deal keeps its name rather than lose it."""
    if name == "amount":
        return {"amount": value["amount"], "currency": value["currency"]} if value else {"amount": None, "currency": None}
    if name == "name":
        return {"name": value, "stand_in": False} if value else {}
    return {name: value}


async def project_lives(tx: AsyncConnection, records: Sequence[SharedRecord], now_ms: int) -> None:
    """A deal leaves the lists when a registration of it is deleted and it is not kept for another one, and comes back when one is restored
    or contested, unless this side had deleted it for itself."""
    if not records:
        return
    followed = await find_followers(tx, records)
    lives = [(record.state, followed[str(record.registration)]) for record in records if str(record.registration) in followed]
    turned = [(state, target) for state, target in lives if state != target["state"]]
    for state, target in turned:
        where = (shared_deals.c.partnership == records[0].partnership, shared_deals.c.uid == target["uid"])
        await tx.execute(update(shared_deals).where(*where).values(state=state))
    if turned:
        await recount(tx, [target["deal_id"] for _, target in turned])
    if deleted := [target["uid"] for state, target in turned if state == "deleted"]:
        kept = await find_kept(tx, records[0].partnership, deleted)
        await UNLIST.fetch(tx, {"ids": [deal_id for deal_id, stays in kept.items() if not stays], "now_ms": now_ms})
    for state, target in turned:
        if state not in GONE and not target["left_here"]:
            await tx.execute(update(deals).where(deals.c.id == target["deal_id"]).values(deleted_ms=None))
