"""Reactions: what this node must answer with, run after the apply that asked for it, as ordinary commands that read the state again."""

import logging
import traceback

from sqlalchemy import delete, select, update

from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.sync import bell
from shared_schema.sync.log_lines import ids
from shared_schema.sync.patience import keep_at
from shared_schema.sync.station import Station
from shared_schema.sync.tables import reactions, restorations

POLL_S = 1.0
BATCH = 100
DETAIL_CHARACTERS = 4_000
RESTORED = reactions.c.partnership.not_in(select(restorations.c.partnership))

log = logging.getLogger(__name__)


class Reactor:
    """Runs what is due, once: the row goes in the transaction that answers. While the store may have gone back nothing is run: what it
    asks for may have been answered."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.wake = station.bell.listen("reactions")

    async def run(self) -> None:
        """Until cancelled."""
        await keep_at("reactions", self.turn, (DatabaseUnavailable,))

    async def turn(self) -> None:
        done = [await self.react(*row) for row in await self.read_due()]
        if not any(done):
            await bell.wait(self.wake, POLL_S)

    async def read_due(self) -> list[tuple[str, str, str]]:
        """The reactions that are due, those that failed least often first."""
        columns = (reactions.c.partnership, reactions.c.registration, reactions.c.kind)
        known = reactions.c.kind.in_(sorted(self.station.spec.reactions)), reactions.c.due_ms <= self.station.clock.now_ms()
        settled = RESTORED, reactions.c.partnership.in_(self.station.proven())
        statement = select(*columns).where(*known, *settled).order_by(reactions.c.attempts, reactions.c.created_ms, *columns).limit(BATCH)
        async with self.station.database.reading() as connection:
            return [(row.partnership, row.registration, row.kind) for row in await connection.execute(statement)]

    async def react(self, partnership: str, registration: str, kind: str) -> bool:
        """Answer one reaction; whether it is done. One that fails stays, with its reason, and the others go on."""
        where = (reactions.c.partnership == partnership, reactions.c.registration == registration, reactions.c.kind == kind)
        try:
            async with self.station.working() as work:
                if (await work.tx.execute(delete(reactions).where(*where, RESTORED))).rowcount:
                    await self.station.spec.reactions[kind](work, partnership, registration)
            return True
        except DatabaseUnavailable:
            raise
        except Exception:  # any bug in an answer: it is kept with its reason and tried again
            log.exception("reaction %s failed", kind, extra=ids(partnership, registration))
            detail = traceback.format_exc()[-DETAIL_CHARACTERS:]
            async with self.station.database.transaction() as tx:
                await tx.execute(update(reactions).where(*where).values(attempts=reactions.c.attempts + 1, detail=detail))
            return False
