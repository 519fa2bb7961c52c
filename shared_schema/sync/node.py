"""The composition root of a syncing process: a relay and a consumer for each partnership, and the loops that serve all."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.sync import bell, dead_letters, leases, outbox, shares
from shared_schema.sync.consumer import Consumer
from shared_schema.sync.emptier import Emptier
from shared_schema.sync.eraser import Eraser
from shared_schema.sync.limits import Limits
from shared_schema.sync.patience import keep_at
from shared_schema.sync.projector import VERSION, Projector
from shared_schema.sync.reactor import Reactor
from shared_schema.sync.relay import Relay
from shared_schema.sync.restater import Restater
from shared_schema.sync.restorer import Restorer
from shared_schema.sync.station import Station
from shared_schema.sync.sweeper import Sweeper
from shared_schema.sync.transport import Broker
from shared_schema.sync.verifier import Verifier

POLL_S = 1.0
APPEAR_S = 2.0
LET_GO_S = 5.0
FindBroker = Callable[[str], Broker]


class Served(NamedTuple):
    """A partnership's two streams, and the task that they are."""

    relay: Relay
    consumer: Consumer
    task: asyncio.Task[None]

    async def let_go(self) -> None:
        """End both between two writes: a commit that is cut off counts as a lost connection, after which all others begin anew. Who
        writes for too long is cut off all the same."""
        try:
            async with asyncio.timeout(LET_GO_S), self.relay.writing, self.consumer.writing:
                self.task.cancel()
        except TimeoutError:
            self.task.cancel()


class Node:
    """One process that syncs a store. Several may run beside each other: each serves its share, and leases and positions keep apart those
    that overlap. `find_broker` says which broker a partnership is on, where that is not the one for all."""

    def __init__(
        self,
        station: Station,
        broker: Broker,
        limits: Limits = Limits(),  # noqa: B008  # a tuple of numbers
        find_broker: FindBroker | None = None,
    ) -> None:
        self.station = station
        self.broker = broker
        self.limits = limits
        self.find_broker: FindBroker = find_broker or (lambda _: broker)
        self.reactor = Reactor(station)
        self.restater = Restater(station, limits.outbox_max)
        self.sweeper = Sweeper(station, limits.keep_days)
        self.verifier = Verifier(station, self.find_broker, limits.verify_minutes)
        self.name = f"{station.clock.random_bits(64):016x}"
        self.served: dict[str, Served] = {}
        self.restorer = Restorer(station, self.find_broker, self.served.keys())
        self.wake = station.bell.listen("partnerships")

    async def run(self) -> None:
        """Until cancelled. A bug in one of the loops ends all of them: the process is to be started anew."""
        await self.broker.start()
        try:
            async with asyncio.TaskGroup() as group:
                pacing = (self.reactor, self.restater, self.restorer, self.verifier)
                loops = (*pacing, self.sweeper, Eraser(self.station), Emptier(self.station), Projector(self.station))
                for each in loops:
                    group.create_task(each.run())
                group.create_task(keep_at("shares", self.appear, (DatabaseUnavailable,)))
                await keep_at("partnerships", lambda: self.tend(group), (DatabaseUnavailable,))
        finally:
            await self.broker.stop()
            with suppress(DatabaseUnavailable):  # then the others wait until its lease runs out
                async with self.station.database.transaction() as tx:
                    await shares.leave(tx, self.name)

    async def appear(self) -> None:
        """Say that this process lives, and renew its relays' leases, all at once: their heartbeats may be further apart than that."""
        now_ms = self.station.clock.now_ms()
        async with self.station.database.transaction() as tx:
            await shares.appear(tx, self.name, VERSION, now_ms)
            await leases.renew_all(tx, [each.relay.epoch for each in self.served.values() if each.relay.epoch], now_ms)
        await asyncio.sleep(APPEAR_S)

    async def tend(self, group: asyncio.TaskGroup) -> None:
        """Start serving what is this process's share, stop serving what is not; a new partnership is noticed at once, or within seconds."""
        found, living = await self.look_around()
        wanted = shares.find_share(self.name, living, found)
        self.station.bell.wake(each for each in wanted if found[each])
        for partnership in sorted(wanted - set(self.served)):
            self.served[partnership] = self.serve(group, partnership)
        leaving = [self.served.pop(each) for each in sorted(set(self.served) - wanted)]
        await asyncio.gather(*(each.let_go() for each in leaving))
        await bell.wait(self.wake, POLL_S)

    async def look_around(self) -> tuple[dict[str, bool], list[str]]:
        """The partnerships to sync, and whether rows wait to be published, of which another process may have told nobody; who lives."""
        async with self.station.database.glancing() as connection:
            found = await outbox.read_servable(connection)
            return found, await shares.read_living(connection, self.station.clock.now_ms())

    def serve(self, group: asyncio.TaskGroup, partnership: str) -> Served:
        station, broker = self.station, self.find_broker(partnership)
        relay = Relay(station.database, broker, station.clock, station.spec.side, partnership)
        consumer = Consumer(station.database, broker, station.incarnation, partnership, station.spec.due, station.bell)
        consumer.limits, consumer.brake, consumer.trash_days = self.limits, station.keeping.brake, station.keeping.trash_days
        consumer.proofs = station.proofs
        return Served(relay, consumer, group.create_task(self.sync(relay, consumer)))

    async def try_again(self, partnership: str, left: asyncio.Event) -> None:
        """At the start, because what this version reads is known from then on, and whenever something was left behind."""
        left.clear()
        await dead_letters.replay_ready(self.station, partnership)
        await left.wait()

    async def sync(self, relay: Relay, consumer: Consumer) -> None:
        """Both streams of a partnership, until cancelled."""
        relay.wake = self.station.bell.listen(relay.partnership)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(relay.run())
                group.create_task(consumer.run())
                again = partial(self.try_again, relay.partnership, consumer.left)
                group.create_task(keep_at(f"dead letters of {relay.partnership}", again, (DatabaseUnavailable,)))
        finally:
            self.station.bell.forget(relay.partnership, relay.wake)
