"""A store that went back: put back from an older copy, or failed over to a replica that lacked the last seconds.

While a restoration stands in its row the peer may bring back our own writes, and reactions, timers and deletions wait. It ends when the
peer's statement has arrived whole; then the peer gets ours. Every partnership of the store has a row of its own and ends by itself.

A store may go back into the middle of its own restoration. What was asked there was answered once, of what the peer had then: a sign that
is seen after the asking puts that answer in doubt, and when it has come, another one is asked for.
"""

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, delete, exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import Event, Outcome
from shared_schema.contract.documents import Document
from shared_schema.contract.envelope import Restated, Restore
from shared_schema.contract.refusal import AHEAD
from shared_schema.contract.registers import Side
from shared_schema.contract.restored import Claim, find_false_claim, find_lost_fact
from shared_schema.crm.problems import WrongState
from shared_schema.crm.rows import Among, insert_missing
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import ENDED, partnerships, property_history, shared_records
from shared_schema.sync import outbox, owed_states
from shared_schema.sync.answers import Answer, make_answers
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.journal import note
from shared_schema.sync.progress import Reach
from shared_schema.sync.sequence import watermark
from shared_schema.sync.station import Restored, Work
from shared_schema.sync.tables import outbox as rows
from shared_schema.sync.tables import refusals, restorations

Row = dict[str, Any]
ASK_MS = 5_000
TAKEN_BACK_MS = 7_200_000  # refusals so long before the sign was seen were signs themselves; a clock may jump by an hour meanwhile
OF_UIDS = (shared_records.c.partnership == bindparam("of"), Among(shared_records.c.uid, "uids"))
DOCUMENTS = Statement(select(shared_records.c.uid, shared_records.c.document).where(*OF_UIDS))
QUEUED = Statement(select(rows.c.event).where(Among(rows.c.event, "events")))
RESTORATIONS = Statement(select(restorations))
RESTORING = Statement(select(restorations.c.partnership).where(restorations.c.partnership == bindparam("of")))


async def find_lost(connection: AsyncConnection, side: Side, partnership: str, facts: Sequence[Event]) -> str | None:
    """The sign in this side's own topic: an event that it published and whose writes the store has not got."""
    events = sorted({fact.id for fact in facts})
    queued = await find_queued(connection, events)
    uids = sorted({change.uid for fact in facts if fact.id not in queued for change in fact.data.records})
    here = await DOCUMENTS.fetch(connection, {"of": partnership, "uids": uids})
    lost = find_lost_fact(side, facts, queued, {uid: Document.decode(document) for uid, document in here})
    return f"the topic of this side holds the event {lost}, whose writes this store lacks" if lost else None


async def find_queued(connection: AsyncConnection, events: Sequence[str]) -> set[str]:
    if not events:
        return set()
    return {event for (event,) in await QUEUED.fetch(connection, {"events": events})}


async def judge_claims(tx: AsyncConnection, claims: Sequence[Claim], removed: Collection[str]) -> str | None:
    """The sign in an acknowledgement. `removed` are the events that it just took out of the outbox. Only what is neither there nor queued
    is looked for in the history: an event may have been published twice, and acknowledged under the other number before."""
    if not claims:
        return None
    known = set(removed) | await find_queued(tx, sorted({claim.event for claim in claims if claim.event}))
    doubtful = sorted({claim.event for claim in claims if claim.event and claim.event not in known})
    if doubtful:
        written = select(property_history.c.event).where(Among(property_history.c.event, "events")).distinct()
        known |= set((await tx.execute(written, {"events": doubtful})).scalars())
    return find_false_claim(claims, known)


async def start(tx: AsyncConnection, incarnation: Incarnation, why: str, seen_in: str | None = None) -> None:
    """Restore every partnership of the store that is not being restored yet and has not ended: what lacks in one lacks in all. The one
    where the sign was `seen_in` is restored once more if it has asked already."""
    asked = update(restorations).where(restorations.c.partnership == seen_in, restorations.c.asked_ms > 0)
    await tx.execute(asked.values(doubted=True))  # first, so that one that ends meanwhile begins anew
    known = (await tx.execute(select(partnerships.c.id).where(partnerships.c.status != ENDED).order_by(partnerships.c.id))).scalars()
    now_ms = incarnation.clock.now_ms()
    fresh: Row = {"why": why, "since_ms": now_ms, "asked_ms": 0, "merged": False, "doubted": False}
    await insert_missing(tx, restorations, [{"partnership": each, "request": incarnation.new_uid(), **fresh} for each in known])


