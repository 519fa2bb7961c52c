"""What people and programs read of a shared deal: values with `seen` tokens and sync state per field, its parts, and its audit trail."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.documents import LIFE
from shared_schema.contract.life import is_deletion, unseen_fields
from shared_schema.contract.policy import Policy, display, value_of
from shared_schema.contract.registers import Side, differs, encode_token, latest_first, side_of
from shared_schema.contract.registration import status_of
from shared_schema.contract.topics import other
from shared_schema.crm import projected_tables as tables
from shared_schema.crm.customers import What, find_described
from shared_schema.crm.deals import load_deal
from shared_schema.crm.policies import load_policy
from shared_schema.crm.problems import NotFound
from shared_schema.crm.rows import in_partnership
from shared_schema.crm.shared_records import SharedRecord, load_registration, read_record
from shared_schema.crm.tables import partnerships, property_history
from shared_schema.sync.registrations import load_shared_deal
from shared_schema.sync.sync_state import SyncIndex, load_index, worst
from shared_schema.sync.tables import journal, peers

Row = dict[str, Any]
PLURALS = {"note": "notes", "comment": "comments", "product": "products", "quote": "quotes", "eligibility": "eligibility", "member": "team"}
CUSTOMERS: tuple[What, ...] = ("company", "contact")
OFFERS = ("restore", "delete anyway")  # of a contested deletion, to either side
LOCAL_IDS: Mapping[str, Table] = {
    "note": tables.shared_notes,
    "comment": tables.comments,
    "product": tables.products,
    "quote": tables.quotes,
    "eligibility": tables.eligibilities,
    "member": tables.members,
}


async def read_shared_deal(connection: AsyncConnection, side: Side, shared_deal_id: int) -> Row:
    """One registration whole, as this side sees it."""
    row = await load_shared_deal(connection, shared_deal_id)
    records = await load_registration(connection, row["partnership"], row["registration"])
    policy = await load_policy(connection, row["partnership"])
    index = await load_index(connection, row["partnership"], row["registration"], row["status"])
    people = await load_people(connection, row["partnership"])
    ids = await load_ids(connection, row["partnership"], row["registration"])
    registration = next((each for each in records if each.kind == "registration"), None)
    by_kind: dict[str, list[Row]] = defaultdict(list)
    for record in records:
        by_kind[record.kind].append(present(record, policy, index, people) | ids.get(record.uid, {}))
    return {
        **{
            name: row[name]
            for name in ("id", "deal_id", "partnership", "registration", "status", "reason", "state", "initiated_by", "expires")
        },
        **await describe_peer(connection, row["partnership"]),
        "own_side": side,
        "registration_record": next(iter(by_kind["registration"]), None),
        "deal": next((hide(each, policy, side) for each in by_kind["deal"]), None),
        **{plural: sorted(by_kind[kind], key=lambda each: each.get("id", 0)) for kind, plural in PLURALS.items()},
        "sync": worst(each["sync"] for kind in by_kind for each in by_kind[kind]),
        "merge_offer": await find_merge_offer(connection, row, registration, side),
        "customer_merge_offers": await find_customer_offers(connection, row, registration, side),
    }


async def find_mate(connection: AsyncConnection, partnership: str, registration: SharedRecord | None, field: str) -> Row | None:
    """The registration that the other side named in one of its merging fields, with the deal that it has here."""
    said = value_of(registration.document, field) if registration else None
    beside = said.get("with") if isinstance(said, dict) else None
    if not isinstance(beside, str):
        return None
    table = tables.shared_deals
    where = (table.c.partnership == partnership, table.c.uid == beside)
    found = (await connection.execute(select(table.c.id, table.c.uid, table.c.deal_id).where(*where))).mappings().one_or_none()
    return dict(found) if found else None


async def find_merge_offer(connection: AsyncConnection, row: Row, registration: SharedRecord | None, side: Side) -> Row | None:
    """The deal that the other side merged this one with, where they are still two here."""
    mate = await find_mate(connection, row["partnership"], registration, f"{other(side)}_merged")
    if mate is None or mate["deal_id"] == row["deal_id"]:
        return None
    return {"shared_deal_id": mate["id"], "deal_id": mate["deal_id"]}


async def find_customer_offers(connection: AsyncConnection, row: Row, registration: SharedRecord | None, side: Side) -> Row:
    """The company and the contact that the other side merged this deal's with, where they are still two here: `keep` and `take_over`.
    They are whom the two registrations describe, because of others the other side can not have spoken."""
    offers: Row = {}
    for what in CUSTOMERS:
        mate = await find_mate(connection, row["partnership"], registration, f"{other(side)}_{what}_merged")
        if mate is not None:
            beside = await read_record(connection, row["partnership"], mate["uid"])
            keep = await find_told(connection, what, beside, mate["deal_id"])
            merged = await find_told(connection, what, registration, row["deal_id"])
            if keep is not None and merged is not None and keep != merged:
                offers[what] = {"keep": keep, "take_over": merged}
    return offers


async def find_told(connection: AsyncConnection, what: What, registration: SharedRecord | None, deal_id: int) -> int | None:
    """The company or contact of a deal that its registration describes."""
    described = value_of(registration.document, what) if registration else None
    return await find_described(connection, what, described, deal_id)


async def describe_peer(connection: AsyncConnection, partnership: str) -> Row:
    """The other organisation's name, and when it was last heard (UTC ms)."""
    joined = partnerships.outerjoin(peers, peers.c.partnership == partnerships.c.id)
    columns = (partnerships.c.peer_name, peers.c.heard_ms, peers.c.backlog)
    row = (await connection.execute(select(*columns).select_from(joined).where(partnerships.c.id == partnership))).one_or_none()
    return {"peer": row.peer_name, "peer_heard_ms": row.heard_ms, "peer_backlog": row.backlog} if row else {}


