"""What people discarded, so that it is left so when it comes once more and can again not be applied: from a topic that is read from its
beginning, or from a sender that has not heard of it yet. The sender hears the same as before; where it can be applied now, that."""

import hashlib
import logging
from collections.abc import Iterable, Sequence

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import Outcome
from shared_schema.crm.rows import upsert
from shared_schema.sync import parking
from shared_schema.sync.answers import Answer
from shared_schema.sync.arrivals import Numbered, read_number
from shared_schema.sync.braking import BRAKE, DROPPED
from shared_schema.sync.log_lines import ids
from shared_schema.sync.parking import ParkRow
from shared_schema.sync.tables import discards
from shared_schema.sync.transport import Received

DISCARDED = "discarded: "
REASON_LENGTH = 900
log = logging.getLogger(__name__)


def mark(event: str | None, received: Received) -> str:
    """What a record is told by: its bytes, and what it shares with no other one: the id that its event is answered by, else the number
    that it was published under, else where it stood."""
    place = (event,) if event else read_number(dict(received.headers)) or (received.topic, received.offset)
    return hashlib.sha256(" ".join(map(str, place)).encode() + b"\n" + (received.value or b"")).hexdigest()


def mark_letter(row: ParkRow) -> str:
    """The mark of what is parked, or is to be."""
    return mark(row["event"], parking.unpark(row))


def explain(event: str, reason: str) -> Outcome:
    """What the sender of a discarded event is told."""
    return Outcome(event, "refused", DISCARDED + reason[:REASON_LENGTH])


def is_by_person(reason: str) -> bool:
    """Whether it was a person here who refused, which is no alarm."""
    return reason == DROPPED or reason.startswith(DISCARDED)


async def keep(tx: AsyncConnection, row: ParkRow, reason: str, now_ms: int) -> None:
    """Remember what was discarded, and why."""
    kept = {"partnership": row["partnership"], "mark": mark_letter(row), "reason": reason[:REASON_LENGTH], "at_ms": now_ms}
    await upsert(tx, discards, [kept], ("reason", "at_ms"))


async def find(tx: AsyncConnection, partnership: str, events: Iterable[Numbered]) -> set[str]:
    """Which of these events were discarded before, by their ids."""
    marks = {mark(each.event.id, each.received): each.event.id for each in events}
    known = select(discards.c.mark).where(discards.c.partnership == partnership, discards.c.mark.in_(sorted(marks)))
    return {marks[each] for each in (await tx.execute(known)).scalars()}


async def pass_over(
    tx: AsyncConnection, partnership: str, rows: Sequence[ParkRow], answers: Sequence[Answer], now_ms: int
) -> tuple[list[ParkRow], list[Answer]]:
    """Of what is to be parked, what was not discarded before; and the answers, with what is still true of what was. What only stays in
    parking was not, nor what the brake holds."""
    marks = [None if "id" in row or row["reason"] == BRAKE else mark_letter(row) for row in rows]
    came = {each for each in marks if each is not None}
    if not came:
        return list(rows), list(answers)
    known = (discards.c.partnership == partnership, discards.c.mark.in_(sorted(came)))
    seen = update(discards).where(*known).values(at_ms=now_ms).returning(discards.c.mark, discards.c.reason)
    whys = {each.mark: each.reason for each in await tx.execute(seen)}
    if whys:
        log.info("%d records that were discarded before came once more, and are left so", len(whys), extra=ids(partnership))
    paired = list(zip(rows, marks, strict=True))
    told = {row["event"]: whys[each] for row, each in paired if each in whys}
    return [row for row, each in paired if each not in whys], answer_again(answers, told)


def answer_again(answers: Sequence[Answer], told: dict[str | None, str]) -> list[Answer]:
    """The answers, but of the events that are `told` of, once each, that they were discarded, and for which reason."""
    again = {each.event: each._replace(outcomes=(explain(each.event, told[each.event]),)) for each in answers if each.event in told}
    return [each for each in answers if each.event not in told] + list(again.values())
