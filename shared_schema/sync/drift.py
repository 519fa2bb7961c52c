"""Drift: the records that differ between the sides although nothing of them is on its way, and in which fields."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import to_plain
from shared_schema.contract.documents import Document
from shared_schema.contract.envelope import SHOWN_MAX, ShownRecord
from shared_schema.crm.digests import Hashed
from shared_schema.crm.rows import Among, upsert
from shared_schema.crm.shared_records import SharedRecord
from shared_schema.crm.tables import shared_records
from shared_schema.sync.refusals import STANDS
from shared_schema.sync.tables import drifts, refusals

Row = dict[str, Any]
SURE = 2  # looks at which a difference has stood still
LISTED_MAX = 200
SURELY = drifts.c.looks >= SURE
DESCRIBE = (
    update(drifts)
    .where(drifts.c.partnership == bindparam("of"), drifts.c.uid == bindparam("the_uid"))
    .values(fields=bindparam("the_fields"))
)


def weigh(known: Mapping[str, Row], pairs: Mapping[str, tuple[int | None, int | None]], look: str, now_ms: int) -> list[Row]:
    """The rows of these differing records (uid → our hash, theirs) after this look: one that moved since the last is as if seen first."""
    rows = []
    for uid, (ours, theirs) in sorted(pairs.items()):
        before = known.get(uid)
        stood = before is not None and (before["ours"], before["theirs"]) == (ours, theirs)
        looks = before["looks"] + (before["look"] != look) if before is not None and stood else 1
        since_ms = before["since_ms"] if before is not None else now_ms
        rows.append({"uid": uid, "ours": ours, "theirs": theirs, "look": look, "looks": looks, "since_ms": since_ms})
    return rows


def find_unequal(ours: Iterable[Hashed], theirs: Iterable[tuple[str, int]]) -> dict[str, tuple[int | None, int | None]]:
    """The records whose hashes differ, or that one side lacks: uid → our hash, theirs."""
    here, there = {each.uid: each.hash for each in ours}, dict(theirs)
    return {uid: (here.get(uid), there.get(uid)) for uid in {*here, *there} if here.get(uid) != there.get(uid)}


async def note_unequal(
    tx: AsyncConnection, partnership: str, pairs: Mapping[str, tuple[int | None, int | None]], look: str, now_ms: int
) -> None:
    """Keep what differed at this look."""
    statement = select(drifts).where(drifts.c.partnership == partnership, Among(drifts.c.uid, "uids"))
    known = {row["uid"]: dict(row) for row in (await tx.execute(statement, {"uids": sorted(pairs)})).mappings()}
    rows = [{"partnership": partnership, **row} for row in weigh(known, pairs, look, now_ms)]
    await upsert(tx, drifts, rows, ("ours", "theirs", "look", "looks", "since_ms"))


async def forget_others(tx: AsyncConnection, partnership: str, look: str) -> None:
    """What did not differ at this look is no drift any more."""
    await tx.execute(delete(drifts).where(drifts.c.partnership == partnership, drifts.c.look != look))


async def forget(tx: AsyncConnection, partnership: str, uids: Sequence[str]) -> None:
    """What is being repaired is found anew if it still differs."""
    await tx.execute(delete(drifts).where(drifts.c.partnership == partnership, Among(drifts.c.uid, "uids")), {"uids": list(uids)})


async def find_repairable(tx: AsyncConnection, partnership: str, limit: int) -> list[str]:
    """The records that drifted; not those of which a refusal of this side stands: sending them again would be refused again."""
    refused = select(refusals.c.uid).where(refusals.c.partnership == partnership, STANDS)
    where = (drifts.c.partnership == partnership, SURELY, drifts.c.uid.not_in(refused))
    return list((await tx.execute(select(drifts.c.uid).where(*where).order_by(drifts.c.uid).limit(limit))).scalars())


async def find_undescribed(tx: AsyncConnection, partnership: str) -> list[str]:
    """Records that both sides have and that drifted, of which it is not known yet in which fields."""
    where = (
        drifts.c.partnership == partnership,
        SURELY,
        drifts.c.fields.is_(None),
        drifts.c.ours.is_not(None),
        drifts.c.theirs.is_not(None),
    )
    return list((await tx.execute(select(drifts.c.uid).where(*where).order_by(drifts.c.uid).limit(SHOWN_MAX))).scalars())


async def describe(tx: AsyncConnection, partnership: str, ours: Mapping[str, SharedRecord], theirs: Sequence[ShownRecord]) -> None:
    """Keep in which fields these records differ, with both sides' values."""
    rows = [
        {"of": partnership, "the_uid": each.uid, "the_fields": json.dumps(compare_fields(show(ours[each.uid].document), each.fields))}
        for each in theirs
        if each.uid in ours
    ]
    if rows:
        await tx.execute(DESCRIBE, rows)


def show(document: Document) -> dict[str, list[Any]]:
    """Per field, the values of its siblings."""
    return {name: [to_plain(each.value) for each in register.siblings] for name, register in document.registers().items()}


def compare_fields(ours: Mapping[str, list[Any]], theirs: Mapping[str, list[Any]]) -> list[Row]:
    """The fields whose values differ. Equal values in unequal registers (a write that one side lacks) name no field."""
    names = sorted({*ours, *theirs})
    return [{"field": name, "ours": ours.get(name), "theirs": theirs.get(name)} for name in names if ours.get(name) != theirs.get(name)]


async def count_drift(connection: AsyncConnection, partnership: str, *, sure: bool = True) -> int:
    where = (drifts.c.partnership == partnership, SURELY if sure else ~SURELY)
    return int((await connection.execute(select(func.count()).where(*where))).scalar_one())


async def list_drift(connection: AsyncConnection, partnership: str) -> list[Row]:
    """The records that differ for sure: where they are, in which fields, and since when that is known; at most 200."""
    record = and_(shared_records.c.partnership == drifts.c.partnership, shared_records.c.uid == drifts.c.uid)
    named = (drifts.c.uid, shared_records.c.kind, shared_records.c.registration)
    seen = (drifts.c.ours, drifts.c.theirs, drifts.c.since_ms, drifts.c.fields)
    where = (drifts.c.partnership == partnership, SURELY)
    statement = select(*named, *seen).select_from(drifts.outerjoin(shared_records, record)).where(*where).order_by(drifts.c.uid)
    return [describe_row(dict(row)) for row in (await connection.execute(statement.limit(LISTED_MAX))).mappings()]


def describe_row(row: Row) -> Row:
    ours, theirs, fields = row.pop("ours"), row.pop("theirs"), row.pop("fields")
    place = "only there" if ours is None else "only here" if theirs is None else "on both sides, unequal"
    return {**row, "where": place, "fields": json.loads(fields) if fields else []}
