"""Rare coincidences, played on purpose: chance would need too many histories to meet them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import patch

from partner_node.registrations import share_from_company, share_from_contact
from shared_schema.contract.codec import decode_event
from shared_schema.contract.registers import encode_token
from shared_schema.contract.topics import record_topic
from shared_schema.sync import leases, notes, partnerships, relay
from shared_schema.sync.consumer import Consumer
from shared_schema.sync.deals import save_shared
from shared_schema.sync.reactor import Reactor
from shared_schema.sync.relay import LeaseLost, Relay, Shipment
from shared_schema.sync.station import Station
from shared_schema.sync.transport import Producer
from tests.checker import check_removed, demand
from tests.simulation.actor import Actor
from tests.simulation.agreeing import begin_verification
from tests.simulation.fate import Fate
from tests.simulation.script import HOUR_MS, collide, count
from tests.simulation.template import DETAILS
from tests.simulation.workload import Client
from tests.simulation.world import World
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


async def refuse_sends(world: World) -> None:
    """While the broker refuses everything, nothing is called sent: looked at every millisecond, for a resend would hide it."""
    partner = world.partner
    await world.until(lambda: not count(partner, "outbox") and not count(world.vendor, "outbox"), "the policy is there")
    world.faults.failed_send = 1.0
    await partner.act("contact", lambda work: share_from_contact(work, None, 1, {"name": "One"}, DETAILS))
    for _ in range(2_000):
        partner.check_marks()
        await asyncio.sleep(0.001)
    world.faults.failed_send = 0.0


async def lose_a_second_life(world: World) -> None:
    """What a node publishes in its second life is lost, and the peer has acknowledged as many numbers of its first."""
    partner, vendor = world.partner, world.vendor
    await partner.act("contact", lambda work: share_from_contact(work, None, 1, {"name": "One"}, DETAILS))
    await world.until(lambda: not count(partner, "outbox") and not count(vendor, "outbox"), "the first has arrived")
    vendor.hold()
    partner.hold()
    partner.held = False
    await partner.act("company", lambda work: share_from_company(work, None, 2, {"name": "Two"}, DETAILS))
    await world.until(lambda: not count(partner, "outbox", "published_ms IS NULL"), "the second is published")
    world.cluster.recreate_topic(record_topic(world.partnership, "partner"))
    vendor.held = False
    await watch_removed(partner, vendor)


async def watch_removed(partner: Actor, vendor: Actor) -> None:
    """No row goes that the peer does not have: until all are gone."""
    for _ in range(20_000):
        check_removed(partner, vendor)
        if not count(partner, "outbox"):
            return
        await asyncio.sleep(0.001)


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
    await watch_removed(partner, vendor)


async def write_notes(world: World) -> None:
    """Nobody looks whether a note is there: the checker alone does."""
    for actor in (world.partner, world.vendor):
        for deal in (1, 2, 3):
            await actor.act("note", lambda work, at=deal: notes.add_note(work, at, "something"))


class PausedRelay(Relay):
    """A process that was put to sleep between the broker's answer and its mark, one row per batch, after its first heartbeat."""

    woken: asyncio.Event
    beats = 0

    async def beat(self, producer: Producer, epoch: str) -> bool:
        self.beats += 1
        if self.beats > 1:
            await self.woken.wait()
        return await super().beat(producer, epoch)

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
        async with running(sleeper, consume(world, station)):
            await world.until(lambda: told_void(vendor), "the lost numbers are void")
            stale.woken.set()
            await world.until(lambda: check_removed(partner, vendor) or sleeper.done(), "the sleeper knows that its lease is gone")


@asynccontextmanager
async def running(*tasks: "asyncio.Task[None]") -> AsyncIterator[None]:
    """While inside; at the end they are cancelled, and none ended by itself but for a lost lease."""
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for each in ended:
        assert isinstance(each, asyncio.CancelledError | LeaseLost), each


def consume(world: World, station: Station) -> "asyncio.Task[None]":
    """A process that only reads what the vendor says."""
    consumer = Consumer(station.database, MemoryBroker(world.cluster), station.incarnation, world.partnership)
    return asyncio.create_task(consumer.run())


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


async def mark_late(world: World) -> None:
    """A relay sleeps before it marks three rows, of which the broker lost two; its epoch is still running. Were the peer told that the lost
    numbers are void, the marks that follow would let an acknowledgement remove what is lost."""
    partner, vendor = world.partner, world.vendor
    await world.until(lambda: not count(partner, "outbox") and not count(vendor, "outbox"), "the policy is there")
    await share_while_the_broker_is_away(world)
    vendor.hold()
    async with standing_in(world, partner) as station:
        late = PausedRelay(
            station.database, MemoryBroker(world.cluster, lose_appended(world, 2)), station.clock, "partner", world.partnership
        )
        late.woken = asyncio.Event()
        with patch.object(relay, "BATCH_ROWS", 1):
            sleeper = asyncio.create_task(late.run())
            await asyncio.sleep(15)
        vendor.held = False
        async with running(sleeper, consume(world, station)):
            await world.until(lambda: count(vendor, "inbound_epochs", "next_sequence = 4"), "the vendor has the third")
            await asyncio.sleep(2)
            late.woken.set()
            await world.until(lambda: check_removed(partner, vendor) or not count(partner, "outbox"), "everything has arrived")


