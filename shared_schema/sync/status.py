"""How the sync stands, per partnership: backlog and its age, what is unacknowledged, gaps, what is parked, what is wrong at the broker, and
when the peer was heard."""

import json
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.refusal import AHEAD
from shared_schema.crm.projected_tables import conflicts
from shared_schema.crm.tables import SYNCED, partnerships
from shared_schema.sync.braking import BRAKE
from shared_schema.sync.drift import count_drifts
from shared_schema.sync.outbox import WAITING
from shared_schema.sync.owed_states import count_owed
from shared_schema.sync.refusals import STANDS, STANDS_THERE
from shared_schema.sync.restoration import read_restorations
from shared_schema.sync.stops import read_stops
from shared_schema.sync.tables import erasures, inbound_epochs, outbox, parked, peer_outcomes, peers, reactions, refusals
from shared_schema.sync.troubles import find_trouble, read_troubles

Row = dict[str, Any]
ANSWERING = select(partnerships.c.id).where(partnerships.c.status.in_(SYNCED))
UNANSWERED = and_(erasures.c.origin == "here", erasures.c.peer_gone_by.is_(None), erasures.c.partnership.in_(ANSWERING))


async def read_status(connection: AsyncConnection, now_ms: int) -> list[Row]:
    """One row per partnership; ages in ms by this node's clock."""
    backlogs = await count_outbox(connection, now_ms)
    gaps = await count_gaps(connection)
    parked_by = await count_parked(connection)
    counts = {
        "open_conflicts": await count_by(connection, conflicts),
        "reactions": await count_by(connection, reactions, reactions.c.due_ms <= now_ms),
        "refused": await count_by(connection, peer_outcomes, STANDS_THERE),
        "refused_here": await count_by(connection, refusals, STANDS),
        "drift": await count_drifts(connection),
        "owed": await count_owed(connection),
        "held_outgoing": await count_by(connection, outbox, outbox.c.held.is_not(None)),
        "erasing": await count_by(connection, erasures, or_(erasures.c.cleaned_ms.is_(None), UNANSWERED)),
        "suspected": await count_by(connection, refusals, STANDS, refusals.c.reason.in_(AHEAD)),
    }
    heard = {row.partnership: row for row in await connection.execute(select(peers))}
    stopped, restoring = await read_stops(connection), await read_restorations(connection)
    found_wrong = await read_troubles(connection, now_ms)
    nothing = {"backlog": 0, "backlog_oldest_ms": None, "unacknowledged": 0, "oldest_ms": None}
    rows = []
    for row in await connection.execute(select(partnerships).order_by(partnerships.c.created_ms, partnerships.c.id)):
        peer = heard.get(row.id)
        rows.append(
            {
                "partnership": row.id,
                "peer": row.peer_name,
                "status": row.status,
                **backlogs.get(row.id, nothing),
                "gaps": gaps.get(row.id, 0),
                "parked": sum(parked_by.get(row.id, {}).values()),
                "parked_by": parked_by.get(row.id, {}),
                "held_incoming": parked_by.get(row.id, {}).get(BRAKE, 0),
                **{name: found.get(row.id, 0) for name, found in counts.items()},
                "stopped": stopped.get(row.id),
                "restoring_since_ms": restoring[row.id]["since_ms"] if row.id in restoring else None,
                "restoring_because": restoring[row.id]["why"] if row.id in restoring else None,
                **find_trouble(found_wrong, row.id),
                "peer_heard_ms_ago": now_ms - peer.heard_ms if peer else None,
                "peer_backlog": peer.backlog if peer else None,
                "clock_skew_ms": peer.skew_ms if peer else None,
                "stamp_ahead_ms": peer.ahead_ms if peer and peer.ahead_at_ms else None,
                "stamp_ahead_ms_ago": now_ms - peer.ahead_at_ms if peer and peer.ahead_at_ms else None,
            }
        )
    return rows


async def count_outbox(connection: AsyncConnection, now_ms: int) -> dict[str, Row]:
    """Rows that wait to be published, and rows that the peer has not acknowledged; how old the oldest of each is, without those that wait
    for a person's word."""
    waits = and_(*WAITING)
    oldest_of = [func.min(case((which, outbox.c.created_ms))) for which in (waits, outbox.c.held.is_(None))]
    columns = (outbox.c.partnership, func.sum(case((waits, 1), else_=0)), func.count(), *oldest_of)
    return {
        partnership: {
            "backlog": int(backlog),
            "backlog_oldest_ms": None if first is None else now_ms - first,
            "unacknowledged": count,
            "oldest_ms": None if oldest is None else now_ms - oldest,
        }
        for partnership, backlog, count, first, oldest in await connection.execute(select(*columns).group_by(outbox.c.partnership))
    }


async def count_gaps(connection: AsyncConnection) -> dict[str, int]:
    """Numbers of the peer's that are missing here."""
    found: dict[str, int] = {}
    for partnership, gaps in await connection.execute(select(inbound_epochs.c.partnership, inbound_epochs.c.gaps)):
        found[partnership] = found.get(partnership, 0) + sum(last - first + 1 for first, last in json.loads(gaps))
    return found


async def count_parked(connection: AsyncConnection) -> dict[str, dict[str, int]]:
    """Records in parking, by partnership and reason."""
    statement = select(parked.c.partnership, parked.c.reason, func.count()).group_by(parked.c.partnership, parked.c.reason)
    found: dict[str, dict[str, int]] = {}
    for partnership, reason, count in await connection.execute(statement.order_by(parked.c.partnership, parked.c.reason)):
        found.setdefault(partnership, {})[reason] = count
    return found


async def count_by(connection: AsyncConnection, table: Any, *where: ColumnElement[bool]) -> dict[str, int]:
    statement = select(table.c.partnership, func.count()).where(*where).group_by(table.c.partnership)
    return {partnership: count for partnership, count in await connection.execute(statement)}
