"""A node's API on a real port of the loopback, over an empty migrated store, with an admin's token."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx
import pytest
import uvicorn

from partner_node.routes import ROUTERS as PARTNER_ROUTERS
from partner_node.spec import SPEC as PARTNER
from shared_schema.crm import customers, users
from shared_schema.crm.database import Database
from shared_schema.crm.migrations import migrate
from shared_schema.sync import partnerships
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.station import Station
from shared_schema.web.app import make_app
from shared_schema.web.process import Server
from tests.twins.memory_broker import MemoryBroker, MemoryCluster
from vendor_node.routes import ROUTERS as VENDOR_ROUTERS
from vendor_node.spec import SPEC as VENDOR

BUNDLE = {
    "format": partnerships.BUNDLE_FORMAT,
    "partnership": "initech-acme-1",
    "vendor": "Initech",
    "partner": "Acme",
    "broker": "memory",
    "policy": {"preset": "default", "approval": "auto", "capacity": 3},
}


class Api(NamedTuple):
    """Where the node answers, with whose token, and its client."""

    url: str
    token: str
    client: httpx.Client

    def post(self, path: str, status: int = 201, **body: object) -> dict[str, object]:
        return self.ask("POST", path, status, json=body)

    def get(self, path: str, status: int = 200) -> dict[str, object]:
        return self.ask("GET", path, status)

    def ask(self, method: str, path: str, status: int, **more: object) -> dict[str, object]:
        answer = self.client.request(method, path, **more)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else {}


class Running(threading.Thread):
    """The node's event loop in a thread of its own, as in its process."""

    def __init__(self, side: str, url: str) -> None:
        super().__init__(daemon=True)
        self.side = side
        self.url = url
        self.ready = threading.Event()
        self.token = ""
        self.port = 0
        self.stop: Callable[[], None] = lambda: None

    def run(self) -> None:
        try:
            asyncio.run(self.serve())
        finally:
            self.ready.set()  # whoever waits sees that there is no port

    async def serve(self) -> None:
        spec, routers = (PARTNER, PARTNER_ROUTERS) if self.side == "partner" else (VENDOR, VENDOR_ROUTERS)
        database = Database(self.url)
        await migrate(database, spec.migrations)
        station = Station(spec, database, SystemClock())
        self.token = await plant(station)
        app = make_app(station, MemoryBroker(MemoryCluster()), routers)
        server = Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
        loop = asyncio.get_running_loop()
        self.stop = lambda: loop.call_soon_threadsafe(setattr, server, "should_exit", True)
        task = asyncio.ensure_future(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        self.port = server.servers[0].sockets[0].getsockname()[1]
        self.ready.set()
        await task
        await database.close()


async def plant(station: Station) -> str:
    """An admin with a token, a pipeline, and a partnership."""
    async with station.working() as work:
        user_id = await users.add_user(work.tx, work.incarnation.new_uid(), "Ada", "ada@acme.example", "admin")
        await customers.add_pipeline(work.tx, "Sales", [("New", "open"), ("Won", "won")])
        if station.spec.side == "partner":
            await partnerships.join(work, BUNDLE)
        return await users.issue_token(work.tx, user_id, "tests", station.clock.random_bits(192), work.now_ms)


@contextmanager
def running(side: str, url: str) -> Iterator[Api]:
    thread = Running(side, url)
    thread.start()
    assert thread.ready.wait(60) and thread.port
    address = f"http://127.0.0.1:{thread.port}"
    try:
        with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {thread.token}"}, timeout=60) as client:
            yield Api(address, thread.token, client)
    finally:
        thread.stop()
        thread.join(60)


@pytest.fixture
def partner(database_url: str) -> Iterator[Api]:
    with running("partner", database_url) as api:
        yield api


@pytest.fixture
def vendor(database_url: str) -> Iterator[Api]:
    with running("vendor", database_url) as api:
        yield api
