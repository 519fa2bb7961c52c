"""Drift: the records that differ between the sides although nothing of them is on its way, and in which fields."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import and_, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import to_plain
from shared_schema.contract.documents import Document
from shared_schema.contract.envelope import SHOWN_MAX, ShownRecord
from shared_schema.contract.refusal import REASONS
from shared_schema.crm.digests import Hashed
from shared_schema.crm.rows import Among, upsert
from shared_schema.crm.shared_records import SharedRecord
from shared_schema.crm.tables import shared_records
from shared_schema.sync.refusals import STANDS, STANDS_THERE
from shared_schema.sync.tables import drifts, peer_outcomes, refusals

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
        since_ms, fields = (before["since_ms"], before["fields"] if stood else None) if before is not None else (now_ms, None)
        rows.append({"uid": uid, "ours": ours, "theirs": theirs, "look": look, "looks": looks, "since_ms": since_ms, "fields": fields})
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
    await upsert(tx, drifts, rows, ("ours", "theirs", "look", "looks", "since_ms", "fields"))


async def forget_others(tx: AsyncConnection, partnership: str, look: str) -> None:
    """What did not differ at this look is no drift any more."""
    await tx.execute(delete(drifts).where(drifts.c.partnership == partnership, drifts.c.look != look))


async def forget(tx: AsyncConnection, partnership: str, uids: Sequence[str]) -> None:
    """What is being repaired is found anew if it still differs."""
    await tx.execute(delete(drifts).where(drifts.c.partnership == partnership, Among(drifts.c.uid, "uids")), {"uids": list(uids)})


async def find_refused(connection: AsyncConnection, partnership: str | None = None) -> set[tuple[str, str]]:
    """The partnerships and records that differ rightly, because a side's refusal stands: that is no drift, and not sent again."""
    of_record = [drifts.c[name] == table.c[name] for table in (refusals, peer_outcomes) for name in ("partnership", "uid")]
    here = select(drifts, refusals.c.field).join(refusals, and_(*of_record[:2])).where(STANDS)
    there = select(drifts, peer_outcomes.c.field).join(peer_outcomes, and_(*of_record[2:]))
    there = there.where(STANDS_THERE, peer_outcomes.c.reason.in_(REASONS))  # what a person discarded or dropped excuses nothing
    asked = (SURELY, drifts.c.partnership == partnership) if partnership else (SURELY,)
    rows: dict[tuple[str, str], Row] = {}
    refused: dict[tuple[str, str], set[str]] = {}
    for statement in (here, there):
        for row in (await connection.execute(statement.where(*asked))).mappings():
            key = row["partnership"], row["uid"]
            rows[key] = dict(row)
            refused.setdefault(key, set()).add(row["field"])
    return {key for key, row in rows.items() if is_excused(row, refused[key])}


def is_excused(row: Row, refused: set[str]) -> bool:
    """Whether these refused fields are all that differs; '' is the record whole. Until the fields are known it is taken for that."""
    if "" in refused:
        return True
    differing = {each["field"] for each in json.loads(row["fields"] or "[]")}
    return row["ours"] is not None and row["theirs"] is not None and differing <= refused


async def find_drifted(connection: AsyncConnection, partnership: str, limit: int, after: str = "") -> list[str]:
    """A page of the records that drifted, by uid. What was refused is not among them: sent again it would be refused again."""
    refused = {uid for _, uid in await find_refused(connection, partnership)}
    where = (drifts.c.partnership == partnership, SURELY, drifts.c.uid > after)
    statement = select(drifts.c.uid).where(*where).order_by(drifts.c.uid).limit(limit + len(refused))
    return [uid for uid in (await connection.execute(statement)).scalars() if uid not in refused][:limit]


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


async def count_unsure(connection: AsyncConnection, partnership: str) -> int:
    """The records that differed at one look alone."""
    where = (drifts.c.partnership == partnership, ~SURELY)
    return int((await connection.execute(select(func.count()).where(*where))).scalar_one())


async def count_drifts(connection: AsyncConnection) -> dict[str, int]:
    """The records that drifted, by partnership."""
    statement = select(drifts.c.partnership, func.count()).where(SURELY).group_by(drifts.c.partnership)
    found = Counter({partnership: count for partnership, count in await connection.execute(statement)})
    found.subtract(partnership for partnership, _ in await find_refused(connection))
    return dict(+found)


async def list_drift(connection: AsyncConnection, partnership: str, after: str = "", limit: int = LISTED_MAX) -> list[Row]:
    """A page of the records that drifted, by uid: where they are, in which fields, and since when that is known (UTC ms)."""
    uids = await find_drifted(connection, partnership, min(limit, LISTED_MAX), after)
    record = and_(shared_records.c.partnership == drifts.c.partnership, shared_records.c.uid == drifts.c.uid)
    named = (drifts.c.uid, shared_records.c.kind, shared_records.c.registration)
    seen = (drifts.c.ours, drifts.c.theirs, drifts.c.since_ms, drifts.c.fields)
    statement = select(*named, *seen).select_from(drifts.outerjoin(shared_records, record)).order_by(drifts.c.uid)
    rows = await connection.execute(statement.where(drifts.c.partnership == partnership, Among(drifts.c.uid, "uids")), {"uids": uids})
    return [describe_row(dict(row)) for row in rows.mappings()]


async def walk(connection: AsyncConnection, partnership: str) -> AsyncIterator[Row]:
    """All of them, page after page."""
    after = ""
    while page := await list_drift(connection, partnership, after):
        for row in page:
            yield row
        after = page[-1]["uid"]


def describe_row(row: Row) -> Row:
    ours, theirs, fields = row.pop("ours"), row.pop("theirs"), row.pop("fields")
    place = "only there" if ours is None else "only here" if theirs is None else "on both sides, unequal"
    return {**row, "where": place, "fields": json.loads(fields) if fields else []}