def present(record: SharedRecord, policy: Policy, index: SyncIndex, people: Mapping[str, str]) -> Row:
    """A record with its fields as they are displayed."""
    fields = {
        name: present_field(record, name, policy, index, people) for name in record.document if name != LIFE and not name.startswith("$")
    }
    states = [each["sync"] for each in fields.values()]
    life = record.document.get(LIFE)
    if life.siblings:
        states.append(index.of_field(record.kind, record.uid, LIFE, life))
    if record.state == "contested":
        states.append("conflict")
    shown: Row = {"uid": record.uid, "kind": record.kind, "parent": record.parent, "side": record.side, "state": record.state}
    shown |= {"fields": fields, "life_seen": encode_token(life.context), "sync": worst(states)}
    return shown | present_deletion(record, people)


def present_field(record: SharedRecord, name: str, policy: Policy, index: SyncIndex, people: Mapping[str, str]) -> Row:
    """A field's displayed value with its token; all its values where they differ."""
    register = record.document.get(name)
    shown = display(register, policy.display_rule(record.kind, name))
    field: Row = {"value": shown.value if shown else None, "seen": encode_token(register.context)}
    field["sync"] = index.of_field(record.kind, record.uid, name, register)
    if shown:
        field |= {"side": side_of(shown.dot.incarnation), "by": people.get(shown.actor or ""), "at_ms": shown.stamp.physical}
    if said := index.outcomes.get((record.uid, name)):
        field["outcome"] = {"outcome": said.outcome, "reason": said.reason}
    if differs(register) and field["sync"] == "conflict":
        field["values"] = [
            {"value": each.value, "side": side_of(each.dot.incarnation), "by": people.get(each.actor or ""), "at_ms": each.stamp.physical}
            for each in latest_first(register.siblings)
        ]
    return field


def present_deletion(record: SharedRecord, people: Mapping[str, str]) -> Row:
    """Who deleted it, and for a contested deal what had changed without their having seen it."""
    deletions = [each for each in latest_first(record.document.get(LIFE).siblings) if is_deletion(each)]
    if not deletions or record.state == "alive":
        return {}
    last = deletions[0]
    told: Row = {
        "deleted_side": side_of(last.dot.incarnation),
        "deleted_by": people.get(last.actor or ""),
        "deleted_ms": last.stamp.physical,
    }
    if record.state != "contested":
        return told
    return told | {"changed_unseen": unseen_fields(record.document), "offers": list(OFFERS)}


