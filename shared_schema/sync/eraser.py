"""The eraser: after an erasure is committed it goes onto the list that outlives a restore, the store's files are rid of every trace, and
the peer that asked for it is told by when it is gone everywhere."""

from typing import Any

from sqlalchemy import select, update

from shared_schema.contract.codec import Outcome
from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import metadata
from shared_schema.sync import bell, erasure_list, outbox
from shared_schema.sync.answers import Answer, make_answers
from shared_schema.sync.erasing import say_gone
from shared_schema.sync.erasure_list import BadErasureList
from shared_schema.sync.patience import keep_at
from shared_schema.sync.station import Station
from shared_schema.sync.tables import erasures, reactions

Row = dict[str, Any]
POLL_S = 5.0
BATCH = 1_000
OLDEST = select(erasures).order_by(erasures.c.id).limit(BATCH)
FORGETTING = select(reactions.c.registration).where(reactions.c.kind == "forget")
UNLISTED = Statement(OLDEST.where(erasures.c.listed_ms.is_(None)))
UNCLEANED = Statement(OLDEST.where(erasures.c.cleaned_ms.is_(None), erasures.c.uid.not_in(FORGETTING)))


class Eraser:
    """One process's. A second one beside it is harmless: a line may stand on the list twice."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.wake = station.bell.listen("erasures")

    async def run(self) -> None:
        """Until cancelled."""
        await keep_at("erasures", self.turn, (DatabaseUnavailable, BadErasureList))

    async def turn(self) -> None:
        await finish_erasures(self.station)
        await bell.wait(self.wake, POLL_S)


async def finish_erasures(station: Station) -> int:
    """List, clean up after and answer the erasures that are new; how many."""
    await write_list(station)
    return await clean(station)


async def write_list(station: Station) -> None:
    path = station.keeping.erasure_list
    if path is None:
        return
    async with station.database.reading() as connection:
        rows = await UNLISTED.fetch_named(connection, {})
    if rows:
        erasure_list.append(path, rows)
        async with station.database.transaction() as tx:
            ids = [row["id"] for row in rows]
            await tx.execute(update(erasures).where(erasures.c.id.in_(ids)).values(listed_ms=station.clock.now_ms()))


async def clean(station: Station) -> int:
    """Rid the store's files of what was deleted from the rows, then say so to the peers that asked."""
    async with station.database.reading() as connection:
        rows = await UNCLEANED.fetch_named(connection, {})
    if not rows:
        return 0
    await station.database.compact([table.name for table in metadata.sorted_tables])
    now_ms = station.clock.now_ms()
    async with station.working() as work:
        where = erasures.c.id.in_([row["id"] for row in rows]), erasures.c.cleaned_ms.is_(None)
        fresh = set((await work.tx.execute(update(erasures).where(*where).values(cleaned_ms=now_ms).returning(erasures.c.id))).scalars())
        told = [tell_gone(row | {"cleaned_ms": now_ms}, station) for row in rows if row["id"] in fresh and row["origin"] == "there"]
        for partnership, answer in told:
            await outbox.append(work.tx, make_answers(work.incarnation, partnership, [answer]), now_ms)
            work.woken.add(partnership)
    return len(fresh)


def tell_gone(row: Row, station: Station) -> tuple[str, Answer]:
    """What the peer of a partnership is told of an erasure that it asked for."""
    outcome = Outcome(row["event"], "applied", say_gone(row, station.keeping), row["uid"], row["fields"] or None)
    return row["partnership"], Answer(row["event"], (outcome,), row["uid"], row["registration"])
