"""Dead letters: what is parked, for people to look at, to replay, or to discard with a reason that its sender is told."""

import base64
import json
import logging
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, delete, exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import name_schema
from shared_schema.contract.envelope import DATASCHEMA
from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.crm.policies import load_policy
from shared_schema.crm.problems import Invalid, NotFound, WrongState
from shared_schema.crm.tables import shared_records
from shared_schema.sync import brake, discards, outbox, parking, refusals, verification
from shared_schema.sync.answers import Answer, make_answers
from shared_schema.sync.apply import Desk, apply_events
from shared_schema.sync.arrivals import sort_arrivals
from shared_schema.sync.braking import BRAKE
from shared_schema.sync.journal import note
from shared_schema.sync.parking import MISSING_PARENT
from shared_schema.sync.station import MACHINE, Author, Station, Work
from shared_schema.sync.tables import parked

Row = dict[str, Any]
PAGE_MAX = 200
LISTED = tuple(column for column in parked.c if column.name not in ("payload", "headers", "detail"))
log = logging.getLogger(__name__)


class HeldByBrake(WrongState):
    """It is no dead letter: it waits for a person's word about all that is held, and nothing of the try is kept."""

    def __init__(self) -> None:
        super().__init__("the brake holds it", field="ids", remedy="use `brake release` or `brake drop`")


class Replayed(NamedTuple):
    """What a replay came to: applied (of `partnership`), parked (still, for `reason`), held (by the brake; `reason` says what to do), or
    gone (it had left parking already)."""

    id: int
    result: str
    reason: str | None = None
    partnership: str | None = None


async def list_dead(
    connection: AsyncConnection, partnership: str | None = None, reason: str | None = None, after: int = 0, limit: int = 50
) -> list[Row]:
    """A page of dead letters, oldest first, without their bytes."""
    asked = ((parked.c.partnership, partnership), (parked.c.reason, reason))
    where = [parked.c.id > after, *(column == value for column, value in asked if value is not None)]
    rows = await connection.execute(select(*LISTED).where(*where).order_by(parked.c.id).limit(min(limit, PAGE_MAX)))
    return [dict(row) for row in rows.mappings()]


async def load_dead(connection: AsyncConnection, letter_id: int) -> Row:
    """One dead letter whole: where it stood, its headers and bytes as text (or base64), and the reason with its stack."""
    row = (await connection.execute(select(parked).where(parked.c.id == letter_id))).mappings().one_or_none()
    if row is None:
        raise NotFound("dead letter", letter_id)
    headers = [[name, show_bytes(bytes.fromhex(value))] for name, value in json.loads(row["headers"])]
    return {**row, "headers": headers, "payload": None if row["payload"] is None else show_bytes(row["payload"])}