def hide(deal: Row, policy: Policy, side: Side) -> Row:
    """Without the fields of the other side that the policy does not show."""
    visible = {name: each for name, each in deal["fields"].items() if policy.shows("deal", name) or each.get("side") == side}
    return {**deal, "fields": visible}


async def load_people(connection: AsyncConnection, partnership: str) -> dict[str, str]:
    """Names by person uid."""
    statement = select(tables.persons.c.uid, tables.persons.c.name).where(tables.persons.c.partnership == partnership)
    return {uid: name for uid, name in await connection.execute(statement)}


async def load_ids(connection: AsyncConnection, partnership: str, registration: str) -> dict[str, Row]:
    """Local ids and arrival times of a registration's parts, by uid."""
    found: dict[str, Row] = {}
    for table in LOCAL_IDS.values():
        where = (in_partnership(table, partnership), table.c.registration == registration)
        statement = select(table.c.uid, table.c.id, table.c.created_ms).where(*where)
        found |= {uid: {"id": id, "created_ms": created_ms} for uid, id, created_ms in await connection.execute(statement)}
    return found


async def list_shared_deals(connection: AsyncConnection, filters: Mapping[str, Any], after: int = 0, limit: int = 50) -> list[Row]:
    """A page of registrations in id order, filtered by partnership, status, state or deal_id; the id of a deal that was merged leads to its
    survivor."""
    if "deal_id" in filters:
        try:
            filters = {**filters, "deal_id": (await load_deal(connection, filters["deal_id"]))["id"]}
        except NotFound:
            return []
    table = tables.shared_deals
    statement = select(table).where(table.c.id > after).order_by(table.c.id).limit(min(limit, 200))
    for name, value in filters.items():
        statement = statement.where(table.c[name] == value)
    return [dict(row) for row in (await connection.execute(statement)).mappings()]


async def read_audit(connection: AsyncConnection, shared_deal_id: int) -> Row:
    """The audit trail: every write of the registration by its dot, in stamp order, the same on both sides; and this node's journal."""
    row = await load_shared_deal(connection, shared_deal_id)
    records = await load_registration(connection, row["partnership"], row["registration"])
    kinds = {each.uid: each.kind for each in records}
    people = await load_people(connection, row["partnership"])
    history = property_history
    statement = select(history).where(history.c.partnership == row["partnership"], history.c.uid.in_(sorted(kinds)))
    found = (await connection.execute(statement)).mappings()
    entries = sorted((audit_entry(each, kinds, people) for each in found), key=lambda each: each["order"])
    notes = (
        select(journal.c.what, journal.c.detail, journal.c.at_ms)
        .where(journal.c.partnership == row["partnership"], journal.c.registration == row["registration"])
        .order_by(journal.c.id)
    )
    statuses = [status_of(each.document) for each in records if each.kind == "registration"]
    return {
        "status": next(iter(statuses), None),
        "entries": [{name: value for name, value in each.items() if name != "order"} for each in entries],
        "journal": [dict(each) for each in (await connection.execute(notes)).mappings()],
    }


def audit_entry(row: RowMapping, kinds: Mapping[str, str], people: Mapping[str, str]) -> Row:
    dot = f"{row['incarnation']}:{row['counter']}"
    return {
        "order": (row["physical"], row["logical"], row["incarnation"], row["counter"], row["uid"], row["field"]),
        "dot": dot,
        "kind": kinds[row["uid"]],
        "uid": row["uid"],
        "field": row["field"],
        "value": row["value"],
        "side": side_of(row["incarnation"]),
        "by": people.get(row["actor"] or ""),
        "written_ms": row["physical"],
        "arrived_ms": row["at_ms"],
        "source": row["source"],
        "event": row["event"],
    }
