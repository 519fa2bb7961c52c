"""What somebody does to a topic or a store behind the product's back, for the scripts."""

from typing import Any

from shared_schema.contract.codec import HEADER_CONTROL, HEADER_EPOCH, HEADER_SEQUENCE, RecordChange, encode_control
from shared_schema.contract.documents import Document, hash_record
from shared_schema.contract.envelope import Control
from shared_schema.contract.registers import Dot, Register, Sibling, Stamp
from shared_schema.contract.topics import record_topic
from shared_schema.sync import dead_letters
from shared_schema.sync.transport import Record
from tests.hand_made import make_event, make_message
from tests.simulation.actor import EPOCH_MS, Actor, count, one
from tests.simulation.world import World


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
    world.forged = True
    dot = Dot("p-00000000000000ff", 1)
    approval = Sibling(dot, Stamp(EPOCH_MS, 0), None, {"decision": "won", "at": EPOCH_MS, "round": 1})
    change = RecordChange(uid, "registration", None, uid, "partner", {"decision": Register({dot.incarnation: 1}, (approval,))})
    event_id = "01a0c450-0000-7000-8000-000000000001"
    event = make_event(event_id, "registration.decided", (world.partnership, "partner"), change, Stamp(EPOCH_MS, 0))
    world.cluster.append(record_topic(world.partnership, "partner"), [make_message(event, "f" * 16)])
    await world.until(lambda: count(vendor, "refusals"), "it is refused")
