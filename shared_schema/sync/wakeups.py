"""Wake-ups between processes on PostgreSQL: rings of the bell travel as a debounced NOTIFY. SQLite has only the poll behind them.

One NOTIFY per transaction would halve what writers can do, so rings are gathered for some milliseconds and sent outside of commands.
"""

import asyncio
from typing import Any

from sqlalchemy import text

from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.crm.driver import link_of, sync_of
from shared_schema.sync.patience import keep_at
from shared_schema.sync.station import Station

CHANNEL = "dealbridge"
GATHER_S = 0.005
ALIVE_S = 30.0


class Wakeups:
    """Carries one process's rings to the others, and theirs to it."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.waiting: set[str] = set()
        self.rung = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; on SQLite there is nothing to do."""
        if self.station.database.dialect != "postgresql":
            return
        self.station.bell.on_ring.append(self.gather)
        async with asyncio.TaskGroup() as group:
            group.create_task(keep_at("wake-ups to others", self.tell, (DatabaseUnavailable,)))
            group.create_task(keep_at("wake-ups from others", self.listen, (DatabaseUnavailable, OSError)))

    def gather(self, names: frozenset[str]) -> None:
        self.waiting |= names
        self.rung.set()

    async def tell(self) -> None:
        """Send what has been gathered, in one statement."""
        await self.rung.wait()
        await asyncio.sleep(GATHER_S)
        self.rung.clear()
        names, self.waiting = self.waiting, set()
        async with self.station.database.transaction() as tx:
            await tx.execute(text("SELECT pg_notify(:channel, :names)"), {"channel": CHANNEL, "names": " ".join(sorted(names))})

    async def listen(self) -> None:
        """Hear the others on a connection of its own, until it is lost."""
        async with self.station.database.glancing() as connection:
            raw = link_of(connection).driver
            try:
                await raw.add_listener(CHANNEL, self.hear)
                while not raw.is_closed():
                    await asyncio.sleep(ALIVE_S)
                    await raw.execute("SELECT 1")
            except Exception as error:
                raise self.station.database.explain(sync_of(connection), error) from error
            finally:
                raw.terminate()  # it is nobody else's; to stop listening on one that hangs would hang, or fail

    def hear(self, _connection: Any, _process: int, _channel: str, names: str) -> None:
        self.station.bell.wake(names.split())
