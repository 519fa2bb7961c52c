"""Shared records in the store: read under lock, written set-based, with the writes that are new to this node in the property history."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.documents import Document, bucket_of
from shared_schema.contract.life import State, hash_document, state_of
from shared_schema.contract.records import deletion_rule, is_one_way
from shared_schema.contract.registers import Register, Sibling, Side, differs, encode_value
from shared_schema.crm.rows import Among, insert_missing, upsert
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import partnerships, property_history, shared_records

CHANGING = ("document", "state", "hash")
READ = select(*(shared_records.c[name] for name in ("partnership", "uid", "kind", "parent", "registration", "side", "document")))
LOCKED = Statement(
    READ.where(shared_records.c.partnership == bindparam("partnership"), Among(shared_records.c.uid, "uids"))
    .order_by(shared_records.c.uid)
    .with_for_update()
)
ELSEWHERE = (
    select(shared_records.c.uid)
    .join(partnerships, partnerships.c.id == shared_records.c.partnership)  # so that the key's order serves: by partnership, then uid
    .where(partnerships.c.id != bindparam("partnership"), Among(shared_records.c.uid, "uids"))
)


@dataclass(slots=True)
class SharedRecord:
    """One shared record while a transaction works on it. What identifies it never changes; its document does.

    `stored` is the document as it was read, `touched` the fields changed since with their registers before that, `turned` the conflicts
    opened (True) or closed.
    """

    partnership: str
    uid: str
    kind: str
    parent: str | None
    registration: str | None
    side: Side
    document: Document
    stored: str | None = None
    touched: dict[str, Register] = field(default_factory=dict)
    turned: dict[str, bool] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        return self.stored is None or bool(self.touched)

    @property
    def state(self) -> State:
        return state_of(self.document, deletion_rule(self.kind))

    def touch(self, name: str, before: Register) -> None:
        """Remember that a field changed, and whether that opened or closed a conflict."""
        self.touched.setdefault(name, before)
        now = differs(self.document.get(name))
        if differs(before) != now and not is_one_way(self.kind, name):
            self.turned[name] = now

    def before(self) -> "SharedRecord | None":
        """The record as it was stored when this transaction read it; None if it was not there."""
        return None if self.stored is None else replace(self, document=Document.decode(self.stored), touched={}, turned={})


class Written(NamedTuple):
    """A write that this node had not seen before, with where it came from."""

    record: SharedRecord
    field: str
    sibling: Sibling
    source: str
    event: str


async def load_records(connection: AsyncConnection, partnership: str, uids: Iterable[str]) -> dict[str, SharedRecord]:
    """The named records by uid, locked in uid order until the transaction ends; unknown ones are absent."""
    wanted = sorted(set(uids))
    if not wanted:
        return {}
    rows = await LOCKED.fetch(connection, {"partnership": partnership, "uids": wanted})
    return {row[1]: read_row(row) for row in rows}


async def read_record(connection: AsyncConnection, partnership: str, uid: str) -> SharedRecord | None:
    """One record, for reading only: not locked."""
    statement = READ.where(shared_records.c.partnership == partnership, shared_records.c.uid == uid)
    row = (await connection.execute(statement)).one_or_none()
    return read_row(row) if row else None


async def find_elsewhere(connection: AsyncConnection, partnership: str, uids: Iterable[str]) -> set[str]:
    """Which of these uids are records of another partnership and not of this one."""
    wanted = sorted(set(uids))
    if not wanted:
        return set()
    return set((await connection.execute(ELSEWHERE, {"partnership": partnership, "uids": wanted})).scalars())


async def load_registration(connection: AsyncConnection, partnership: str, registration: str) -> list[SharedRecord]:
    """All records of a partnership's registration, for reading."""
    where = (shared_records.c.partnership == partnership, shared_records.c.registration == registration)
    statement = READ.where(*where).order_by(shared_records.c.uid)
    return [read_row(row) for row in await connection.execute(statement)]


def read_row(row: Any) -> SharedRecord:
    """A row of READ."""
    partnership, uid, kind, parent, registration, side, document = row
    return SharedRecord(partnership, uid, kind, parent, registration, side, Document.decode(document), document)


async def save_records(connection: AsyncConnection, records: Iterable[SharedRecord]) -> None:
    """Write the changed ones, in uid order, with their state and hash."""
    rows = [write_row(record) for record in sorted(records, key=lambda each: each.uid) if record.changed]
    await upsert(connection, shared_records, rows, CHANGING)


def write_row(record: SharedRecord) -> dict[str, Any]:
    state = record.state
    return {
        "partnership": record.partnership,
        "uid": record.uid,
        "kind": record.kind,
        "parent": record.parent,
        "registration": record.registration,
        "side": record.side,
        "document": record.document.encode().decode(),
        "state": state,
        "bucket": bucket_of(record.uid),
        "hash": hash_document(record.uid, record.document, state),
    }


async def append_history(connection: AsyncConnection, written: Sequence[Written], at_ms: int) -> None:
    """One row per write, once, whatever is redelivered."""
    await insert_missing(connection, property_history, [history_row(each, at_ms) for each in written])


def history_row(written: Written, at_ms: int) -> dict[str, Any]:
    sibling = written.sibling
    return {
        "partnership": written.record.partnership,
        "uid": written.record.uid,
        "field": written.field,
        "incarnation": sibling.dot.incarnation,
        "counter": sibling.dot.counter,
        "physical": sibling.stamp.physical,
        "logical": sibling.stamp.logical,
        "actor": sibling.actor,
        "value": encode_value(sibling.value).decode(),
        "source": written.source,
        "event": written.event,
        "at_ms": at_ms,
    }
