"""Reactions: what this node must answer with, run after the apply that asked for it, as ordinary commands that read the state again."""

import logging
import traceback

from sqlalchemy import bindparam, delete, select, update

from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.crm.rows import Among
from shared_schema.crm.statements import Statement
from shared_schema.sync import bell
from shared_schema.sync.log_lines import ids
from shared_schema.sync.patience import keep_at
from shared_schema.sync.station import Station
from shared_schema.sync.tables import reactions, restorations

POLL_S = 1.0
BATCH = 100
DETAIL_CHARACTERS = 4_000
RESTORED = reactions.c.partnership.not_in(select(restorations.c.partnership))

KEY = (reactions.c.partnership, reactions.c.registration, reactions.c.kind)
ONE = [each == bindparam(each.name) for each in KEY]
DUE = Statement(
    select(*KEY)
    .where(Among(reactions.c.kind, "kinds"), reactions.c.due_ms <= bindparam("now_ms"), RESTORED, Among(reactions.c.partnership, "proven"))
    .order_by(reactions.c.attempts, reactions.c.created_ms, *KEY)
    .limit(BATCH)
)
STILL_DUE = reactions.c.due_ms <= bindparam("now_ms")  # whoever was quicker may have answered, and set the timer anew
TAKE = Statement(delete(reactions).where(*ONE, STILL_DUE, RESTORED).returning(reactions.c.kind))
FAIL = Statement(update(reactions).where(*ONE).values(attempts=reactions.c.attempts + 1, detail=bindparam("detail_")))

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
        named = {"kinds": sorted(self.station.spec.reactions), "now_ms": self.station.clock.now_ms()}
        async with self.station.database.reading() as connection:
            rows = await DUE.fetch(connection, named | {"proven": self.station.proven()})
        return [(partnership, registration, kind) for partnership, registration, kind in rows]

    async def react(self, partnership: str, registration: str, kind: str) -> bool:
        """Answer one reaction; whether it is done. One that fails stays, with its reason, and the others go on."""
        key = {"partnership": partnership, "registration": registration, "kind": kind}
        try:
            async with self.station.working() as work:
                if await TAKE.fetch(work.tx, key | {"now_ms": work.now_ms}):
                    await self.station.spec.reactions[kind](work, partnership, registration)
            return True
        except DatabaseUnavailable:
            raise
        except Exception:  # any bug in an answer: it is kept with its reason and tried again
            log.exception("reaction %s failed", kind, extra=ids(partnership, registration))
            detail = traceback.format_exc()[-DETAIL_CHARACTERS:]
            async with self.station.database.transaction() as tx:
                await FAIL.fetch(tx, key | {"detail_": detail})
            return False
