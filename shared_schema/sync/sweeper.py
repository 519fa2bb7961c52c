"""The sweeper: takes what nobody needs any more out of the store, in pieces, so that no transaction is long.

Epochs go when they have long been over, leases of processes a day after they ran out, and what is known of discarded records when no topic
can bring them any more. What people may want to look up (property and deal history, outcomes, the journal) goes only if the setting says
after how long, and never the newest write of a field, what is on its way, or what is unsettled. What is parked stays.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, exists, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.crm.projected_tables import conflicts
from shared_schema.crm.tables import deal_history, property_history
from shared_schema.sync import leases, metrics
from shared_schema.sync.patience import keep_at
from shared_schema.sync.progress import NEWEST
from shared_schema.sync.shares import OF_PROCESS
from shared_schema.sync.station import Station
from shared_schema.sync.tables import discards, inbound_epochs, journal, outbound_epochs, outbox, peer_outcomes
from shared_schema.sync.tables import leases as lease_rows

DAY_MS = 86_400_000
INBOUND_DAYS = 30
OUTBOUND_DAYS = 365
NEWEST_OF_OURS = 2 * NEWEST  # the peer may have heard of them in another order
SPAN_IDS = 10_000
PIECE_ROWS = 1_000
EVERY_S = 6 * 3_600
PAUSE_S = 0.05
LEASE = "sweeper"
UNSETTLED = ("refused", "parked")
Piece = Callable[[AsyncConnection], Awaitable[int]]


class Sweeper:
    """One per process; one at a time per store. `keep_days`: how long histories are kept, 0 for ever."""

    def __init__(self, station: Station, keep_days: int) -> None:
        self.station = station
        self.keep_days = keep_days
        self.owner = f"{station.clock.random_bits(64):016x}"

    async def run(self) -> None:
        """Until cancelled."""
        await keep_at("sweeper", self.turn, (DatabaseUnavailable,))

    async def turn(self) -> None:
        async with self.station.database.transaction() as tx:
            ours = await leases.take(tx, LEASE, self.owner, self.owner, self.station.clock.now_ms())
        if ours:
            await self.sweep()
            async with self.station.database.transaction() as tx:
                await leases.release(tx, LEASE, self.owner)
        await asyncio.sleep(EVERY_S)

    async def sweep(self) -> None:
        now_ms = self.station.clock.now_ms()
        await self.take_all(inbound_epochs, lambda tx: sweep_inbound(tx, now_ms - INBOUND_DAYS * DAY_MS))
        await self.take_all(outbound_epochs, lambda tx: sweep_outbound(tx, now_ms - OUTBOUND_DAYS * DAY_MS))
        await self.take_all(lease_rows, lambda tx: remove(tx, lease_rows, [OF_PROCESS, lease_rows.c.expires_ms < now_ms - DAY_MS]))
        gone_ms = now_ms - self.station.keeping.topic_days * DAY_MS
        await self.take_all(discards, lambda tx: remove(tx, discards, [discards.c.at_ms < gone_ms]))
        if self.keep_days:
            before_ms = now_ms - self.keep_days * DAY_MS
            await self.take_all(peer_outcomes, lambda tx: sweep_outcomes(tx, before_ms))
            await self.take_spans(property_history, before_ms, replaced())
            await self.take_spans(deal_history, before_ms, [])
            await self.take_spans(journal, before_ms, [])

    async def take_all(self, table: Table, piece: Piece) -> None:
        """One piece after the other, until one is not full."""
        while await self.take(table, piece) >= PIECE_ROWS:
            await asyncio.sleep(PAUSE_S)

    async def take_spans(self, table: Table, before_ms: int, where: Sequence[ColumnElement[bool]]) -> None:
        """The old rows of a table with ascending ids, one span of ids after the other."""
        async with self.station.database.reading() as connection:
            last = (await connection.execute(select(func.max(table.c.id)).where(table.c.at_ms < before_ms))).scalar_one() or 0
        for first in range(0, last, SPAN_IDS):
            span = (table.c.id > first, table.c.id <= first + SPAN_IDS, table.c.at_ms < before_ms, *where)
            await self.take(table, lambda tx, span=span: remove(tx, table, span))  # type: ignore[misc]  # mypy can not see the default
            await asyncio.sleep(PAUSE_S)

    async def take(self, table: Table, piece: Piece) -> int:
        """One piece in a transaction of its own, for as long as nobody else sweeps; how many rows went."""
        async with self.station.database.transaction() as tx:
            if not await leases.renew(tx, LEASE, self.owner, self.station.clock.now_ms()):
                return 0
            gone = await piece(tx)
        metrics.swept.labels(table.name).inc(gone)
        return gone


async def remove(tx: AsyncConnection, table: Table, where: Sequence[ColumnElement[bool]]) -> int:
    return int((await tx.execute(delete(table).where(*where))).rowcount)


def replaced() -> list[ColumnElement[bool]]:
    """Of the property history: a later write of the same field is there, the event is not on its way, the field is not in conflict."""
    later = property_history.alias()
    key = ("partnership", "uid", "field")
    return [
        exists().where(*(later.c[name] == property_history.c[name] for name in key), later.c.id > property_history.c.id),
        ~exists().where(outbox.c.event == property_history.c.event),
        ~exists().where(*(conflicts.c[name] == property_history.c[name] for name in key)),
    ]


async def sweep_outcomes(tx: AsyncConnection, before_ms: int) -> int:
    """What the peer said long ago, but for what is unsettled."""
    key = [peer_outcomes.c[each.name] for each in peer_outcomes.primary_key]
    old = select(*key).where(peer_outcomes.c.at_ms < before_ms, peer_outcomes.c.outcome.not_in(UNSETTLED)).limit(PIECE_ROWS)
    return await remove(tx, peer_outcomes, [tuple_(*key).in_(old)])


async def sweep_inbound(tx: AsyncConnection, before_ms: int) -> int:
    """The peer's epochs that are whole, have not moved for long, and are not among the newest: those are acknowledged again and again."""
    key = (inbound_epochs.c.partnership, inbound_epochs.c.epoch)
    order = func.row_number().over(partition_by=inbound_epochs.c.partnership, order_by=inbound_epochs.c.moved_ms.desc())
    ranked = select(*key, inbound_epochs.c.gaps, inbound_epochs.c.moved_ms, order.label("place")).subquery()
    over = (ranked.c.place > NEWEST, ranked.c.gaps == "[]", ranked.c.moved_ms < before_ms)
    old = select(ranked.c.partnership, ranked.c.epoch).where(*over).limit(PIECE_ROWS)
    return await remove(tx, inbound_epochs, [tuple_(*key).in_(old)])


async def sweep_outbound(tx: AsyncConnection, before_ms: int) -> int:
    """Our epochs that have not moved for long, bear no row, and are not running; but the newest of these that were ever acknowledged stay.
    By them we know that our store did not go back: a peer names its newest for ever, and one that went back those of its copy."""
    key: tuple[Any, ...] = (outbound_epochs.c.partnership, outbound_epochs.c.epoch)
    acknowledged = outbound_epochs.c.acknowledged > 0
    order = func.row_number().over(partition_by=(key[0], acknowledged), order_by=outbound_epochs.c.moved_ms.desc())
    columns = (*key, acknowledged.label("named"), order.label("place"))
    old = select(*columns).where(outbound_epochs.c.moved_ms < before_ms).subquery()
    used = or_(
        exists().where(outbox.c.partnership == old.c.partnership, outbox.c.epoch == old.c.epoch),
        exists().where(lease_rows.c.epoch == old.c.epoch),
    )
    forgotten = or_(~old.c.named, old.c.place > NEWEST_OF_OURS)
    gone = select(old.c.partnership, old.c.epoch).where(forgotten, ~used).limit(PIECE_ROWS)
    return await remove(tx, outbound_epochs, [tuple_(*key).in_(gone)])
