"""Whole states into the outbox: for a peer that lacks them. States merge like events."""

from collections.abc import Iterable, Iterator

from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import Event, EventData, RecordChange, format_time
from shared_schema.contract.records import KINDS
from shared_schema.crm.shared_records import SharedRecord
from shared_schema.sync import outbox
from shared_schema.sync.incarnation import Incarnation

EVENT_RECORDS = 50
EVENT_CHARACTERS = 400_000


async def restate_records(tx: AsyncConnection, incarnation: Incarnation, records: Iterable[SharedRecord]) -> list[str]:
    """Queue the state of these records of one partnership, parents first; the ids of the events."""
    ordered = sorted(records, key=lambda record: (depth_of(record.kind), record.uid))
    events = [make_statement(incarnation, each[0].partnership, each) for each in cut(ordered)]
    await outbox.append(tx, events, incarnation.clock.now_ms())
    return [event.id for event in events]


def depth_of(kind: str) -> int:
    """How many parents a kind hangs below; unknown kinds go last."""
    known = KINDS.get(kind)
    if known is None:
        return len(KINDS)
    return 0 if known.parent is None else 1 + depth_of(known.parent)


def cut(records: Iterable[SharedRecord]) -> Iterator[list[SharedRecord]]:
    """Chunks that fit an event."""
    chunk: list[SharedRecord] = []
    size = 0
    for record in records:
        characters = len(record.document.encode())
        if chunk and (len(chunk) >= EVENT_RECORDS or size + characters > EVENT_CHARACTERS):
            yield chunk
            chunk, size = [], 0
        chunk.append(record)
        size += characters
    if chunk:
        yield chunk


def make_statement(incarnation: Incarnation, partnership: str, records: list[SharedRecord]) -> Event:
    changes = tuple(
        RecordChange(each.uid, each.kind, each.parent, each.registration, each.side, each.document.registers()) for each in records
    )
    return Event(
        id=incarnation.new_uid(),
        source=f"/{partnership}/{incarnation.side}",
        type="record.restated",
        subject=partnership,
        time=format_time(incarnation.clock.now_ms()),
        partnership=partnership,
        registration=None,
        stamp=incarnation.next_stamp(),
        data=EventData(records=changes),
    )
