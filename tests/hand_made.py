"""Events that no node wrote: of one change, as a side's relay would send it."""

from shared_schema.contract.codec import HEADER_EPOCH, HEADER_SEQUENCE, Event, EventData, RecordChange, encode_event, format_time
from shared_schema.contract.registers import Side, Stamp
from shared_schema.sync.transport import Record


def make_event(uid: str, type_: str, origin: tuple[str, Side], change: RecordChange, stamp: Stamp) -> Event:
    """`origin`: the partnership, and the side that is to have sent it."""
    partnership, sender = origin
    return Event(
        id=uid,
        source=f"/{partnership}/{sender}",
        type=type_,
        subject=change.registration or partnership,
        time=format_time(stamp.physical),
        partnership=partnership,
        registration=change.registration,
        stamp=stamp,
        data=EventData((change,)),
    )


def make_message(event: Event, epoch: str) -> Record:
    """The first one of an epoch."""
    return Record(str(event.registration).encode(), encode_event(event), ((HEADER_EPOCH, epoch.encode()), (HEADER_SEQUENCE, b"1")))
