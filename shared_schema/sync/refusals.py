"""What this node refused of the peer's, by record and field, the last time each; every one is an alarm that a person looks at."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import and_, delete, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.refusal import REASONS
from shared_schema.crm.rows import upsert
from shared_schema.crm.tables import property_history
from shared_schema.sync.answers import Answer
from shared_schema.sync.discards import is_by_person
from shared_schema.sync.tables import peer_outcomes, refusals

PAGE_MAX = 200
# A refusal of a field, or (field '') of a record, stands until something has been written to it since.
STANDS = ~exists().where(
    property_history.c.partnership == refusals.c.partnership,
    property_history.c.uid == refusals.c.uid,
    or_(refusals.c.field == "", property_history.c.field == refusals.c.field),
    property_history.c.at_ms > refusals.c.at_ms,
)
# What the peer refused of ours likewise; a write after the refused one may be older than the news of the refusal.
_refused, _later = property_history.alias("refused"), property_history.alias("later")
_came_after = (
    exists()
    .where(_refused.c.partnership == _later.c.partnership, _refused.c.uid == _later.c.uid)
    .where(_refused.c.field == _later.c.field, _refused.c.event == peer_outcomes.c.event, _refused.c.id < _later.c.id)
)
STANDS_THERE = and_(
    peer_outcomes.c.outcome == "refused",
    ~exists().where(
        _later.c.partnership == peer_outcomes.c.partnership,
        _later.c.uid == peer_outcomes.c.uid,
        or_(peer_outcomes.c.field == "", _later.c.field == peer_outcomes.c.field),
        or_(_later.c.at_ms > peer_outcomes.c.at_ms, _came_after),
    ),
)


async def keep(tx: AsyncConnection, partnership: str, answers: Iterable[Answer], now_ms: int) -> None:
    """Remember the refused fields among these outcomes, the last refusal of each; a whole record is the field '', and a whole event stands
    for its records."""
    rows = {
        (outcome.uid or each.event, outcome.field or ""): {
            "partnership": partnership,
            "uid": outcome.uid or each.event,
            "field": outcome.field or "",
            "event": each.event,
            "reason": outcome.reason,
            "at_ms": now_ms,
        }
        for each in answers
        for outcome in each.outcomes
        if outcome.outcome == "refused" and not is_by_person(outcome.reason)  # what a person here did is no alarm
    }
    await upsert(tx, refusals, list(rows.values()), ("event", "reason", "at_ms"), key=("partnership", "uid", "field"))


async def forget(tx: AsyncConnection, partnership: str, event: str) -> None:
    """An event that was refused whole, of which nothing is left here."""
    await tx.execute(delete(refusals).where(refusals.c.partnership == partnership, refusals.c.uid == event, refusals.c.event == event))


async def list_refused(
    connection: AsyncConnection, partnership: str | None = None, after: int = 0, limit: int = 50
) -> list[dict[str, Any]]:
    """A page of refusals in the order of their ids, with what each reason means."""
    where = [refusals.c.id > after, *([refusals.c.partnership == partnership] if partnership else [])]
    rows = await connection.execute(select(refusals).where(*where).order_by(refusals.c.id).limit(min(limit, PAGE_MAX)))
    return [{**row, "meaning": REASONS.get(row["reason"], "")} for row in rows.mappings()]
