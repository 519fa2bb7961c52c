"""Who asks: a bearer token stands for a user of this node."""

from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from shared_schema.crm.problems import NotAllowed
from shared_schema.crm.users import find_bearer
from shared_schema.sync.station import Author, Station

scheme = HTTPBearer(auto_error=False, description="A token of this node: `… tokens create`.")


def get_station(request: Request) -> Station:
    station: Station = request.app.state.station
    return station


Here = Annotated[Station, Depends(get_station)]


async def authenticate(station: Here, given: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)]) -> Author:
    """The user whose token came; raises 401."""
    if given is not None:
        async with station.database.reading() as connection:
            user = await find_bearer(connection, given.credentials)
        if user is not None:
            return Author(user["id"], user["uid"], user["name"], user["role"])
    raise HTTPException(
        401, "a bearer token of this node is needed; an admin makes one with `tokens create`", {"WWW-Authenticate": "Bearer"}
    )


Caller = Annotated[Author, Depends(authenticate)]


async def require_admin(author: Caller) -> Author:
    if author.role != "admin":
        raise NotAllowed("only an admin may do this", remedy="ask an admin of your company")
    return author


Admin = Annotated[Author, Depends(require_admin)]
