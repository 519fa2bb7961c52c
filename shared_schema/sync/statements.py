"""Statements: what a peer that went back asked for, until it has got all of it. What it is owed stands in `owed_states`; here stands who
asked, and what the peer has acknowledged of ours since: whoever lacks one of those numbers lacks a part of the statement."""

import json
import logging
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import Event
from shared_schema.contract.envelope import Restated
from shared_schema.crm.rows import upsert
from shared_schema.crm.statements import Statement
from shared_schema.sync import outbox, owed_states, parking
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.log_lines import ids
from shared_schema.sync.restate import restate
from shared_schema.sync.tables import outbound_epochs, statements

Row = dict[str, Any]
EPOCHS_TOLD = 100
UNFINISHED = Statement(select(statements.c.partnership).where(statements.c.done.is_(False)))

log = logging.getLogger(__name__)


async def answer(tx: AsyncConnection, incarnation: Incarnation, partnership: str, request: str) -> Restated | None:
    """What to say to a peer that asks: that it has all of it, if so; else the statement begins or goes on, and its end will be told."""
    now_ms = incarnation.clock.now_ms()
    row = await load(tx, partnership, lock=True)
    if row is None or row["request"] != request:
        reached = json.dumps(await read_acknowledged(tx, partnership))
        fresh: Row = {"partnership": partnership, "request": request, "reached": reached, "done": False}
        await upsert(tx, statements, [fresh], ("request", "reached", "done"))
        await outbox.append(tx, await give_back(tx, incarnation, partnership), now_ms)
        await owed_states.owe_all(tx, partnership)
        return None
    return await make_end(tx, row, now_ms) if row["done"] else None


async def give_back(tx: AsyncConnection, incarnation: Incarnation, partnership: str) -> list[Event]:
    """What of the peer's own waits here, and so is in no state: when it leaves parking later, the peer would not know of it."""
    events = await parking.read_patient(tx, partnership)
    given = [restate(incarnation, partnership, each.data.records) for each in events if each.data.records]
    fit = [each for each in given if outbox.fits(each)]
    if len(fit) < len(given):  # written so that it fills an event, and more than one under our name
        log.error("%d parked events are too large to be given back", len(given) - len(fit), extra=ids(partnership))
    return fit


async def begin_again(tx: AsyncConnection, partnership: str) -> None:
    """All states are owed once more, so whoever asked for them has not got them."""
    reached = json.dumps(await read_acknowledged(tx, partnership))
    await tx.execute(update(statements).where(statements.c.partnership == partnership).values(reached=reached, done=False))


async def end(tx: AsyncConnection, partnership: str, now_ms: int) -> Restated | None:
    """The message that ends a statement, once nothing is owed any more: all of it has been acknowledged."""
    row = await load(tx, partnership, lock=True)
    if row is None or row["done"] or await owed_states.is_owing(tx, partnership):
        return None
    await tx.execute(update(statements).where(statements.c.partnership == partnership).values(done=True))
    return await make_end(tx, row, now_ms)


async def list_unfinished(connection: AsyncConnection) -> set[str]:
    """The partnerships whose peers wait for the end of a statement."""
    return {partnership for (partnership,) in await UNFINISHED.fetch(connection, {})}


async def load(tx: AsyncConnection, partnership: str, *, lock: bool = False) -> Row | None:
    statement = select(statements).where(statements.c.partnership == partnership)
    row = (await tx.execute(statement.with_for_update() if lock else statement)).mappings().one_or_none()
    return dict(row) if row else None


async def make_end(tx: AsyncConnection, row: Row, now_ms: int) -> Restated:
    before = json.loads(row["reached"])
    now = await read_acknowledged(tx, row["partnership"])
    epochs = {epoch: number for epoch, number in now.items() if number > before.get(epoch, 0)}
    return Restated(partnership=row["partnership"], sent_ms=now_ms, request=row["request"], epochs=epochs)


async def read_acknowledged(tx: AsyncConnection, partnership: str) -> dict[str, int]:
    """How far the peer has acknowledged our newest epochs."""
    where = (outbound_epochs.c.partnership == partnership, outbound_epochs.c.acknowledged > 0)
    newest = select(outbound_epochs.c.epoch, outbound_epochs.c.acknowledged).where(*where).order_by(outbound_epochs.c.began_ms.desc())
    return {epoch: acknowledged for epoch, acknowledged in await tx.execute(newest.limit(EPOCHS_TOLD))}
