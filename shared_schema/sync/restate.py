"""Events that carry whole states: for repair, for a peer that went back, for a first load. States merge like events."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from shared_schema.contract.codec import Event, EventData, RecordChange, format_time
from shared_schema.contract.records import KINDS
from shared_schema.crm.shared_records import SharedRecord
from shared_schema.sync.braking import spare
from shared_schema.sync.incarnation import Incarnation

RESTATED = "record.restated"
EVENT_RECORDS = 50
EVENT_CHARACTERS = 400_000


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


def state_of(record: SharedRecord) -> RecordChange:
    """A record's whole state as a change."""
    document = record.document
    erased = (document.erased, tuple(sorted(document.erased_fields)))
    fields = {name: register for name, register in document.registers().items() if register.siblings}  # a tombstone's have none
    return RecordChange(record.uid, record.kind, record.parent, record.registration, record.side, fields, *erased)


def make_statement(incarnation: Incarnation, partnership: str, records: Sequence[SharedRecord], held: Collection[str] = ()) -> Event:
    """The states of records; of those whose destruction is held, without what may not be sent yet."""
    states = [(spare(state_of(each)) if each.uid in held else state_of(each)) for each in records]
    return restate(incarnation, partnership, tuple(each for each in states if each is not None))


def restate(incarnation: Incarnation, partnership: str, changes: tuple[RecordChange, ...]) -> Event:
    return Event(
        id=incarnation.new_uid(),
        source=f"/{partnership}/{incarnation.side}",
        type=RESTATED,
        subject=partnership,
        time=format_time(incarnation.clock.now_ms()),
        partnership=partnership,
        registration=None,
        stamp=incarnation.next_stamp(),
        data=EventData(records=changes),
    )