async def is_restoring(connection: AsyncConnection, partnership: str) -> bool:
    return bool(await RESTORING.fetch(connection, {"of": partnership}))


async def read_restorations(connection: AsyncConnection) -> dict[str, Row]:
    """By partnership, of those that are being restored now."""
    return {row["partnership"]: row for row in await RESTORATIONS.fetch_named(connection, {})}


async def confirm(work: Work) -> list[str]:
    """An operator's word that this store went back; the partnerships to restore. Raises WrongState if all are being restored already."""
    before = set(await read_restorations(work.tx))
    await start(work.tx, work.incarnation, f"{work.author.name} says so")
    begun = sorted(set(await read_restorations(work.tx)) - before)
    if not begun:
        raise WrongState("nothing is left to restore", field="partnership", remedy="see `status` for what is being restored already")
    for partnership in begun:
        await note(work, partnership, None, "restore confirmed", "by hand")
    work.woken.add("restorations")
    return begun


async def ask(tx: AsyncConnection, partnership: str, now_ms: int) -> Restore | None:
    """The request to send now, if one is due."""
    unanswered = or_(restorations.c.asked_ms <= now_ms - ASK_MS, restorations.c.asked_ms > now_ms)  # a clock may have gone back
    where = (restorations.c.partnership == partnership, restorations.c.merged.is_(False), unanswered)
    asked = await tx.execute(update(restorations).where(*where).values(asked_ms=now_ms).returning(restorations.c.request))
    request = asked.scalar_one_or_none()
    return Restore(partnership=partnership, sent_ms=now_ms, request=request) if request else None


async def take_restated(tx: AsyncConnection, told: Restated, reach: Reach) -> None:
    """The peer says that we have its states. So it is, if we have every number that it names: then the restoration can end."""
    if any(watermark(reach.of(epoch)) < number for epoch, number in told.epochs.items()):
        return
    where = (restorations.c.partnership == told.partnership, restorations.c.request == told.request)
    await tx.execute(update(restorations).where(*where).values(merged=True))


async def finish(work: Work, row: Row, restored: Restored) -> bool:
    """The peer's states are here: what waited goes on, and the peer gets ours. False if it is not so: the answer is in doubt, and another
    is due, or a process beside this one was quicker."""
    partnership = row["partnership"]
    where = (restorations.c.partnership == partnership, restorations.c.request == row["request"], restorations.c.merged.is_(True))
    anew = {"request": work.incarnation.new_uid(), "asked_ms": 0, "merged": False, "doubted": False}
    if (await work.tx.execute(update(restorations).where(*where, restorations.c.doubted.is_(True)).values(anew))).rowcount:
        work.woken.add("restorations")
        return False
    if not (await work.tx.execute(delete(restorations).where(*where))).rowcount:
        return False
    await restored(work, partnership)
    await outbox.append(work.tx, await take_back(work, partnership, row["since_ms"]), work.now_ms)
    await owed_states.owe_all(work.tx, partnership)
    await note(work, partnership, None, "store restored", json.dumps({"why": row["why"], "since_ms": row["since_ms"]}))
    work.woken |= {partnership, "reactions", "owed"}
    return True


async def take_back(work: Work, partnership: str, since_ms: int) -> list[Event]:
    """Refusals of what was our own after all: they go, and the peer is told. So was what is here by now, however long ago it was refused:
    the record, or something of the field that came while this store was being restored."""
    late = refusals.c.at_ms >= since_ms - TAKEN_BACK_MS
    of_ours = (refusals.c.partnership == partnership, refusals.c.reason.in_(AHEAD), or_(late, came_back(since_ms)))
    columns = (refusals.c.uid, refusals.c.field, refusals.c.event)
    gone = [row for row in await work.tx.execute(delete(refusals).where(*of_ours).returning(*columns))]
    answers = [
        Answer(row.event, (Outcome(row.event, "applied", "this store had gone back", row.uid, row.field or None),), row.event)
        for row in gone
    ]
    return make_answers(work.incarnation, partnership, answers)


def came_back(since_ms: int) -> ColumnElement[bool]:
    """Whether a record that was refused whole is here, or a refused field was written from outside since."""
    here = (shared_records.c.partnership == refusals.c.partnership, shared_records.c.uid == refusals.c.uid)
    of_field = [property_history.c[name] == refusals.c[name] for name in ("partnership", "uid", "field")]
    written = exists().where(*of_field, property_history.c.source != "local", property_history.c.at_ms >= since_ms)
    return or_(and_(refusals.c.field == "", exists().where(*here)), written)
