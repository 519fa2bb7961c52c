"""Sync state of fields and records: how far the other side has what is shown. Worked out from the outbox and the peer's outcomes."""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Select, and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.records import is_one_way
from shared_schema.contract.registers import Register, differs
from shared_schema.crm.rows import in_partnership
from shared_schema.crm.tables import property_history, shared_records
from shared_schema.sync.owed_states import load_owed
from shared_schema.sync.tables import outbox, peer_outcomes

WORST_FIRST = ("parked", "refused", "conflict", "held", "pending", "sent", "ignored", "applied", "not shared")
Place = tuple[str, str]


class Outcome(NamedTuple):
    """What the peer said of a field (or, with an empty field, of a record): the outcome and its reason."""

    outcome: str
    reason: str


class SyncIndex(NamedTuple):
    """Of one registration: the fields on their way by (uid, field), what the peer said of those that did not simply
    apply, the records whose whole state it is owed, and whether it is shared still: what unsharing withdrew the peer may never have had."""

    travelling: dict[Place, str]
    outcomes: dict[Place, Outcome]
    owed: dict[str, str]
    shared: bool = True

    def of_field(self, kind: str, uid: str, field: str, register: Register) -> str:
        """held, pending, sent, applied by the peer, conflict, parked, refused, ignored, or not shared any more."""
        said = self.outcomes.get((uid, field)) or self.outcomes.get((uid, ""))
        if said and said.outcome in ("parked", "refused", "ignored"):
            return said.outcome
        if differs(register) and not is_one_way(kind, field):
            return "conflict"
        return self.travelling.get((uid, field)) or self.owed.get(uid, "applied" if self.shared else "not shared")


def worst(states: Iterable[str]) -> str:
    """The state of a whole: the worst of its parts."""
    found = set(states)
    return next((state for state in WORST_FIRST if state in found), "applied")


async def load_index(connection: AsyncConnection, partnership: str, registration: str, status: str) -> SyncIndex:
    """The sync index of the records of one registration that has this status."""
    return SyncIndex(
        await load_travelling(connection, partnership, registration),
        await load_outcomes(connection, partnership, registration),
        await load_owed(connection, partnership, registration),
        status != "unshared",
    )


def select_uids(partnership: str, registration: str) -> Select[tuple[str]]:
    where = (in_partnership(shared_records, partnership), shared_records.c.registration == registration)
    return select(shared_records.c.uid).where(*where)


async def load_travelling(connection: AsyncConnection, partnership: str, registration: str) -> dict[Place, str]:
    """Fields whose events the peer has not acknowledged: held until a person lets them go, pending until the broker has them, then sent."""
    history = property_history
    of_record = and_(history.c.partnership == partnership, history.c.uid.in_(select_uids(partnership, registration)))
    joined = outbox.join(history, and_(history.c.event == outbox.c.event, of_record))  # by its records: there is no index on the event
    columns = (history.c.uid, history.c.field, outbox.c.published_ms, outbox.c.held)
    where = (in_partnership(outbox, partnership), outbox.c.registration == registration)
    found: dict[Place, str] = {}
    for uid, field, published_ms, held in await connection.execute(select(*columns).select_from(joined).where(*where)):
        state = "held" if held else "pending" if published_ms is None else "sent"
        found[uid, field] = worst([state, found.get((uid, field), state)])
    return found


async def load_outcomes(connection: AsyncConnection, partnership: str, registration: str) -> dict[Place, Outcome]:
    """The peer's outcome for the newest event of each field that it did not simply apply."""
    history = property_history
    newest = (
        select(history.c.uid, history.c.field, history.c.event)
        .where(history.c.partnership == partnership, history.c.uid.in_(select_uids(partnership, registration)), history.c.source == "local")
        .order_by(history.c.id)
    )
    last = {(uid, field): event for uid, field, event in await connection.execute(newest)}
    said = select(peer_outcomes).where(peer_outcomes.c.partnership == partnership, peer_outcomes.c.event.in_(sorted(set(last.values()))))
    by_event: dict[tuple[str, str, str], Outcome] = {}
    for row in await connection.execute(said) if last else []:
        by_event[row.event, row.uid, row.field] = Outcome(row.outcome, row.reason)
    found = {}
    for (uid, field), event in last.items():
        for key in ((event, uid, field), (event, uid, ""), (event, "", "")):
            if key in by_event:
                found[uid, field] = by_event[key]
                break
    return found
