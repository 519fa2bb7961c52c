"""The erasures that this store knows: of ours, of the peer's, and of the list that outlives a restore. Only what was asked for stands here,
not what went along below it."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm.rows import insert_missing
from shared_schema.crm.shared_records import SharedRecord
from shared_schema.sync.tables import erasures

ERASED = "record.erased"
Origin = Literal["here", "there", "list"]


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

    def row(self, now_ms: int) -> dict[str, Any]:
        return {**self._asdict(), "fields": ",".join(self.fields), "at_ms": now_ms, "listed_ms": None, "cleaned_ms": None}


async def keep(tx: AsyncConnection, erased: Sequence[Erased], now_ms: int) -> None:
    """Remember erasures, each once; they are listed, cleaned up after and answered afterwards."""
    await insert_missing(tx, erasures, [each.row(now_ms) for each in erased])
