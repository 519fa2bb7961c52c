"""What the peer says became of our events. An answer may arrive once more, after a later one about the same: it then says nothing new."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import Outcome
from shared_schema.crm.rows import Among, upsert
from shared_schema.crm.statements import Statement
from shared_schema.sync import parking
from shared_schema.sync.tables import peer_outcomes

Row = dict[str, Any]
NAMED = ("partnership", "event", "uid", "field", "outcome", "reason", "at_ms", "said_by")
SAID_BY_MAX = 8
KNOWN = Statement(
    select(*(peer_outcomes.c[name] for name in NAMED)).where(
        peer_outcomes.c.partnership == bindparam("partnership"), Among(peer_outcomes.c.event, "events")
    )
)


class Told(NamedTuple):
    """An outcome, and the id of the peer's event that says it."""

    by: str
    outcome: Outcome


def make_heard(partnership: str, told: Told, now_ms: int) -> Row:
    """An outcome as a row to keep."""
    return {
        "partnership": partnership,
        "event": told.outcome.event,
        "uid": (told.outcome.uid or "")[:36],
        "field": (told.outcome.field or "")[:63],
        "outcome": parking.printable(told.outcome.outcome[:20]),
        "reason": parking.printable(told.outcome.reason),
        "at_ms": now_ms,
        "said_by": told.by,
    }


def sort_out(known: Collection[Row], partnership: str, told: Sequence[Told], now_ms: int) -> list[Row]:
    """The rows that these outcomes change, in the order in which they were said; what was said before changes nothing."""
    rows = {(row["event"], row["uid"], row["field"]): row for row in known}
    changed = {}
    for each in told:
        row = make_heard(partnership, each, now_ms)
        key = row["event"], row["uid"], row["field"]
        said_by = rows[key]["said_by"].split() if key in rows else []
        if each.by not in said_by:
            rows[key] = changed[key] = row | {"said_by": " ".join([*said_by, each.by][-SAID_BY_MAX:])}
    return list(changed.values())


async def keep(tx: AsyncConnection, partnership: str, told: Sequence[Told], now_ms: int) -> list[Row]:
    """Remember them; those that were news."""
    if not told:
        return []
    events = sorted({each.outcome.event for each in told})
    known = [dict(zip(NAMED, row, strict=True)) for row in await KNOWN.fetch(tx, {"partnership": partnership, "events": events})]
    news = sort_out(known, partnership, told, now_ms)
    await upsert(tx, peer_outcomes, news, ("outcome", "reason", "at_ms", "said_by"))
    return news
