"""A vendor with many partnerships, of which one is hot: `python -m tests.bench.crowd`. How long the edits of the quiet ones take, while the
hot one is idle and while it is busy, with one, two and four syncing processes a side; and while one is added and another is killed.

One partner's store stands in for all the partners'. Everything is on this machine: the broker, the database, and every process.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from random import Random
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from deploy.demo.lag import quantile
from deploy.demo.processes import NodeProcess
from deploy.kafka.embedded import EmbeddedKafka, die_with_parent
from shared_schema.contract.topics import all_topics
from shared_schema.crm.database import Database
from shared_schema.crm.tables import property_history
from shared_schema.sync import event_loop
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.deals import save_shared
from shared_schema.sync.station import Station
from shared_schema.sync.wakeups import Wakeups
from tests.bench.figures import read_notes
from tests.bench.population import SPECS, open_store, populate
from tests.bench.stage import Stage, opened
from tests.postgres import EmbeddedPostgres

DEALS = 20
QUIET_PAUSE_S, HOT_PAUSE_S = 0.1, 0.005
ARRIVAL_S = 300


class Crowd:
    """Both stores, and the processes of both sides; `notes` says when each edit of the vendor's was committed at the partner's."""

    def __init__(self, stage: Stage, partnerships: int, urls: dict[str, str], vendor: Station, partner: Database) -> None:
        self.stage = stage
        self.partnerships = partnerships
        self.urls = urls
        self.vendor = vendor
        self.partner = partner
        self.notes = stage.directory / "crowd.txt"
        self.random = Random(partnerships)
        self.numbers = count()
        self.receivers: list[subprocess.Popen[bytes]] = []
        self.senders: list[NodeProcess] = []

    def add(self) -> None:
        """One more process for each side."""
        command = [sys.executable, "-m", "tests.bench.receiver", "partner", self.urls["partner"], self.stage.kafka, str(self.notes)]
        self.receivers.append(subprocess.Popen(command, preexec_fn=die_with_parent()))  # noqa: PLW1509  # one prctl call
        node = NodeProcess("vendor", self.urls["vendor"], self.stage.kafka, self.stage.directory, f"sync-{next(self.numbers)}")
        node.settings |= {"DEALBRIDGE_ROLE": "sync", "DEALBRIDGE_VERIFY_MINUTES": "0"}
        node.start()
        self.senders.append(node)

    def kill_one(self) -> None:
        """The eldest of each side."""
        self.senders.pop(0).kill()
        receiver = self.receivers.pop(0)
        receiver.kill()
        receiver.wait()

    def end(self) -> None:
        while self.senders:
            self.kill_one()

    async def save(self, partnership: int) -> tuple[str, float]:
        """One edit of a deal of a partnership: its text, and when it was committed."""
        text = f"Edit {time.perf_counter_ns()}"
        async with self.vendor.working() as work:
            await save_shared(work, partnership * DEALS + self.random.randint(1, DEALS), {"next_step": text})
        return text, time.perf_counter()

    async def edit(self, seconds: float, pause_s: float, choose: Callable[[], int]) -> dict[str, float]:
        """Edits at a pace: when each was committed."""
        until_s, committed = time.perf_counter() + seconds, {}
        while time.perf_counter() < until_s:
            text, at_s = await self.save(choose())
            committed[text] = at_s
            await asyncio.sleep(pause_s)
        return committed

    def quiet(self) -> int:
        return self.random.randrange(1, self.partnerships)

    async def arrive(self, committed: dict[str, float]) -> list[float]:
        """The lags, ms, once all have arrived; without those that a process committed which was killed or lost its share before it had
        written that down."""
        async with asyncio.timeout(ARRIVAL_S):
            while missing := committed.keys() - (applied := read_notes(self.notes)).keys():
                silent = missing <= await self.find_silent(missing)
                await asyncio.sleep(2 if silent else 0.2)  # what was committed this moment is written down the next
                if silent and missing == committed.keys() - read_notes(self.notes).keys():
                    break
        return [(applied[text] - at_s) * 1_000 for text, at_s in committed.items() if text in applied]

    async def find_silent(self, texts: Collection[str]) -> set[str]:
        """Those of these edits that the partner's store has."""
        values = [json.dumps(text) for text in texts]
        async with self.partner.reading() as connection:
            found = await connection.execute(select(property_history.c.value).where(property_history.c.value.in_(values)))
            return {json.loads(value) for value in found.scalars()}