async def stale_page(world: World) -> None:
    """Two people open the same page; the second saves on what the first has changed meanwhile. Both values stand, on both sides."""
    partner = world.partner
    shown = Client(world, partner)
    shown.open_page(1, "next_step")
    _, _, before = shown.pages[1, "next_step"]
    token = {"next_step": encode_token(before.context)}
    for step in ("call", "write"):
        await partner.act("save", lambda work, value=step: save_shared(work, 1, {"next_step": value}, token))
    for actor in (partner, world.vendor):
        await world.until(lambda at=actor: count(at, "conflicts"), "both see the conflict")


async def say_what_stands(world: World) -> None:
    """Of two values one is saved again by who had both in view: the conflict is closed on both sides."""
    await stale_page(world)
    await world.partner.act("save again", lambda work: save_shared(work, 1, {"next_step": "call"}))
    for actor in (world.partner, world.vendor):
        await world.until(lambda at=actor: not count(at, "conflicts"), "the conflict is closed")


async def hold_back_an_outcome(world: World) -> None:
    """An event is not called applied while it is on its way that it made a conflict: the vendor acknowledges it, but another process has
    the lease of the relay that would say so."""
    vendor, relay_lease = world.vendor, f"relay:{world.partnership}"
    watching = world.spawn(watch_outcomes(world))
    async with vendor.station.database.transaction() as tx:
        await leases.end_epoch(tx, relay_lease)
        assert await leases.take(tx, relay_lease, "another process", "another epoch", vendor.station.clock.now_ms())
    await collide(world)
    await world.settle()
    watching.cancel()


async def turn_the_clock_back(world: World) -> None:
    """A node dies with its lease taken, and its clock goes back by hours before it begins again: it publishes all the same."""
    partner = world.partner
    await partner.act("note", lambda work: notes.add_note(work, 1, "before"))
    await world.until(lambda: not count(partner, "outbox"), "it has published")
    partner.hold()
    world.skews["partner"] -= 7_200_000
    partner.held = False
    await partner.act("note", lambda work: notes.add_note(work, 1, "after"))
    await world.settle()


async def watch_outcomes(world: World) -> None:
    while True:
        for store, peer in ((world.partner, world.vendor), (world.vendor, world.partner)):
            removed = set(store.rows("SELECT event FROM removed_rows"))
            told = set(store.rows("SELECT event FROM peer_outcomes"))
            early = removed.intersection(peer.rows("SELECT answers FROM outbox WHERE answers IS NOT NULL")) - told
            demand(not early, f"{store.name} calls applied what {peer.name} has yet to answer: {early}")
            early = removed.intersection(read_parked(peer)) - told
            demand(not early, f"{store.name} calls applied what {peer.name} has parked, and was not told of it: {early}")
        await asyncio.sleep(0.001)


def read_parked(actor: Actor) -> list[tuple[str]]:
    """The events that wait for what they hang on."""
    waiting = actor.rows("SELECT payload FROM parked WHERE waits_for IS NOT NULL")
    return [(decode_event(payload).id,) for (payload,) in waiting]


async def park_and_tell(world: World) -> None:
    """A note is torn out of the vendor's store, and the comment on it waits there; no number is missing, so it is acknowledged. It is not
    called applied: its author is told first. A repair brings the note back, and with it the comment."""
    partner, vendor = world.partner, world.vendor
    await partner.act("note", lambda work: notes.add_note(work, 1, "a note"))
    await world.settle()
    watching = world.spawn(watch_outcomes(world))
    vendor.rows("DELETE FROM shared_records WHERE kind = 'note'")
    await partner.act("comment", lambda work: notes.add_comment(work, 1, "on what is torn out"))
    await world.until(lambda: read_parked(vendor) and not count(partner, "outbox"), "the comment waits, and is acknowledged")
    await begin_verification(world, partner, repair=True)
    await world.until(lambda: not read_parked(vendor), "the comment is there")
    await world.settle()
    watching.cancel()


async def react_at_once(world: World) -> None:
    """The time to accept is over, and two processes have read so before either acts: one turn of the wheel, and the next one's hour."""
    vendor, hurry = world.vendor, {"timers": {"accept_hours": 1}}
    await vendor.act("hurry", lambda work: partnerships.change_policy(work, world.partnership, hurry))
    await world.partner.act("contact", lambda work: share_from_contact(work, None, 4, {"name": "Four"}, DETAILS))
    await world.until(lambda: count(vendor, "reactions", "kind = 'accept'"), "somebody is asked to accept")
    await world.settle()
    vendor.hold()
    world.skews["vendor"] += 2 * HOUR_MS
    async with standing_in(world, vendor) as one, standing_in(world, vendor) as other:
        due = vendor.rows("SELECT partnership, registration, kind FROM reactions WHERE kind = 'accept'")
        for station in (one, other):
            for row in due:
                await Reactor(station).react(*row)
    turns = [turn for (turn,) in vendor.rows("SELECT turn FROM assignments WHERE registration = ? ORDER BY turn", due[0][1])]
    demand(turns == [1, 2], f"one rep let their time lapse, and it was the turn of {turns}")
    demand(count(vendor, "reactions", "kind = 'accept'") == 1, "the next rep has an hour, too")
    world.skews["vendor"] -= 2 * HOUR_MS


def told_void(vendor: Actor) -> bool:
    """Whether the vendor counts three numbers of an epoch as settled, with nothing missing."""
    return ("[]", 4) in vendor.rows("SELECT gaps, next_sequence FROM inbound_epochs")
