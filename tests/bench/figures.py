"""Each figure, measured once."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from random import Random

from deploy.demo.lag import quantile
from shared_schema.crm.driver import run
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.deals import save_shared
from shared_schema.sync.node import Node
from shared_schema.sync.station import Station
from tests.bench.bare import measure_broker, write_bare
from tests.bench.population import SPECS, make_edits, open_store, populate, queue_edits
from tests.bench.stage import Stage, opened, peak_mib, rate, until, watch_progress

Figures = dict[str, float]
LAG_PAUSE_S = 0.01
CLIENTS = 32


async def measure_lag(stage: Stage, edits: int) -> Figures:
    """From commit here to commit there at about 100 edits a second, each node a process; and the bare broker's."""
    urls = {side: stage.fresh_url(side) for side in SPECS}
    databases = {side: await open_store(side, url) for side, url in urls.items()}
    for database in databases.values():
        await populate(database, 1, 200)
    await stage.renew_topics()
    partner, notes = Station(SPECS["partner"], databases["partner"], SystemClock()), stage.directory / f"applied-{stage.count}.txt"
    async with opened(*databases.values()):
        node = asyncio.create_task(Node(partner, KafkaBroker(stage.kafka)).run())
        receiver = subprocess.Popen([sys.executable, "-m", "tests.bench.receiver", "vendor", urls["vendor"], stage.kafka, notes])
        try:
            await edit_at_pace(partner, edits // 10, notes)  # connections, caches, the first epoch
            ours = await edit_at_pace(partner, edits, notes)
        finally:
            receiver.kill()
            receiver.wait()
            node.cancel()
            await asyncio.gather(node, return_exceptions=True)
    bare = await measure_broker(stage.kafka, "bench-bare", edits, LAG_PAUSE_S)
    figures: Figures = {}
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        here, there = quantile(ours, share), quantile(bare, share)
        figures |= {f"lag_{name}_ms": here, f"bare_lag_{name}_ms": there, f"lag_{name}_ratio": here / there}
    return figures


async def edit_at_pace(partner: Station, edits: int, notes: Path) -> list[float]:
    """The lags, ms."""
    committed: dict[str, float] = {}
    for place in range(edits):
        text = f"Edit {time.perf_counter_ns()}"
        async with partner.working() as work:
            await save_shared(work, 1 + place % 200, {"next_step": text})
        committed[text] = time.perf_counter()
        await asyncio.sleep(LAG_PAUSE_S)
    await until(lambda: all_applied(notes, committed))
    applied = read_notes(notes)
    return [max(0.0, applied[text] - at_s) * 1_000 for text, at_s in committed.items()]


async def all_applied(notes: Path, committed: dict[str, float]) -> bool:
    return committed.keys() <= read_notes(notes).keys()


def read_notes(notes: Path) -> dict[str, float]:
    """When each edit was committed by the receiver."""
    lines = notes.read_text().splitlines() if notes.exists() else []
    return {text: float(at_s) for at_s, _, text in (line.partition(" ") for line in lines)}


async def prepare_catch_up(stage: Stage, deals: int, edits: int, *, each_once: bool = False) -> tuple[str, str, list]:
    """Templates of both stores: the vendor's with the deals, the partner's with the edits in its outbox; both as if they had stood a
    while, with the statistics that plans are made by."""
    events = make_edits(edits, deals, each_once=each_once)
    urls = stage.fresh_url("partner"), stage.fresh_url("vendor")
    partner, vendor = await open_store("partner", urls[0]), await open_store("vendor", urls[1])
    async with opened(partner, vendor):
        await queue_edits(partner, events)
        await populate(vendor, 1, deals)
        for database in (partner, vendor):
            async with database.glancing() as connection:
                await run(connection, "VACUUM ANALYZE" if stage.store == "postgresql" else "ANALYZE")
    return (*urls, events)


async def measure_catch_up(stage: Stage, prepared: tuple[str, str, list]) -> Figures:
    """Relay and apply at once, two processes; then the same rows bare."""
    partner, vendor, events = prepared
    here, there, bare = stage.clone("partner", partner), stage.clone("vendor", vendor), stage.clone("vendor", vendor)
    await stage.renew_topics()
    with stage.running("vendor", there) as receiver, stage.running("partner", here):
        ours = rate(await watch_progress(there, len(events)))
        peak = peak_mib(receiver)
    alone = await write_bare(bare, events)
    for url in (here, there, bare):
        stage.drop(url)
    return {"catch_up_events_per_second": ours, "bare_rows_per_second": alone, "catch_up_ratio": ours / alone, "peak_mib": peak}


async def measure_edits(stage: Stage, seconds: float) -> Figures:
    """Commands that one process accepts while the peer takes them in."""
    databases = [await open_store(side, stage.fresh_url(side)) for side in SPECS]
    for database in databases:
        await populate(database, 1, 2_000)
    await stage.renew_topics()
    partner = Station(SPECS["partner"], databases[0], SystemClock())
    url = str(databases[1].engine.url.render_as_string(hide_password=False))
    async with opened(*databases):
        node = asyncio.create_task(Node(partner, KafkaBroker(stage.kafka)).run())
        with stage.running("vendor", url.replace("+asyncpg", "").replace("+aiosqlite", "")):
            try:
                await accept(partner, seconds / 4)
                done = await accept(partner, seconds)
            finally:
                node.cancel()
                await asyncio.gather(node, return_exceptions=True)
    return {"edits_per_second": done / seconds}


async def accept(partner: Station, seconds: float) -> int:
    """How many saves many clients get answered in this time."""
    until_s, done = time.perf_counter() + seconds, 0

    async def save(random: Random) -> None:
        nonlocal done
        while time.perf_counter() < until_s:
            async with partner.working() as work:
                await save_shared(work, random.randint(1, 2_000), {"next_step": f"Step {random.random()}"})
            done += 1

    await asyncio.gather(*(save(Random(client)) for client in range(CLIENTS)))
    return done


async def measure_cost(stage: Stage, prepared: tuple[str, str, list]) -> float:
    """Microseconds per event when the store is as large as prepared."""
    partner, vendor, events = prepared
    here, there = stage.clone("partner", partner), stage.clone("vendor", vendor)
    await stage.renew_topics()
    with stage.running("vendor", there), stage.running("partner", here):
        samples = await watch_progress(there, len(events))
    for url in (here, there):
        stage.drop(url)
    return 1e6 / rate(samples)
