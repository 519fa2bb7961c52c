"""The verifier: sends the digests that are due, and begins verifications with repair by the schedule."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import HEADER_CONTROL, encode_control
from shared_schema.contract.topics import record_topic
from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.sync import bell, verification
from shared_schema.sync.patience import keep_at
from shared_schema.sync.relay import deliver
from shared_schema.sync.station import Station
from shared_schema.sync.tables import verifications
from shared_schema.sync.transport import Broker, BrokerError, Record

POLL_S = 1.0
MINUTE_MS = 60_000


class Verifier:
    """One partnership's. `every_minutes` is the schedule, 0 for none."""

    def __init__(self, station: Station, broker: Broker, partnership: str, every_minutes: int = 0) -> None:
        self.station = station
        self.broker = broker
        self.partnership = partnership
        self.every_minutes = every_minutes
        self.topic = record_topic(partnership, station.spec.side)
        self.wake = station.bell.listen("verifications")

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await keep_at(f"verification of {self.partnership}", self.turn, (BrokerError, DatabaseUnavailable))
        finally:
            self.station.bell.forget("verifications", self.wake)

    async def turn(self) -> None:
        async with self.station.database.reading() as connection:
            due = self.is_due(await self.read_row(connection))
        if due:
            await self.ask()
        await bell.wait(self.wake, POLL_S)

    def is_due(self, row: tuple[str, int] | None) -> bool:
        """Whether a verification is under way, or the schedule asks for one."""
        return is_under_way(row) or self.is_scheduled(row)

    def is_scheduled(self, row: tuple[str, int] | None) -> bool:
        last_ms = row[1] if row else 0
        return bool(self.every_minutes) and abs(self.station.clock.now_ms() - last_ms) >= self.every_minutes * MINUTE_MS

    async def read_row(self, connection: AsyncConnection) -> tuple[str, int] | None:
        """Phase of the last verification, and when it ended (ms)."""
        statement = select(verifications.c.phase, verifications.c.ended_ms).where(verifications.c.partnership == self.partnership)
        row = (await connection.execute(statement)).one_or_none()
        return (row.phase, int(row.ended_ms or 0)) if row else None

    async def ask(self) -> None:
        """Take the look that is due; one whose message is lost is taken again when no answer came."""
        incarnation = self.station.incarnation
        async with self.station.database.transaction() as tx:
            row = await self.read_row(tx)
            if not is_under_way(row):
                if not self.is_scheduled(row):
                    return  # it ended since it was looked at
                await verification.start(tx, self.partnership, incarnation.clock.now_ms(), repair=True)
            digest = await verification.ask(tx, incarnation, self.partnership)
        if digest is None:
            return
        producer = await self.broker.open_producer()
        try:
            record = Record(None, encode_control(digest), ((HEADER_CONTROL, digest.type.encode()),))
            await deliver(await producer.send(self.topic, [record]))
        finally:
            await producer.close()


def is_under_way(row: tuple[str, int] | None) -> bool:
    return row is not None and row[0] != "done"
