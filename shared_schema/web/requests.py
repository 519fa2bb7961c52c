"""How a request is answered: from the beginning again where its command gave way to another one."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from shared_schema.sync.station import persist


class PersistentRoute(APIRoute):
    """A request is kept while it is answered, so that it can be read once more."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            return await persist(lambda: handle(request))

        return answer
