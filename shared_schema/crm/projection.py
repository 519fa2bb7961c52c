"""The projection: columns of the CRM that are a function of shared records' documents. Set-based; the same for our writes and the peer's.

A value that this version does not understand is not projected; its register keeps it all the same.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Table, delete, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.documents import LIFE
from shared_schema.contract.policy import Policy, display
from shared_schema.contract.registers import Side
from shared_schema.crm import projected_tables as tables
from shared_schema.crm.rows import insert_missing, upsert
from shared_schema.crm.shared_deals import lock_deals_of, project_deals, project_registrations, shown, shown_part, uid_of
from shared_schema.crm.shared_records import SharedRecord

Columns = dict[str, Any]


class Projected(NamedTuple):
    """Where a kind's records go, and the columns of one."""

    table: Table
    columns: Callable[[SharedRecord, Policy], Columns]


async def project(tx: AsyncConnection, side: Side, records: Sequence[SharedRecord], policy: Policy, now_ms: int) -> None:
    """Bring the columns of the changed records of one partnership up to their documents."""
    by_kind: dict[str, list[SharedRecord]] = defaultdict(list)
    for record in records:
        by_kind[record.kind].append(record)
    if by_kind["registration"] or any(LIFE in each.touched for each in by_kind["deal"]):
        await lock_deals_of(tx, [*by_kind["registration"], *by_kind["deal"]])
    await project_registrations(tx, side, by_kind["registration"], policy, now_ms)
    await project_deals(tx, by_kind["deal"], policy, now_ms)
    for kind, projected in PROJECTED.items():
        rows = [make_row(each, projected, policy, now_ms) for each in by_kind[kind]]
        changing = [name for name in (rows[0] if rows else {}) if name not in ("partnership", "uid", "created_ms")]
        await upsert(tx, projected.table, rows, changing, key=("partnership", "uid"))
    await turn_conflicts(tx, records, now_ms)
    await turn_trash(tx, records, now_ms)


def make_row(record: SharedRecord, projected: Projected, policy: Policy, now_ms: int) -> Columns:
    row = {
        "partnership": record.partnership,
        "uid": record.uid,
        "registration": record.registration,
        "side": record.side,
        "state": record.state,
        "created_ms": now_ms,
    }
    return row | projected.columns(record, policy)


def author_of(record: SharedRecord, field: str) -> str | None:
    """The person whose value is displayed."""
    sibling = display(record.document.get(field))
    return sibling.actor if sibling else None


def note_columns(record: SharedRecord, policy: Policy) -> Columns:
    return {"author": author_of(record, "body"), "body": shown(record, policy, "body") or ""}


def comment_columns(record: SharedRecord, policy: Policy) -> Columns:
    return {"note": record.parent, **note_columns(record, policy)}


def product_columns(record: SharedRecord, policy: Policy) -> Columns:
    sku = shown(record, policy, "sku") or record.uid
    return {"sku": sku, "name": shown(record, policy, "name") or sku, "quantity": shown(record, policy, "quantity")}


def quote_columns(record: SharedRecord, policy: Policy) -> Columns:
    return {
        "number": shown(record, policy, "number") or record.uid,
        "title": shown(record, policy, "title"),
        "amount": shown_part(record, policy, "total", "amount"),
        "currency": shown_part(record, policy, "total", "currency"),
        "status": shown(record, policy, "status"),
        "expires": shown(record, policy, "expires"),
    }


def eligibility_columns(record: SharedRecord, policy: Policy) -> Columns:
    return {name: shown(record, policy, name) for name in ("eligible", "rate", "reason")}


def member_columns(record: SharedRecord, policy: Policy) -> Columns:
    return {"person": uid_of(shown(record, policy, "person")) or "", "role": shown(record, policy, "role")}


def person_columns(record: SharedRecord, policy: Policy) -> Columns:
    return {"name": shown(record, policy, "name") or "", "role": shown(record, policy, "role"), "active": shown(record, policy, "active")}


PROJECTED: Mapping[str, Projected] = {
    "note": Projected(tables.shared_notes, note_columns),
    "comment": Projected(tables.comments, comment_columns),
    "product": Projected(tables.products, product_columns),
    "quote": Projected(tables.quotes, quote_columns),
    "eligibility": Projected(tables.eligibilities, eligibility_columns),
    "member": Projected(tables.members, member_columns),
    "person": Projected(tables.persons, person_columns),
}


async def turn_conflicts(tx: AsyncConnection, records: Sequence[SharedRecord], now_ms: int) -> None:
    """The list of open conflicts: an index of what the registers say, changed only where a conflict opened or closed."""
    table = tables.conflicts
    opened = [
        {
            "partnership": record.partnership,
            "uid": record.uid,
            "field": name,
            "kind": record.kind,
            "registration": record.registration,
            "opened_ms": now_ms,
        }
        for record in records
        for name, open_now in record.turned.items()
        if open_now
    ]
    closed = [(each.partnership, each.uid, name) for each in records for name, open_now in each.turned.items() if not open_now]
    await insert_missing(tx, table, opened)
    if closed:
        await tx.execute(delete(table).where(tuple_(table.c.partnership, table.c.uid, table.c.field).in_(closed)))


async def turn_trash(tx: AsyncConnection, records: Sequence[SharedRecord], now_ms: int) -> None:
    """What is deleted and still has content can be restored; what is restored, contested or erased is there no longer."""
    table = tables.trash
    deleted = [each for each in records if each.state == "deleted" and each.document.has_content]
    rows = [{"partnership": each.partnership, "uid": each.uid, "kind": each.kind, "registration": each.registration} for each in deleted]
    await insert_missing(tx, table, [{**row, "deleted_ms": now_ms} for row in rows])
    back = [each for each in records if LIFE in each.touched and each.state != "deleted"]
    if back:
        of_them = (table.c.partnership == back[0].partnership, table.c.uid.in_(sorted(each.uid for each in back)))
        await tx.execute(delete(table).where(*of_them))
