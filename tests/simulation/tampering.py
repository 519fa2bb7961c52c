"""What somebody does to a topic or a store behind the product's back, for the scripts."""

from typing import Any

from shared_schema.contract.codec import HEADER_CONTROL, HEADER_EPOCH, HEADER_SEQUENCE, encode_control
from shared_schema.contract.documents import Document, hash_record
from shared_schema.contract.envelope import Control
from shared_schema.contract.topics import record_topic
from shared_schema.sync.transport import Record
from tests.simulation.actor import Actor
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
