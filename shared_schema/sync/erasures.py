"""The erasures that this store knows: ours and the peer's. Only what was asked for stands here, not what went along below it; what both
sides erase stands here once."""

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import String, bindparam, or_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm.rows import change_rows, insert_missing, upsert
from shared_schema.crm.shared_records import SharedRecord
from shared_schema.crm.statements import Statement
from shared_schema.sync.tables import erasures

Row = dict[str, Any]
ERASED = "record.erased"
KEY = ("partnership", "uid", "fields")
Origin = Literal["here", "there"]
NAMED = (erasures.c.partnership == bindparam("of"), erasures.c.uid == bindparam("root"))
PART = bindparam("part", type_=String())
COVERED = or_(PART == "", erasures.c.fields == PART)  # whoever is rid of a record is rid of its fields
DATED = Statement(update(erasures).where(*NAMED, COVERED).values(peer_gone_by=bindparam("date")))


class Erased(NamedTuple):
    """One erasure: what identifies the record for ever, the erased fields (none: all of it), the event that carried it, and who began."""

    partnership: str
    uid: str
    kind: str
    parent: str | None
    registration: str | None
    side: str
    fields: tuple[str, ...]
    event: str | None
    origin: Origin

    @classmethod
    def of(cls, record: SharedRecord, names: Iterable[str], event: str | None, origin: Origin) -> "Erased":
        place = (record.partnership, record.uid, record.kind, record.parent, record.registration, record.side)
        return cls(*place, tuple(sorted(names)), event, origin)

    def row(self, now_ms: int) -> Row:
        """`asked`: the peer's event that is yet to be answered, by whom nothing of it is left here any more."""
        asked = self.event if self.origin == "there" else None
        fresh = {"at_ms": now_ms, "listed_ms": None, "cleaned_ms": None, "asked": asked}
        return {**self._asdict(), "fields": ",".join(self.fields), **fresh}


async def keep(tx: AsyncConnection, erased: Sequence[Erased], now_ms: int) -> None:
    """Remember erasures of ours, each once; they are listed, cleaned up after and answered afterwards."""
    await insert_missing(tx, erasures, [each.row(now_ms) for each in erased])


async def take(tx: AsyncConnection, erased: Sequence[Erased], repeated: Sequence[Erased], now_ms: int) -> None:
    """Remember what the peer erased, and that it is to be told when that is gone here: also where it was gone before. What its states only
    repeat is answered once more if it stands here: they may be of a store that went back and lost the answer."""
    await upsert(tx, erasures, [each.row(now_ms) for each in erased], ("asked",), KEY)
    again = [each.row(now_ms) for each in repeated]
    await change_rows(tx, erasures, [{name: row[name] for name in (*KEY, "asked")} for row in again], KEY)


async def take_dates(tx: AsyncConnection, partnership: str, heard: Collection[Row]) -> None:
    """Keep the dates by which the peer says that what was erased is gone at its side."""
    told = [(row, read_date(row["reason"])) for row in heard if row["outcome"] == "applied"]
    dated = [{"of": partnership, "root": row["uid"], "part": row["field"], "date": date} for row, date in told if date]
    if dated:
        await DATED.run_each(tx, dated)


def read_date(told: str) -> str | None:
    """The date in what a peer said; None if there is none."""
    try:
        said = json.loads(told)
    except ValueError:
        return None
    date = said.get("gone_by") if isinstance(said, dict) else None
    return date if isinstance(date, str) and len(date) == 10 else None
