"""When the peer was heard, and up to when it had said everything."""

from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.envelope import Heartbeat
from shared_schema.crm.rows import upsert
from shared_schema.sync.arrivals import Arrivals
from shared_schema.sync.tables import peers


async def hear_peer(tx: AsyncConnection, partnership: str, arrivals: Arrivals, now_ms: int) -> None:
    """Remember when the peer was heard, by how much its clock differs (with the way it took), how much it has yet to send, and when
    (by its clock, which may be ahead of ours) it had said everything."""
    if not arrivals.controls:
        return
    last = arrivals.controls[-1]
    row = {"partnership": partnership, "heard_ms": now_ms, "skew_ms": last.sent_ms - now_ms, "backlog": 0, "whole_ms": 0}
    beats = [each for each in arrivals.controls if isinstance(each, Heartbeat)]
    changing = ["heard_ms", "skew_ms"]
    if beats:
        row["backlog"] = beats[-1].backlog
        changing.append("backlog")
    if whole := [each.sent_ms for each in beats if not each.backlog]:
        row["whole_ms"] = min(whole[-1], now_ms)
        changing.append("whole_ms")
    await upsert(tx, peers, [row], changing)
