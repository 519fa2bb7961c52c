"""The trash, erasures, and what the brake holds."""

from typing import Literal

from fastapi import APIRouter

from shared_schema.sync import erasing, held, partnerships, registrations, trash
from shared_schema.web.bearer import Admin, Caller, Here
from shared_schema.web.payloads import After, Json, Limit, Line, PathId, Payload, page
from shared_schema.web.requests import PersistentRoute
from shared_schema.web.shown import show_captured

router = APIRouter(prefix="/api", tags=["deleting"], route_class=PersistentRoute)


class Direction(Payload):
    """out: what this side would send; in: what the peer sent."""

    direction: Literal["out", "in"]


@router.get("/trash", summary="List what was deleted and can be restored")
async def list_trash(station: Here, _: Caller, after: After = 0, limit: Limit = 50) -> Json:
    async with station.database.reading() as connection:
        return page(await trash.list_trash(connection, station.keeping.trash_days, after, limit))


@router.post("/trash/{trash_id}/restore", summary="Restore something from the trash")
async def restore_from_trash(trash_id: PathId, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        return {"uid": await trash.restore(work, trash_id)}


@router.post("/shared-deals/{shared_deal_id}/come-back", summary="Take a deletion here only back")
async def come_back(shared_deal_id: PathId, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        captured = await registrations.come_back(work, shared_deal_id)
    return await show_captured(station, shared_deal_id, captured)


@router.get("/erasures", summary="List erasures, with the date by which each is gone everywhere")
async def list_erasures(station: Here, _: Admin, after: After = 0, limit: Limit = 50) -> Json:
    async with station.database.reading() as connection:
        return page(await erasing.list_erasures(connection, station.keeping, after, limit))


@router.get("/erasures/{erasure_id}", summary="Read an erasure: where it stands, and by when it is gone everywhere")
async def read_erasure(erasure_id: PathId, station: Here, _: Admin) -> Json:
    async with station.database.reading() as connection:
        return await erasing.load_erasure(connection, station.keeping, erasure_id)


@router.post("/shared-deals/{shared_deal_id}/erase", status_code=202, summary="Erase a deal on both sides, for ever")
async def erase_deal(shared_deal_id: PathId, station: Here, author: Admin) -> Json:
    async with station.working(author) as work:
        await erasing.erase_deal(work, shared_deal_id)
    return {"erasures": "/api/erasures"}


@router.post("/notes/{note_id}/erase", status_code=202, summary="Erase a note with its comments on both sides, for ever")
async def erase_note(note_id: PathId, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        await erasing.erase_text(work, "note", note_id)
    return {"erasures": "/api/erasures"}


@router.post("/comments/{comment_id}/erase", status_code=202, summary="Erase a comment on both sides, for ever")
async def erase_comment(comment_id: PathId, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        await erasing.erase_text(work, "comment", comment_id)
    return {"erasures": "/api/erasures"}


@router.post("/contacts/{contact_id}/erase", status_code=202, summary="Erase a contact's personal data on both sides, for ever")
async def erase_contact(contact_id: PathId, station: Here, author: Admin) -> Json:
    async with station.working(author) as work:
        await erasing.erase_contact(work, contact_id)
    return {"erasures": "/api/erasures"}


@router.get("/brake", summary="List what the brake holds by record, with totals by direction")
async def brake_status(station: Here, _: Caller, partnership: Line | None = None, after: After = 0, limit: Limit = 50) -> Json:
    async with station.database.reading() as connection:
        rows = page(await held.list_held(connection, partnership, after, limit))
        return rows | {"held": await held.count_held(connection, partnership)}


@router.post("/partnerships/{partnership}/brake/release", summary="Let go what the brake holds now, and nothing that comes")
async def release(partnership: str, asked: Direction, station: Here, author: Admin) -> Json:
    return await decide(station, author, partnership, asked.direction, "release")


@router.post("/partnerships/{partnership}/brake/drop", summary="Take held deletions back; of incoming ones the sender is answered")
async def drop(partnership: str, asked: Direction, station: Here, author: Admin) -> Json:
    return await decide(station, author, partnership, asked.direction, "drop")


async def decide(station: Here, author: Admin, partnership: str, direction: Literal["out", "in"], word: held.Word) -> Json:
    async with station.database.reading() as connection:
        await partnerships.load(connection, partnership)
    return await held.decide(station, author, partnership, direction, word)
