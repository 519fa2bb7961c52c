"""The vendor's own API: decisions, assignment and its explanation, reps, quotes and compensation."""

from fastapi import APIRouter

from shared_schema.sync import offers
from shared_schema.sync.registrations import load_shared_deal
from shared_schema.web.bearer import Admin, Caller, Here
from shared_schema.web.payloads import Id, Json, Line, PathId, Payload, Text, Values
from shared_schema.web.requests import PersistentRoute
from shared_schema.web.shown import show_captured, show_registration, show_shared
from vendor_node import assigning, decisions, duplicates, invitations, partner_routes, reps

router = APIRouter(prefix="/api", tags=["vendor"], route_class=PersistentRoute)


class Decision(Payload):
    """approved, rejected, action required, under review, revoked, won or lost; some need a reason."""

    decision: Line
    reason: Line | None = None


class Asked(Payload):
    """`contact_id`: who will own it at the partner, of the partnership's people; `confirmed`: you have reached out to this partner to
    confirm availability to work the deal; `values`: what this partner gets instead of the deal's own, null for nothing."""

    partnership: Line | None = None
    intro_note: Text
    confirmed: bool = False
    contact_id: Id | None = None
    values: Values = {}
    products: list[Values] = []


class Assignee(Payload):
    rep_id: Id


class Settings(Payload):
    """Values by name; the operation's summary lists them."""

    values: Values


class NewRep(Settings):
    user_id: Id


@router.post("/shared-deals/{shared_deal_id}/decision", summary="Decide on a registration")
async def decide(shared_deal_id: PathId, decision: Decision, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        captured = await decisions.decide(work, shared_deal_id, decision.decision, decision.reason)
    return await show_captured(station, shared_deal_id, captured)


@router.post("/deals/{deal_id}/invite", status_code=201, summary="Bring a partner into a deal")
async def bring_in(deal_id: PathId, asked: Asked, station: Here, author: Caller) -> Json:
    invitation = invitations.Invitation(asked.intro_note, asked.confirmed, asked.contact_id, asked.values, asked.products)
    async with station.working(author) as work:
        found = await invitations.bring_in(work, deal_id, asked.partnership, invitation)
    return await show_shared(station, found, id=found)


@router.get("/shared-deals/{shared_deal_id}/similar", summary="Who else works on this customer, side by side")
async def read_similar(shared_deal_id: PathId, station: Here, _: Caller) -> Json:
    async with station.database.reading() as connection:
        return await duplicates.read_similar(connection, shared_deal_id)


@router.get("/shared-deals/{shared_deal_id}/assignments", summary="Who was assigned, and why")
async def list_assignments(shared_deal_id: PathId, station: Here, _: Caller) -> Json:
    async with station.database.reading() as connection:
        row = await load_shared_deal(connection, shared_deal_id)
        return {"results": await assigning.list_assignments(connection, row["partnership"], row["uid"])}


@router.post("/shared-deals/{shared_deal_id}/assign", summary="Give a registration to another rep")
async def reassign(shared_deal_id: PathId, assignee: Assignee, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        await assigning.reassign(work, shared_deal_id, assignee.rep_id)
    return await show_shared(station, shared_deal_id)


@router.post("/shared-deals/{shared_deal_id}/accept", summary="The assigned rep takes the registration on")
async def accept(shared_deal_id: PathId, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        await assigning.accept(work, shared_deal_id)
    return await show_shared(station, shared_deal_id)


@router.get("/unassigned", summary="The fallback queue: active registrations without a rep")
async def list_unassigned(station: Here, _: Caller) -> Json:
    async with station.database.reading() as connection:
        return {"results": await assigning.list_unassigned(connection)}


@router.get("/reps", summary="List reps")
async def list_reps(station: Here, _: Caller) -> Json:
    async with station.database.reading() as connection:
        return {"results": [rep._asdict() for rep in await reps.load_reps(connection)]}


@router.post("/reps", status_code=201, summary="Make a user a rep: weight, cap, out_from, out_until, territories, segments, languages")
async def add_rep(rep: NewRep, station: Here, author: Admin) -> Json:
    async with station.working(author) as work:
        await reps.add_rep(work.tx, rep.user_id, rep.values)
    return {"user_id": rep.user_id}


@router.patch("/reps/{user_id}", summary="Change a rep: weight, cap, out of office, territories")
async def change_rep(user_id: PathId, rep: Settings, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        await reps.change_rep(work.tx, user_id, rep.values)
    return {"user_id": user_id}


@router.post("/shared-deals/{shared_deal_id}/quotes", status_code=201, summary="Add a quote: number, title, total, status, expires")
async def add_quote(shared_deal_id: PathId, quote: Settings, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        quote_id = await offers.put_quote(work, shared_deal_id, quote.values)
    return await show_shared(station, shared_deal_id, id=quote_id)


@router.delete("/quotes/{quote_id}", summary="Remove a quote on both sides")
async def remove_quote(quote_id: PathId, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        part = await offers.load_line(work, "quote", quote_id)
        await offers.remove(work, "quote", quote_id)
    return await show_registration(station, part)


@router.put("/shared-deals/{shared_deal_id}/eligibility", summary="Compensation: eligible, rate (percent), reason")
async def put_eligibility(shared_deal_id: PathId, eligibility: Settings, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        await offers.put_eligibility(work, shared_deal_id, eligibility.values)
    return await show_shared(station, shared_deal_id)


ROUTERS = (router, partner_routes.router)
