"""Parking: what can not be applied yet, or at all, kept whole with its reason, and taken out again when what it waited for is there."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import Event, Undecodable
from shared_schema.sync.arrivals import Numbered, sort_arrivals
from shared_schema.sync.braking import BRAKE
from shared_schema.sync.tables import parked
from shared_schema.sync.transport import Letter, Received

ParkRow = dict[str, Any]
MISSING_PARENT = "missing_parent"
# A child before its parent is the daily bread of a stream out of order, what the brake holds is stopped already, and what is of a newer
# version can be read after an upgrade.
PATIENT = (MISSING_PARENT, BRAKE, "newer_major")
UID_LENGTH = 36
DETAIL_HEAD, DETAIL_TAIL = 1_000, 3_000  # of a stack: what was called, and what came of it


def make_row(partnership: str, received: Received, reason: str, detail: str, now_ms: int) -> ParkRow:
    """The parked record whole: topic, offset, headers and bytes, with the reason. What was parked before keeps its id and since when."""
    letter = received.letter or Letter(None, now_ms)
    return {
        **({} if letter.id is None else {"id": letter.id}),
        "partnership": partnership,
        "topic": received.topic,
        "record_offset": received.offset,
        "event": None,
        "waits_for": None,
        "reason": reason,
        "detail": shorten(detail),
        "headers": json.dumps([[name, value.hex()] for name, value in received.headers]),
        "payload": received.value,
        "at_ms": letter.at_ms,
        "restoring": letter.restoring,
    }


def shorten(detail: str) -> str:
    """A stack as it is kept: its beginning, and its end with the exception itself."""
    if len(detail) > DETAIL_HEAD + DETAIL_TAIL:
        detail = f"{detail[:DETAIL_HEAD]}\n…\n{detail[-DETAIL_TAIL:]}"
    return printable(detail)


def printable(text: str) -> str:
    """Without what PostgreSQL can not hold: NUL and lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


async def save(tx: AsyncConnection, rows: Sequence[ParkRow]) -> None:
    """Those that keep their ids first, before others could get them."""
    for some in ([row for row in rows if "id" in row], [row for row in rows if "id" not in row]):
        if some:
            await tx.execute(insert(parked), some)


async def take_waiting(tx: AsyncConnection, partnership: str, parents: Collection[str]) -> list[ParkRow]:
    """The stored events that waited for these records, oldest first, taken out of parking."""
    where = (parked.c.partnership == partnership, parked.c.waits_for.in_(sorted(parents)))
    rows = (await tx.execute(select(parked).where(*where).order_by(parked.c.id))).mappings().all()
    if rows:
        await tx.execute(delete(parked).where(*where))
    return [dict(row) for row in rows]


async def read_patient(tx: AsyncConnection, partnership: str) -> list[Event]:
    """The events that wait for their parents or for a person's word, oldest first; they stay where they are."""
    where = (parked.c.partnership == partnership, parked.c.reason.in_((MISSING_PARENT, BRAKE)))
    rows = (await tx.execute(select(parked).where(*where).order_by(parked.c.id))).mappings()
    return [each.event for each in sort_arrivals(partnership, [unpark(dict(row)) for row in rows]).events]


async def take_orphans(tx: AsyncConnection, partnership: str, registrations: Collection[str]) -> list[ParkRow]:
    """What waits for a parent in these registrations, oldest first, taken out of parking: once they are unshared none comes any more."""
    where = (parked.c.partnership == partnership, parked.c.reason == MISSING_PARENT)
    rows = (await tx.execute(select(parked).where(*where).order_by(parked.c.id))).mappings()
    orphans = [each for row in rows if is_orphan(each := dict(row), registrations)]
    if orphans:
        await tx.execute(delete(parked).where(parked.c.id.in_([row["id"] for row in orphans])))
    return orphans


def is_orphan(row: ParkRow, registrations: Collection[str]) -> bool:
    """Whether a parked event waits for a parent in one of these registrations."""
    asked = registrations and row["reason"] == MISSING_PARENT
    events = sort_arrivals(str(row["partnership"]), [unpark(row)]).events if asked else []
    return any(each.event.registration in registrations for each in events)


def read_rows(partnership: str, rows: Sequence[ParkRow]) -> list[Numbered]:
    """Parked events decoded again."""
    released = sort_arrivals(partnership, [unpark(row) for row in rows])
    if released.unreadable:
        raise Undecodable(released.unreadable[0].reason, "a parked event no longer decodes")
    return released.events


def unpark(row: ParkRow) -> Received:
    headers = tuple((name, bytes.fromhex(value)) for name, value in json.loads(row["headers"]))
    letter = Letter(row.get("id"), row["at_ms"], row["restoring"])
    return Received(row["topic"], row["record_offset"], 0, None, row["payload"], headers, letter)