def show_bytes(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(raw).decode()


async def replay(station: Station, author: Author, letters: Sequence[int]) -> list[Replayed]:
    """Try dead letters again, each in a transaction of its own; twice is harmless. Their senders' stores may have gone back since and lack
    what is applied so late: where any was, the sides are compared, and repaired."""
    tried = [await replay_one(station, author, each) for each in letters]
    async with station.working(author) as work:
        for partnership in sorted({each.partnership for each in tried if each.partnership}):
            await verification.launch(work, partnership, repair=True)
    return tried


async def replay_ready(station: Station, partnership: str) -> None:
    """Try again what came from a newer version than ran here then, if this one reads it, and what waits for a record that is here."""
    async with station.database.reading() as connection:
        letters = (await connection.execute(select_ready(partnership))).scalars().all()
    if letters:
        await replay(station, MACHINE, letters)


def select_ready(partnership: str) -> Select[Any]:
    come = exists().where(shared_records.c.partnership == parked.c.partnership, shared_records.c.uid == parked.c.waits_for)
    ready = or_(parked.c.waits_for == name_schema(DATASCHEMA), and_(parked.c.reason == MISSING_PARENT, come))
    waiting = (parked.c.partnership == partnership, parked.c.waits_for.is_not(None), ready)
    return select(parked.c.id).where(*waiting).order_by(parked.c.id)


async def replay_one(station: Station, author: Author, letter_id: int, *, released: bool = False, releasing: bool = True) -> Replayed:
    """`released`: a person let it pass the brake; `releasing`: with what waits for it, which is left for later where that is the poison."""
    try:
        async with station.working(author) as work:
            return await apply_again(work, letter_id, released=released, releasing=releasing)
    except HeldByBrake as error:
        return Replayed(letter_id, "held", f"{error}; {error.remedy}")
    except DatabaseUnavailable:
        raise
    except Exception:  # still poison: it stays, with the stack of today, and waits for nothing that could come by itself
        if releasing:
            return await replay_one(station, author, letter_id, released=released, releasing=False)
        log.exception("dead letter %d can still not be applied", letter_id)
        said = {"reason": "poison", "detail": parking.shorten(traceback.format_exc()), "waits_for": None}
    async with station.database.transaction() as tx:
        await tx.execute(update(parked).where(parked.c.id == letter_id).values(said))
    return Replayed(letter_id, "parked", "poison")


async def apply_again(work: Work, letter_id: int, *, released: bool = False, releasing: bool = True) -> Replayed:
    """Take one out of parking and apply it as if it came now; what can still not be applied is parked again in its old place, for the
    reason of today. A control message is only dropped: newer ones have said it since."""
    row = await take(work, letter_id, held=released)
    if row is None:
        return Replayed(letter_id, "gone")
    partnership = str(row["partnership"])
    if not released and row["reason"] != MISSING_PARENT:  # what waits for its parent may have been released
        await brake.forget(work.tx, partnership, row["event"])
    limits = None if released else work.keeping.brake
    desk = Desk(work.incarnation, partnership, await load_policy(work.tx, partnership), work.due, limits)
    desk.trash_days, desk.releasing = work.keeping.trash_days, releasing
    await apply_events(work.tx, desk, sort_arrivals(partnership, [parking.unpark(row)]))
    reason = next((str(each["reason"]) for each in desk.to_park if each.get("id") == letter_id), None)
    told = [each for each in desk.answers if each.event != row["event"] or reason != row["reason"]]  # else its sender knows
    await outbox.append(work.tx, make_answers(work.incarnation, partnership, told), work.now_ms)
    work.woken |= {partnership, "reactions", "changes"}
    if reason is not None:
        return Replayed(letter_id, "parked", reason)
    await note(work, partnership, None, "dead letter replayed", f"{letter_id}: {row['reason']}")
    if released:
        await verification.launch(work, partnership, repair=True)
    return Replayed(letter_id, "applied", partnership=partnership)


async def take(work: Work, letter_id: int, *, held: bool = False) -> Row | None:
    """Take one out of parking; what the brake holds only on a person's word about it (`held`): else raises HeldByBrake."""
    taken = await work.tx.execute(delete(parked).where(parked.c.id == letter_id).returning(parked))
    row = taken.mappings().one_or_none()
    if row is not None and row["reason"] == BRAKE and not held:
        raise HeldByBrake
    return dict(row) if row else None


async def discard(work: Work, letter_id: int, reason: str) -> None:
    """Drop a dead letter, also where it comes once more and can again not be applied. Its sender is told, where its id could be
    read; the difference between the sides stays, and an event that was refused whole is refused no longer."""
    if not reason.strip():
        raise Invalid("reason", "may not be empty: the sender is told why its event was discarded")
    row = await take(work, letter_id)
    if row is None:
        raise NotFound("dead letter", letter_id)
    partnership, event = row["partnership"], row["event"]
    await discards.keep(work.tx, row, reason, work.now_ms)
    if event is not None:
        told = Answer(event, (discards.explain(event, reason),), event)
        await outbox.append(work.tx, make_answers(work.incarnation, partnership, [told]), work.now_ms)
        work.woken.add(partnership)
        await refusals.forget(work.tx, partnership, event)
    await note(work, partnership, None, "dead letter discarded", f"{letter_id} ({row['reason']}): {reason}")


async def find_all(connection: AsyncConnection, partnership: str | None = None, reason: str | None = None) -> list[int]:
    """The ids of all dead letters, or those of a partnership or a reason, oldest first: parents before their children."""
    asked = ((parked.c.partnership, partnership), (parked.c.reason, reason))
    where = [column == value for column, value in asked if value is not None]
    return list((await connection.execute(select(parked.c.id).where(*where).order_by(parked.c.id))).scalars())
