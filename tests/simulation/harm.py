"""Misfortunes beside a random history, by the seed, for as long as its people act."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from random import Random

from shared_schema.contract.codec import HEADER_EPOCH, HEADER_SEQUENCE
from shared_schema.contract.envelope import EVENT_BYTES_MAX, SCHEMA_PREFIX
from shared_schema.contract.registers import Side
from shared_schema.contract.topics import partnership_of
from shared_schema.sync.transport import Record
from tests.simulation.sqlite_connection import DOWN, FULL
from tests.simulation.tampering import send_forged
from tests.simulation.world import World

Harm = Callable[[World, str], Awaitable[bool | None]]  # False: nothing came of it
FAR = 10**9
JUMPS_MS = (-7_200_000, 3_600_000, 20_000)


async def befall(world: World) -> None:
    """One after the other, with a pause between; small faults of every send all the while."""
    random, faults = world.random, world.faults
    faults.duplicate, faults.lost_acknowledgement, faults.failed_send, faults.delay = 0.1, 0.05, 0.05, 0.2
    while True:
        await asyncio.sleep(random.random() * 4)
        topic = random.choice(sorted(name for name in world.cluster.logs if not name.endswith("blobs")))
        name = random.choices(list(HARMS), weights=[weight for weight, _ in HARMS.values()])[0]
        world.note("broker", f"{name} {topic.rpartition('.')[2]}")
        if await HARMS[name][1](world, topic) is not False:
            world.disasters[name] += 1


async def lose_tail(world: World, topic: str) -> bool:
    had = bool(world.cluster.logs[topic].records)
    world.cluster.lose_tail(topic, world.random.randint(1, 3))
    return had


async def recreate(world: World, topic: str) -> bool:
    had = bool(world.cluster.logs[topic].records)
    world.cluster.recreate_topic(topic)
    return had


async def refill(world: World, topic: str) -> None:
    """The topic is another one, and already longer than the position in the old one."""
    old = world.cluster.logs[topic]
    last = [each for each in old.records[-3:]]
    world.cluster.recreate_topic(topic)
    while last and world.cluster.logs[topic].end <= old.end:
        world.cluster.append(topic, [Record(each.key, each.value, each.headers) for each in last])


async def delete(world: World, topic: str) -> None:
    """The topic is gone for a while."""
    world.cluster.delete_topic(topic)
    try:
        await asyncio.sleep(world.random.random() * 15)
    finally:
        world.cluster.create_topic(topic)


async def expire(world: World, topic: str) -> bool:
    """Retention: what a node did not read in time is gone from the broker."""
    log = world.cluster.logs[topic]
    start = log.start
    world.cluster.trim(topic, log.end - world.random.randint(0, 2))
    return log.start > start


async def outage(world: World, topic: str) -> None:
    world.cluster.unavailable = True
    try:
        await asyncio.sleep(world.random.random() * 5)
    finally:
        world.cluster.unavailable = False
        world.cluster.wake_readers()


async def cut(world: World, topic: str) -> None:
    """One node does not reach the broker; the others do."""
    actor = world.random.choice(world.actors)
    actor.cut = True
    try:
        await asyncio.sleep(world.random.random() * 5)
    finally:
        actor.cut = False
        world.cluster.wake_readers()


async def lose_database(world: World, topic: str) -> None:
    await take_away(world, DOWN)


async def fill_disk(world: World, topic: str) -> None:
    await take_away(world, FULL)


async def take_away(world: World, outage: str) -> None:
    """A node's database is down, or takes no writes."""
    actor = world.random.choice(world.actors)
    actor.outage = outage
    try:
        await asyncio.sleep(world.random.random() * 5)
    finally:
        actor.outage = ""


async def poison(world: World, topic: str) -> None:
    """A record that nobody can read: no event at all, one too large, or of a version to come."""
    epoch = f"{world.random.getrandbits(64):016x}".encode()
    uid = f"01a0c450-0000-7000-8000-{world.random.getrandbits(48):012x}"
    event = {"id": uid, "type": "from.later", "dataschema": f"{SCHEMA_PREFIX}2.0", "data": {}}
    value = world.random.choice((b"{]", b"x" * (EVENT_BYTES_MAX + 1), json.dumps(event).encode()))
    world.cluster.append(topic, [Record(None, value, ((HEADER_EPOCH, epoch), (HEADER_SEQUENCE, b"1")))])


async def forge(world: World, topic: str) -> bool:
    """An event that claims to have seen a thousand million writes of whoever gets it: believed, it would hide all that they write."""
    partnership = partnership_of(topic)
    sender: Side = "partner" if topic.endswith("partner") else "vendor"
    partner = next(each for each in world.partners if world.partnership_of(each) == partnership)
    reader = world.vendor if sender == "partner" else partner
    registrations = reader.rows("SELECT uid, side FROM shared_deals WHERE partnership = ? ORDER BY id", partnership)
    if not registrations:
        return False
    send_forged(world, partnership, sender, world.random.choice(registrations), {reader.station.incarnation.name: FAR})
    return True


async def stall(world: World, topic: str) -> None:
    with world.apart():
        await asyncio.sleep(world.random.random() * 5)


async def jump(world: World, topic: str) -> None:
    """A clock is wrong by hours."""
    world.skews[world.random.choice(sorted(world.skews))] += world.random.choice(JUMPS_MS)


async def twin(world: World, topic: str) -> None:
    """Two processes of one node: two relays, two consumers, two reactors."""
    random: Random = world.random
    world.spawn(random.choice(world.actors).double())


HARMS: dict[str, tuple[int, Harm]] = {
    "tail lost": (4, lose_tail),
    "topic created anew": (2, recreate),
    "topic created anew and refilled": (1, refill),
    "topic deleted for a while": (1, delete),
    "topic expired": (1, expire),
    "broker away": (3, outage),
    "broker away from one": (2, cut),
    "database away": (2, lose_database),
    "disk full": (2, fill_disk),
    "poison sent": (2, poison),
    "context forged": (2, forge),
    "delivery stalled": (3, stall),
    "clock jumped": (2, jump),
    "two processes of a node": (2, twin),
}
