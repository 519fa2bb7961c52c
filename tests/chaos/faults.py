"""How each fault is done to a town, and taken back."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from shared_schema.contract.registers import Side
from shared_schema.contract.topics import other, record_topic
from tests.chaos import topics
from tests.chaos.client_log import now_ms
from tests.chaos.clocks import HOUR_S
from tests.chaos.forgery import DEALS, forge_event
from tests.chaos.links import harm
from tests.chaos.schedule import TOOLED, Fault
from tests.chaos.town import Part, Town, send_signal
from tests.stores import AWAY, SQLITE, StoreCopy, copy_store, file_of, open_file, read_rows

MENDED_S = 60  # a copy is made of a store that is whole, and put back once it is out of date, if that comes true in this time
MARK = b"poison"
POISON = (MARK + b" \xff", b'{"dataschema": "urn:dealbridge:event:9.0", "poison": 1}', MARK * 155_000)
AGAIN, TAIL = 200, 0.3  # so many records come once more; this part of a log is lost
ENDINGS = ("", "-wal", "-shm")
AMISS = "SELECT 1 FROM restorations UNION ALL SELECT 1 FROM owed_states LIMIT 1"
ISSUED = (
    "SELECT epoch, max(number) FROM (SELECT epoch, sequence AS number FROM outbox WHERE epoch IS NOT NULL"
    " UNION ALL SELECT epoch, acknowledged FROM outbound_epochs) AS numbers GROUP BY epoch"
)
TAKEN = "SELECT epoch, acknowledged FROM outbound_epochs"


class Backup(NamedTuple):
    """Where a copy of a store is, when it was begun, and the last number of each epoch that its store had given out by then."""

    copied_ms: int
    copy: str
    issued: Mapping[str, int]


class Replacement(NamedTuple):
    """A store that was put back: what was written in between is only with the peer, whose store as it was then is kept."""

    side: str
    copied_ms: int
    replaced_ms: int
    peer: StoreCopy


class Havoc:
    """What is done to a town, and what has to be remembered of it."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.copies: dict[str, Backup] = {}
        self.replacements: list[Replacement] = []
        self.forged = 0
        self.acts: dict[str, Callable[[Fault], Awaitable[None]]] = {
            "process killed": self.kill_process,
            "process frozen": self.freeze_process,
            "node killed": self.kill_node,
            "broker killed": self.kill_broker,
            "broker frozen": self.freeze_broker,
            "database killed": self.kill_database,
            "topic deleted": self.delete_topic,
            "poison sent": self.send_poison,
            "records sent twice": self.send_again,
            "retention passed": self.pass_retention,
            "tail lost": self.lose_tail,
            "copy made": self.make_copy,
            "older copy put back": self.put_back,
            "clock ahead": self.move_clock,
            "clock behind": self.move_clock,
            "event forged": self.forge,
            "disk full": self.fill_disk,
            **dict.fromkeys(TOOLED["links"], self.harm_link),
        }

    async def do(self, fault: Fault) -> None:
        """Returns when the fault is over: everything runs again."""
        await self.acts[fault.what](fault)

    async def kill_process(self, fault: Fault) -> None:
        node = self.town.nodes[fault.side, fault.process]
        await self.town.kill([node])
        await asyncio.sleep(fault.lasts_s)
        await self.town.start([node])

    async def freeze_process(self, fault: Fault) -> None:
        await self.freeze(self.town.nodes[fault.side, fault.process], fault.lasts_s)

    async def freeze(self, part: Part, seconds: float) -> None:
        await self.town.by_owner(lambda: send_signal(part, signal.SIGSTOP))
        try:
            await asyncio.sleep(seconds)
        finally:
            await self.town.by_owner(lambda: send_signal(part, signal.SIGCONT))

    async def kill_node(self, fault: Fault) -> None:
        await self.town.kill(self.town.of(fault.side))
        await asyncio.sleep(fault.lasts_s)
        await self.town.start(self.town.of(fault.side))

    async def kill_broker(self, fault: Fault) -> None:
        await self.town.kill([self.town.kafka])
        await asyncio.sleep(fault.lasts_s)
        await self.town.start([self.town.kafka])

    async def freeze_broker(self, fault: Fault) -> None:
        await self.freeze(self.town.kafka, fault.lasts_s)

    async def kill_database(self, fault: Fault) -> None:
        assert self.town.databases is not None
        await self.town.kill([self.town.databases])
        await asyncio.sleep(fault.lasts_s)
        await self.town.start([self.town.databases])

    async def delete_topic(self, fault: Fault) -> None:
        """One side's topic is gone with all that it held, and an operator makes it anew."""
        await topics.delete_topic(self.town.reach_broker(), self.topic_of(side_of(fault)))
        await asyncio.sleep(fault.lasts_s)
        await self.town.make_topics()

    async def pass_retention(self, fault: Fault) -> None:
        """What one side has yet to read grows too old while it is away."""
        await self.town.kill(self.town.of(fault.side))
        await asyncio.sleep(fault.lasts_s)
        await topics.let_pass(self.town.reach_broker(), self.topic_of(other(side_of(fault))))
        await self.town.start(self.town.of(fault.side))

    async def lose_tail(self, fault: Fault) -> None:
        """The machine of the broker goes down, and the last of one side's topic was not on its disk yet."""
        await self.town.kill([self.town.kafka])
        topics.cut_tail(self.town.directory / "kafka" / "data", self.topic_of(side_of(fault)), TAIL)
        await asyncio.sleep(fault.lasts_s)
        await self.town.start([self.town.kafka])

    async def send_again(self, fault: Fault) -> None:
        await topics.send_again(self.town.reach_broker(), self.topic_of(side_of(fault)), AGAIN)

    async def send_poison(self, fault: Fault) -> None:
        """Bytes that are no event, an event of a version that is not known yet, and one that is too large: in the name of one side."""
        poison = (topics.Message(MARK, each) for each in POISON)
        await topics.send(self.town.reach_broker(), self.topic_of(side_of(fault)), *poison)

    def topic_of(self, side: Side) -> str:
        return record_topic(self.town.partnership, side)

    async def harm_link(self, fault: Fault) -> None:
        link = self.town.links[fault.side, fault.process]
        await asyncio.to_thread(harm, link, fault.what)
        await asyncio.sleep(fault.lasts_s)
        await self.town.by_owner(link.mend)

    async def move_clock(self, fault: Fault) -> None:
        clock = self.town.clocks[fault.side]
        clock.move(HOUR_S if fault.what == "clock ahead" else -HOUR_S)
        await asyncio.sleep(fault.lasts_s)
        clock.move(0)

    async def forge(self, fault: Fault) -> None:
        """An event in the name of one side that claims to have seen what the other has not written yet."""
        sender = side_of(fault)
        with suppress(*AWAY):
            rows = await read_rows(self.town.urls[other(sender)], DEALS)
            if rows:
                self.forged += 1
                forged = forge_event(self.town.partnership, sender, rows[0], self.forged)
                message = topics.Message(forged.key, forged.value, forged.headers)
                await topics.send(self.town.reach_broker(), self.topic_of(sender), message)

    async def fill_disk(self, fault: Fault) -> None:
        """Every byte that is left is taken for a while. A server that ends for it is started again once there is room."""
        ballast = self.town.disk / "ballast"
        await asyncio.to_thread(fill, ballast)
        await asyncio.sleep(fault.lasts_s)
        ballast.unlink()
        await self.town.revive()

    async def make_copy(self, fault: Fault) -> None:
        """A store as its backup has it, at one moment. On PostgreSQL the node loses its connections for it."""
        await self.until_mended()
        began_ms, url = now_ms(), self.town.urls[fault.side]
        server = self.town.servers.get(fault.side)
        if server is not None:
            copy = await self.town.by_owner(lambda: server.copy_of(url.rsplit("/", 1)[-1]))
        else:
            copy = f"{file_of(url)}.copy"
            Path(copy).unlink(missing_ok=True)
            await copy_store(url, fault.side, Path(copy))
        self.copies[fault.side] = Backup(began_ms, copy, dict(await read_rows(url, ISSUED)))

    async def until_mended(self) -> None:
        """Until nothing of an earlier misfortune is still to be made good, or it takes too long."""

        async def is_mended() -> bool:
            return not any([await read_rows(url, AMISS) for url in self.town.urls.values()])

        await until(is_mended)

    async def until_outlived(self, side: str, backup: Backup) -> None:
        """Until the peer has taken what the copy does not know that its store said: only then does that store go back at all."""

        async def is_outlived() -> bool:
            return any(number > backup.issued.get(epoch, 0) for epoch, number in await read_rows(self.town.urls[side], TAKEN))

        await until(is_outlived)

    async def put_back(self, fault: Fault) -> None:
        """On PostgreSQL the database fails over while the node lives; a file is put back while it is dead."""
        backup = self.copies.pop(fault.side)
        await self.until_outlived(fault.side, backup)
        url = self.town.urls[fault.side]
        if url.startswith(SQLITE):
            await self.town.kill(self.town.of(fault.side))
            put_file_back(Path(backup.copy), file_of(url))
            await asyncio.sleep(fault.lasts_s)
            replaced_ms = now_ms()
            await self.keep_peer(fault.side, backup.copied_ms, replaced_ms)
            await self.town.start(self.town.of(fault.side))
            return
        server, name = self.town.servers[fault.side], url.rsplit("/", 1)[-1]
        await self.town.by_owner(lambda: server.fail_over(name, backup.copy))
        replaced_ms = now_ms()
        await self.keep_peer(fault.side, backup.copied_ms, replaced_ms)
        await self.town.by_owner(lambda: server.drop_database(f"{name}_fallen"))

    async def keep_peer(self, side: str, copied_ms: int, replaced_ms: int) -> None:
        peer = "vendor" if side == "partner" else "partner"
        path = self.town.directory / f"{peer}-at-replacement-{len(self.replacements) + 1}.db"
        self.replacements.append(Replacement(side, copied_ms, replaced_ms, await copy_store(self.town.urls[peer], peer, path)))
        with (self.town.directory / "replacements.txt").open("a") as kept:
            kept.write(f"{side} {copied_ms} {replaced_ms} {path.name}\n")


def side_of(fault: Fault) -> Side:
    return "partner" if fault.side == "partner" else "vendor"


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Until it is so, or it takes too long; a store that is away is asked again."""
    with suppress(TimeoutError):
        async with asyncio.timeout(MENDED_S):
            while True:
                with suppress(*AWAY):
                    if await is_so():
                        return
                await asyncio.sleep(0.3)


def fill(ballast: Path) -> None:
    """A file as large as the filesystem lets it be."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


def put_file_back(copy: Path, store: Path) -> None:
    for ending in ENDINGS:
        store.with_name(store.name + ending).unlink(missing_ok=True)
    with closing(open_file(copy)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copy.rename(store)
