"""Until when what is deleted can be restored: one clock for the trash that promises it, for the restore, and for the brake, to which a deal
that nobody can restore any more is destroyed already."""

from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import RecordChange
from shared_schema.contract.documents import LIFE, Document
from shared_schema.contract.identifiers import deal_uid
from shared_schema.contract.life import is_deletion
from shared_schema.crm.projected_tables import trash
from shared_schema.crm.shared_records import SharedRecord
from shared_schema.sync.tables import peers

DAY_MS = 86_400_000


def restorable_until_ms(document: Document, arrived_ms: int, behind_ms: int, days: int) -> int:
    """So many days from the oldest deletion (UTC ms), by its author's stamp or by its arrival here, whichever is earlier: its author's side
    lets the content go by its own clock, and what is restored after that comes back empty. So a stamp counts by that clock as it is now, so
    many milliseconds behind ours."""
    told = [each.stamp.physical + behind_ms for each in document.get(LIFE).siblings if is_deletion(each)]
    return min(arrived_ms, *told) + days * DAY_MS


def select_behind_ms() -> ColumnElement[int]:
    """By how much the clock of the peer is behind, by what was heard of it last, beside a row of the trash. One that is ahead takes nothing
    from anybody's days: the peer's own sweep waits for what this side says by this side's clock."""
    behind = select(-peers.c.skew_ms).where(peers.c.partnership == trash.c.partnership, peers.c.skew_ms < 0).scalar_subquery()
    return func.coalesce(behind, 0)


async def find_restorable(tx: AsyncConnection, partnership: str, records: Collection[SharedRecord], now_ms: int, days: int) -> set[str]:
    """Those of these deleted records that can be restored still, by uid; what is swept is not in the trash any more."""
    named = (trash.c.partnership == partnership, trash.c.uid.in_(sorted(each.uid for each in records)))
    known = await tx.execute(select(trash.c.uid, trash.c.deleted_ms, select_behind_ms()).where(*named))
    counted = {uid: (arrived_ms, behind_ms) for uid, arrived_ms, behind_ms in known}
    there = [each for each in records if each.uid in counted]
    return {each.uid for each in there if restorable_until_ms(each.document, *counted[each.uid], days) >= now_ms}


def find_deal(records: Mapping[str, SharedRecord], change: RecordChange) -> SharedRecord | None:
    """The deal of which something is a part, among these records."""
    part = change.registration is not None and change.kind not in ("deal", "registration")
    return records.get(deal_uid(str(change.registration))) if part else None


async def find_over(
    tx: AsyncConnection, partnership: str, records: Mapping[str, SharedRecord], changes: Iterable[RecordChange], now_ms: int, days: int
) -> set[str]:
    """Of the deals that these changes are parts of, those that are deleted and that nobody can restore any more."""
    found = [deal for each in changes if (deal := find_deal(records, each)) is not None]
    deals = {each.uid: each for each in found if each.state == "deleted"}
    if not deals:
        return set()
    return deals.keys() - await find_restorable(tx, partnership, deals.values(), now_ms, days)
