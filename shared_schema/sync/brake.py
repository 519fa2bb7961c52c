"""The mass-delete brake at work: deletions, erasures and unsharings past a threshold wait, unsent in the outbox or parked, until a person
releases or drops them. Everything else of the partnership goes on. A release is for what is held, not for what comes."""

import logging
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete, exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm.rows import insert_rows
from shared_schema.crm.shared_records import Written
from shared_schema.crm.tables import shared_records
from shared_schema.sync.braking import BRAKE, DESTRUCTIVE, LEAST, Act, Direction, Ledger, Limits, acts_of_writes
from shared_schema.sync.log_lines import ids
from shared_schema.sync.tables import brake_acts, journal, outbox, parked

Row = dict[str, Any]
log = logging.getLogger(__name__)


async def open_ledger(
    tx: AsyncConnection, partnership: str, direction: Direction, limits: Limits, now_ms: int, kinds: Collection[str]
) -> Ledger:
    """What is needed to judge acts on these kinds (each named once per act)."""
    since = (brake_acts.c.partnership == partnership, brake_acts.c.direction == direction, brake_acts.c.passed.is_(True))
    passed = select(brake_acts.c.kind, brake_acts.c.uid).where(*since, brake_acts.c.at_ms > now_ms - limits.window_ms).distinct()
    held = await find_held(tx, partnership, direction)
    ledger = Ledger(limits, held={uid for uid, _ in held}, waiting={event for _, event in held})
    for kind, uid in await tx.execute(passed):
        ledger.recent.setdefault(kind, set()).add(uid)
    for kind in sorted(set(kinds)):
        count = len(ledger.recent.get(kind, ()))
        if count + len(kinds) > LEAST:
            ledger.lived[kind] = count + await count_living(tx, partnership, kind, limits)
    return ledger


async def count_living(tx: AsyncConnection, partnership: str, kind: str, limits: Limits) -> int:
    """How many records of a kind live, no further than it makes a difference."""
    enough = limits.most * 100 // max(limits.percent, 1) + 1
    where = (shared_records.c.partnership == partnership, shared_records.c.kind == kind, shared_records.c.state == "alive")
    some = select(shared_records.c.uid).where(*where).limit(enough).subquery()
    return int((await tx.execute(select(func.count()).select_from(some))).scalar_one())


async def find_held(tx: AsyncConnection, partnership: str, direction: Direction) -> set[tuple[str, str]]:
    """The records of which something is held now, each with the event that holds it."""
    waits = outbox.c.event == brake_acts.c.event if direction == "out" else parked.c.event == brake_acts.c.event
    held = outbox.c.held == BRAKE if direction == "out" else parked.c.reason == BRAKE
    joined = brake_acts.join(outbox if direction == "out" else parked, waits)
    where = (brake_acts.c.partnership == partnership, brake_acts.c.direction == direction, brake_acts.c.passed.is_(False), held)
    rows = await tx.execute(select(brake_acts.c.uid, brake_acts.c.event).select_from(joined).where(*where))
    return {(row.uid, row.event) for row in rows}


async def find_dropped(tx: AsyncConnection, partnership: str, events: Collection[str]) -> set[str]:
    """Those of the peer's events that were held here and are no longer. Where what they destroy is still there, a person dropped them, or
    released what had to wait in parking for its parent."""
    acts = (brake_acts.c.partnership == partnership, brake_acts.c.direction == "in", brake_acts.c.passed.is_(False))
    waits = exists().where(parked.c.partnership == partnership, parked.c.event == brake_acts.c.event)
    named = select(brake_acts.c.event).where(*acts, brake_acts.c.event.in_(sorted(events)), ~waits)
    return set((await tx.execute(named)).scalars())


async def forget(tx: AsyncConnection, partnership: str, event: str | None) -> None:
    """What was held of an arrived event that is taken up anew: it is neither held now nor dropped."""
    of_it = (brake_acts.c.partnership == partnership, brake_acts.c.direction == "in", brake_acts.c.event == event)
    await tx.execute(delete(brake_acts).where(*of_it, brake_acts.c.passed.is_(False)))


async def keep(tx: AsyncConnection, partnership: str, direction: Direction, ledger: Ledger, now_ms: int) -> None:
    """Write down what was judged, and in the journal that something is held; what passed before the window is no longer needed."""
    if ledger.whys:
        told = f"{'outgoing' if direction == 'out' else 'incoming'}: {len(ledger.whys):,} events: {ledger.whys[0]}"
        row = {"partnership": partnership, "registration": None, "what": "held by the brake", "detail": told, "actor": "Dealbridge"}
        await insert_rows(tx, journal, [{**row, "at_ms": now_ms}])
    if not ledger.rows:
        return
    old = (brake_acts.c.partnership == partnership, brake_acts.c.direction == direction, brake_acts.c.passed.is_(True))
    await tx.execute(delete(brake_acts).where(*old, brake_acts.c.at_ms <= now_ms - ledger.limits.window_ms))
    await insert_rows(tx, brake_acts, [{"partnership": partnership, "direction": direction, "at_ms": now_ms, **row} for row in ledger.rows])


class Deed(NamedTuple):
    """What one event of ours destroys, and the records whose life it touches at all."""

    partnership: str
    event: str
    acts: Sequence[Act]
    touched: Collection[str] = ()


def deed_of(partnership: str, event: str, written: Sequence[Written]) -> Deed | None:
    """The deed of a command's writes; None for the ordinary ones, which no brake is asked about."""
    touched = {each.record.uid for each in written if each.field in DESTRUCTIVE}
    return Deed(partnership, event, acts_of_writes(written), touched) if touched else None


async def judge(tx: AsyncConnection, limits: Limits, deed: Deed, now_ms: int) -> str | None:
    """Judge a deed of ours and write that down: BRAKE to hold its row in the outbox, or None."""
    ledger = await open_ledger(tx, deed.partnership, "out", limits, now_ms, [each.kind for each in deed.acts])
    for kind in ledger.lived:  # what it destroys has gone already
        ledger.lived[kind] += sum(each.kind == kind for each in deed.acts)
    why = ledger.judge(deed.event, deed.acts, deed.touched)
    await keep(tx, deed.partnership, "out", ledger, now_ms)
    if why is not None:
        log.warning("the brake holds it: %s; see `brake status`", why, extra=ids(deed.partnership, event=deed.event))
    return BRAKE if why is not None else None
