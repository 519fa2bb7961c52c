"""Two nodes, a broker between them, and a client at each: one seed is one history."""

import asyncio
import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from sqlalchemy import AsyncAdaptedQueuePool, Connection, create_engine

from partner_node.spec import SPEC as PARTNER
from shared_schema.contract.codec import HEADER_EPOCH, HEADER_SEQUENCE
from shared_schema.contract.registers import Side
from shared_schema.contract.topics import all_topics
from shared_schema.crm.database import Database, DatabaseUnavailable
from shared_schema.crm.problems import Problem
from shared_schema.crm.tables import metadata
from shared_schema.sync.node import Node
from shared_schema.sync.station import Author, Station, Work
from shared_schema.sync.transport import Record
from tests.checker import KEEP_REMOVED
from tests.simulation.fate import Fate
from tests.simulation.sqlite_connection import SimulatedConnection
from tests.simulation.template import plant
from tests.simulation.virtual_loop import VirtualLoop
from tests.twins.memory_broker import Faults, MemoryBroker, MemoryCluster
from vendor_node.spec import SPEC as VENDOR

EPOCH_MS = 1_790_000_000_000
QUIET_S = 1_200
RETRIES = 8
SHM = Path("/dev/shm")


class NeverQuiet(AssertionError):
    """Something stayed on its way although the faults had ended."""


class Clock:
    """A node's clock: virtual time, wrong by `skew_ms`; randomness from the seed."""

    def __init__(self, random: Random, skew_ms: int) -> None:
        self.random = random
        self.skew_ms = skew_ms

    def now_ms(self) -> int:
        return EPOCH_MS + self.skew_ms + int(asyncio.get_running_loop().time() * 1000)

    def random_bits(self, bits: int) -> int:
        return self.random.getrandbits(bits)


class WatchedCluster(MemoryCluster):
    """A broker that remembers which numbers it ever had."""

    def __init__(self, faults: Faults, epoch_ms: int) -> None:
        super().__init__(faults, epoch_ms)
        self.ever: set[tuple[str, int]] = set()
        self.types: set[str] = set()

    def append(self, topic: str, records: Sequence[Record]) -> None:
        super().append(topic, records)
        for each in records:
            headers = dict(each.headers)
            self.types.add(json.loads(each.value or b"{}").get("type", ""))
            if HEADER_SEQUENCE in headers:
                self.ever.add((headers[HEADER_EPOCH].decode(), int(headers[HEADER_SEQUENCE])))


class Plan(NamedTuple):
    """Which node meets its fate at which of its points, once or several times."""

    side: Side
    targets: tuple[int, ...]


