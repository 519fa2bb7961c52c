"""The nodes of a history, the broker between them, and a client at each: one seed is one history."""

import asyncio
import json
import pickle
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from shared_schema.contract.codec import HEADER_CONTROL, HEADER_EPOCH, HEADER_SEQUENCE
from shared_schema.contract.topics import all_topics
from shared_schema.crm.problems import Problem
from shared_schema.sync.limits import Limits
from shared_schema.sync.station import DEFAULTS, Author, Keeping
from shared_schema.sync.transport import Record
from tests.simulation.actor import EPOCH_MS, Actor
from tests.simulation.deeds import Deed, read_held, watching
from tests.simulation.fate import Course, Stroke
from tests.simulation.virtual_loop import VirtualLoop
from tests.twins.memory_broker import Faults, MemoryCluster

QUIET_S = 600
SIGN_S = 40  # until a store that went back has noticed it
GIVE_UP_S = 60  # of a play that waits for what may have gone with a store
SHM = Path("/dev/shm")
NOTES = 400

Play = Callable[["World"], Awaitable[None]]


class Attempt(NamedTuple):
    """A save that a client asked for: where, what it had in view, and its dot once it was acknowledged."""

    who: str
    partnership: str
    uid: str
    field: str
    seen: Mapping[str, int]
    dot: tuple[str, int] | None = None


class Rules(NamedTuple):
    """What the nodes of a history were set to."""

    keeping: Keeping = DEFAULTS
    limits: Limits = Limits()


class KnownBefore(NamedTuple):
    """What a peer's history held when a store went back, and how often the peer's own store had gone back by then."""

    peer: str
    rows: Sequence[tuple[Any, ...]]
    restores: int


class NeverQuiet(AssertionError):
    """Something stayed on its way although the faults had ended."""


class WatchedCluster(MemoryCluster):
    """A broker that remembers which numbers it ever had, and of which type each event was."""

    def __init__(self, faults: Faults, epoch_ms: int, tell: Callable[[str, str], None]) -> None:
        super().__init__(faults, epoch_ms)
        self.tell = tell
        self.ever: set[tuple[str, int]] = set()
        self.types: Counter[str] = Counter()
        self.events: dict[str, str] = {}
        self.told: set[tuple[str, str]] = set()

    def append(self, topic: str, records: Sequence[Record]) -> None:
        super().append(topic, records)
        side = topic.rpartition("from-")[2]
        for each in records:
            headers = dict(each.headers)
            if HEADER_CONTROL in headers:
                self.types[headers[HEADER_CONTROL].decode()] += 1
            elif HEADER_SEQUENCE in headers:
                self.take_event(side, headers, each.value or b"{}")

    def take_event(self, side: str, headers: Mapping[str, bytes], value: bytes) -> None:
        epoch, sequence = headers[HEADER_EPOCH].decode(), int(headers[HEADER_SEQUENCE])
        self.ever.add((epoch, sequence))
        try:
            event = json.loads(value)
        except ValueError:
            return
        self.types[event["type"]] += 1
        self.events[event["id"]] = event["type"]
        self.told |= {(each["event"], each["outcome"]) for each in event["data"].get("outcomes", ())}
        self.tell(side, f"published {event['type']} as {epoch[:4]}/{sequence}")


