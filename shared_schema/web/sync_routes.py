"""How the sync stands, and what an admin does where it does not go on by itself: dead letters, refusals, a stopped stream."""

from typing import Annotated

from fastapi import APIRouter, Path, Request

from shared_schema.contract.identifiers import UID_PATTERN
from shared_schema.crm.problems import Invalid
from shared_schema.sync import dead_letters, journal, partnerships, refusals, restoration, stops, trace, verification
from shared_schema.sync.status import read_status
from shared_schema.web.bearer import Admin, Caller, Here
from shared_schema.web.payloads import After, Id, Json, Limit, Line, PathId, Payload, Text, page
from shared_schema.web.requests import PersistentRoute

router = APIRouter(prefix="/api", tags=["sync"], route_class=PersistentRoute)
EventId = Annotated[str, Path(pattern=UID_PATTERN, description="As the audit trail and the log name it.")]


class Replay(Payload):
    """Which: `ids`, or all of a `reason`, or with `every` all that there are (of a partnership, if it is named)."""

    ids: list[Id] = []
    reason: Line | None = None
    partnership: Line | None = None
    every: bool = False


class Discard(Payload):
    reason: Text


@router.get("/status", summary="How the sync stands, per partnership")
async def status(station: Here, _: Caller) -> Json:
    async with station.database.reading() as connection:
        return {"side": station.spec.side, "results": await read_status(connection, station.clock.now_ms())}


@router.get("/events/{event}/trace", summary="One event's whole life; with `topics` as the broker tells it, too, in seconds")
async def trace_event(event: EventId, station: Here, _: Admin, request: Request, topics: bool = False) -> Json:
    return await trace.trace(station.database, station.spec.side, event, request.app.state.find_broker if topics else None)


@router.get("/dead-letters", summary="List what is parked, with its reason")
async def list_dead_letters(
    station: Here, _: Admin, after: After = 0, limit: Limit = 50, partnership: Line | None = None, reason: Line | None = None
) -> Json:
    async with station.database.reading() as connection:
        return page(await dead_letters.list_dead(connection, partnership, reason, after, limit))


@router.get("/dead-letters/{letter_id}", summary="Read a dead letter whole: headers, bytes, reason and stack")
async def read_dead_letter(letter_id: PathId, station: Here, _: Admin) -> Json:
    async with station.database.reading() as connection:
        return await dead_letters.load_dead(connection, letter_id)


@router.post("/dead-letters/replay", summary="Try dead letters again: by id, by reason, or all")
async def replay(which: Replay, station: Here, author: Admin) -> Json:
    if not (which.ids or which.reason or which.every):
        raise Invalid("ids", "may not be empty, unless reason is given or every is true")
    letters = which.ids or await find_dead(station, which.partnership, which.reason)
    return {"results": [each._asdict() for each in await dead_letters.replay(station, author, letters)]}


async def find_dead(station: Here, partnership: str | None, reason: str | None) -> list[int]:
    async with station.database.reading() as connection:
        return await dead_letters.find_all(connection, partnership, reason)


@router.post("/dead-letters/{letter_id}/discard", status_code=204, summary="Discard a dead letter; its sender is told why")
async def discard(letter_id: PathId, said: Discard, station: Here, author: Admin) -> None:
    async with station.working(author) as work:
        await dead_letters.discard(work, letter_id, said.reason)


@router.get("/partnerships/{partnership}/journal", summary="List what people and machines of this node did about a partnership, and who")
async def read_journal(partnership: str, station: Here, _: Admin, after: After = 0, limit: Limit = 50) -> Json:
    async with station.database.reading() as connection:
        await partnerships.load(connection, partnership)
        return page(await journal.list_journal(connection, partnership, after, limit))


@router.get("/refusals", summary="List what this node refused of the peers', with the reason")
async def list_refusals(station: Here, _: Admin, after: After = 0, limit: Limit = 50, partnership: Line | None = None) -> Json:
    async with station.database.reading() as connection:
        return page(await refusals.list_refused(connection, partnership, after, limit))


@router.post("/restoration", status_code=202, summary="Say that this store was put back from an older copy; the peers send their states")
async def confirm_restore(station: Here, author: Admin) -> Json:
    async with station.working(author) as work:
        return {"partnerships": await restoration.confirm(work)}


class Verification(Payload):
    """`repair`: send the states of what differs both ways, and look again."""

    repair: bool = False


@router.post("/partnerships/{partnership}/verify", status_code=202, summary="Compare both sides; ask for the result afterwards")
async def verify(partnership: str, asked: Verification, station: Here, author: Admin) -> Json:
    async with station.working(author) as work:
        await partnerships.load(work.tx, partnership)
        await verification.request(work, partnership, repair=asked.repair)
        return await verification.read_verification(work.tx, partnership)


@router.get("/partnerships/{partnership}/verification", summary="How the last verification stands, and which records differ")
async def read_verification(partnership: str, station: Here, _: Caller, after: Line = "", limit: Limit = 200) -> Json:
    async with station.database.reading() as connection:
        await partnerships.load(connection, partnership)
        return await verification.read_verification(connection, partnership, after, limit)


@router.post("/partnerships/{partnership}/resume", status_code=204, summary="Let a stopped stream go on")
async def resume(partnership: str, station: Here, author: Admin) -> None:
    async with station.working(author) as work:
        await partnerships.load(work.tx, partnership)
        await stops.resume(work, partnership)
