"""The restorer: erases again what the list names, asks the peers for their states while this store is being restored, and ends the
restoration; or tells a peer that asks when it has got all of ours."""

import asyncio
import logging
from collections.abc import Callable, KeysView

from shared_schema.contract.codec import HEADER_CONTROL, encode_control
from shared_schema.contract.envelope import Restated, Restore
from shared_schema.contract.topics import record_topic
from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.sync import bell, erasure_list, restoration, statements
from shared_schema.sync.erasure_list import BadErasureList
from shared_schema.sync.log_lines import ids
from shared_schema.sync.patience import keep_at
from shared_schema.sync.relay import deliver
from shared_schema.sync.station import Station
from shared_schema.sync.transport import Broker, BrokerError, Record

POLL_S = 2.0
STATING_S = 0.1
log = logging.getLogger(__name__)


class Restorer:
    """One per process, for the partnerships that it serves; several processes beside each other only do each other's work. `find_broker`
    says where a partnership's topics are."""

    def __init__(self, station: Station, find_broker: Callable[[str], Broker], served: KeysView[str]) -> None:
        self.station = station
        self.find_broker = find_broker
        self.served = served
        self.told: set[str] = set()
        self.wake = station.bell.listen("restorations")

    async def run(self) -> None:
        """Until cancelled."""
        await keep_at("restorations", self.turn, (BrokerError, DatabaseUnavailable, BadErasureList))

    async def turn(self) -> None:
        async with self.station.database.reading() as connection:
            restoring = await restoration.read_restorations(connection)
            stating = self.served & await statements.list_unfinished(connection)
        mine = sorted(stating | (self.served & restoring.keys()))
        results = await asyncio.gather(*(self.serve(each, restoring.get(each), each in stating) for each in mine), return_exceptions=True)
        for each in results:
            if each is not None:
                raise each
        await bell.wait(self.wake, STATING_S if stating else POLL_S)

    async def serve(self, partnership: str, restoring: restoration.Row | None, stating: bool) -> None:
        if restoring is not None:
            await self.restore(partnership, restoring)
        if stating:
            await self.state(partnership)

    async def restore(self, partnership: str, row: restoration.Row) -> None:
        """Ask again if no answer came, or end it if the states are here."""
        if row["request"] not in self.told:
            self.station.begin_anew()
            await erasure_list.apply(self.station)
            self.told.add(row["request"])
            log.error("this store went back: %s; reactions, timers and deletions wait", row["why"], extra=ids(partnership))
        if row["merged"]:
            async with self.station.working() as work:
                finished = await restoration.finish(work, row, self.station.spec.restored)
            if finished:
                log.warning("the peer's states are here, and everything goes on", extra=ids(partnership))
            return
        async with self.station.database.transaction() as tx:
            asked = await restoration.ask(tx, partnership, self.station.clock.now_ms())
        if asked is not None:
            await self.send(asked)

    async def state(self, partnership: str) -> None:
        """Tell the peer when it has got all that it asked for."""
        async with self.station.database.transaction() as tx:
            ended = await statements.end(tx, partnership, self.station.clock.now_ms())
        if ended is not None:
            await self.send(ended)

    async def send(self, message: Restore | Restated) -> None:
        producer = await self.find_broker(message.partnership).open_producer()
        try:
            record = Record(None, encode_control(message), ((HEADER_CONTROL, message.type.encode()),))
            await deliver(await producer.send(record_topic(message.partnership, self.station.spec.side), [record]))
        finally:
            await producer.close()
