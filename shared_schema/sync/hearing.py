"""When the peer was heard, up to when it had said everything, and how far its clock is ahead."""

from collections.abc import Iterable
from itertools import chain

from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.envelope import Heartbeat
from shared_schema.contract.registers import Side, side_of
from shared_schema.contract.stamps import is_ahead
from shared_schema.crm.rows import upsert
from shared_schema.crm.shared_records import Written
from shared_schema.sync.arrivals import Arrivals, Numbered
from shared_schema.sync.tables import peers

Ahead = dict[str, int]
NEVER = {"skew_ms": 0, "backlog": 0, "whole_ms": 0, "ahead_ms": 0, "ahead_at_ms": 0}


def find_ahead(here: Side, events: Iterable[Numbered], written: Iterable[Written], now_ms: int) -> Ahead:
    """The events that came with a stamp far ahead of here, their own or that of a value of the peer's that they brought; by how many ms."""
    own = ((each.event.id, each.event.stamp) for each in events if is_ahead(each.event.stamp, now_ms))
    far = (each for each in written if is_ahead(each.sibling.stamp, now_ms))
    brought = ((each.event, each.sibling.stamp) for each in far if side_of(each.sibling.dot.incarnation) != here)
    ahead: Ahead = {}
    for event, stamp in chain(own, brought):
        ahead[event] = max(stamp.physical - now_ms, ahead.get(event, 0))
    return ahead


async def hear_peer(tx: AsyncConnection, partnership: str, arrivals: Arrivals, ahead: Ahead, now_ms: int) -> None:
    """Remember when the peer was heard, by how much its clock differs (with the way it took), how much it has yet to send, when (by its
    clock, which may be ahead of ours) it had said everything, and when last a stamp was far ahead, and by how much."""
    if not arrivals.controls and not ahead:
        return
    news: dict[str, int] = {"ahead_ms": max(ahead.values()), "ahead_at_ms": now_ms} if ahead else {}
    if arrivals.controls:
        news |= {"heard_ms": now_ms, "skew_ms": arrivals.controls[-1].sent_ms - now_ms}
    beats = [each for each in arrivals.controls if isinstance(each, Heartbeat)]
    if beats:
        news["backlog"] = beats[-1].backlog
    if whole := [each.sent_ms for each in beats if not each.backlog]:
        news["whole_ms"] = min(whole[-1], now_ms)
    await upsert(tx, peers, [{"partnership": partnership, "heard_ms": now_ms, **NEVER, **news}], list(news))
