"""One node of a history: its store, the lives that it has had, and the client that acts through it."""

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.util import LRUCache

from partner_node.spec import SPEC as PARTNER
from shared_schema.contract.registers import Side
from shared_schema.crm.database import Database, DatabaseUnavailable
from shared_schema.crm.problems import Problem
from shared_schema.sync.capture import NotWritable
from shared_schema.sync.node import Node
from shared_schema.sync.station import Author, Station, Work
from tests.simulation.deeds import Deed, accounting_to
from tests.simulation.fate import Course, Fate, Stroke
from tests.simulation.sqlite_connection import SimulatedConnection
from tests.twins.memory_broker import MemoryBroker
from vendor_node.spec import SPEC as VENDOR

if TYPE_CHECKING:
    from tests.simulation.world import World

EPOCH_MS = 1_790_000_000_000
RETRIES = 12
CANCELS_MAX = 100
SETTLED: Any = LRUCache(5_000)  # every life of every node uses the same statements: they are compiled once a process
TYPES: Any = WeakKeyDictionary()

Command = Callable[[Work], Awaitable[Any]]


class Clock:
    """A node's clock: virtual time, wrong by what the world says; randomness from the seed."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name

    def now_ms(self) -> int:
        return EPOCH_MS + self.world.skews[self.name] + int(asyncio.get_running_loop().time() * 1000)

    def random_bits(self, bits: int) -> int:
        return self.world.random.getrandbits(bits)


class Life:
    """One process of a node."""

    def __init__(self, fate: Fate, station: Station) -> None:
        self.fate = fate
        self.station = station
        self.tasks: list[asyncio.Task[Any]] = []

    def begin(self, node: Node) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(node.run()))

    async def end(self) -> None:
        """Take away what is left of a dead node, or stop a living one; raises what a living one ended with."""
        for _ in range(CANCELS_MAX):
            pending = [task for task in self.tasks if not task.done()]
            if not pending:
                break
            for task in pending:
                task.cancel()
            self.fate.take_away()
            await asyncio.wait(pending, timeout=1)
        else:
            raise AssertionError(f"tasks that do not end: {pending}")
        if self.tasks and not self.tasks[0].cancelled() and not self.fate.dead and (error := self.tasks[0].exception()):
            raise error
        for connection in self.fate.connections:
            connection.raw.close()


class Link:
    """One node's way to the broker, which may be cut while the others' are not."""

    def __init__(self, actor: "Actor") -> None:
        self.actor = actor

    def __getattr__(self, name: str) -> Any:
        return getattr(self.actor.world.cluster, name)

    @property
    def unavailable(self) -> bool:
        return self.actor.cut or self.actor.world.cluster.unavailable


class Actor:
    """One node. `side` is what it is, `name` which one."""

    def __init__(self, world: "World", name: str, course: Course) -> None:
        self.world = world
        self.name = name
        self.side: Side = "vendor" if name == "vendor" else "partner"
        self.path = world.directory / f"{name}.db"
        self.course = course
        self.author = Author()
        self.gone = asyncio.Event()
        self.held = False
        self.old_lives: list[Life] = []
        self.commits: list[Path] = []
        self.going_back: int | None = None
        self.outside: sqlite3.Connection | None = None
        self.refused: list[str] = []
        self.outage = ""
        self.cut = False

    @property
    def fate(self) -> Fate:
        return self.life.fate

    @property
    def station(self) -> Station:
        return self.life.station

    def hold(self) -> None:
        """Kill the node, and leave it dead until `held` is taken back."""
        self.held = True
        self.fate.die()

    def begin_life(self) -> None:
        """Start the node as a process would: nothing in memory but what it draws anew."""
        self.gone.clear()
        self.check_marks()
        fate = Fate(self.world.random, self.course)
        fate.on_death = self.gone.set
        fate.on_stroke = self.suffer
        fate.on_commit = self.keep_commit
        self.life = Life(fate, self.open_station(fate))
        self.world.note(self.name, "begins a life")
        self.life.begin(self.make_node(self.station, fate))

    def open_station(self, fate: Fate) -> Station:
        """A process's way to the store."""

        server = fate.server
        fate.outage = lambda: self.outage

        async def connect() -> SimulatedConnection:
            nonlocal server
            if server != fate.server:  # PostgreSQL tells a new connection when its server began
                server = fate.server
                database.note_loss()
            return SimulatedConnection(str(self.path), fate)

        database = Database("sqlite://", async_creator=connect)
        share_compiled(database)
        spec = PARTNER if self.side == "partner" else VENDOR
        keeping = self.world.rules.keeping._replace(erasure_list=self.world.directory / f"{self.name}.erasures")
        return Station(spec, database, Clock(self.world, self.name), keeping)

    def make_node(self, station: Station, fate: Fate) -> Node:
        link: Any = Link(self)
        return Node(station, MemoryBroker(link, fate.step), self.world.rules.limits)

    def suffer(self, stroke: Stroke) -> None:
        """What follows from a stroke, at the point where it fell."""
        self.world.note(self.name, f"{stroke.deed} at point {stroke.point}")
        self.world.disasters[stroke.deed] += 1
        if stroke.deed == "freeze":
            self.fall_asleep()
        elif stroke.deed == "restore":
            self.going_back = stroke.back
            if not self.fate.dead:  # it struck a life of before that had woken up: the store goes back all the same
                self.fate.die()
        elif stroke.deed == "fail over":
            self.fate.lose_connections()
            self.go_back(stroke.back)

    def fall_asleep(self) -> None:
        """The process stands still; another one begins, and later it goes on for a while beside that one."""
        life = self.life
        life.fate.freeze()
        life.fate.on_death = lambda: None
        self.old_lives.append(life)
        self.world.spawn(self.outlast(life))
        self.gone.set()

    async def outlast(self, life: Life) -> None:
        await asyncio.sleep(2 + self.world.random.random() * 28)
        self.world.note(self.name, "a life of before wakes up")
        life.fate.wake()
        await asyncio.sleep(self.world.random.random() * 15)
        await self.bury(life)

    async def double(self) -> None:
        """Another process of this node runs beside it for a while, on the same store."""
        fate = Fate(self.world.random)
        other = Life(fate, self.open_station(fate))
        self.old_lives.append(other)
        other.begin(self.make_node(other.station, fate))
        self.world.note(self.name, "another process runs beside it")
        await asyncio.sleep(5 + self.world.random.random() * 25)
        await self.bury(other)

    async def bury(self, life: Life) -> None:
        if not life.fate.dead:
            life.fate.die()
        await life.end()

    async def end(self) -> None:
        """The history is over: every process of this node is stopped."""
        self.course.over = True
        for life in self.old_lives:
            await self.bury(life)
        await self.life.end()
        self.close_outside()

    def keep_commits(self) -> None:
        """From now on the store can go back to each of its commits."""
        self.course.asked_to_keep = True

    async def go_back_by(self, back: int) -> None:
        """The node is killed, and begins again on its store as it was so many commits ago."""
        self.held, self.going_back = True, back
        self.fate.die()
        self.held = False
        await self.world.until(lambda: self.going_back is None, "the store went back")

    def keep_commit(self, connection: sqlite3.Connection) -> None:
        """Keep the store as it is after this commit, while it may still go back to it."""
        if not self.course.keeps:
            return
        path = self.path.with_suffix(f".{len(self.commits)}.kept")
        with sqlite3.connect(path) as kept:
            connection.backup(kept)
        kept.close()
        self.commits.append(path)

    def go_back(self, back: int) -> None:
        """The store is again what it was some commits ago; what the others know of this node is kept for the checker."""
        for life in self.old_lives:
            life.fate.die()
        kept = [self.world.stage_path(self.name), *self.commits]
        source = kept[max(0, len(kept) - 1 - back)]
        self.world.remember_before_restore(self, source)
        self.close_outside()
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        shutil.copy(source, self.path)
        self.world.note(self.name, f"its store goes back by {back} of {len(self.commits)} commits")

    def check_marks(self) -> None:
        """A row that is called sent has been in the broker's log, even if that lost it since."""
        marked = self.rows("SELECT epoch, sequence FROM outbox WHERE published_ms IS NOT NULL")
        never = set(marked) - self.world.cluster.ever
        if never:
            raise AssertionError(f"{self.name}: rows that are called sent never were: {sorted(never)[:5]}")

    async def watch(self) -> None:
        """Start a killed node again, for as long as the history lasts."""
        while True:
            waiting = asyncio.ensure_future(self.gone.wait())
            try:
                await asyncio.wait([waiting, self.life.tasks[0]], return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
            if not self.gone.is_set():
                self.life.tasks[0].result()
                raise AssertionError("a node ended by itself")
            if self.fate.dead:
                await self.life.end()
            await asyncio.sleep(self.pause_s())
            while self.held:
                await asyncio.sleep(0.5)
            if self.going_back is not None:
                self.go_back(self.going_back)
                self.going_back = None
            self.begin_life()

    def pause_s(self) -> float:
        """Until another process begins: at once, or when the dead one's lease is about to run out."""
        random: Random = self.world.random
        return random.random() * 3 if random.random() < 0.3 else 8 + random.random() * 3

    async def act(self, name: str, command: Command, *, free: bool = False) -> Any:
        """Run one command as a client would: try again when the node died or did not know, until it answers. A refusal is a defect of the
        script, unless the command is `free` or an answer to it was lost: then it may have been done."""
        return await self.ask(name, lambda: self.once(command), free=free)

    async def ask(self, name: str, request: Callable[[], Coroutine[Any, Any, Any]], *, free: bool = False) -> Any:
        for again in range(RETRIES):
            await self.world.until(lambda: not (self.fate.dead or self.fate.asleep or self.outage), f"{self.name} lives")
            life = self.life
            deed = Deed(self.name, name, free, first=not again)
            self.world.deeds.append(deed)
            task = asyncio.get_running_loop().create_task(request(), context=accounting_to(deed))
            life.tasks.append(task)
            await asyncio.wait([task])
            if task.cancelled() or life.fate.dead:
                continue
            error = task.exception()
            if isinstance(error, Problem | NotWritable) and (again or free):
                self.refused.append(name)
                return error
            if error is None:
                self.world.note(self.name, f"did {name}")
                deed.answered = True
                return task.result()
            if not isinstance(error, DatabaseUnavailable):
                raise error
            await asyncio.sleep(0.2)
        raise AssertionError(f"{name} was never answered")

    async def once(self, command: Command) -> Any:
        """As a session does: whoever acts is looked up at each command."""
        (who,) = self.rows("SELECT id, uid, name, role FROM users WHERE id = ?", self.author.user_id)
        self.author = Author(*who)
        async with self.station.working(self.author) as work:
            return await command(work)

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Look into the store from outside, past all fate."""
        if self.outside is None:
            self.outside = sqlite3.connect(self.path, timeout=0, isolation_level=None)
        return self.outside.execute(statement, parameters).fetchall()

    def close_outside(self) -> None:
        outside, self.outside = self.outside, None
        with suppress(sqlite3.Error):
            if outside is not None:
                outside.close()

    def is_quiet(self) -> bool:
        """Nothing on its way from here, nothing missing, nothing due."""
        waiting = ("outbox", "owed_states", "restorations", "parked WHERE reason = 'brake'", "verifications WHERE phase <> 'done'")
        if any(self.rows(f"SELECT 1 FROM {each} LIMIT 1") for each in waiting):
            return False
        now_ms = Clock(self.world, self.name).now_ms()
        if self.rows("SELECT 1 FROM reactions WHERE due_ms <= ? LIMIT 1", now_ms):
            return False
        return not self.rows("SELECT 1 FROM inbound_epochs WHERE gaps <> '[]' LIMIT 1")


class OneDialect(SQLiteDialect_aiosqlite):
    """Every database has a dialect of its own, because what listens for its errors hangs on that; compiled statements fit all of them."""

    supports_statement_cache = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OneDialect)

    def __hash__(self) -> int:
        return hash(OneDialect)


def share_compiled(database: Database) -> None:
    """Give an engine the statements that others compiled."""
    engine = database.engine.sync_engine
    engine.dialect.__class__ = OneDialect
    engine.dialect._type_memos = TYPES  # which the compiled statements know
    engine._compiled_cache = SETTLED


def count(actor: Actor, table: str, where: str = "1") -> int:
    return int(actor.rows(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])


def one(actor: Actor, statement: str) -> Any:
    """The one value that a statement of SQLite's finds."""
    found = actor.rows(statement)
    if len(found) != 1:
        raise LookupError(f"{statement} finds {found} at the {actor.name}")
    return found[0][0]


def shared_deal(actor: Actor, name: str) -> int:
    """The id that a side gave to a shared deal."""
    return int(one(actor, f"SELECT s.id FROM shared_deals s JOIN deals d ON d.id = s.deal_id WHERE d.name = '{name}'"))
