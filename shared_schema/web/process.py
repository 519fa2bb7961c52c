"""A node's process: by its role the API, the sync, or both, in one event loop; stopped gracefully by SIGTERM and Ctrl-C."""

import asyncio
import logging
import signal
import socket
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI

from shared_schema.crm.database import Database, DatabaseUnavailable
from shared_schema.crm.migrations import check_migrated
from shared_schema.sync import erasure_list, event_loop, metrics
from shared_schema.sync.broker import KafkaBroker, Lines
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.gauges import keep_measuring
from shared_schema.sync.limits import Limits
from shared_schema.sync.log_lines import JsonLines, TextLines
from shared_schema.sync.node import Node
from shared_schema.sync.patience import keep_at
from shared_schema.sync.settings import BadSettings, Settings, locate_store, make_keeping, secure
from shared_schema.sync.station import NodeSpec, Station
from shared_schema.sync.status import read_status
from shared_schema.sync.troubles import Reporter
from shared_schema.sync.wakeups import Wakeups
from shared_schema.web.app import make_app, serve_health
from shared_schema.web.problem_documents import answer_errors

WATCH_S = 2.0
ANSWER_S = 5  # for requests under way when the process is to end
log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the process has one place for them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def set_up_logging(settings: Settings) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if settings.log_format == "json" else TextLines())
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)


def run(settings: Settings, spec: NodeSpec, routers: Sequence[APIRouter]) -> None:
    """Until a signal. Raises NotMigrated, DatabaseUnavailable or BadSettings before anything has begun."""
    set_up_logging(settings)
    event_loop.run(serve(settings, spec, routers))


async def serve(settings: Settings, spec: NodeSpec, routers: Sequence[APIRouter]) -> None:
    database = Database(locate_store(settings))
    try:
        await check_migrated(database, spec.migrations, f"{spec.side}-node")
        listener = listen(settings)
        station = Station(spec, database, SystemClock(), make_keeping(settings))
        await erasure_list.apply(station)
        await serve_station(settings, station, routers, listener)
    finally:
        await database.close()


def listen(settings: Settings) -> socket.socket:
    try:
        return socket.create_server((settings.host, settings.port))
    except OSError as error:
        raise BadSettings(f"can not listen on {settings.host}:{settings.port}: {error.strerror}; set DEALBRIDGE_PORT to another") from error


async def serve_station(settings: Settings, station: Station, routers: Sequence[APIRouter], listener: socket.socket) -> None:
    """All loops of the role, until one ends or a signal comes."""
    secrets = Path(settings.secrets) if settings.secrets else None
    lines = Lines(KafkaBroker(settings.kafka, secure(settings)), secrets)
    app = make_app(station, lines.broker, routers, secrets) if settings.role != "sync" else make_health_app(station)
    app.state.find_broker = lines.find
    app.state.troubles = partial(list_hindrances, lines, settings.role)
    server = Server(uvicorn.Config(app, log_config=None, lifespan="off", access_log=False, timeout_graceful_shutdown=ANSWER_S))
    metrics.say_build(station.spec.side, settings.role)
    loops = [Wakeups(station).run(), watch(station, lines if settings.role != "web" else None)]
    if settings.role != "web":
        kept = (settings.outbox_max, settings.verify_minutes, settings.keep_days, settings.waiting_max)
        limits = Limits(settings.parked_max, settings.parked_per_minute, *kept)
        node = Node(station, lines.broker, limits, lines.find)
        loops += [node.run(), keep_measuring(station, lines.find), *(tend(station, lines.broker) for tend in station.spec.tends)]
    host, port = listener.getsockname()[:2]
    print(f"{station.spec.side}-node ({settings.role}) listens on http://{host}:{port}", flush=True)
    log.info("%s-node %s begins as %s", station.spec.side, version("dealbridge"), settings.role)
    try:
        await until_stopped(server, listener, loops)
    finally:
        await lines.stop()
        log.info("%s-node ends", station.spec.side)


def list_hindrances(lines: Lines, role: str) -> tuple[list[str], bool]:
    """What is wrong at the broker, and whether this process can do nothing without it: one that only syncs."""
    return [found.trouble.why for found in lines.list_troubles()], role == "sync"


def make_health_app(station: Station) -> FastAPI:
    """What a process without the API answers: liveness, readiness, metrics."""
    app = FastAPI(openapi_url=None)
    app.state.station = station
    answer_errors(app)
    serve_health(app)
    return app


async def until_stopped(server: Server, listener: socket.socket, loops: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Serve until a signal, or until a loop died of a bug, which is raised; then requests under way are answered, and all ends."""
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    tasks: list[asyncio.Future[None]] = [serving, *(asyncio.ensure_future(each) for each in loops)]
    stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # a signal cancels it
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stopped.cancel)
    watched = {task: None for task in tasks}
    try:
        while not stopped.done() and watched:
            done, _ = await asyncio.wait([stopped, *watched], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                del watched[task]
                task.result()
    finally:
        server.should_exit = True
        await asyncio.wait({serving}, timeout=ANSWER_S + 1)
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


async def watch(station: Station, lines: Lines | None) -> None:
    """Keep what the store says of the broker, and the gauges of the store's state, true to within seconds. A process that does not sync
    knows nothing of the broker."""
    reporter = Reporter(station)

    async def look() -> None:
        if lines is not None:
            await reporter.report(lines.list_troubles())
        async with station.database.reading() as connection:
            metrics.note_status(await read_status(connection, station.clock.now_ms()))
        await asyncio.sleep(WATCH_S)

    await keep_at("metrics", look, (DatabaseUnavailable,))
