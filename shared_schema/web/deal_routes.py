"""The node's deals, and their private notes."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AfterValidator
from sqlalchemy import select

from shared_schema.crm import deal_views, deals, private_notes
from shared_schema.crm.problems import NotAllowed
from shared_schema.crm.tables import deal_history
from shared_schema.sync.beside import read_beside
from shared_schema.sync.deals import Saved, save_deal, take_over
from shared_schema.sync.merging import merge_deals
from shared_schema.sync.registrations import list_registrations, load_shared_deal
from shared_schema.sync.rich_text import clean
from shared_schema.sync.station import Work
from shared_schema.web.bearer import Caller, Here
from shared_schema.web.payloads import After, Body, Id, Json, Limit, Line, PathId, Payload, Save, Seen, Targets, Values, check_json, page
from shared_schema.web.requests import PersistentRoute

Conditions = Annotated[list[Any], AfterValidator(check_json)]
router = APIRouter(prefix="/api", tags=["deals"], route_class=PersistentRoute)


class NewDeal(Payload):
    """A deal's properties: name, pipeline, stage, amount, close_date, next_step, owner_id, company_id, contact_ids, properties."""

    values: Values


class DealSave(Save):
    """`registrations` names the shared deals that the save goes to, each with its `seen` tokens by field (an empty object: without); an
    empty one keeps the values on this side. Without it each field goes to those that showed what the deal had; then `seen` has the tokens
    of the single open one."""

    registrations: Targets | None = None


class TakeOver(Payload):
    """`fields`: which of the values that the shared deal shows, by default all that differ; `seen`: their tokens; `registrations`: the
    other shared deals that they go to as well, as in a save. By themselves they go to none."""

    fields: list[Line] = []
    seen: Seen = {}
    registrations: Targets | None = None


class Merge(Payload):
    """`deal_id`: the deal that is taken over; its id leads to this one afterwards."""

    deal_id: Id


class Filters(Payload):
    """Equalities over a deal's properties; `shared` is the built-in view of shared deals."""

    shared: bool | None = None
    partnership: Line | None = None
    status: Line | None = None
    search: Line | None = None
    name: Line | None = None
    owner_id: Id | None = None
    company_id: Id | None = None
    pipeline_id: Id | None = None
    stage_id: Id | None = None
    currency: Line | None = None
    close_date: Line | None = None
    number_of_deal_registrations: Annotated[int, Query(ge=0, le=2**31 - 1)] | None = None
    number_of_active_deal_registrations: Annotated[int, Query(ge=0, le=2**31 - 1)] | None = None
    is_active_shared_deal: bool | None = None
    view: Annotated[int, Query(ge=0, le=2**53 - 1)] | None = None
    after: After = 0
    limit: Limit = 50


class NewView(Payload):
    """Conditions over any property: [{"property": "amount", "operator": "at least", "value": "10000"}]. `everybody` is for admins."""

    name: Line
    conditions: Conditions
    everybody: bool = False


class ViewChange(Payload):
    name: Line | None = None
    conditions: Conditions | None = None


@router.get("/deals", summary="List deals")
async def list_deals(station: Here, author: Caller, filters: Annotated[Filters, Query()]) -> Json:
    given = filters.model_dump(exclude_none=True, exclude={"after", "limit", "view"})
    async with station.database.reading() as connection:
        if filters.view is not None:
            given["view"] = (await deal_views.load_view(connection, filters.view, author.user_id))["conditions"]
        return page(await deals.list_deals(connection, given, filters.after, filters.limit))


