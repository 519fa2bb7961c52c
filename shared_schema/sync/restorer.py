"""The restorer: asks the peer for its states while this store is being restored, and ends the restoration; or tells the peer, where that
one asks, when it has got all of ours."""

import logging

from shared_schema.contract.codec import HEADER_CONTROL, encode_control
from shared_schema.contract.envelope import Restated, Restore
from shared_schema.contract.topics import record_topic
from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.sync import bell, restoration, statements
from shared_schema.sync.log_lines import ids
from shared_schema.sync.patience import keep_at
from shared_schema.sync.relay import deliver
from shared_schema.sync.station import Station
from shared_schema.sync.transport import Broker, BrokerError, Record

POLL_S = 2.0
STATING_S = 0.1
log = logging.getLogger(__name__)


class Restorer:
    """One partnership's. Several processes beside each other only do each other's work."""

    def __init__(self, station: Station, broker: Broker, partnership: str) -> None:
        self.station = station
        self.broker = broker
        self.partnership = partnership
        self.topic = record_topic(partnership, station.spec.side)
        self.told = ""
        self.wake = station.bell.listen("restorations")

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await keep_at(f"restoration of {self.partnership}", self.turn, (BrokerError, DatabaseUnavailable))
        finally:
            self.station.bell.forget("restorations", self.wake)

    async def turn(self) -> None:
        async with self.station.database.reading() as connection:
            restoring = await restoration.load(connection, self.partnership)
            asked = await statements.load(connection, self.partnership)
        if restoring is not None:
            await self.restore(restoring)
        stating = asked is not None and not asked["done"]
        if stating:
            await self.state()
        await bell.wait(self.wake, STATING_S if stating else POLL_S)

    async def restore(self, row: restoration.Row) -> None:
        """Ask again if no answer came, or end it if the states are here."""
        if row["request"] != self.told:
            self.told = row["request"]
            self.station.begin_anew()
            about = ids(self.partnership)
            log.error("this store went back: %s; reactions, timers and deletions wait", row["why"], extra=about)
        if row["merged"]:
            async with self.station.working() as work:
                finished = await restoration.finish(work, row, self.station.spec.restored)
            if finished:
                log.warning("the peer's states are here, and everything goes on", extra=ids(self.partnership))
            return
        async with self.station.database.transaction() as tx:
            asked = await restoration.ask(tx, self.partnership, self.station.clock.now_ms())
        if asked is not None:
            await self.send(asked)

    async def state(self) -> None:
        """Tell the peer when it has got all that it asked for."""
        async with self.station.database.transaction() as tx:
            ended = await statements.end(tx, self.partnership, self.station.clock.now_ms())
        if ended is not None:
            await self.send(ended)

    async def send(self, message: Restore | Restated) -> None:
        producer = await self.broker.open_producer()
        try:
            record = Record(None, encode_control(message), ((HEADER_CONTROL, message.type.encode()),))
            await deliver(await producer.send(self.topic, [record]))
        finally:
            await producer.close()
