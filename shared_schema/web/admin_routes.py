"""What admins do: users, tokens, partnerships, their policy."""

from fastapi import APIRouter

from shared_schema.contract.topics import other
from shared_schema.crm import users
from shared_schema.sync import partnerships, people
from shared_schema.web.bearer import Admin, Caller, Here
from shared_schema.web.payloads import Id, Json, Line, PathId, Payload, Values
from shared_schema.web.requests import PersistentRoute

router = APIRouter(prefix="/api", tags=["administration"], route_class=PersistentRoute)


class User(Payload):
    name: Line
    email: Line
    role: Line = "rep"


class UserChange(Payload):
    name: Line | None = None
    role: Line | None = None
    active: bool | None = None


class Token(Payload):
    user_id: Id
    name: Line


class Terms(Payload):
    terms: Values


class Recipient(Payload):
    user_id: Id | None


@router.get("/me", summary="Who the token stands for")
async def read_me(author: Caller) -> Json:
    return author._asdict()


@router.get("/users", summary="List users")
async def list_users(station: Here, _: Caller) -> Json:
    async with station.database.reading() as connection:
        return {"results": await users.list_users(connection)}


@router.post("/users", status_code=201, summary="Add a user")
async def add_user(user: User, station: Here, author: Admin) -> Json:
    async with station.working(author) as work:
        user_id = await users.add_user(work.tx, work.incarnation.new_uid(), user.name, user.email, user.role)
        return await users.load_user(work.tx, user_id)


@router.patch("/users/{user_id}", summary="Change a user's name, role or activity; the peers are told")
async def change_user(user_id: PathId, change: UserChange, station: Here, author: Admin) -> Json:
    async with station.working(author) as work:
        return await people.change_user(work, user_id, change.model_dump(exclude_none=True))


@router.get("/tokens", summary="List tokens by name; never the tokens themselves")
async def list_tokens(station: Here, _: Admin) -> Json:
    async with station.database.reading() as connection:
        return {"results": await users.list_tokens(connection)}


@router.post("/tokens", status_code=201, summary="Create a token; it is shown this once")
async def create_token(token: Token, station: Here, author: Admin) -> Json:
    async with station.working(author) as work:
        return {"token": await users.issue_token(work.tx, token.user_id, token.name, station.clock.random_bits(192), work.now_ms)}


@router.delete("/tokens/{token_id}", status_code=204, summary="Revoke a token")
async def revoke_token(token_id: PathId, station: Here, author: Admin) -> None:
    async with station.working(author) as work:
        await users.revoke_token(work.tx, token_id, work.now_ms)


@router.get("/partnerships", summary="List partnerships")
async def list_partnerships(station: Here, _: Caller) -> Json:
    async with station.database.reading() as connection:
        return {"results": await partnerships.list_all(connection)}


@router.get("/partnerships/{partnership}/people", summary="The other side's people whom this partnership knows")
async def list_people(partnership: str, station: Here, _: Caller) -> Json:
    async with station.database.reading() as connection:
        return {"results": await partnerships.list_people(connection, partnership, other(station.spec.side))}


@router.put("/partnerships/{partnership}/policy", summary="The vendor changes the partnership's policy")
async def change_policy(partnership: str, terms: Terms, station: Here, author: Admin) -> Json:
    async with station.working(author) as work:
        await partnerships.change_policy(work, partnership, terms.terms)
    return {"partnership": partnership, "terms": terms.terms}


@router.put("/partnerships/{partnership}/lead-recipient", summary="Who owns deals that the vendor registers")
async def set_recipient(partnership: str, recipient: Recipient, station: Here, author: Admin) -> Json:
    async with station.working(author) as work:
        await partnerships.set_lead_recipient(work, partnership, recipient.user_id)
    return {"partnership": partnership, "lead_recipient_id": recipient.user_id}
