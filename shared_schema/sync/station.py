"""A node's working place: what every command needs, and what makes a node the one it is."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.registers import Side
from shared_schema.crm.database import Database, Overtaken
from shared_schema.sync.bell import Bell
from shared_schema.sync.braking import Limits
from shared_schema.sync.capture import NO_LIMITS, Captured, Command, Creation, Write, capture
from shared_schema.sync.clock import Clock
from shared_schema.sync.effects import Due
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.log_lines import ids
from shared_schema.sync.long_contexts import tell_long
from shared_schema.sync.transport import Broker

log = logging.getLogger(__name__)
Result = TypeVar("Result")
TRIES: Final = 5
COMMITTED: ContextVar[int] = ContextVar("committed", default=0)  # the commands of this task that are kept


class Author(NamedTuple):
    """Who acts: a user of this node, by id, and as the person that the peer sees. A machine has neither."""

    user_id: int | None = None
    person: str | None = None
    name: str = "Dealbridge"
    role: str = "admin"


MACHINE = Author()


class Keeping(NamedTuple):
    """What a node was told about keeping and destroying: the brake's limits; for how many days what is deleted can be restored; for how
    many days topics and backups may still hold what was erased; and the file that lists erasures, if there is one."""

    brake: Limits = NO_LIMITS
    trash_days: int = 90
    topic_days: int = 9
    backup_days: int = 30
    erasure_list: Path | None = None


DEFAULTS = Keeping()


@dataclass
class Work:
    """One command's transaction: where it writes, who it is, and whom to wake and what to do once it is committed."""

    tx: AsyncConnection
    incarnation: Incarnation
    due: Due
    author: Author
    introduced: frozenset[tuple[str, Author]] = frozenset()
    keeping: Keeping = DEFAULTS
    woken: set[str] = field(default_factory=set)
    introducing: set[tuple[str, Author]] = field(default_factory=set)
    after: list[Callable[[], None]] = field(default_factory=list)

    @property
    def side(self) -> Side:
        return self.incarnation.side

    @property
    def now_ms(self) -> int:
        return self.incarnation.clock.now_ms()

    async def capture(
        self,
        partnership: str,
        registration: str | None,
        type: str,  # the envelope's own word
        writes: Sequence[Write],
        creations: Sequence[Creation] = (),
    ) -> Captured:
        """Capture writes of one partnership as one event; the author's person record goes along if the peer has not got it as it is, save
        for what the command writes of that person itself: a field is written once, or the peer would never know of the first."""
        own = {(each.uid, each.field) for each in writes}
        person = [each for each in self.introduce(partnership) if (each.uid, each.field) not in own]
        made = [Creation(each.uid, "person", None, None) for each in person[:1]]
        command = Command(partnership, registration, type, self.author.person, [*person, *writes], [*made, *creations])
        captured = await capture(self.tx, self.incarnation, None, command, self.due, self.keeping.brake)
        self.woken |= {partnership, "reactions"}
        if captured.event is not None and log.isEnabledFor(logging.INFO):
            self.after.append(partial(log.info, "%s", type, extra=ids(partnership, registration, captured.event)))
        if captured.long:
            self.after.append(partial(tell_long, partnership, captured.long))
        return captured._replace(fields=captured.fields[len(person) :])

    def introduce(self, partnership: str) -> list[Write]:
        """Who acts, as a person record, once per process: its row must not be a lock that all of an author's commands wait for."""
        if self.author.person is None or (partnership, self.author) in self.introduced:
            return []
        self.introducing.add((partnership, self.author))
        values = {"name": self.author.name, "role": self.author.role, "active": True}
        return [Write(self.author.person, name, value) for name, value in values.items()]


Reaction = Callable[[Work, str, str], Awaitable[None]]
Restored = Callable[[Work, str], Awaitable[None]]


async def nothing_to_mend(_work: Work, _partnership: str) -> None:
    """A node that keeps nothing beside the shared records."""


@dataclass(frozen=True)
class NodeSpec:
    """What makes a node: its side, what states ask of it, and how it answers. `reactions` take (work, partnership, registration); `tends`
    are loops of its own in every process that syncs, until cancelled; `restored` brings what is the node's own in step with states that
    came back to a restored store."""

    side: Side
    due: Due
    reactions: Mapping[str, Reaction]
    migrations: str
    tends: tuple[Callable[["Station", Broker], Coroutine[Any, Any, None]], ...] = ()
    restored: Restored = nothing_to_mend


class Station:
    """A running process's store, identity and bell."""

    def __init__(self, spec: NodeSpec, database: Database, clock: Clock, keeping: Keeping = DEFAULTS) -> None:
        self.spec = spec
        self.database = database
        self.clock = clock
        self.keeping = keeping
        self.incarnation = Incarnation(spec.side, clock)
        self.bell = Bell()
        self.introduced: frozenset[tuple[str, Author]] = frozenset()
        self.proofs: dict[str, int] = {}
        database.on_loss.append(self.begin_anew)

    def begin_anew(self) -> None:
        """After a lost connection nothing that memory says about the store is certain."""
        self.incarnation.renew()
        self.introduced = frozenset()
        self.bell.wake({"erasures"})

    def proven(self) -> list[str]:
        """The partnerships for which, since the last lost connection, this side's topic was found to hold nothing that the store lacks,
        and what the peer had said by then was taken."""
        return sorted(partnership for partnership, losses in self.proofs.items() if losses == self.database.losses)

    @asynccontextmanager
    async def working(self, author: Author = MACHINE) -> AsyncIterator[Work]:
        """One command: committed whole at the end, or not at all; then the loops that have work by it are woken."""
        async with self.database.transaction() as tx:
            work = Work(tx, self.incarnation, self.spec.due, author, self.introduced, self.keeping)
            yield work
        COMMITTED.set(COMMITTED.get() + 1)
        self.introduced |= work.introducing
        for act in work.after:
            act()
        self.bell.ring(work.woken)


async def persist(attempt: Callable[[], Awaitable[Result]]) -> Result:
    """What comes of something that somebody asked for: from the beginning again where its command gave way to another one, as long as
    nothing of it is kept; raises Overtaken after five times."""
    before = COMMITTED.get()
    for _ in range(TRIES - 1):
        try:
            return await attempt()
        except Overtaken as error:
            if COMMITTED.get() != before:
                raise
            log.info("a command gave way to another one, and begins again: %s", error)
    return await attempt()
