"""The relay: publishes the outbox in order, numbered by an epoch of its own, several batches in flight, and marks what arrived.

A failed send ends the epoch: the producer is closed and unmarked rows go again under new numbers. Duplicates are the receiver's daily
bread; a loss is not possible, because a row stays until the peer acknowledged it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import NamedTuple

from shared_schema.contract.codec import HEADER_CONTROL, HEADER_EPOCH, HEADER_SEQUENCE, encode_control
from shared_schema.contract.envelope import Heartbeat
from shared_schema.contract.registers import Side
from shared_schema.contract.topics import record_topic
from shared_schema.crm.database import Database, DatabaseUnavailable
from shared_schema.sync import bell, leases, metrics, outbox
from shared_schema.sync.clock import Clock
from shared_schema.sync.patience import keep_at
from shared_schema.sync.transport import Broker, BrokerError, Producer, Record

BATCH_ROWS = 500
IN_FLIGHT_BATCHES = 3
HEARTBEAT_MS = 5_000
REST_MS = 15_000  # at most, between heartbeats while nothing is unacknowledged
SPREAD_BITS = 12  # so many milliseconds less, at random: the relays of a process began together, and are not to beat together for ever
SEND_DEADLINE_S = 60.0


class LeaseLost(Exception):
    """Another relay has this partnership now."""


class Shipment(NamedTuple):
    """Rows on their way: newly numbered (id, sequence), the event of the last of these, and the ids of those that go again under an old
    number."""

    numbered: tuple[tuple[int, int], ...]
    last_event: str
    resent: tuple[int, ...]
    delivery: Awaitable[None]


class Relay:
    """One partnership's outbound topic. `wake` is set by whoever makes rows pending, or finds such: nothing is looked for between beats.
    Who cancels it while `writing` is held by nobody cuts no commit off."""

    def __init__(self, database: Database, broker: Broker, clock: Clock, side: Side, partnership: str) -> None:
        self.database = database
        self.broker = broker
        self.clock = clock
        self.partnership = partnership
        self.topic = record_topic(partnership, side)
        self.lease = f"relay:{partnership}"
        self.owner = f"{clock.random_bits(64):016x}"
        self.epoch = ""
        self.losses = 0
        self.wake = asyncio.Event()
        self.writing = asyncio.Lock()

    async def run(self) -> None:
        """Until cancelled; then another relay can go on at once."""
        try:
            await keep_at(f"relay of {self.partnership}", self.serve_epoch, (BrokerError, DatabaseUnavailable, LeaseLost))
        finally:
            with suppress(DatabaseUnavailable):  # then the lease runs out by itself
                async with self.database.transaction() as tx:
                    await leases.release(tx, self.lease, self.owner)

    async def serve_epoch(self) -> None:
        """Take the lease under a new random epoch and publish until something fails; counts from 1, in memory."""
        epoch = f"{self.clock.random_bits(64):016x}"
        producer = await self.broker.open_producer()
        try:
            self.losses = self.database.losses
            await self.take_lease(epoch)
            self.epoch = epoch
            await self.publish_on(producer, epoch)
        finally:
            self.epoch = ""
            await producer.close()

    async def publish_on(self, producer: Producer, epoch: str) -> None:
        sequence, beaten_ms, pause_ms = 0, 0, HEARTBEAT_MS
        flying: deque[Shipment] = deque()
        settling: asyncio.Task[None] | None = None
        try:
            while True:
                self.wake.clear()
                rows = await self.read_rows(flying) if len(flying) < IN_FLIGHT_BATCHES else []
                if rows:
                    flying.append(await self.ship(producer, epoch, sequence, rows))
                    sequence += len(flying[-1].numbered)
                settling = self.settle_next(flying, settling, epoch)
                now_ms = self.clock.now_ms()
                if rows and pause_ms > HEARTBEAT_MS:
                    beaten_ms, pause_ms = now_ms, HEARTBEAT_MS
                if abs(now_ms - beaten_ms) >= pause_ms:
                    beaten_ms = now_ms
                    pause_ms = HEARTBEAT_MS if await self.beat(producer, epoch) else self.draw_rest_ms()
                if not rows:
                    await bell.wait(self.wake, (pause_ms - abs(now_ms - beaten_ms)) / 1000)
        finally:
            await end(settling)

    def draw_rest_ms(self) -> int:
        return REST_MS - self.clock.random_bits(SPREAD_BITS)

    def settle_next(self, flying: deque[Shipment], settling: asyncio.Task[None] | None, epoch: str) -> asyncio.Task[None] | None:
        """Have the oldest shipment settled while the next ones go; raises what kept the last one from it."""
        if settling is not None and settling.done():
            settling.result()
            flying.popleft()
            settling = None
        if settling is None and flying:
            settling = asyncio.create_task(self.settle(flying[0], epoch))
            settling.add_done_callback(lambda _: self.wake.set())
        return settling

    async def take_lease(self, epoch: str) -> None:
        async with self.database.transaction() as tx:
            now_ms = self.clock.now_ms()
            if not await leases.take(tx, self.lease, self.owner, epoch, now_ms):
                raise LeaseLost(f"another process relays {self.partnership}")
            await leases.begin_epoch(tx, self.partnership, epoch, now_ms)

    async def read_rows(self, flying: deque[Shipment]) -> list[outbox.Pending]:
        in_flight = {id for each in flying for id, _ in each.numbered} | {id for each in flying for id in each.resent}
        async with self.database.glancing() as connection:
            rows = await outbox.read_pending(connection, self.partnership, in_flight, BATCH_ROWS)
        self.check_store()
        return rows

    async def ship(self, producer: Producer, epoch: str, sequence: int, rows: Sequence[outbox.Pending]) -> Shipment:
        """Queue the rows in order and go on; a row that had a number keeps it."""
        numbered, resent, records, last_event = [], [], [], ""
        for row in rows:
            if row.epoch is not None and row.sequence is not None:
                resent.append(row.id)
                records.append(make_record(row, row.epoch, row.sequence))
                continue
            sequence += 1
            numbered.append((row.id, sequence))
            last_event = row.event
            records.append(make_record(row, epoch, sequence))
        delivery = await producer.send(self.topic, records)
        return Shipment(tuple(numbered), last_event, tuple(resent), delivery)

    async def settle(self, shipment: Shipment, epoch: str) -> None:
        """Wait for the broker, then mark: never the other way round, and only while the lease names this epoch."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await deliver(shipment.delivery)
        async with self.writing, self.database.transaction(rows=len(shipment.numbered)) as tx:
            self.check_store()
            now_ms = self.clock.now_ms()
            marked = await outbox.mark_published(tx, self.lease, epoch, shipment.numbered, shipment.last_event, now_ms)
            await outbox.mark_resent(tx, shipment.resent, now_ms)
        if shipment.numbered and not marked:
            raise LeaseLost(f"another process relays {self.partnership}, or rows on their way are gone from its store")
        metrics.publish_duration.labels(self.partnership).observe(loop.time() - began_s)
        metrics.published.labels(self.partnership).inc(marked + len(shipment.resent))

    def check_store(self) -> None:
        """After a loss an epoch ends: what it published last may be what the store has lost, and must stay the last of it."""
        if self.database.losses != self.losses:
            raise LeaseLost("the store may have gone back, and ids in flight stand for other rows: they are sent again")

    async def beat(self, producer: Producer, epoch: str) -> bool:
        """Renew the lease, and name the last numbers, after the rows themselves; whether anything is unacknowledged."""
        async with self.writing, self.database.transaction() as tx:
            if not await leases.renew(tx, self.lease, epoch, self.clock.now_ms()):
                raise LeaseLost(f"the lease of {self.partnership} names another epoch")
            epochs = await outbox.read_last_numbers(tx, self.partnership)
            backlog = await outbox.count_pending(tx, self.partnership)
            unacknowledged = await outbox.is_longer(tx, self.partnership, 0)
        beat = Heartbeat(partnership=self.partnership, sent_ms=self.clock.now_ms(), epochs=epochs, backlog=backlog)
        record = Record(None, encode_control(beat), ((HEADER_CONTROL, beat.type.encode()),))
        await deliver(await producer.send(self.topic, [record]))
        return unacknowledged


def make_record(row: outbox.Pending, epoch: str, sequence: int) -> Record:
    headers = ((HEADER_EPOCH, epoch.encode()), (HEADER_SEQUENCE, str(sequence).encode()))
    return Record(row.registration.encode() if row.registration else None, row.payload.encode(), headers)


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancel a task, if there is one, and wait until it is gone; what became of it no longer matters."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def deliver(delivery: Awaitable[None]) -> None:
    """Wait for the broker's acknowledgement under our own deadline: a deleted topic answers nothing, for ever."""
    try:
        async with asyncio.timeout(SEND_DEADLINE_S):
            await delivery
    except TimeoutError as error:
        raise BrokerError(f"the broker did not acknowledge within {SEND_DEADLINE_S:.0f} s") from error
