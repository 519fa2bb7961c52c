"""The process of the statistics: follows the topics and answers for the figures. Kill it, and nothing else changes."""

import logging
import socket
from functools import partial
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import APIRouter, FastAPI, Query, Request

from shared_schema.crm.database import Database
from shared_schema.crm.migrations import check_migrated
from shared_schema.sync import event_loop, metrics
from shared_schema.sync.broker import KafkaBroker, Lines
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.insights import WINDOW_MINUTES, Insights
from shared_schema.sync.quiet_loggers import FAUST_LOGGERS, quieten_loggers
from shared_schema.sync.settings import Settings, locate_store, secure
from shared_schema.sync.station import NodeSpec, Station
from shared_schema.web.bearer import Caller
from shared_schema.web.payloads import Json
from shared_schema.web.process import ANSWER_S, Server, listen, make_health_app, set_up_logging, until_stopped

Minutes = Annotated[int, Query(ge=1, le=WINDOW_MINUTES, description="The window: the last so many minutes, the running one included.")]
router = APIRouter(prefix="/api", tags=["insights"])


@router.get("/insights", summary="Events, lag, busiest deals, conflicts, time to decision and reply, by partnership")
async def read_insights(request: Request, _: Caller, minutes: Minutes = WINDOW_MINUTES) -> Json:
    insights: Insights = request.app.state.insights
    return insights.summarise(minutes)


def run(settings: Settings, spec: NodeSpec) -> None:
    """Until a signal. Raises NotMigrated, DatabaseUnavailable or BadSettings before anything has begun."""
    set_up_logging(settings)
    quieten_loggers(FAUST_LOGGERS)
    logging.getLogger("faust").setLevel(logging.WARNING)
    logging.getLogger("mode").setLevel(logging.WARNING)
    event_loop.run(serve(settings, spec))


async def serve(settings: Settings, spec: NodeSpec) -> None:
    database = Database(locate_store(settings))
    try:
        await check_migrated(database, spec.migrations, f"{spec.side}-node")
        listener = listen(settings.model_copy(update={"port": settings.insights_port}))
        await serve_station(settings, Station(spec, database, SystemClock()), listener)
    finally:
        await database.close()


async def serve_station(settings: Settings, station: Station, listener: socket.socket) -> None:
    lines = Lines(KafkaBroker(settings.kafka, secure(settings)), Path(settings.secrets) if settings.secrets else None)
    await lines.broker.start()
    insights = Insights(station, lines.find)
    app = make_app(station, insights)
    server = Server(uvicorn.Config(app, log_config=None, lifespan="off", access_log=False, timeout_graceful_shutdown=ANSWER_S))
    metrics.say_build(station.spec.side, "insights")
    host, port = listener.getsockname()[:2]
    print(f"{station.spec.side}-node (insights) listens on http://{host}:{port}", flush=True)
    try:
        await until_stopped(server, listener, [insights.run()])
    finally:
        await lines.stop()


def make_app(station: Station, insights: Insights) -> FastAPI:
    """Figures for whoever has a token of this node; ready once they are whole."""
    app = make_health_app(station)
    app.state.insights = insights
    app.state.troubles = partial(list_hindrances, insights)
    app.include_router(router)
    return app


def list_hindrances(insights: Insights) -> tuple[list[str], bool]:
    return ([] if insights.caught_up else ["the topics are being read from their beginning"]), not insights.caught_up
