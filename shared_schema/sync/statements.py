"""Statements: the state of every record of a partnership, for a peer that went back or lacks what it once acknowledged.

A statement stands in a row and goes out in pieces of bounded size, parents first; the next piece waits until the peer has acknowledged the
one before. So memory stays flat, a crash costs one piece, and the end is certain: after the last acknowledgement everything is there.
"""

import json
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.envelope import Restated
from shared_schema.contract.records import KINDS
from shared_schema.crm.rows import upsert
from shared_schema.crm.shared_records import READ, SharedRecord, read_row
from shared_schema.crm.tables import shared_records
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.restate import depth_of, restate_records
from shared_schema.sync.tables import outbound_epochs, outbox, statements

Row = dict[str, Any]
PIECE_RECORDS = 250
EPOCHS_TOLD = 100
POLICY = "policy"  # goes first: by it the others are judged


async def begin(tx: AsyncConnection, partnership: str, request: str | None, now_ms: int) -> None:
    """Owe the peer the whole state from now on, from the beginning if a statement is under way. What a peer asked for stays its
    `request` when the state comes to be owed once more."""
    fresh: Row = {"level": 0, "after": "", "waiting": "[]", "records": 0, "done": False, "began_ms": now_ms}
    fresh["reached"] = json.dumps(await read_acknowledged(tx, partnership))
    changing = (*fresh, "request") if request is not None else tuple(fresh)
    await upsert(tx, statements, [{"partnership": partnership, "request": request, **fresh}], changing)


async def answer(tx: AsyncConnection, partnership: str, request: str, now_ms: int) -> Restated | None:
    """What to say to a peer that asks: that it has all of it, if so; else the statement begins or goes on, and the end will be told."""
    row = await load(tx, partnership, lock=True)
    if row is None or row["request"] != request:
        await begin(tx, partnership, request, now_ms)
        return None
    return await make_end(tx, row, now_ms) if row["done"] else None


async def advance(tx: AsyncConnection, incarnation: Incarnation, partnership: str) -> Restated | None:
    """Queue the next piece, once the one before is acknowledged; after the last one the message that says so, if somebody asked."""
    row = await load(tx, partnership, lock=True)
    if row is None or row["done"] or await is_travelling(tx, json.loads(row["waiting"])):
        return None
    level, records = await find_piece(tx, row)
    if not records:
        await change(tx, partnership, waiting="[]", done=True)
        return await make_end(tx, row, incarnation.clock.now_ms()) if row["request"] else None
    events = await restate_records(tx, incarnation, records)
    moved = {"level": level, "after": records[-1].uid, "waiting": json.dumps(events), "records": row["records"] + len(records)}
    await change(tx, partnership, **moved)
    return None


async def load(tx: AsyncConnection, partnership: str, *, lock: bool = False) -> Row | None:
    statement = select(statements).where(statements.c.partnership == partnership)
    row = (await tx.execute(statement.with_for_update() if lock else statement)).mappings().one_or_none()
    return dict(row) if row else None


async def change(tx: AsyncConnection, partnership: str, **values: Any) -> None:
    await tx.execute(update(statements).where(statements.c.partnership == partnership).values(values))


async def is_travelling(tx: AsyncConnection, events: list[str]) -> bool:
    """Whether the peer has yet to acknowledge one of these events."""
    if not events:
        return False
    return bool((await tx.execute(select(func.count()).where(outbox.c.event.in_(events)))).scalar_one())


def make_levels() -> list[ColumnElement[bool]]:
    """The kinds by their place below others, the policy before all of them, unknown kinds last."""
    levels = {depth_of(kind) for kind in KINDS}
    by_depth = [sorted(kind for kind in KINDS if depth_of(kind) == depth and kind != POLICY) for depth in sorted(levels)]
    kind = shared_records.c.kind
    return [kind == POLICY, *(kind.in_(kinds) for kinds in by_depth), kind.not_in(sorted(KINDS))]


LEVELS = make_levels()


async def find_piece(tx: AsyncConnection, row: Row) -> tuple[int, list[SharedRecord]]:
    """The next records and their level; none after the last."""
    after = row["after"]
    for level in range(row["level"], len(LEVELS)):
        if records := await read_piece(tx, row["partnership"], level, after):
            return level, records
        after = ""
    return len(LEVELS), []


async def read_piece(tx: AsyncConnection, partnership: str, level: int, after: str) -> list[SharedRecord]:
    """The next records of a level, in uid order."""
    where = and_(shared_records.c.partnership == partnership, LEVELS[level], shared_records.c.uid > after)
    rows = await tx.execute(READ.where(where).order_by(shared_records.c.uid).limit(PIECE_RECORDS))
    return [read_row(row) for row in rows]


async def make_end(tx: AsyncConnection, row: Row, now_ms: int) -> Restated:
    """The end of a statement, with the numbers that were acknowledged since it began: whoever lacks one of them lacks a piece."""
    before = json.loads(row["reached"])
    now = await read_acknowledged(tx, row["partnership"])
    epochs = {epoch: number for epoch, number in now.items() if number > before.get(epoch, 0)}
    return Restated(partnership=row["partnership"], sent_ms=now_ms, request=row["request"], epochs=epochs, records=row["records"])


async def read_acknowledged(tx: AsyncConnection, partnership: str) -> dict[str, int]:
    """How far the peer has acknowledged our newest epochs."""
    where = (outbound_epochs.c.partnership == partnership, outbound_epochs.c.acknowledged > 0)
    newest = select(outbound_epochs.c.epoch, outbound_epochs.c.acknowledged).where(*where).order_by(outbound_epochs.c.began_ms.desc())
    return {epoch: acknowledged for epoch, acknowledged in await tx.execute(newest.limit(EPOCHS_TOLD))}


async def find_open(connection: AsyncConnection) -> list[str]:
    """The partnerships whose peers are owed something."""
    return list((await connection.execute(select(statements.c.partnership).where(statements.c.done.is_(False)))).scalars())
