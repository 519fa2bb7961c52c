"""The HTTP API of a node: routes common to both sides, and the node's own. No request waits for Kafka to deliver anything."""

from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from sqlalchemy import text
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared_schema.sync.metrics import expose
from shared_schema.sync.station import Station
from shared_schema.sync.transport import Broker
from shared_schema.web import admin_routes, conflict_routes, customer_routes, deal_routes, deletion_routes, shared_deal_routes, sync_routes
from shared_schema.web.problem_documents import answer_errors, make_problem

BODY_MAX = 1_048_576
COMMON = (deal_routes, shared_deal_routes, customer_routes, conflict_routes, admin_routes, sync_routes, deletion_routes)


def make_app(station: Station, broker: Broker, routers: Sequence[APIRouter] = (), secrets: Path | None = None) -> FastAPI:
    """The application of one node; `secrets` is where it keeps credentials that bundles bring."""
    app = FastAPI(title=f"Dealbridge: {station.spec.side} node", version="0.1.0", generate_unique_id_function=lambda route: route.name)
    app.state.station, app.state.broker, app.state.secrets = station, broker, secrets
    app.state.find_broker = lambda _: broker
    app.add_middleware(BodyLimit)
    answer_errors(app)
    for router in (*(module.router for module in COMMON), *routers):
        app.include_router(router)
    serve_health(app)
    return app


def serve_health(app: FastAPI) -> None:
    """Liveness, readiness and metrics, without a token. Without the broker a process that only syncs is not ready; one with the API is, and
    says what waits."""
    app.state.troubles = lambda: ([], False)

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz", include_in_schema=False)
    async def readyz(request: Request) -> Response:
        async with request.app.state.station.database.reading() as connection:
            await connection.execute(text("SELECT 1"))
        troubles, hindered = request.app.state.troubles()
        lines = ["not ready" if troubles and hindered else "ready", *troubles]
        return Response("\n".join(lines) + "\n", 503 if troubles and hindered else 200, media_type="text/plain")

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(expose(), media_type="text/plain; version=0.0.4; charset=utf-8")


class BodyLimit:
    """Refuses a body over 1 MiB as soon as that is known: by its announced length, or while it comes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, too_large = await read_body(receive)
        if too_large:
            await make_problem(413, "too_large", f"a request has at most {BODY_MAX:,} bytes")(scope, receive, send)
            return
        await self.app(scope, hand_on(body, receive), send)


async def read_body(receive: Receive) -> tuple[bytes, bool]:
    """The whole body, and whether it is too large; then what came is dropped."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > BODY_MAX:
            return b"", True
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return bytes(body), False


def hand_on(body: bytes, receive: Receive) -> Receive:
    """A receive that gives the body that was read, once."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