@router.post("/deals", status_code=201, summary="Add a deal")
async def add_deal(deal: NewDeal, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        deal_id = await deals.add_deal(work.tx, {"owner_id": author.user_id, **deal.values}, author.user_id, work.now_ms)
        return await deals.load_deal(work.tx, deal_id)


@router.get("/views", summary="List the saved views of deals: the built-in one, everybody's and one's own")
async def list_views(station: Here, author: Caller) -> Json:
    async with station.database.reading() as connection:
        return {"results": await deal_views.list_views(connection, author.user_id)}


@router.post("/views", status_code=201, summary="Save a view of deals")
async def add_view(view: NewView, station: Here, author: Caller) -> Json:
    if view.everybody and author.role != "admin":
        raise NotAllowed("only an admin saves a view for everybody", remedy="save it for yourself, or ask an admin")
    async with station.working(author) as work:
        view_id = await deal_views.add_view(work.tx, view.name, view.conditions, None if view.everybody else author.user_id)
        return await deal_views.load_view(work.tx, view_id, author.user_id)


@router.patch("/views/{view_id}", summary="Change a saved view")
async def change_view(view_id: PathId, change: ViewChange, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        await deal_views.change_view(work.tx, view_id, change.model_dump(), author.user_id, is_admin=author.role == "admin")
        return await deal_views.load_view(work.tx, view_id, author.user_id)


@router.delete("/views/{view_id}", status_code=204, summary="Delete a saved view")
async def remove_view(view_id: PathId, station: Here, author: Caller) -> None:
    async with station.working(author) as work:
        await deal_views.remove_view(work.tx, view_id, author.user_id, is_admin=author.role == "admin")


@router.get("/deals/{deal_id}", summary="Read a deal with its registrations")
async def read_deal(deal_id: PathId, station: Here, _: Caller) -> Json:
    async with station.database.reading() as connection:
        deal = await deals.load_deal(connection, deal_id)
        return {**deal, "registrations": await read_beside(connection, station.spec.side, deal)}


@router.patch("/deals/{deal_id}", summary="Save a deal; shared fields go to its registrations")
async def change_deal(deal_id: PathId, save: DealSave, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        saved = await save_deal(work, deal_id, save.values, save.seen, save.registrations)
        return await show_saved(work, deal_id, saved)


@router.post("/shared-deals/{shared_deal_id}/take-over", summary="Take what a shared deal shows into the deal's own values")
async def take_values(shared_deal_id: PathId, taken: TakeOver, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        saved = await take_over(work, shared_deal_id, taken.fields, taken.seen, taken.registrations)
        return await show_saved(work, (await load_shared_deal(work.tx, shared_deal_id))["deal_id"], saved)


async def show_saved(work: Work, deal_id: int, saved: list[Saved]) -> Json:
    """The deal with its registrations as it stands after a save, and what became of each value."""
    deal = await deals.load_deal(work.tx, deal_id)
    beside = await read_beside(work.tx, work.side, deal)
    return {"deal": {**deal, "registrations": beside}, "outcomes": [each._asdict() for each in saved]}


@router.post("/deals/{deal_id}/merge", summary="Take another deal over: its registrations, notes and history")
async def merge(deal_id: PathId, merged: Merge, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        survivor = await merge_deals(work, deal_id, merged.deal_id)
        return {"deal": await deals.load_deal(work.tx, survivor), "registrations": await list_registrations(work.tx, survivor)}


@router.get("/deals/{deal_id}/history", summary="The history of a deal's own properties")
async def read_history(deal_id: PathId, station: Here, _: Caller) -> Json:
    async with station.database.reading() as connection:
        deal = await deals.load_deal(connection, deal_id)
        statement = select(deal_history).where(deal_history.c.deal_id == deal["id"]).order_by(deal_history.c.id)
        return {"results": [dict(row) for row in (await connection.execute(statement)).mappings()]}


@router.get("/deals/{deal_id}/private-notes", summary="Private notes: they never leave this node")
async def list_private_notes(deal_id: PathId, station: Here, _: Caller) -> Json:
    async with station.database.reading() as connection:
        deal = await deals.load_deal(connection, deal_id)
        return {"results": await private_notes.list_of(connection, deal["id"])}


@router.post("/deals/{deal_id}/private-notes", status_code=201, summary="Write a private note")
async def add_private_note(deal_id: PathId, note: Body, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        deal = await deals.load_deal(work.tx, deal_id)
        note_id = await private_notes.add(work.tx, deal["id"], author.user_id, clean("body", note.body), work.now_ms)
        return {"id": note_id, "results": await private_notes.list_of(work.tx, deal["id"])}


@router.put("/private-notes/{note_id}", status_code=204, summary="Edit one's own private note")
async def edit_private_note(note_id: PathId, note: Body, station: Here, author: Caller) -> None:
    async with station.working(author) as work:
        await private_notes.edit(work.tx, note_id, author.user_id, clean("body", note.body))


@router.delete("/private-notes/{note_id}", status_code=204, summary="Delete one's own private note")
async def remove_private_note(note_id: PathId, station: Here, author: Caller) -> None:
    async with station.working(author) as work:
        await private_notes.remove(work.tx, note_id, author.user_id)
