"""What somebody does to a topic or a store behind the product's back, for the scripts."""

from collections.abc import Mapping
from typing import Any

from shared_schema.contract.codec import HEADER_CONTROL, HEADER_EPOCH, HEADER_SEQUENCE, RecordChange, encode_control
from shared_schema.contract.documents import Document, hash_record
from shared_schema.contract.envelope import Control
from shared_schema.contract.registers import Context, Dot, Register, Sibling, Side, Stamp
from shared_schema.contract.topics import record_topic
from shared_schema.sync import dead_letters
from shared_schema.sync.transport import Record
from tests.hand_made import make_event, make_message
from tests.simulation.actor import EPOCH_MS, Actor, count, one
from tests.simulation.world import World

# By who is said to have sent it: a field, its value, and the event's type.
FORGERIES: Mapping[Side, tuple[str, Any, str]] = {
    "partner": ("decision", {"decision": "won", "at": EPOCH_MS, "round": 1}, "registration.decided"),
    "vendor": ("submission", {"at": EPOCH_MS, "round": 9}, "registration.submitted"),
}


def say(world: World, side: Any, message: Control) -> None:
    """A control message on a side's topic that a relay or consumer of long ago sent."""
    record = Record(None, encode_control(message), ((HEADER_CONTROL, message.type.encode()),))
    world.cluster.append(record_topic(world.partnership, side), [record])


def garble(world: World, records: int) -> None:
    """Records that no version of this product wrote."""
    spoiled = [Record(None, b"{]", ((HEADER_EPOCH, b"0" * 16), (HEADER_SEQUENCE, str(at).encode()))) for at in range(1, records + 1)]
    world.cluster.append(record_topic(world.partnership, "partner"), spoiled)


def tear_field(actor: Actor, field: str) -> None:
    """A registration without one of its fields, as a defect would have left it."""
    uid, document = actor.rows("SELECT uid, document FROM shared_records WHERE kind = 'registration' ORDER BY uid LIMIT 1")[0]
    whole = Document.decode(document).registers()
    torn = Document.of({name: register for name, register in whole.items() if name != field}).encode()
    actor.rows("UPDATE shared_records SET document = ?, hash = ? WHERE uid = ?", torn.decode(), hash_record(uid, torn), uid)


async def spoil(world: World) -> None:
    """What can not be read is parked: replayed in vain, then discarded."""
    vendor = world.vendor
    garble(world, 1)
    await world.until(lambda: count(vendor, "parked"), "it is parked")
    letter = one(vendor, "SELECT id FROM parked")
    await vendor.ask("replay", lambda: dead_letters.replay(vendor.station, vendor.author, [letter]))
    await vendor.act("discard", lambda work: dead_letters.discard(work, letter, "no sense in it"))


async def forge(world: World) -> None:
    """Somebody at the partner's broker decides for the vendor: that field is refused, and the partner is told."""
    vendor = world.vendor
    uid = one(vendor, "SELECT uid FROM shared_deals ORDER BY id LIMIT 1")
    send_forged(world, world.partnership, "partner", (uid, "partner"), {})
    await world.until(lambda: count(vendor, "refusals"), "it is refused")


def send_forged(world: World, partnership: str, sender: Side, registration: tuple[str, Side], seen: Context) -> None:
    """An event that a side never sent, in the field of a registration (its uid and maker) that is the other side's alone to write. `seen`:
    what it claims to have seen. Even a store that is being restored, and may get its own writes back, takes nothing of that."""
    uid, maker = registration
    field, value, type_ = FORGERIES[sender]
    dot = Dot(f"{sender[0]}-00000000000000ff", 1)
    register = Register({dot.incarnation: 1, **seen}, (Sibling(dot, Stamp(EPOCH_MS, 0), None, value),))
    change = RecordChange(uid, "registration", None, uid, maker, {field: register})
    event_id = f"01a0c450-0000-7000-8000-0000000f{len(world.forged):04x}"
    world.forged.add(event_id)
    event = make_event(event_id, type_, (partnership, sender), change, Stamp(EPOCH_MS, 0))
    world.cluster.append(record_topic(partnership, sender), [make_message(event, f"{world.random.getrandbits(64):016x}")])