class Lags(NamedTuple):
    """Milliseconds, and how many edits the hot partnership had meanwhile."""

    p50: float
    p99: float
    hot: int


async def measure(crowd: Crowd, seconds: float, *, busy: bool, meanwhile: Callable[[], Awaitable[None]] | None = None) -> Lags:
    hot = asyncio.create_task(crowd.edit(seconds if busy else 0, HOT_PAUSE_S, lambda: 0))
    disturbing = asyncio.create_task(meanwhile()) if meanwhile else None
    quiet = await crowd.edit(seconds, QUIET_PAUSE_S, crowd.quiet)
    lags, heated = await crowd.arrive(quiet), await hot
    await crowd.arrive(heated)
    if disturbing is not None:
        await disturbing
    return Lags(quantile(lags, 0.5), quantile(lags, 0.99), len(heated))


@asynccontextmanager
async def gather_crowd(stage: Stage, partnerships: int) -> AsyncIterator[Crowd]:
    names = [f"bench-{number:03}" for number in range(partnerships)]
    urls = {side: stage.fresh_url(side) for side in SPECS}
    databases = {side: await open_store(side, url, names) for side, url in urls.items()}
    for database in databases.values():
        for number, name in enumerate(names):
            await populate(database, number * DEALS + 1, (number + 1) * DEALS, of=name)
    broker = KafkaBroker(stage.kafka)
    await broker.start()
    await broker.create_topics([topic for name in names for topic in all_topics(name)])
    await broker.stop()
    async with opened(*databases.values()):
        vendor = Station(SPECS["vendor"], databases["vendor"], SystemClock())
        waking = asyncio.create_task(Wakeups(vendor).run())  # as a process for the web does
        crowd = Crowd(stage, partnerships, dict(urls), vendor, databases["partner"])
        try:
            yield crowd
        finally:
            waking.cancel()
            crowd.end()


async def warm_up(crowd: Crowd) -> None:
    """Until an edit of every partnership has arrived."""
    await crowd.arrive(dict([await crowd.save(each) for each in range(crowd.partnerships)]))


async def run(arguments: argparse.Namespace, stage: Stage, console: Console) -> None:
    table = Table(
        "processes a side", "hot one", "p50 ms", "p99 ms", "p50 ratio", "p99 ratio", "hot edits", title="Lag of the quiet partnerships"
    )

    def tell(processes: str, what: str, lags: Lags, idle: Lags) -> None:
        ratios = (f"{lags.p50 / idle.p50:.2f}", f"{lags.p99 / idle.p99:.2f}")
        row = (processes, what, f"{lags.p50:.1f}", f"{lags.p99:.1f}", *ratios, str(lags.hot))
        console.print("  ".join(row))
        table.add_row(*row)

    async with gather_crowd(stage, arguments.partnerships) as crowd:
        for processes in (1, 2, 4):
            while len(crowd.senders) < processes:
                await asyncio.to_thread(crowd.add)
            await warm_up(crowd)
            idle = await measure(crowd, arguments.seconds, busy=False)
            tell(str(processes), "idle", idle, idle)
            tell(str(processes), "busy", await measure(crowd, arguments.seconds, busy=True), idle)

        async def disturb() -> None:
            await asyncio.sleep(arguments.seconds / 3)
            await asyncio.to_thread(crowd.add)
            await asyncio.sleep(arguments.seconds / 3)
            crowd.kill_one()

        tell("4, then 5, then one killed", "busy", await measure(crowd, arguments.seconds, busy=True, meanwhile=disturb), idle)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.crowd", description=__doc__)
    parser.add_argument("--partnerships", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    with (
        EmbeddedPostgres(durable=True) as postgres,
        EmbeddedKafka() as kafka,
        tempfile.TemporaryDirectory(prefix="dealbridge-bench-") as place,
    ):
        event_loop.run(run(arguments, Stage("postgresql", kafka.address, Path(place), postgres), Console()))


if __name__ == "__main__":
    main()
