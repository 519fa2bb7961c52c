"""Apply: a batch of the peer's events merged into the store, set-based, in the transaction that moves the position.

Effects come from the state before and after, never from an event's type or its arrival, so a duplicate has none. Nothing is captured:
there is no echo. What can not be applied yet, or at all, is parked whole.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import Outcome, RecordChange, Undecodable
from shared_schema.contract.documents import Document
from shared_schema.contract.policy import Policy
from shared_schema.contract.records import KINDS, Kind
from shared_schema.contract.refusal import Door, refuse
from shared_schema.contract.registers import Side, differs, new_siblings
from shared_schema.contract.topics import other
from shared_schema.crm.rows import upsert
from shared_schema.crm.shared_records import SharedRecord, Written, append_history, load_records, save_records
from shared_schema.sync.arrivals import Arrivals, Numbered, sort_arrivals
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.tables import parked, peer_outcomes
from shared_schema.sync.transport import Received


class MissingParent(Exception):
    """A child came before its parent: `uid` is what it waits for."""

    def __init__(self, uid: str) -> None:
        super().__init__(f"waits for its parent {uid}")
        self.uid = uid


@dataclass(slots=True)
class Desk:
    """One batch at work: who we are, the locked records, and what has come of the batch so far."""

    incarnation: Incarnation
    partnership: str
    policy: Policy
    records: dict[str, SharedRecord] = field(default_factory=dict)
    written: list[Written] = field(default_factory=list)
    parking: list[dict[str, object]] = field(default_factory=list)
    answers: list[tuple[Numbered, tuple[Outcome, ...]]] = field(default_factory=list)
    heard: list[dict[str, object]] = field(default_factory=list)
    created: set[str] = field(default_factory=set)

    @property
    def side(self) -> Side:
        return self.incarnation.side

    @property
    def now_ms(self) -> int:
        return self.incarnation.clock.now_ms()


async def apply_events(tx: AsyncConnection, desk: Desk, arrivals: Arrivals) -> None:
    """Merge the events in order and write what changed; the caller moves the position in the same transaction."""
    desk.records |= await load_records(tx, desk.partnership, named_uids(arrivals.events))
    for unreadable in arrivals.unreadable:
        desk.parking.append(park_row(desk, unreadable.received, unreadable.reason, unreadable.detail, (None, None)))
    waiting = list(arrivals.events)
    while waiting:
        for each in waiting:
            apply_event(desk, each)
        waiting = await release_children(tx, desk)
    await save_records(tx, desk.records.values())
    await append_history(tx, desk.written, desk.now_ms)
    await upsert(tx, peer_outcomes, desk.heard, ("outcome", "reason", "at_ms"))
    if desk.parking:
        await tx.execute(insert(parked), desk.parking)


def named_uids(events: Iterable[Numbered]) -> set[str]:
    """Every record that the events carry or hang on."""
    changes = [change for each in events for change in each.event.data.records]
    return {change.uid for change in changes} | {change.parent for change in changes if change.parent}


def apply_event(desk: Desk, numbered: Numbered) -> None:
    """One event into the records in memory; parked whole if one of its records has no parent yet."""
    try:
        check_parents(desk, numbered.event.data.records)
    except MissingParent as missing:
        park_event(desk, numbered, missing)
        return
    outcomes: list[Outcome] = []
    for change in numbered.event.data.records:
        outcomes += merge_change(desk, numbered, change)
    for outcome in numbered.event.data.outcomes:
        desk.heard.append(hear(desk, outcome))
    if numbered.received.offset < 0:
        outcomes = outcomes or [Outcome(numbered.event.id, "applied", "left parking")]
    if outcomes:
        desk.answers.append((numbered, tuple(outcomes)))
    desk.incarnation.adopt(numbered.event.stamp)


def check_parents(desk: Desk, changes: Sequence[RecordChange]) -> None:
    """Every record's parent is stored, or comes in the same event before it."""
    here = set(desk.records)
    for change in changes:
        if change.parent is not None and change.parent not in here:
            raise MissingParent(change.parent)
        here.add(change.uid)


