"""The store's side of digests: sums and hashes read from an index that has bucket and hash, nothing kept besides."""

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import CTE, Integer, and_, bindparam, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.digests import BUCKETS
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.tables import shared_records

HALF = 2**32
# In two halves: SQLite's own sum would overflow. PostgreSQL shifts by an integer alone.
LOW = func.sum(shared_records.c.hash.op("&")(HALF - 1))
HIGH = func.sum(shared_records.c.hash.op(">>")(literal(32, Integer)))
SUMS = (
    select(shared_records.c.bucket, LOW, HIGH)
    .where(shared_records.c.partnership == bindparam("partnership"))
    .group_by(shared_records.c.bucket)
)


class Hashed(NamedTuple):
    """One record as a digest sees it."""

    uid: str
    hash: int
    registration: str | None


async def read_sums(connection: AsyncConnection, partnership: str) -> dict[int, int]:
    """The sum of hashes per bucket, modulo 2^64; empty buckets are absent."""
    rows = await connection.execute(SUMS, {"partnership": partnership})
    return {bucket: (int(low) + HALF * int(high)) % 2**64 for bucket, low, high in rows}


async def read_hashes(connection: AsyncConnection, partnership: str, buckets: Collection[int]) -> list[Hashed]:
    """The records of some buckets, in uid order; without those of registrations that are no longer shared, where the sides may differ, and
    without the tombstones below one that is erased: it may have been unshared before, and its own tombstone says as much. One that came
    here only when it was over has no row of its own: it was no longer shared, or it was erased, which both sides know."""
    columns = (shared_records.c.uid, shared_records.c.hash, shared_records.c.registration)
    own_row = and_(shared_deals.c.partnership == shared_records.c.partnership, shared_deals.c.uid == shared_records.c.registration)
    is_root, is_erased = shared_records.c.uid == shared_records.c.registration, shared_records.c.state == "erased"
    compared = or_(shared_deals.c.status.not_in(("unshared", "erased")), and_(shared_deals.c.status == "erased", or_(is_root, ~is_erased)))
    shared = or_(shared_records.c.registration.is_(None), compared, and_(shared_deals.c.uid.is_(None), is_root, is_erased))
    statement = select(*columns).outerjoin(shared_deals, own_row).where(shared_records.c.partnership == partnership, shared)
    if len(buckets) < BUCKETS:
        statement = statement.join(named := select_named(partnership, buckets), shared_records.c.uid == named.c.uid)
    return [Hashed(*row) for row in await connection.execute(statement.order_by(shared_records.c.uid))]


def select_named(partnership: str, buckets: Collection[int]) -> CTE:
    """The uids in some buckets, found first: PostgreSQL looks for them in the index alone, and then at their rows."""
    where = (shared_records.c.partnership == partnership, shared_records.c.bucket.in_(sorted(buckets)))
    return select(shared_records.c.uid).where(*where).cte("named").prefix_with("MATERIALIZED", dialect="postgresql")