class Actor:
    """One node: its store, the lives that it has had, and its client."""

    def __init__(self, world: "World", side: Side, targets: Sequence[int]) -> None:
        self.world = world
        self.side = side
        self.path = world.directory / f"{side}.db"
        self.targets = list(targets)
        self.fate = Fate(world.random)
        self.fate.passed = 0
        self.author = Author()
        self.kinds: Counter[str] = Counter()
        self.struck: list[str] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.died = asyncio.Event()
        self.acknowledged: list[str] = []
        self.held = False

    def hold(self) -> None:
        """Kill the node, and leave it dead until `held` is taken back."""
        self.held = True
        self.fate.die()

    def begin_life(self) -> None:
        """Start the node as a process would: nothing in memory but what it draws anew."""
        passed = self.fate.passed
        target = self.targets.pop(0) if self.targets else None
        self.fate = Fate(self.world.random, target, passed if target is not None else 0)
        self.fate.on_death = self.died.set
        self.died.clear()
        self.check_marks()
        self.station = self.open_station(self.fate)
        node = Node(self.station, MemoryBroker(self.world.cluster, self.fate.step))
        self.tasks = [asyncio.get_running_loop().create_task(node.run())]

    def open_station(self, fate: Fate) -> Station:
        """A process's way to the store."""

        async def connect() -> SimulatedConnection:
            return SimulatedConnection(str(self.path), fate)

        database = Database("sqlite://", async_creator=connect, poolclass=AsyncAdaptedQueuePool)
        clock = Clock(self.world.random, self.world.skews[self.side])
        return Station(PARTNER if self.side == "partner" else VENDOR, database, clock)

    def check_marks(self) -> None:
        """A row that is called sent has been in the broker's log, even if that lost it since."""
        marked = self.rows("SELECT epoch, sequence FROM outbox WHERE published_ms IS NOT NULL")
        never = set(marked) - self.world.cluster.ever
        if never:
            raise AssertionError(f"{self.side}: rows that are called sent never were: {sorted(never)[:5]}")

    async def end_life(self) -> None:
        """Take away what is left of a dead node, or stop a living one."""
        self.kinds += self.fate.kinds
        if self.fate.struck:
            self.struck.append(self.fate.struck)
        while pending := [task for task in self.tasks if not task.done()]:
            for task in pending:
                task.cancel()
            await asyncio.wait(pending, timeout=1)
        node = self.tasks[0]
        if not node.cancelled() and not self.fate.dead and (error := node.exception()):
            raise error
        for connection in self.fate.connections:
            connection.close()

    async def watch(self) -> None:
        """Start a killed node again, for as long as the history lasts."""
        while True:
            waiting = asyncio.ensure_future(self.died.wait())
            try:
                await asyncio.wait([waiting, self.tasks[0]], return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
            if not self.fate.dead:
                self.tasks[0].result()
                raise AssertionError("a node ended by itself")
            await self.end_life()
            await asyncio.sleep(self.world.random.random() * 3)
            while self.held:
                await asyncio.sleep(0.5)
            self.begin_life()

    async def act(self, name: str, command: Callable[[Work], Awaitable[Any]]) -> Any:
        """Run one command as a client would: try again when the node died or did not know, until it answers."""
        for _ in range(RETRIES):
            await self.world.until(lambda: not self.fate.dead, f"{self.side} lives")
            fate = self.fate
            task = asyncio.get_running_loop().create_task(self.once(command))
            self.tasks.append(task)
            await asyncio.wait([task])
            if task.cancelled() or fate.dead:
                continue
            error = task.exception()
            if error is None:
                self.acknowledged.append(name)
                return task.result()
            if isinstance(error, Problem):
                return error  # what it asked for had been done before an answer was lost
            if not isinstance(error, DatabaseUnavailable):
                raise error
            await asyncio.sleep(0.2)
        raise AssertionError(f"{name} was never answered")

    async def once(self, command: Callable[[Work], Awaitable[Any]]) -> Any:
        async with self.station.working(self.author) as work:
            return await command(work)

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Look into the store from outside, past all fate."""
        with closing(sqlite3.connect(self.path, timeout=0)) as connection:
            return connection.execute(statement, parameters).fetchall()

    def is_quiet(self) -> bool:
        if self.rows("SELECT 1 FROM outbox LIMIT 1") or self.rows("SELECT 1 FROM reactions UNION SELECT 1 FROM owed_states LIMIT 1"):
            return False
        return not any(json.loads(gaps) for (gaps,) in self.rows("SELECT gaps FROM inbound_epochs"))


class World:
    """One history."""

    def __init__(self, seed: int, plan: Plan | None = None, *, faults: bool = False, template: Path | None = None) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.plan = plan
        self.skews: dict[Side, int] = {"partner": self.random.choice((0, 0, -40_000)), "vendor": self.random.choice((0, 0, 3_000))}
        self.faults = Faults(self.random)
        self.faulty = faults
        self.template = template or make_template()
        self.directory = Path(tempfile.mkdtemp(prefix="dealbridge-sim-", dir=SHM if SHM.is_dir() else None))
        self.cluster = WatchedCluster(self.faults, EPOCH_MS)
        self.disasters: Counter[str] = Counter()

    def run(self, script: Callable[["World"], Awaitable[None]]) -> None:
        """Live the history and let it become quiet; the stores stay for the checker until `clean_up`."""
        for name in ("partner", "vendor"):
            shutil.copy(self.template / f"{name}.db", self.directory)
        loop = VirtualLoop()
        try:
            asyncio.set_event_loop(loop)
            loop.run_until_complete(self.live(script))
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    async def live(self, script: Callable[["World"], Awaitable[None]]) -> None:
        targets = {self.plan.side: self.plan.targets} if self.plan else {}
        self.partner, self.vendor = (Actor(self, side, targets.get(side, ())) for side in ("partner", "vendor"))
        self.partnership = str(self.partner.rows("SELECT id FROM partnerships")[0][0])
        for topic in all_topics(self.partnership):
            self.cluster.create_topic(topic)
        for actor in self.actors:
            (person,) = actor.rows("SELECT id, uid, name, role FROM users ORDER BY id LIMIT 1")
            actor.author = Author(*person)
            actor.begin_life()
        watchers = [asyncio.get_running_loop().create_task(actor.watch()) for actor in self.actors]
        if self.faulty:
            watchers.append(asyncio.get_running_loop().create_task(self.harm()))
        work = asyncio.get_running_loop().create_task(self.finish(script))
        try:
            await asyncio.wait([work, *watchers], return_when=asyncio.FIRST_COMPLETED)
            for task in (work, *watchers):
                if task.done():
                    task.result()
        finally:
            for task in (work, *watchers):
                task.cancel()
            await asyncio.gather(work, *watchers, return_exceptions=True)
            for actor in self.actors:
                await actor.end_life()

    async def finish(self, script: Callable[["World"], Awaitable[None]]) -> None:
        await script(self)
        self.faulty = False
        self.faults.duplicate = self.faults.lost_acknowledgement = self.faults.failed_send = self.faults.delay = 0.0
        self.cluster.unavailable = False
        await self.until(lambda: all(actor.is_quiet() for actor in self.actors), "everything has arrived", QUIET_S)

    async def until(self, condition: Callable[[], bool], what: str, limit_s: float | None = None) -> None:
        limit_s = limit_s or QUIET_S
        deadline_s = asyncio.get_running_loop().time() + limit_s
        while not condition():
            if asyncio.get_running_loop().time() > deadline_s:
                raise NeverQuiet(f"after {limit_s:.0f} s of quiet it is not so that {what}: {self.describe()}")
            await asyncio.sleep(0.25)

    def describe(self) -> dict[str, Any]:
        """What is still on its way, for a failure's report."""
        told = "SELECT id, epoch, sequence, published_ms FROM outbox LIMIT 5"
        return {
            actor.side: (actor.rows(told), actor.rows("SELECT epoch, next_sequence, gaps FROM inbound_epochs")) for actor in self.actors
        }

    @property
    def actors(self) -> tuple[Actor, Actor]:
        return self.partner, self.vendor

    async def harm(self) -> None:
        """Misfortunes of the broker, by the seed, for as long as the script runs."""
        self.faults.duplicate, self.faults.lost_acknowledgement, self.faults.failed_send, self.faults.delay = 0.1, 0.05, 0.05, 0.2
        while self.faulty:
            await asyncio.sleep(self.random.random() * 4)
            topic = self.random.choice([name for name in self.cluster.logs if not name.endswith("blobs")])
            disaster = self.random.choice(("lose_tail", "recreate", "outage", "none"))
            self.disasters[disaster] += 1
            if disaster == "lose_tail":
                self.cluster.lose_tail(topic, self.random.randint(1, 3))
            elif disaster == "recreate" and self.random.random() < 0.3:
                self.cluster.recreate_topic(topic)
            elif disaster == "outage":
                self.cluster.unavailable = True
                await asyncio.sleep(self.random.random() * 5)
                self.cluster.unavailable = False
                self.cluster.wake_readers()
        await asyncio.get_running_loop().create_future()

    def clean_up(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


def make_template() -> Path:
    """Both stores as a history finds them: people, a pipeline, a rep each, companies, and a partnership."""
    directory = Path(tempfile.mkdtemp(prefix="dealbridge-template-", dir=SHM if SHM.is_dir() else None))

    for side in ("partner", "vendor"):
        engine = create_engine(f"sqlite:///{directory}/{side}.db")
        with engine.begin() as connection:
            create_schema(connection)
        engine.dispose()
    asyncio.run(plant(directory))
    return directory


def create_schema(connection: Connection) -> None:
    metadata.create_all(connection)
    for statement in KEEP_REMOVED:
        connection.exec_driver_sql(statement)
