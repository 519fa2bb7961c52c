"""Capture: a command's writes become registers, history and one outbox row, in the caller's transaction.

A write covers exactly what its `seen` token covers. Rows are locked before they are read. Nothing here waits for Kafka.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import Event, EventData, RecordChange, format_time
from shared_schema.contract.documents import Document
from shared_schema.contract.policy import Policy, may_write
from shared_schema.contract.records import KINDS, InvalidValue, canonical_value, is_made_by_either, is_one_way, is_written_once
from shared_schema.contract.registers import (
    Context,
    Register,
    Sibling,
    differs,
    encode_token,
    encode_value,
    write,
)
from shared_schema.contract.room import ROOM_BYTES, SIDE_CONTEXT_MAX, SIDE_SIBLINGS_MAX, VALUE_BYTES_MAX, find_excess, is_too_large, weigh
from shared_schema.crm.policies import load_with_policy
from shared_schema.crm.problems import NotHereYet, WrongState
from shared_schema.crm.rows import take_turn
from shared_schema.crm.shared_records import LongContext, SharedRecord, Written, append_history, find_long_contexts, load_records
from shared_schema.sync import brake, outbox
from shared_schema.sync.braking import Limits, takes_leave
from shared_schema.sync.effects import Due, follow, nothing_due
from shared_schema.sync.incarnation import Incarnation

Result = Literal["written", "unchanged", "conflict"]
NO_LIMITS = Limits()
EXCESSES = {
    "too_many_siblings": f"has {SIDE_SIBLINGS_MAX} unsettled values of this side already",
    "context_too_long": f"was written by {SIDE_CONTEXT_MAX} incarnations of this side, and takes no more",
}
REMEDIES = {
    "too_many_siblings": "read it again and settle the conflict first",
    "context_too_long": "make a new record: stop sharing the deal and share it again, or write a new note",
}


class NotWritable(PermissionError):
    """The policy does not let this side write the field; the message names both."""


class Creation(NamedTuple):
    """A shared record to be made by this command, if it is not there yet."""

    uid: str
    kind: str
    parent: str | None
    registration: str | None


class Write(NamedTuple):
    """A value for one field. `seen` is what its author had in view; None covers what is stored at commit (a machine's write)."""

    uid: str
    field: str
    value: Any
    seen: Context | None = None


class Command(NamedTuple):
    """What one event will say: its type, its subject, its author and the writes."""

    partnership: str
    registration: str | None
    type: str
    actor: str | None
    writes: Sequence[Write]
    creations: Sequence[Creation] = ()
    causation: str | None = None


class FieldResult(NamedTuple):
    """What became of one write, with the token of the field as it stands now."""

    uid: str
    field: str
    result: Result
    seen: str


class Captured(NamedTuple):
    """`event` is None if nothing changed: then nothing is sent either. `long`: fields that by now very many incarnations wrote."""

    event: str | None
    fields: tuple[FieldResult, ...]
    long: tuple[LongContext, ...] = ()


async def capture(  # the parts of a command's place, once, from Work
    tx: AsyncConnection,
    incarnation: Incarnation,
    policy: Policy | None,
    command: Command,
    due: Due = nothing_due,
    limits: Limits | None = NO_LIMITS,
) -> Captured:
    """Write it, remember it, queue it, under the given policy or else the one in force; past the brake's `limits` the event is held, and
    without any no brake is asked. Raises NotHereYet, WrongState, InvalidValue, NotWritable or EventTooLarge; then nothing of the
    transaction may be kept."""
    records, in_force = await open_records(tx, incarnation, command)
    policy = policy or in_force
    event = incarnation.new_uid()
    results, written = [], []
    for each in command.writes:
        record = records[each.uid]
        sibling = make_write(incarnation, policy, command, record, each)
        if sibling is not None:
            written.append(Written(record, each.field, sibling, "local", event))
        register = record.document.get(each.field)
        result = name_result(record, each.field, sibling)
        results.append(FieldResult(each.uid, each.field, result, encode_token(register.context)))
    if not written:
        return Captured(None, tuple(results))
    check_room(incarnation, records.values())
    await follow(tx, incarnation, due, policy, records.values())
    now_ms = incarnation.clock.now_ms()
    await append_history(tx, written, now_ms)
    deed = brake.deed_of(command.partnership, event, written)
    held = await brake.judge(tx, limits, deed, now_ms) if deed and limits else None
    await outbox.append(tx, [make_event(incarnation, command, event, written)], now_ms, held, destroys=takes_leave(written))
    return Captured(event, tuple(results), find_long_contexts(records.values()))


def check_room(incarnation: Incarnation, records: Iterable[SharedRecord]) -> None:
    """Raises EventTooLarge for a record with more of this side's than a state can carry."""
    for each in records:
        if each.touched and each.document.size > ROOM_BYTES and (weight := weigh(each.document, incarnation.side)) > ROOM_BYTES:
            raise outbox.EventTooLarge(f"this {each.kind} would hold {weight:,} bytes of ours of at most {ROOM_BYTES:,}; shorten its texts")


def name_result(record: SharedRecord, field: str, sibling: Sibling | None) -> Result:
    if sibling is None:
        return "unchanged"
    return "conflict" if differs(record.document.get(field)) and not is_one_way(record.kind, field) else "written"


async def open_records(tx: AsyncConnection, incarnation: Incarnation, command: Command) -> tuple[dict[str, SharedRecord], Policy]:
    """The command's records, locked; those that it creates and that are not there yet, empty. With them the policy in force. The command's
    registration is locked with them, as apply does: whether a deal follows it can not change meanwhile."""
    uids = {each.uid for each in command.writes} | {each.uid for each in command.creations}
    people = {each.uid for each in command.creations if each.kind == "person"}
    held = uids | {command.registration} if command.registration else uids
    found, policy = await load_with_policy(tx, command.partnership, held - people)
    if command.registration in found and found[command.registration].document.erased:
        raise WrongState("this deal was erased meanwhile", remedy="share it again: that makes a new registration")
    if late := {each.uid for each in command.creations if is_made_by_either(each.kind)} - found.keys():
        found |= await load_records(tx, command.partnership, late)  # it may have come while this command waited for the deal
    found |= await open_people(tx, command.partnership, people)
    records = {uid: record for uid, record in found.items() if uid in uids}
    for made in command.creations:
        if made.uid not in records:
            side = KINDS[made.kind].made_by or incarnation.side
            records[made.uid] = SharedRecord(command.partnership, made.uid, made.kind, made.parent, made.registration, side, Document())
    if uids - set(records):
        raise NotHereYet
    return records, policy


async def open_people(tx: AsyncConnection, partnership: str, uids: set[str]) -> dict[str, SharedRecord]:
    """The people whom a command introduces, locked after all else: whoever has locked a deal may wait for a person, and never the other way
    round. One command at a time makes new ones: of two at once the second would overwrite what the first has told the peer."""
    found = await load_records(tx, partnership, uids)
    if fresh := uids - found.keys():
        await take_turn(tx, "people")
        found |= await load_records(tx, partnership, fresh)
    return found


def make_write(incarnation: Incarnation, policy: Policy, command: Command, record: SharedRecord, asked: Write) -> Sibling | None:
    """Put one write into its record; the new sibling, or None where saving the same value changes nothing."""
    if not may_write(policy, record.kind, asked.field, incarnation.side, record.side):
        raise NotWritable(f"{asked.field} of this {record.kind} is not the {incarnation.side}'s to write")
    if record.document.is_erased(asked.field):
        raise NotWritable(f"{asked.field} of this {record.kind} was erased, and nothing brings it back")
    value = canonical_value(record.kind, asked.field, asked.value)
    before = record.document.get(asked.field)
    if is_settled_as(before, value):
        return None
    if before.context and is_written_once(record.kind, asked.field):
        raise NotWritable(f"{asked.field} of this {record.kind} was written when it was made, and does not change")
    if is_too_large(asked.field, value):
        raise InvalidValue(asked.field, f"takes at most {VALUE_BYTES_MAX:,} bytes")
    seen = before.context if asked.seen is None else asked.seen
    sibling = Sibling(incarnation.next_dot(), incarnation.next_stamp(), command.actor, value)
    after = write(before, seen, sibling)
    if excess := find_excess(before, after):
        raise WrongState(f"{asked.field} of this {record.kind} {EXCESSES[excess]}", field=asked.field, remedy=REMEDIES[excess])
    record.document.put(asked.field, after)
    record.touch(asked.field, before)
    return sibling


def is_settled_as(register: Register, value: Any) -> bool:
    """Saving an unchanged value is a no-op only where there is one sibling; otherwise it closes the conflict."""
    return len(register.siblings) == 1 and encode_value(register.siblings[0].value) == encode_value(value)


def make_event(incarnation: Incarnation, command: Command, event: str, written: Sequence[Written]) -> Event:
    """The event of a command: each changed field's whole register."""
    touched: dict[str, tuple[SharedRecord, set[str]]] = {}
    for each in written:
        touched.setdefault(each.record.uid, (each.record, set()))[1].add(each.field)
    return Event(
        id=event,
        source=f"/{command.partnership}/{incarnation.side}",
        type=command.type,
        subject=command.registration or command.partnership,
        time=format_time(incarnation.clock.now_ms()),
        partnership=command.partnership,
        registration=command.registration,
        stamp=incarnation.last,
        causation=command.causation,
        actor=command.actor,
        data=EventData(records=tuple(change_of(record, fields) for record, fields in touched.values())),
    )


def change_of(record: SharedRecord, fields: set[str]) -> RecordChange:
    registers = {name: record.document.get(name) for name in sorted(fields)}
    return RecordChange(record.uid, record.kind, record.parent, record.registration, record.side, registers)
