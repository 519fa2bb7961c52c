"""What is wrong at the broker, as each syncing process finds it, in the store, so that a status asked of any process tells it. A row that
its process does not renew is soon no longer believed: a dead process takes nothing back.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.topics import partnership_of
from shared_schema.crm.rows import upsert
from shared_schema.sync.station import Station
from shared_schema.sync.tables import troubles
from shared_schema.sync.transport import Trouble

FRESH_MS = 15_000
Row = dict[str, Any]
Key = tuple[str, str, str]


class Reporter:
    """One process's part of it."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.process = f"{station.clock.random_bits(64):016x}"
        self.since: dict[Key, int] = {}

    async def report(self, found: Sequence[tuple[str, Trouble]]) -> None:
        """What is wrong now, each with the partnership that it concerns (empty: all of them); nothing writes nothing."""
        now_ms = self.station.clock.now_ms()
        rows = [self.make_row(partnership, trouble, now_ms) for partnership, trouble in found]
        if not rows and not self.since:
            return
        async with self.station.database.transaction() as tx:
            await tx.execute(delete(troubles).where(or_(troubles.c.process == self.process, troubles.c.at_ms < now_ms - FRESH_MS)))
            await upsert(tx, troubles, rows, ("why", "since_ms", "at_ms"))
        self.since = {key_of(row): row["since_ms"] for row in rows}

    def make_row(self, partnership: str, trouble: Trouble, now_ms: int) -> Row:
        row = {"process": self.process, "partnership": partnership or partnership_of(trouble.topic), **trouble._asdict(), "at_ms": now_ms}
        return {**row, "since_ms": self.since.get(key_of(row), now_ms)}


def key_of(row: Row) -> Key:
    return row["partnership"], row["topic"], row["kind"]


async def read_troubles(connection: AsyncConnection, now_ms: int) -> list[Row]:
    """What some process believes now, longest first."""
    fresh = select(troubles).where(troubles.c.at_ms > now_ms - FRESH_MS).order_by(troubles.c.since_ms, troubles.c.topic, troubles.c.kind)
    return [dict(row) for row in (await connection.execute(fresh)).mappings()]


def find_trouble(rows: Sequence[Row], partnership: str) -> Row:
    """What hinders one partnership, as its status tells it: kind, what to do, and for how long that has been known (UTC ms)."""
    mine = [row for row in rows if row["partnership"] in ("", partnership)]
    if not mine:
        return {"trouble": None, "trouble_why": None, "trouble_since_ms": None}
    whys = list(dict.fromkeys(row["why"] for row in mine))
    return {"trouble": mine[0]["kind"], "trouble_why": " | ".join(whys), "trouble_since_ms": mine[0]["since_ms"]}
