"""Conflicts: shown with base, ours and theirs; settled by a person."""

from typing import Any, Literal

from fastapi import APIRouter

from shared_schema.sync import conflicts
from shared_schema.sync.deals import outcome_of
from shared_schema.web.bearer import Caller, Here
from shared_schema.web.payloads import After, Json, Limit, PathId, Payload, Text, Values, page
from shared_schema.web.requests import PersistentRoute

router = APIRouter(prefix="/api", tags=["conflicts"], route_class=PersistentRoute)


class Settlement(Payload):
    """keep (ours), theirs, or edit with `values: {"value": …}`; `seen` is the token that the conflict was read with."""

    choice: Literal["keep", "theirs", "edit"]
    values: Values = {}
    seen: Text | None = None

    @property
    def value(self) -> Any:
        return self.values.get("value")


@router.get("/conflicts", summary="List open conflicts")
async def list_conflicts(station: Here, _: Caller, after: After = 0, limit: Limit = 50) -> Json:
    async with station.database.reading() as connection:
        rows = page(await conflicts.list_open(connection, after, limit))
        return {**rows, "contested_deletions": await conflicts.list_contested(connection)}


@router.get("/conflicts/{conflict_id}", summary="Read a conflict: base, ours, theirs, who and when, which is shown and why")
async def read_conflict(conflict_id: PathId, station: Here, _: Caller) -> Json:
    async with station.database.reading() as connection:
        return await conflicts.read(connection, station.spec.side, conflict_id)


@router.post("/conflicts/{conflict_id}/settle", summary="Settle a conflict")
async def settle(conflict_id: PathId, settlement: Settlement, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        captured = await conflicts.settle(work, conflict_id, settlement.choice, settlement.value, settlement.seen)
    return {"outcomes": [each._asdict() for each in outcome_of(captured)]}
