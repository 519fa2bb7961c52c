"""Where a node may be struck: every statement, commit, send and fetch is a numbered point, and a plan says what happens at which one.

A killed node hangs at the point until the world has taken away its tasks; from then on nothing that it does has an effect. A frozen one
hangs too, but goes on when it is woken, with whatever it had in memory, while another life of the node has begun.
"""

import asyncio
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Literal, NamedTuple, Protocol

Deed = Literal["die", "freeze", "restore", "fail over"]
DEEDS: tuple[Deed, ...] = ("die", "freeze", "restore", "fail over")
BACKWARDS: tuple[Deed, ...] = ("restore", "fail over")


class Connected(Protocol):
    """A connection to the node's store."""

    raw: sqlite3.Connection
    lost: bool


class Stroke(NamedTuple):
    """What happens at a node's point: it is killed, frozen, killed with its store gone back, or its store goes back under it.
    `back` is how many commits a store goes back."""

    point: int
    deed: Deed = "die"
    back: int = 1


class Course:
    """What one node passes in all its lives, and what is planned for it."""

    def __init__(self, strokes: Iterable[Stroke] = ()) -> None:
        self.strokes = deque(sorted(strokes))
        self.asked_to_keep = False
        self.passed = 0
        self.over = False
        self.kinds: Counter[str] = Counter()
        self.struck: Counter[tuple[str, str]] = Counter()

    @property
    def keeps(self) -> bool:
        """Whether the store may still go back to one of its commits."""
        return self.asked_to_keep or any(each.deed in BACKWARDS for each in self.strokes)

    def pass_point(self, kind: str) -> Stroke | None:
        """Count a point; what is due at it. Nothing is any more when the history is over and the nodes are stopped."""
        if self.over:
            return None
        self.passed += 1
        self.kinds[kind] += 1
        if self.strokes and self.passed >= self.strokes[0].point:
            return self.strokes.popleft()
        return None


class Fate:
    """One life of one node. The world says what follows from a stroke (`on_stroke`) and what a commit is to be kept for (`on_commit`)."""

    def __init__(self, random: Random, course: Course | None = None) -> None:
        self.random = random
        self.course = course or Course()
        self.dead = False
        self.asleep: asyncio.Event | None = None
        self.connections: list[Connected] = []
        self.hanging: list[asyncio.Future[None]] = []
        self.server = 0
        self.on_death: Callable[[], None] = lambda: None
        self.on_stroke: Callable[[Stroke], None] = lambda stroke: None
        self.on_commit: Callable[[sqlite3.Connection], None] | None = None
        self.outage: Callable[[], str] = lambda: ""

    async def point(self, kind: str, *, lethal: bool = True) -> bool:
        """Pass a point; True where a point that does not kill is the one that was meant."""
        await self.hang()
        stroke = self.course.pass_point(kind)
        if stroke is None:
            await self.dawdle()
            return False
        if not lethal and stroke.deed == "die":
            self.course.struck["unknown", kind] += 1
            return True
        self.course.struck[stroke.deed, kind] += 1
        if stroke.deed in ("die", "restore"):
            self.die()
        self.on_stroke(stroke)
        await self.hang()
        return False

    async def hang(self) -> None:
        """A dead node's tasks wait here to be taken away, a frozen one's to be woken."""
        while self.asleep is not None and not self.dead:
            await self.asleep.wait()
        if self.dead:
            waiting = asyncio.get_running_loop().create_future()
            self.hanging.append(waiting)
            await waiting

    def take_away(self) -> None:
        """End what hangs: a task that was cancelled before it died, and hangs amid its last steps, nobody cancels once more."""
        for waiting in self.hanging:
            waiting.cancel()
        self.hanging.clear()

    async def dawdle(self) -> None:
        """Let others run, sometimes for a while."""
        await asyncio.sleep(self.random.random() * 0.05 if self.random.random() < 0.03 else 0)

    async def step(self, kind: str) -> None:
        """A step of the broker's client."""
        await self.point(kind)

    def freeze(self) -> None:
        self.asleep = asyncio.Event()

    def wake(self) -> None:
        if self.asleep is not None:
            self.asleep.set()
        self.asleep = None

    def lose_connections(self) -> None:
        """As a fail-over: what is open is gone, and the process is told at its next call; who connects finds another server."""
        self.server += 1
        for connection in self.connections:
            connection.lost = True
            connection.raw.close()
        self.connections.clear()

    def die(self) -> None:
        """As kill -9: open transactions are gone, nothing has an effect any more."""
        self.dead = True
        for connection in self.connections:
            connection.raw.close()
        self.wake()
        self.on_death()
