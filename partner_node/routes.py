"""The partner's own API: registering deals and taking them back."""

from fastapi import APIRouter, Request

from partner_node import invitations, registrations
from shared_schema.sync import joining
from shared_schema.sync.registrations import submit_again as submit
from shared_schema.sync.registrations import withdraw
from shared_schema.web.bearer import Admin, Caller, Here
from shared_schema.web.payloads import Id, Json, Line, PathId, Payload, Text, Values
from shared_schema.web.requests import PersistentRoute
from shared_schema.web.shown import show_captured, show_shared

router = APIRouter(prefix="/api", tags=["registering"], route_class=PersistentRoute)


class Bundle(Payload):
    bundle: Values


class Details(Payload):
    """The qualifying information, all required; products of interest and a rep to ask for, if any."""

    intro_note: Text
    pain: Text
    next_steps: Text
    products: list[Values] = []
    requested_rep: Line | None = None


class FromContact(Payload):
    """`deal`: name, pipeline, stage, amount, close_date, next_step."""

    partnership: Line | None = None
    contact_id: Id
    deal: Values
    details: Details


class FromCompany(Payload):
    """`deal` as from a contact, and contact_id for one of the company's contacts."""

    partnership: Line | None = None
    company_id: Id
    deal: Values
    details: Details


class Conversion(Payload):
    partnership: Line | None = None
    deal_id: Id
    details: Details


class Answer(Payload):
    """The qualifying information, all of it required."""

    intro_note: Text
    pain: Text
    next_steps: Text


class InvitationAnswer(Payload):
    answer: Line
    reason: Line | None = None


class Withdrawal(Payload):
    reason: Line | None = None


@router.post("/partnerships/join", status_code=201, summary="Join with the vendor's bundle; with a new one, to change the credential")
async def join(bundle: Bundle, station: Here, author: Admin, request: Request) -> Json:
    return {"partnership": await joining.join(station, author, request.app.state.secrets, bundle.bundle)}


@router.post("/shared-deals/from-contact", status_code=201, summary="Create a shared deal from a contact")
async def share_from_contact(asked: FromContact, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        found = await registrations.share_from_contact(work, asked.partnership, asked.contact_id, asked.deal, asked.details.model_dump())
    return await show_shared(station, found, id=found)


@router.post("/shared-deals/from-company", status_code=201, summary="Create a shared deal from a company")
async def share_from_company(asked: FromCompany, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        found = await registrations.share_from_company(work, asked.partnership, asked.company_id, asked.deal, asked.details.model_dump())
    return await show_shared(station, found, id=found)


@router.post("/shared-deals/convert", status_code=201, summary="Convert an existing deal to a shared deal")
async def convert_deal(asked: Conversion, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        found = await registrations.convert_deal(work, asked.partnership, asked.deal_id, asked.details.model_dump())
    return await show_shared(station, found, id=found)


@router.post("/shared-deals/{shared_deal_id}/submit", summary="Submit again, after the vendor asked for more")
async def submit_again(shared_deal_id: PathId, answer: Answer, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        captured = await submit(work, shared_deal_id, answer.model_dump())
    return await show_captured(station, shared_deal_id, captured)


@router.post("/shared-deals/{shared_deal_id}/withdraw", summary="Withdraw a registration")
async def withdraw_registration(shared_deal_id: PathId, withdrawal: Withdrawal, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        captured = await withdraw(work, shared_deal_id, withdrawal.reason)
    return await show_captured(station, shared_deal_id, captured)


@router.post("/shared-deals/{shared_deal_id}/answer", summary="Accept or decline a vendor's invitation: accepted, declined")
async def answer_invitation(shared_deal_id: PathId, said: InvitationAnswer, station: Here, author: Caller) -> Json:
    async with station.working(author) as work:
        captured = await invitations.answer(work, shared_deal_id, said.answer, said.reason)
    return await show_captured(station, shared_deal_id, captured)


ROUTERS = (router,)
