"""What must hold after a history: the stores' promises, and that nothing private crossed."""

import json

from tests.checker import check_stores, demand
from tests.simulation.script import SECRET
from tests.simulation.world import World


def check(world: World) -> None:
    """Raises Broken."""
    check_stores(world.partner, world.vendor)
    check_private(world)


def check_private(world: World) -> None:
    """A private note's text is in no record of the broker, and nowhere in the other side's store."""
    for log in world.cluster.logs.values():
        demand(not any(SECRET.encode() in (each.value or b"") for each in log.records), "a private note is in a topic")
    demand(SECRET.encode() not in world.vendor.path.read_bytes(), "a private note is in the vendor's store")
    removed = world.partner.rows("SELECT 1 FROM removed_rows WHERE payload LIKE ?", f"%{json.dumps(SECRET)[1:-1]}%")
    demand(not removed, "a private note was in the outbox")
