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
TO_CLEAN = OLDEST.where(erasures.c.cleaned_ms.is_(None), erasures.c.uid.not_in(FORGETTING))
UNCLEANED, LISTED = Statement(TO_CLEAN), Statement(TO_CLEAN.where(erasures.c.listed_ms.is_not(None)))
TO_ANSWER = OLDEST.where(erasures.c.cleaned_ms.is_not(None), erasures.c.asked.is_not(None))
UNANSWERED, LOCKED = Statement(TO_ANSWER), Statement(TO_ANSWER.with_for_update())


class Eraser:
    """One process's. A second one beside it is harmless: a line may stand on the list twice. After a lost connection the store may be
    another one, which lacks the last seconds: what the list names is erased again then."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.looked: int | None = None
        self.wake = station.bell.listen("erasures")

    async def run(self) -> None:
        """Until cancelled."""
        await keep_at("erasures", self.turn, (DatabaseUnavailable, BadErasureList))

    async def turn(self) -> None:
        losses = self.station.database.losses
        if self.looked != losses:
            await erasure_list.apply(self.station)
            self.looked = losses
        await finish_erasures(self.station)
        await bell.wait(self.wake, POLL_S)


async def finish_erasures(station: Station) -> int:
    """List, clean up after and answer the erasures that are new; how many."""
    await write_list(station)
    cleaned = await clean(station)
    await answer(station)
    return cleaned


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
    """Rid the store's files of what was deleted from the rows; how many erasures are done here by that. Where there is a list, one that
    does not stand on it yet is not done: a store that goes back would lose it after it was said to be gone."""
    async with station.database.reading() as connection:
        rows = await (LISTED if station.keeping.erasure_list else UNCLEANED).fetch_named(connection, {})
    if not rows:
        return 0
    await station.database.compact([table.name for table in metadata.sorted_tables])
    async with station.database.transaction() as tx:
        where = erasures.c.id.in_([row["id"] for row in rows]), erasures.c.cleaned_ms.is_(None)
        return int((await tx.execute(update(erasures).where(*where).values(cleaned_ms=station.clock.now_ms()))).rowcount)


async def answer(station: Station) -> None:
    """Tell the peers that erased something by when it is gone here, too."""
    async with station.database.reading() as connection:
        if not await UNANSWERED.fetch(connection, {}):
            return
    async with station.working() as work:
        rows = await LOCKED.fetch_named(work.tx, {})
        await work.tx.execute(update(erasures).where(erasures.c.id.in_([row["id"] for row in rows])).values(asked=None))
        for row in rows:
            events = make_answers(work.incarnation, row["partnership"], [tell_gone(row, station)])
            await outbox.append(work.tx, events, work.now_ms)
            work.woken.add(row["partnership"])


def tell_gone(row: Row, station: Station) -> Answer:
    """What the peer is told of an erasure that it asked for."""
    outcome = Outcome(row["asked"], "applied", say_gone(row, station.keeping), row["uid"], row["fields"] or None)
    return Answer(row["asked"], (outcome,), row["uid"], row["registration"])
