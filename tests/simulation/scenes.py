"""Rare coincidences, played on purpose: chance would need too many histories to meet them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import patch

from partner_node.registrations import share_from_company, share_from_contact
from shared_schema.contract.topics import record_topic
from shared_schema.sync import leases, notes, relay
from shared_schema.sync.consumer import Consumer
from shared_schema.sync.relay import LeaseLost, Relay, Shipment
from shared_schema.sync.station import Station
from tests.checker import check_removed
from tests.simulation.fate import Fate
from tests.simulation.script import DETAILS, count
from tests.simulation.world import Actor, World
from tests.twins.memory_broker import MemoryBroker, OnStep


async def lose_an_epoch(world: World) -> None:
    """Published under one epoch, lost with the log's tail while the peer was away, and the next epoch goes on after it."""
    partner, vendor = world.partner, world.vendor
    await world.until(lambda: not count(partner, "outbox") and not count(vendor, "outbox"), "the policy is there")
    vendor.hold()
    await partner.act("contact", lambda work: share_from_contact(work, None, 1, {"name": "One"}, DETAILS))
    await world.until(lambda: not count(partner, "outbox", "published_ms IS NULL"), "it is published")
    world.cluster.recreate_topic(record_topic(world.partnership, "partner"))
    partner.hold()
    partner.held = False
    await asyncio.sleep(15)
    await partner.act("company", lambda work: share_from_company(work, None, 2, {"name": "Two"}, DETAILS))
    await world.until(lambda: not count(partner, "outbox", "published_ms IS NULL"), "the second is published")
    vendor.held = False


async def lose_a_parent(world: World) -> None:
    """The deal is lost with the topic, the note about it is not: the note comes first and waits."""
    partner, vendor = world.partner, world.vendor
    await world.until(lambda: not count(partner, "outbox") and not count(vendor, "outbox"), "the policy is there")
    vendor.hold()
    await partner.act("contact", lambda work: share_from_contact(work, None, 1, {"name": "One"}, DETAILS))
    await world.until(lambda: not count(partner, "outbox", "published_ms IS NULL"), "it is published")
    world.cluster.recreate_topic(record_topic(world.partnership, "partner"))
    await partner.act("note", lambda work: notes.add_note(work, 1, "which deal?"))
    await world.until(lambda: not count(partner, "outbox", "published_ms IS NULL"), "the note is published")
    vendor.held = False


async def lose_the_first(world: World) -> None:
    """Of two events the broker lost the first. Until the peer has it again, its row must stay: looked at every millisecond, for a state
    sent to mend it would hide that it had been called applied."""
    partner, vendor = world.partner, world.vendor
    await world.until(lambda: not count(partner, "outbox") and not count(vendor, "outbox"), "the policy is there")
    vendor.hold()
    await partner.act("contact", lambda work: share_from_contact(work, None, 1, {"name": "One"}, DETAILS))
    await world.until(lambda: not count(partner, "outbox", "published_ms IS NULL"), "it is published")
    world.cluster.recreate_topic(record_topic(world.partnership, "partner"))
    await partner.act("company", lambda work: share_from_company(work, None, 2, {"name": "Two"}, DETAILS))
    await world.until(lambda: not count(partner, "outbox", "published_ms IS NULL"), "the second is published")
    world.faults.delay = 1.0
    vendor.held = False
    for _ in range(20_000):
        check_removed(partner, vendor)
        if not count(partner, "outbox"):
            return
        await asyncio.sleep(0.001)


class PausedRelay(Relay):
    """A process that was put to sleep between the broker's answer and its mark, one row per batch."""

    woken: asyncio.Event

    async def settle(self, shipment: Shipment, epoch: str) -> None:
        await self.woken.wait()
        await super().settle(shipment, epoch)


async def wake_a_stale_relay(world: World) -> None:
    """A relay sleeps before it marks three rows, of which the broker lost two; another process took its lease meanwhile, so the peer
    is told that the lost numbers are void. Then the sleeper wakes: were it to mark, an acknowledgement would remove what is lost."""
    partner, vendor = world.partner, world.vendor
    await world.until(lambda: not count(partner, "outbox") and not count(vendor, "outbox"), "the policy is there")
    await share_while_the_broker_is_away(world)
    vendor.hold()
    async with standing_in(world, partner) as station:
        stale = PausedRelay(
            station.database, MemoryBroker(world.cluster, lose_appended(world, 2)), station.clock, "partner", world.partnership
        )
        stale.woken = asyncio.Event()
        with patch.object(relay, "BATCH_ROWS", 1):
            sleeper = asyncio.create_task(stale.serve_epoch())
            await asyncio.sleep(15)
        vendor.held = False
        async with station.database.transaction() as tx:
            assert await leases.take(tx, stale.lease, "another process", "another epoch", station.clock.now_ms())
        consumer = asyncio.create_task(
            Consumer(station.database, MemoryBroker(world.cluster), station.incarnation, world.partnership).run()
        )
        await world.until(lambda: told_void(vendor), "the lost numbers are void")
        stale.woken.set()
        await world.until(lambda: check_removed(partner, vendor) or sleeper.done(), "the sleeper knows that its lease is gone")
        for task in (sleeper, consumer):
            task.cancel()
        for ended in await asyncio.gather(sleeper, consumer, return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError | LeaseLost), ended


async def share_while_the_broker_is_away(world: World) -> None:
    """Three registrations in the outbox, none of them sent; then the partner is dead, and the broker is back."""
    partner = world.partner
    world.cluster.unavailable = True
    await partner.act("contact", lambda work: share_from_contact(work, None, 1, {"name": "One"}, DETAILS))
    for company, name in ((2, "Two"), (4, "Four")):
        await partner.act("company", lambda work, at=company, of=name: share_from_company(work, None, at, {"name": of}, DETAILS))
    partner.hold()
    world.cluster.unavailable = False
    world.cluster.wake_readers()
    await asyncio.sleep(15)


@asynccontextmanager
async def standing_in(world: World, actor: Actor) -> AsyncIterator[Station]:
    """Its store, while the node itself is dead; at the end it starts again."""
    station = actor.open_station(Fate(world.random))
    yield station
    await station.database.close()
    actor.held = False


def lose_appended(world: World, lost: int) -> OnStep:
    """What the broker appends is gone with its topic before the next: only what comes after so many stays."""
    appended = 0

    def step(point: str) -> None:
        nonlocal appended
        if point == "append":
            appended += 1
            if appended == lost + 1:
                world.cluster.recreate_topic(record_topic(world.partnership, "partner"))

    return step


def told_void(vendor: Actor) -> bool:
    """Whether the vendor counts three numbers of an epoch as settled, with nothing missing."""
    return ("[]", 4) in vendor.rows("SELECT gaps, next_sequence FROM inbound_epochs")