class World:
    """One history on a stage: the stores and the broker as they are at its beginning."""

    def __init__(
        self,
        seed: int | str,
        template: Path,
        stage: str = "bare",
        strokes: Mapping[str, Sequence[Stroke]] | None = None,
        rules: Rules = Rules(),  # noqa: B008  # a tuple of numbers
    ) -> None:
        self.seed = seed
        self.rules = rules
        self.random = Random(seed)
        self.stage = template / stage
        names = sorted(each.stem for each in self.stage.glob("*.db"))
        self.skews = {name: self.random.choice((0, 0, 3_000) if name == "vendor" else (0, 0, -40_000)) for name in names}
        self.faults = Faults(self.random)
        self.directory = Path(tempfile.mkdtemp(prefix="dealbridge-sim-", dir=SHM if SHM.is_dir() else None))
        self.notes: deque[tuple[float, str, str]] = deque(maxlen=NOTES)
        self.cluster = WatchedCluster(self.faults, EPOCH_MS, self.note)
        self.disasters: Counter[str] = Counter()
        self.known_before: dict[str, list[KnownBefore]] = {}
        self.background: list[asyncio.Task[Any]] = []
        self.forged: set[str] = set()
        self.play_ended_early = False
        self.torn = False
        self.playing = False
        self.went_back_s = -float(SIGN_S)
        self.attempted: list[Attempt] = []
        self.deeds: list[Deed] = []
        self.actors = tuple(Actor(self, name, Course((strokes or {}).get(name, ()))) for name in names)
        self.by_name = {actor.name: actor for actor in self.actors}
        self.loop = VirtualLoop()

    @property
    def partner(self) -> Actor:
        return self.by_name["partner"]

    @property
    def second(self) -> Actor:
        return self.by_name["second"]

    @property
    def vendor(self) -> Actor:
        return self.by_name["vendor"]

    @property
    def partners(self) -> list[Actor]:
        return [actor for actor in self.actors if actor.side == "partner"]

    @property
    def partnership(self) -> str:
        return self.partnership_of(self.partner)

    def partnership_of(self, partner: Actor) -> str:
        return str(partner.rows("SELECT id FROM partnerships")[0][0])

    def stage_path(self, name: str) -> Path:
        return self.stage / f"{name}.db"

    def run(self, play: Play, beside: Play | None = None, afterwards: Play | None = None) -> None:
        """Live the history and let it become quiet, harmed by what goes on beside it; then `afterwards`. The stores stay for the checker
        until `clean_up`."""
        self.set_up()
        try:
            asyncio.set_event_loop(self.loop)
            with watching():
                self.loop.run_until_complete(self.live(play, beside, afterwards))
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    def set_up(self) -> None:
        for actor in self.actors:
            shutil.copy(self.stage_path(actor.name), self.directory)
        past = self.stage / "past.pickle"
        if past.exists():
            self.loop.now_s, self.cluster.ticks, self.cluster.logs = pickle.loads(past.read_bytes())
        for partner in self.partners:
            for topic in all_topics(self.partnership_of(partner)):
                self.cluster.create_topic(topic)

    def leave_as_stage(self, stage: Path) -> None:
        """What this history left behind is where others begin."""
        stage.mkdir()
        for actor in self.actors:
            actor.rows("DELETE FROM removed_rows")
            actor.rows("PRAGMA wal_checkpoint(TRUNCATE)")
            actor.close_outside()
            shutil.copy(actor.path, stage)
        (stage / "past.pickle").write_bytes(pickle.dumps((self.loop.now_s, self.cluster.ticks, self.cluster.logs)))

    async def live(self, play: Play, beside: Play | None, afterwards: Play | None) -> None:
        for actor in self.actors:
            (person,) = actor.rows("SELECT id, uid, name, role FROM users ORDER BY id LIMIT 1")
            actor.author = Author(*person)
            actor.begin_life()
        for actor in self.actors:
            self.spawn(actor.watch())
        harm = self.spawn(beside(self)) if beside else None
        work = asyncio.get_running_loop().create_task(self.finish(play, harm, afterwards))
        try:
            while not work.done():
                await asyncio.wait([work, *(task for task in self.background if not task.done())], return_when=asyncio.FIRST_COMPLETED)
                for task in self.background:
                    if task.done() and not task.cancelled():
                        task.result()
            work.result()
        finally:
            for task in (work, *self.background):
                task.cancel()
            await asyncio.gather(work, *self.background, return_exceptions=True)
            for actor in self.actors:
                await actor.end()

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Something that goes on beside the play; what it raises fails the history."""
        task = asyncio.get_running_loop().create_task(work)
        self.background.append(task)
        return task

    async def finish(self, play: Play, harm: "asyncio.Task[None] | None", afterwards: Play | None) -> None:
        await self.play_out(play)
        if harm is not None:
            harm.cancel()
            await asyncio.gather(harm, return_exceptions=True)
        self.faults.duplicate = self.faults.lost_acknowledgement = self.faults.failed_send = self.faults.delay = 0.0
        self.cluster.stall(False)
        self.cluster.unavailable = False
        self.cluster.wake_readers()
        await self.calm_down(afterwards)
        while self.loop.now_s < self.went_back_s + SIGN_S:
            await asyncio.sleep(SIGN_S)
            await self.calm_down(afterwards)

    async def calm_down(self, afterwards: Play | None) -> None:
        await self.until(self.is_quiet, "everything has arrived", QUIET_S)
        if afterwards is not None:
            await afterwards(self)
            await self.until(self.is_quiet, "everything has arrived", QUIET_S)

    async def play_out(self, play: Play) -> None:
        """A play ends early where a store went back, and with it what the play was about."""
        self.playing = True
        try:
            await play(self)
        except (NeverQuiet, Problem, LookupError) as error:
            if not self.known_before:
                raise
            self.play_ended_early = True
            for actor in self.actors:
                actor.held = False
            self.note("play", f"ends early: {str(error)[:200]}")
        self.playing = False

    def is_quiet(self) -> bool:
        return all(not actor.fate.dead and actor.going_back is None and actor.is_quiet() for actor in self.actors)

    async def until(self, condition: Callable[[], Any], what: str, limit_s: float | None = None) -> None:
        limit_s = limit_s or (GIVE_UP_S if self.playing and self.known_before else QUIET_S)
        deadline_s = asyncio.get_running_loop().time() + limit_s
        while not condition():
            if asyncio.get_running_loop().time() > deadline_s:
                raise NeverQuiet(f"after {limit_s:.0f} s of quiet it is not so that {what}: {self.describe()}")
            await asyncio.sleep(0.25)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """While inside, nothing that is published reaches anybody: what both sides do is surely concurrent."""
        self.cluster.stall(True)
        try:
            yield
        finally:
            self.cluster.stall(False)

    async def settle(self) -> None:
        await self.until(self.is_quiet, "everything has arrived")

    def note(self, who: str, what: str) -> None:
        """Remember for a failure's account."""
        now_s = self.loop.now_s
        self.notes.append((now_s, who, what))

    def describe(self) -> dict[str, Any]:
        """What is still on its way, for a failure's report."""
        told = "SELECT id, epoch, sequence, published_ms FROM outbox LIMIT 5"
        return {
            actor.name: (actor.rows(told), actor.rows("SELECT epoch, next_sequence, gaps FROM inbound_epochs WHERE gaps <> '[]'"))
            for actor in self.actors
        }

    def count_restores(self, actor: Actor) -> int:
        """How often its store went back so far."""
        return len(self.known_before.get(actor.name, ()))

    def remember_before_restore(self, actor: Actor, source: Path) -> None:
        """What the others had of this node's partnerships when its store went back to that copy; none of it may be lost. What nobody had
        any more is lost by right."""
        self.went_back_s = self.loop.now_s
        held = read_held(source).union(*(read_held(other.path) for other in self.actors if other is not actor))
        for deed in self.deeds:
            if deed.answered or deed.who == actor.name:
                deed.lost |= set(deed.written) - held
        for peer in self.actors:
            if peer.side != actor.side:
                known = peer.rows("SELECT partnership, uid, field, incarnation, counter FROM property_history")
                self.known_before.setdefault(actor.name, []).append(KnownBefore(peer.name, known, self.count_restores(peer)))

    def clean_up(self) -> None:
        for actor in self.actors:
            actor.close_outside()
        shutil.rmtree(self.directory, ignore_errors=True)
