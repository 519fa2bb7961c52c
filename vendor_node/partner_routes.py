"""The vendor's API about its partners: invite, new credentials, suspend, resume, revoke."""

from fastapi import APIRouter, Request

from shared_schema.crm.problems import WrongState
from shared_schema.sync.transport import BrokerError
from shared_schema.web.bearer import Admin, Here
from shared_schema.web.payloads import Json, Line, Payload, Values
from shared_schema.web.requests import PersistentRoute
from vendor_node import partners

router = APIRouter(prefix="/api/partners", tags=["partners"], route_class=PersistentRoute)


class Invitation(Payload):
    """`terms` of the policy: preset, approval, capacity, rules, timers. `broker` is its address as the partner reaches it, host:port."""

    own_name: Line
    peer_name: Line
    broker: Line | None = None
    terms: Values = {}


class Rotation(Payload):
    broker: Line | None = None


@router.post("/invite", status_code=201, summary="Begin a partnership: the bundle for the partner, with its password, this once")
async def invite(invitation: Invitation, station: Here, author: Admin, request: Request) -> Json:
    way = partners.Way(invitation.own_name, invitation.peer_name, invitation.broker)
    return show(await partners.invite(station, author, request.app.state.broker, way, invitation.terms))


@router.post("/{partnership}/rotate", summary="A second credential in a new bundle; the one before works until it is retired")
async def rotate(partnership: str, rotation: Rotation, station: Here, author: Admin, request: Request) -> Json:
    return show(await partners.rotate(station, author, request.app.state.broker, partnership, rotation.broker))


@router.post("/{partnership}/retire", summary="End all credentials but the newest, once the partner has joined with that")
async def retire(partnership: str, station: Here, author: Admin, request: Request) -> Json:
    try:
        return show(await partners.retire(station, author, request.app.state.broker, partnership))
    except BrokerError as error:
        raise WrongState(str(error), remedy="ask again when the broker answers") from error


@router.post("/{partnership}/topics", summary="Create those of the partnership's topics that are missing")
async def make_topics(partnership: str, station: Here, _: Admin, request: Request) -> Json:
    try:
        return show(await partners.make_topics(station, request.app.state.broker, partnership))
    except BrokerError as error:
        raise WrongState(str(error), remedy="ask again when the broker answers") from error


@router.post("/{partnership}/suspend", summary="Shut a partner out until it is resumed; nothing is lost")
async def suspend_partner(partnership: str, station: Here, author: Admin, request: Request) -> Json:
    return show(await partners.change_status(station, author, request.app.state.broker, partnership, "suspended"))


@router.post("/{partnership}/resume", summary="Let a suspended partner in again")
async def resume_partner(partnership: str, station: Here, author: Admin, request: Request) -> Json:
    return show(await partners.change_status(station, author, request.app.state.broker, partnership, "active"))


@router.post("/{partnership}/revoke", summary="End a partnership for good: its users, rights and connections")
async def revoke_partner(partnership: str, station: Here, author: Admin, request: Request) -> Json:
    return show(await partners.change_status(station, author, request.app.state.broker, partnership, "terminated"))


def show(done: partners.Done) -> Json:
    return done._asdict()
