"""What a change of shared records entails here, whoever made it: rows, columns, and the reactions that the new state asks for.

Derived from the state before and after, never from an event's type, so a duplicate entails nothing.
"""

from collections.abc import Callable, Iterable

from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.policy import Policy
from shared_schema.crm.projection import project
from shared_schema.crm.rows import insert_missing
from shared_schema.crm.shared_records import SharedRecord, save_records
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.tables import reactions

AT_ONCE = 0  # due whatever the clock says, even one that went back

Due = Callable[[SharedRecord], frozenset[str]]


def nothing_due(_record: SharedRecord) -> frozenset[str]:
    """A node that reacts to nothing."""
    return frozenset()


async def follow(tx: AsyncConnection, incarnation: Incarnation, due: Due, policy: Policy, records: Iterable[SharedRecord]) -> None:
    """Save the changed records of one partnership with all that they entail, in the caller's transaction."""
    changed = sorted((each for each in records if each.changed), key=lambda each: each.uid)
    if not changed:
        return
    now_ms = incarnation.clock.now_ms()
    await save_records(tx, changed)
    await project(tx, incarnation.side, changed, policy, now_ms)
    await insert_missing(tx, reactions, [row for each in changed for row in make_reactions(each, due, now_ms)])


def make_reactions(record: SharedRecord, due: Due, now_ms: int) -> list[dict[str, object]]:
    """The reactions that the state after asks for and the state before did not."""
    wanted = due(record)
    before = record.before() if wanted else None
    new = wanted - due(before) if before else wanted
    row: dict[str, object] = {"partnership": record.partnership, "registration": record.uid, "created_ms": now_ms, "attempts": 0}
    return [{**row, "kind": kind, "due_ms": AT_ONCE} for kind in sorted(new)]
