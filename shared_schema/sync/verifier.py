"""The verifier: sends the looks that are due, and begins verifications with repair by the schedule."""

from collections.abc import Callable

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import HEADER_CONTROL, encode_control
from shared_schema.contract.topics import record_topic
from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import partnerships
from shared_schema.sync import bell, verification
from shared_schema.sync.patience import keep_at
from shared_schema.sync.relay import deliver
from shared_schema.sync.station import Station
from shared_schema.sync.tables import verifications
from shared_schema.sync.transport import Broker, BrokerError, Record

POLL_S = 1.0
MINUTE_MS = 60_000
UNDER_WAY = Statement(select(verifications.c.partnership).where(verifications.c.phase != "done").order_by(verifications.c.partnership))


class Verifier:
    """One per process; several processes share the work by the rows. `find_broker` says where a
    partnership's topics are; `every_minutes` is the schedule, 0 for none."""

    def __init__(self, station: Station, find_broker: Callable[[str], Broker], every_minutes: int) -> None:
        self.station = station
        self.find_broker = find_broker
        self.every_minutes = every_minutes
        self.wake = station.bell.listen("verifications")

    async def run(self) -> None:
        """Until cancelled."""
        await keep_at("verification", self.turn, (BrokerError, DatabaseUnavailable))

    async def turn(self) -> None:
        await self.start_scheduled()
        async with self.station.database.reading() as connection:
            under_way = [partnership for (partnership,) in await UNDER_WAY.fetch(connection, {})]
        failures = [failure for each in under_way if (failure := await self.ask(each)) is not None]
        if failures:
            raise failures[0]
        await bell.wait(self.wake, POLL_S)

    async def start_scheduled(self) -> None:
        """Begin, with repair, where the last verification ended long enough ago."""
        if not self.every_minutes:
            return
        async with self.station.database.reading() as connection:
            due = await self.find_scheduled(connection)
        for partnership in due:
            async with self.station.database.transaction() as tx:
                if partnership in await self.find_scheduled(tx):
                    await verification.start(tx, partnership, self.station.clock.now_ms(), repair=True)

    async def find_scheduled(self, connection: AsyncConnection) -> list[str]:
        now_ms = self.station.clock.now_ms()
        before_ms = now_ms - self.every_minutes * MINUTE_MS
        joined = partnerships.outerjoin(verifications, verifications.c.partnership == partnerships.c.id)
        ended = and_(verifications.c.phase == "done", or_(verifications.c.ended_ms <= before_ms, verifications.c.ended_ms > now_ms))
        where = (partnerships.c.status == "active", or_(verifications.c.partnership.is_(None), ended))
        statement = select(partnerships.c.id).select_from(joined).where(*where).order_by(partnerships.c.id)
        return list((await connection.execute(statement)).scalars())

    async def ask(self, partnership: str) -> BrokerError | None:
        """Send what is due; one whose message is lost is sent again when no answer came. One bad topic starves no other."""
        async with self.station.database.transaction() as tx:
            asked = await verification.ask(tx, self.station.incarnation, partnership)
        if asked is None:
            return None
        record = Record(None, encode_control(asked), ((HEADER_CONTROL, asked.type.encode()),))
        try:
            producer = await self.find_broker(partnership).open_producer()
            try:
                await deliver(await producer.send(record_topic(partnership, self.station.spec.side), [record]))
            finally:
                await producer.close()
        except BrokerError as error:
            return error
        return None
