"""Shared records in the store: read under lock, written set-based, with the writes that are new to this node in the property history."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.documents import ERASED, Document, bucket_of
from shared_schema.contract.life import State, hash_document, make_deletion, state_of
from shared_schema.contract.records import deletion_rule, is_one_way, known_fields
from shared_schema.contract.registers import CONTEXT_ALARM, EMPTY, Context, Register, Sibling, Side, differs, encode_value
from shared_schema.crm.problems import NotHereYet
from shared_schema.crm.rows import Among, change_rows, in_partnership, insert_missing, upsert
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import partnerships, property_history, shared_records

KEY = ("partnership", "uid")
CHANGING = ("document", "state", "hash")
CLEARED = "$cleared"
READ = select(*(shared_records.c[name] for name in ("partnership", "uid", "kind", "parent", "registration", "side", "document")))


def select_named() -> Select[Any]:
    """The records of a partnership with these uids, in uid order: the order in which they are locked."""
    named = (shared_records.c.partnership == bindparam("partnership"), Among(shared_records.c.uid, "uids"))
    return READ.where(*named).order_by(shared_records.c.uid)


LOCKED = Statement(select_named().with_for_update())
ELSEWHERE = Statement(
    select(shared_records.c.uid)
    .join(partnerships, partnerships.c.id == shared_records.c.partnership)  # so that the key's order serves: by partnership, then uid
    .where(partnerships.c.id != bindparam("partnership"), Among(shared_records.c.uid, "uids"))
)


@dataclass(slots=True)
class SharedRecord:
    """One shared record while a transaction works on it. What identifies it never changes; its document does.

    `stored` is the document as it was read, `touched` the fields changed since with their registers before that, `turned` the conflicts
    opened (True) or closed, `named` the fields erased since by name, also where all of it was erased then.
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
    named: set[str] = field(default_factory=set)

    def deletion(self, shown: Mapping[str, Context] | None = None) -> dict[str, Any]:
        """The value of a deletion of it by someone who was shown these contexts; by default, everything stored."""
        return make_deletion(self.document, known_fields(self.kind), shown)

    @property
    def changed(self) -> bool:
        return self.stored is None or bool(self.touched)

    @property
    def state(self) -> State:
        return state_of(self.document, deletion_rule(self.kind))

    def touch(self, name: str, before: Register) -> bool:
        """Remember that a field changed, and whether that opened or closed a conflict; whether it opened one."""
        self.touched.setdefault(name, before)
        now = differs(self.document.get(name))
        if differs(before) == now or is_one_way(self.kind, name):
            return False
        self.turned[name] = now
        return now

    def erase(self, names: Iterable[str] = ()) -> None:
        """Erase the named fields, or everything; what hangs on the content elsewhere is cleared by whoever follows the change."""
        named = set(names)
        self.named |= named
        self.document.erase(named)
        self.touched.setdefault(ERASED, EMPTY)

    def clear(self) -> None:
        """Let go of a deleted record's content."""
        self.document.clear()
        self.touched.setdefault(CLEARED, EMPTY)

    @property
    def erasing(self) -> bool:
        """Whether something of it was erased in this transaction."""
        return ERASED in self.touched

    def before(self) -> "SharedRecord | None":
        """The record as it was stored when this transaction read it; None if it was not there."""
        return None if self.stored is None else replace(self, document=Document.decode(self.stored), touched={}, turned={}, named=set())


class Written(NamedTuple):
    """A write that this node had not seen before, with where it came from."""

    record: SharedRecord
    field: str
    sibling: Sibling
    source: str
    event: str


class LongContext(NamedTuple):
    """A field that very many incarnations wrote: each has an entry in its context for ever. `fresh`: it became so just now."""

    uid: str
    field: str
    entries: int
    fresh: bool


