"""A town on this machine without containers: everything is a process that lives no longer than the run."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from deploy.demo.processes import NodeProcess
from deploy.kafka.embedded import EmbeddedKafka
from tests.chaos.clocks import MovedClock
from tests.chaos.links import BROKER, DATABASE, LinkedKafka, open_links, through
from tests.chaos.schedule import PROCESSES, SIDES
from tests.chaos.town import SETTINGS, Town, plant, send_signal
from tests.chaos.toxiproxy import Toxiproxy
from tests.postgres import EmbeddedPostgres
from tests.stores import SQLITE

THREADS = 8


class Origin(NamedTuple):
    """Where a run takes place: the kind of store, the directory, the PostgreSQL if that is the kind; per side a wrong variant, if any; the
    tools at hand; and where the stores are."""

    store: str
    directory: Path
    postgres: EmbeddedPostgres | None
    broken: Mapping[str, str]
    tools: Sequence[str]
    disk: Path


class LoopbackTown(Town):
    """Both stores are files, or databases of one server."""

    def __init__(self, origin: Origin, kafka: EmbeddedKafka, owner: Executor, proxy: Toxiproxy | None) -> None:
        super().__init__(origin.directory, owner, kafka, kafka.address)
        self.origin = origin
        self.disk = origin.disk
        self.links = open_links(kafka, origin.postgres, proxy)
        self.clocks = {side: MovedClock(origin.directory / f"{side}.clock") for side in SIDES} if "clocks" in origin.tools else {}
        for clock in self.clocks.values():
            clock.move(0)
        self.databases = origin.postgres
        self.servers = dict.fromkeys(SIDES, origin.postgres) if origin.postgres is not None else {}
        self.urls = {side: self.make_url(side) for side in SIDES}
        self.nodes = {(side, name): self.make_process(side, name) for side in SIDES for name in PROCESSES}

    def make_url(self, side: str) -> str:
        if self.origin.postgres is not None:
            return self.origin.postgres.fresh_database()
        return f"{SQLITE}{self.origin.disk}/{side}.db"

    def broker_of(self, side: str) -> str:
        """Where a side finds the broker."""
        link = self.links.get((side, BROKER))
        return f"127.0.0.1:{link.port}" if link else self.kafka_address

    def database_of(self, side: str) -> str:
        link = self.links.get((side, DATABASE))
        return through(link, self.urls[side]) if link else self.urls[side]

    async def revive(self) -> None:
        """A database that ends when its disk is full is no defect of a node's."""
        postgres = self.origin.postgres
        if postgres is not None and postgres.has_ended():
            await self.by_owner(postgres.restart)
        await super().revive()

    def make_process(self, side: str, name: str) -> NodeProcess:
        node = NodeProcess(side, self.database_of(side), self.broker_of(side), self.directory, name.replace(" ", "-"))
        node.settings |= SETTINGS | {
            "DEALBRIDGE_ROLE": name.split(maxsplit=1)[0],
            "DEALBRIDGE_ERASURE_LIST": str(self.directory / f"{side}.erasures"),
        }
        if self.clocks:
            node.program = ["-m", "tests.chaos.clocks", str(self.clocks[side].file), side, "run"]
        if side in self.origin.broken:
            node.program = ["-m", "tests.chaos.broken", self.origin.broken[side], side, "run"]
        return node


@asynccontextmanager
async def open_town(origin: Origin) -> AsyncIterator[LoopbackTown]:
    """Everything planted and running; all gone afterwards but for the stores and the logs."""
    with ThreadPoolExecutor(THREADS) as owner:
        proxy = Toxiproxy(origin.directory / "toxiproxy.log") if "links" in origin.tools else None
        if proxy is not None:
            await asyncio.get_running_loop().run_in_executor(owner, proxy.start)
        kafka = LinkedKafka(origin.directory / "kafka", proxy) if proxy else EmbeddedKafka(origin.directory / "kafka")
        await asyncio.get_running_loop().run_in_executor(owner, kafka.start)
        town = LoopbackTown(origin, kafka, owner, proxy)
        try:
            town.tokens, town.partnership = await plant(town.urls, town.kafka_address, town.broker_of("partner"))
            await town.start(town.nodes.values())
            yield town
        finally:
            for node in town.nodes.values():
                send_signal(node, signal.SIGCONT)
            await town.kill(town.nodes.values())
            await town.by_owner(kafka.stop)
            if proxy is not None:
                proxy.stop()