def merge_change(desk: Desk, numbered: Numbered, change: RecordChange) -> list[Outcome]:
    """Merge one record's fields past the door; what became of those that did not simply apply."""
    event = numbered.event
    record = desk.records.get(change.uid)
    if reason := refuse_identity(desk, record, change):
        return [Outcome(event.id, "refused", reason, change.uid)]
    if record is None:
        record = SharedRecord(desk.partnership, change.uid, change.kind, change.parent, change.registration, change.side, Document())
        record.changed = True
        desk.records[change.uid] = record
        desk.created.add(change.uid)
    if record.document.erased:
        return [Outcome(event.id, "ignored", "erased", change.uid)]
    refused = refuse(Door(desk.side, desk.policy, record.kind, record.side), record.document, Document.of(change.fields))
    outcomes = [Outcome(event.id, "refused", reason, change.uid, name) for name, reason in refused.items()]
    for name, register in change.fields.items():
        if name in refused:
            continue
        before = record.document.get(name)
        if not record.document.merge_in(name, register):
            continue
        record.changed = True
        desk.written += [Written(record, name, each, "peer", event.id) for each in new_siblings(before, register)]
        if differs(record.document.get(name)) and not differs(before):
            outcomes.append(Outcome(event.id, "conflict", "both sides changed it", change.uid, name))
    return outcomes


def refuse_identity(desk: Desk, record: SharedRecord | None, change: RecordChange) -> str | None:
    """A uid keeps its kind, parent, registration and maker for ever; a new record is the sender's own."""
    if record is None:
        parent = desk.records.get(change.parent) if change.parent else None
        kind = KINDS.get(change.kind)
        if kind is not None and (kind.parent is None) != (parent is None):
            return "wrong_parent"
        if (
            parent is not None
            and kind is not None
            and (parent.kind != kind.parent or change.registration not in (parent.uid, parent.registration))
        ):
            return "wrong_parent"
        return None if change.side == other(desk.side) else "wrong_identity"
    same = (record.kind, record.parent, record.registration, record.side) == (change.kind, change.parent, change.registration, change.side)
    return None if same else "wrong_identity"


def belongs(parent: SharedRecord, kind: Kind, change: RecordChange) -> bool:
    """Whether a new child names a parent of the right kind, within its own registration."""
    return parent.kind == kind.parent and change.registration in (parent.uid, parent.registration)


def hear(desk: Desk, outcome: Outcome) -> dict[str, object]:
    """The row of what the peer says became of an event of ours."""
    return {
        "partnership": desk.partnership,
        "event": outcome.event,
        "uid": outcome.uid or "",
        "field": outcome.field or "",
        "outcome": outcome.outcome[:20],
        "reason": outcome.reason[:1_000],
        "at_ms": desk.now_ms,
    }


def park_event(desk: Desk, numbered: Numbered, missing: MissingParent) -> None:
    desk.parking.append(park_row(desk, numbered.received, "missing_parent", str(missing), (numbered.event.id, missing.uid)))
    desk.answers.append((numbered, (Outcome(numbered.event.id, "parked", "missing_parent"),)))


def park_row(desk: Desk, received: Received, reason: str, detail: str, ids: tuple[str | None, str | None]) -> dict[str, object]:
    """The parked record whole: topic, offset, headers and bytes, with the reason."""
    return {
        "partnership": desk.partnership,
        "topic": received.topic,
        "record_offset": received.offset,
        "event": ids[0],
        "waits_for": ids[1],
        "reason": reason,
        "detail": detail[:4_000],
        "headers": json.dumps([[name, value.hex()] for name, value in received.headers]),
        "payload": received.value,
        "at_ms": desk.now_ms,
    }


async def release_children(tx: AsyncConnection, desk: Desk) -> list[Numbered]:
    """The parked events that waited for a record which this batch created; they leave parking in this transaction."""
    if not desk.created:
        return []
    fresh, desk.created = sorted(desk.created), set()
    desk_parked = [row for row in desk.parking if row["waits_for"] in fresh]
    desk.parking = [row for row in desk.parking if row["waits_for"] not in fresh]
    where = (parked.c.partnership == desk.partnership, parked.c.waits_for.in_(fresh))
    stored = (await tx.execute(select(parked.c.topic, parked.c.headers, parked.c.payload).where(*where).order_by(parked.c.id))).all()
    if stored:
        await tx.execute(delete(parked).where(*where))
    bodies = [(str(row.topic), str(row.headers), row.payload) for row in stored]
    bodies += [(str(row["topic"]), str(row["headers"]), row["payload"]) for row in desk_parked]
    released = sort_arrivals(desk.partnership, [unpark(*body) for body in bodies])
    if released.unreadable:
        raise Undecodable(released.unreadable[0].reason, "a parked event no longer decodes")
    missing = named_uids(released.events) - set(desk.records)
    desk.records |= await load_records(tx, desk.partnership, missing)
    return released.events


def unpark(topic: str, headers: str, payload: bytes | None) -> Received:
    """A parked record as it was read; its offset is -1, because it is not read from the topic now."""
    return Received(topic, -1, 0, None, payload, tuple((name, bytes.fromhex(value)) for name, value in json.loads(headers)))
