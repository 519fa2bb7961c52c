"""The restater: pays the states that are owed, piece by piece while the peer keeps up, and folds an outbox past its limit into debts."""

from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import decode_event
from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.sync import bell, leases, outbox, owed_states
from shared_schema.sync.patience import keep_at
from shared_schema.sync.station import Station

POLL_S = 1.0
FOLD_EVERY_MS = 10_000
BACKLOG_ROWS = 500
FOLD_ROWS = 2_000


class Restater:
    """One per process. `outbox_max`: so many unacknowledged rows of a partnership are kept; more become debts."""

    def __init__(self, station: Station, outbox_max: int) -> None:
        self.station = station
        self.outbox_max = outbox_max
        self.folded_ms = 0
        self.wake = station.bell.listen("owed")

    async def run(self) -> None:
        """Until cancelled."""
        await keep_at("states that are owed", self.turn, (DatabaseUnavailable,))

    async def turn(self) -> None:
        if await self.fold_all() + await self.pay_all() == 0:
            await bell.wait(self.wake, POLL_S)

    async def pay_all(self) -> int:
        """One piece for each partnership whose backlog is short; how many records."""
        async with self.station.database.reading() as connection:
            owing = await self.find_payable(connection)
        paid = 0
        for partnership in owing:
            async with self.station.database.transaction(rows=owed_states.PIECE_RECORDS) as tx:
                paid += await owed_states.pay(tx, self.station.incarnation, partnership)
        self.station.bell.ring(owing)
        return paid

    async def find_payable(self, connection: AsyncConnection) -> list[str]:
        return [
            each
            for each in await owed_states.list_owing(connection)
            if not await outbox.is_longer(connection, each, BACKLOG_ROWS, pending=True)
            and not await outbox.is_longer(connection, each, self.outbox_max // 2)
        ]

    async def fold_all(self) -> int:
        """Fold the outboxes that are past the limit, down to half of it; how many rows."""
        now_ms = self.station.clock.now_ms()
        if abs(now_ms - self.folded_ms) < FOLD_EVERY_MS:
            return 0
        self.folded_ms = now_ms
        async with self.station.database.reading() as connection:
            names = await outbox.list_partnerships(connection)
            long = [each for each in names if await outbox.is_longer(connection, each, self.outbox_max)]
        return sum([await self.fold(each) for each in long])

    async def fold(self, partnership: str) -> int:
        folded = 0
        while True:
            async with self.station.database.transaction() as tx:
                done = await fold_piece(tx, partnership)
                long = await outbox.is_longer(tx, partnership, self.outbox_max // 2)
            folded += done
            if not done or not long:
                return folded


async def fold_piece(tx: AsyncConnection, partnership: str) -> int:
    """Turn the oldest rows into debts, after ending the relay's epoch: a number that no row bears any more must be void for the peer, and
    of a running epoch nothing may be called void. Outcomes stay. How many rows went."""
    await leases.end_epoch(tx, f"relay:{partnership}")
    rows = await outbox.take_oldest(tx, partnership, FOLD_ROWS)
    uids = {change.uid for payload in rows for change in decode_event(payload.encode()).data.records}
    await owed_states.owe(tx, partnership, uids)
    return len(rows)