def find_long_contexts(records: Iterable[SharedRecord]) -> tuple[LongContext, ...]:
    """The fields changed in this transaction whose contexts have grown long."""
    changed = [
        (record.uid, name, len(before.context), len(record.document.get(name).context))
        for record in records
        for name, before in record.touched.items()
        if name not in (ERASED, CLEARED)
    ]
    return tuple(LongContext(uid, name, now, was < CONTEXT_ALARM) for uid, name, was, now in changed if now >= CONTEXT_ALARM)


async def load_records(connection: AsyncConnection, partnership: str, uids: Iterable[str]) -> dict[str, SharedRecord]:
    """The named records by uid, locked in uid order until the transaction ends; unknown ones are absent."""
    wanted = sorted(set(uids))
    if not wanted:
        return {}
    rows = await LOCKED.fetch(connection, {"partnership": partnership, "uids": wanted})
    return {row[1]: read_row(row) for row in rows}


async def load_record(connection: AsyncConnection, partnership: str, uid: str, *others: str) -> SharedRecord:
    """One record that is needed, locked until the transaction ends as the others named are, if they are there. Raises NotHereYet."""
    found = await load_records(connection, partnership, [uid, *others])
    if uid not in found:
        raise NotHereYet
    return found[uid]


async def read_records(connection: AsyncConnection, partnership: str, uids: Iterable[str]) -> dict[str, SharedRecord]:
    """The named records by uid, for reading only: not locked."""
    statement = READ.where(shared_records.c.partnership == partnership, shared_records.c.uid.in_(sorted(set(uids))))
    return {row[1]: read_row(row) for row in await connection.execute(statement)}


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
    return {uid for (uid,) in await ELSEWHERE.fetch(connection, {"partnership": partnership, "uids": wanted})}


async def load_of_registrations(connection: AsyncConnection, partnership: str, registrations: Iterable[str]) -> dict[str, SharedRecord]:
    """All records of these registrations by uid, locked in uid order until the transaction ends."""
    of_them = (in_partnership(shared_records, partnership), shared_records.c.registration.in_(sorted(set(registrations))))
    rows = await connection.execute(READ.where(*of_them).order_by(shared_records.c.uid).with_for_update())
    return {row[1]: read_row(row) for row in rows}


async def load_registration(connection: AsyncConnection, partnership: str, registration: str) -> list[SharedRecord]:
    """All records of a partnership's registration, for reading."""
    where = (in_partnership(shared_records, partnership), shared_records.c.registration == registration)
    return [read_row(row) for row in await connection.execute(READ.where(*where).order_by(shared_records.c.uid))]


def read_row(row: Any) -> SharedRecord:
    """A row of READ."""
    partnership, uid, kind, parent, registration, side, document = row
    return SharedRecord(partnership, uid, kind, parent, registration, side, Document.decode(document), document)


async def save_records(connection: AsyncConnection, records: Iterable[SharedRecord]) -> None:
    """Write the changed ones, in uid order, with their state and hash; what was read is locked, so that it is there."""
    changed = [record for record in sorted(records, key=lambda each: each.uid) if record.changed]
    await upsert(connection, shared_records, [write_row(each) for each in changed if each.stored is None], CHANGING)
    known = [{name: row[name] for name in (*KEY, *CHANGING)} for row in (write_row(each) for each in changed if each.stored is not None)]
    await change_rows(connection, shared_records, known, KEY)


def write_row(record: SharedRecord) -> dict[str, Any]:
    state, encoded = record.state, record.document.encode()
    return {
        "partnership": record.partnership,
        "uid": record.uid,
        "kind": record.kind,
        "parent": record.parent,
        "registration": record.registration,
        "side": record.side,
        "document": encoded.decode(),
        "state": state,
        "bucket": bucket_of(record.uid),
        "hash": hash_document(record.uid, record.document, state, encoded),
    }


async def append_history(connection: AsyncConnection, written: Sequence[Written], at_ms: int) -> None:
    """One row per write, once, whatever is redelivered; none of what is erased."""
    kept = [each for each in written if not each.record.document.is_erased(each.field)]
    await insert_missing(connection, property_history, [history_row(each, at_ms) for each in kept])


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
