"""Sums pack and unpack whole; what is no sums says so; the store's sums are those of its hashes on both databases."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert

from shared_schema.contract.digests import BUCKETS, differing, pack_sums, unpack_sums
from shared_schema.contract.documents import bucket_of
from shared_schema.crm.database import Database
from shared_schema.crm.digests import read_hashes, read_sums
from shared_schema.crm.tables import shared_records
from shared_schema.sync.verification import cut_parts
from tests.tables import make_tables

sums = st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(0, 2**64 - 1), max_size=20)


@given(sums, sums)
def test_sums_survive_the_way_and_differ_where_they_differ(left: dict[int, int], right: dict[int, int]) -> None:
    one, other = unpack_sums(pack_sums(left)), unpack_sums(pack_sums(right))
    assert {bucket: number for bucket, number in enumerate(one) if number} == {bucket: number for bucket, number in left.items() if number}
    assert differing(one, other) == [bucket for bucket in range(BUCKETS) if left.get(bucket, 0) != right.get(bucket, 0)]


@given(st.text(max_size=100))
def test_anything_else_is_no_sums(text: str) -> None:
    with pytest.raises(ValueError, match="not 4096 sums"):
        unpack_sums(text)


async def test_the_store_sums_hashes_of_any_sign_and_size(database_url: str, tmp_path: Path) -> None:
    hashes = [2**63 - 1, 2**63 - 1, -(2**63), -1, 0, 12345] * 50
    uids = [f"01998f3e-0000-7000-8000-{count:09x}{count % 3:03x}" for count in range(len(hashes))]
    common = {"partnership": "p", "kind": "note", "side": "vendor", "document": "{}", "state": "alive"}
    rows = [{**common, "uid": uid, "bucket": bucket_of(uid), "hash": value} for uid, value in zip(uids, hashes, strict=True)]
    database = Database(database_url)
    await make_tables(database_url)
    async with database.transaction() as tx:
        await tx.execute(insert(shared_records), rows)
    async with database.reading() as connection:
        found, second = await read_sums(connection, "p"), await read_hashes(connection, "p", [1])
    expected = {bucket: sum(row["hash"] for row in rows if row["bucket"] == bucket) % 2**64 for bucket in range(3)}
    assert found == expected
    assert [each.uid for each in second] == sorted(uid for uid in uids if bucket_of(uid) == 1)
    parts = cut_parts([1, 7], second)
    assert [bucket for buckets, _ in parts for bucket in buckets] == [1, 7]
    await database.close()
