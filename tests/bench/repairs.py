"""What it costs to know that both sides agree, to mend where they do not, and to fill a store that has nothing."""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from random import Random
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import func, select, text, update

from shared_schema.contract.codec import HEADER_CONTROL
from shared_schema.contract.registers import Register, Sibling
from shared_schema.contract.topics import all_topics
from shared_schema.crm.database import Database
from shared_schema.crm.driver import run
from shared_schema.crm.shared_records import write_row
from shared_schema.crm.tables import shared_records
from shared_schema.sync import owed_states, verification
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.station import Station
from shared_schema.sync.tables import peers, verifications
from tests.bench.figures import Figures, measure_cost, prepare_catch_up
from tests.bench.population import PARTNERSHIP, SPECS, VENDOR_WRITER, make_records, open_store, populate, register
from tests.bench.stage import Sample, Stage, opened, peak_mib, rate, until
from tests.stores import SQLITE, TABLES, file_of

BATCH = 1_000
WATCH_S = 0.5
CONTROLS = {b"sync.digest", b"sync.hashes", b"sync.inspect", b"sync.shown", b"sync.repair"}
WITHOUT_DIGESTS = {
    "sqlite": ["DROP INDEX ix_shared_records_digest"],
    "postgresql": [
        "ALTER TABLE shared_records DROP CONSTRAINT pk_shared_records",
        "ALTER TABLE shared_records ADD CONSTRAINT pk_shared_records PRIMARY KEY (partnership, uid) WITH (fillfactor = 70)",
    ],
}
TORN = 10_000_000  # more than any count that a population has


class Alike(NamedTuple):
    """Templates of two stores that hold the same `deals`."""

    partner: str
    vendor: str
    deals: int


async def prepare_alike(stage: Stage, deals: int) -> Alike:
    urls = stage.fresh_url("partner"), stage.fresh_url("vendor")
    partner, vendor = await open_store("partner", urls[0]), await open_store("vendor", urls[1])
    async with opened(partner, vendor):
        for database in (partner, vendor):
            await populate(database, 1, deals)
            await gather_statistics(stage, database)
    return Alike(*urls, deals)


async def gather_statistics(stage: Stage, database: Database) -> None:
    async with database.glancing() as connection:
        await run(connection, "VACUUM ANALYZE" if stage.store == "postgresql" else "ANALYZE")


async def tear(url: str, deals: int, count: int) -> None:
    """So many deals get a write at this side that no event carries."""
    database = Database(url)
    async with opened(database), database.transaction() as tx:
        for number in Random(deals).sample(range(1, deals + 1), count):
            record = make_records(number)[1]
            before = record.document.get("next_step")
            (torn,) = register(VENDOR_WRITER, TORN + number, "Lost on its way").siblings
            record.document.put("next_step", cover(before, torn))
            row = write_row(record)
            where = (shared_records.c.partnership == PARTNERSHIP, shared_records.c.uid == record.uid)
            await tx.execute(update(shared_records).where(*where).values(document=row["document"], hash=row["hash"]))


def cover(before: Register, sibling: Sibling) -> Register:
    return Register({**before.context, sibling.dot.incarnation: sibling.dot.counter}, (sibling,))


class Verified(NamedTuple):
    seconds: float
    kilobytes: float
    repaired: int
    differing: int


async def measure_verify(stage: Stage, alike: Alike, torn: int, *, repair: bool = False) -> Verified:
    """From the request to the answer, both nodes as processes and otherwise idle; and what went over the broker for it."""
    partner, vendor = stage.clone("partner", alike.partner), stage.clone("vendor", alike.vendor)
    await tear(vendor, alike.deals, torn)
    await stage.renew_topics()
    with stage.running("vendor", vendor), stage.running("partner", partner):
        asking = Station(SPECS["vendor"], Database(vendor), SystemClock())
        async with opened(asking.database):
            await until(lambda: is_heard(asking))
            before = await count_bytes(stage)
            began_s = time.perf_counter()
            async with asking.working() as work:
                await verification.request(work, PARTNERSHIP, repair=repair)
            await until(lambda: is_done(asking))
            seconds = time.perf_counter() - began_s
            async with asking.database.reading() as connection:
                found = await verification.read_verification(connection, PARTNERSHIP)
            told = await count_bytes(stage) - before
    for url in (partner, vendor):
        stage.drop(url)
    return Verified(seconds, told / 1_000, found["repaired"], len(found["drift"]))


async def is_heard(station: Station) -> bool:
    """Whether the peer's heartbeat has come: before that nothing is asked."""
    async with station.database.reading() as connection:
        return (await connection.execute(select(peers.c.heard_ms))).scalar_one_or_none() is not None


async def is_done(station: Station) -> bool:
    async with station.database.reading() as connection:
        return (await connection.execute(select(verifications.c.phase))).scalar_one_or_none() == "done"


async def count_bytes(stage: Stage) -> int:
    """The bytes of every message about digests that the topics hold."""
    broker, total = KafkaBroker(stage.kafka), 0
    await broker.start()
    try:
        for topic, there in (await broker.describe_topics(all_topics(PARTNERSHIP))).items():
            reader, offset = await broker.open_reader(topic, there.start_offset), there.start_offset
            while offset < there.end_offset:
                for each in await reader.fetch(1_000, 500):
                    offset = each.offset + 1
                    total += len(each.value or b"") if dict(each.headers).get(HEADER_CONTROL) in CONTROLS else 0
            await reader.close()
    finally:
        await broker.stop()
    return total


async def measure_digests(stage: Stage, million: Alike) -> Figures:
    """Agreement of the large stores, and ten differences in them."""
    alike, ten = await measure_verify(stage, million, 0), await measure_verify(stage, million, 10)
    if (alike.differing, ten.differing) != (0, 10):
        raise AssertionError(f"a verification named {alike.differing} and {ten.differing} records instead of 0 and 10")
    return {
        "verify_s_1m": alike.seconds,
        "verify_kb_1m": alike.kilobytes,
        "verify_10_differ_s": ten.seconds,
        "verify_10_differ_kb": ten.kilobytes,
    }


async def measure_repair(stage: Stage, alike: Alike) -> Figures:
    """One record of a hundred differs, until none does."""
    torn = alike.deals * 2 // 100
    mended = await measure_verify(stage, alike, torn, repair=True)
    if (mended.repaired, mended.differing) != (torn, 0):
        raise AssertionError(f"{mended.repaired} of {torn} records were repaired, and {mended.differing} differ")
    return {"repair_s_1_percent": mended.seconds, "repair_kb_1_percent": mended.kilobytes}


async def prepare_first_load(stage: Stage, deals: int) -> Alike:
    """A partner with so many deals, all of which it owes, and a vendor that has nothing."""
    urls = stage.fresh_url("partner"), stage.fresh_url("vendor")
    partner, vendor = await open_store("partner", urls[0]), await open_store("vendor", urls[1])
    async with opened(partner, vendor):
        await populate(partner, 1, deals, decided=False)
        async with partner.transaction() as tx:
            await owed_states.owe_all(tx, PARTNERSHIP)
        await gather_statistics(stage, partner)
    return Alike(*urls, deals)


async def measure_first_load(stage: Stage, prepared: Alike) -> Figures:
    """Statement and apply at once, two processes; then the rows that came of it, bare."""
    partner, vendor = stage.clone("partner", prepared.partner), stage.clone("vendor", prepared.vendor)
    bare = stage.clone("vendor", prepared.vendor)
    await stage.renew_topics()
    with stage.running("vendor", vendor) as receiver, stage.running("partner", partner) as sender:
        ours = rate(await watch_records(vendor, prepared.deals * 2))
        peak = max(peak_mib(receiver), peak_mib(sender))
    alone = prepared.deals * 2 / await copy_bare(vendor, bare)
    for url in (partner, vendor, bare):
        stage.drop(url)
    return {
        "first_load_records_per_second": ours,
        "first_load_bare_records_per_second": alone,
        "first_load_ratio": ours / alone,
        "first_load_peak_mib": peak,
    }


async def watch_records(url: str, goal: int) -> list[Sample]:
    """Samples of how many records are there, until all are; twice a second, because it is the store that has to count them."""
    database, samples = Database(url), [Sample(time.perf_counter(), 0)]

    async def is_there() -> bool:
        async with database.reading() as connection:
            samples.append(Sample(time.perf_counter(), (await connection.execute(select(func.count(shared_records.c.uid)))).scalar_one()))
        await asyncio.sleep(WATCH_S)
        return samples[-1].applied >= goal

    async with opened(database):
        await until(is_there)
    return samples


async def copy_bare(source: str, target: str) -> float:
    """Seconds to write another store's rows, a thousand of a table in a transaction, by the driver alone."""
    if source.startswith(SQLITE):
        return copy_sqlite(source, target)
    reading, writing = await asyncpg.connect(source), await asyncpg.connect(target)
    try:
        tables = [(name, await reading.fetch(f'SELECT * FROM "{name}"')) for (name,) in await reading.fetch(TABLES)]
        for name, _ in tables:
            await writing.execute(f'TRUNCATE "{name}" CASCADE')
        began_s = time.perf_counter()
        for name, rows in tables:
            for batch in in_batches(rows):
                async with writing.transaction():
                    await writing.copy_records_to_table(name, records=[tuple(row) for row in batch], columns=list(rows[0].keys()))
        return time.perf_counter() - began_s
    finally:
        await reading.close()
        await writing.close()


def copy_sqlite(source: str, target: str) -> float:
    with closing(sqlite3.connect(file_of(source))) as reading, closing(sqlite3.connect(file_of(target), isolation_level=None)) as writing:
        writing.execute("PRAGMA synchronous=FULL")
        names = [name for (name,) in reading.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
        tables = [(name, reading.execute(f'SELECT * FROM "{name}"').fetchall()) for name in names]
        for name, _ in tables:
            writing.execute(f'DELETE FROM "{name}"')
        began_s = time.perf_counter()
        for name, rows in tables:
            for batch in in_batches(rows):
                writing.execute("BEGIN IMMEDIATE")
                writing.executemany(f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(batch[0]))})', batch)
                writing.execute("COMMIT")
        return time.perf_counter() - began_s


def in_batches(rows: Sequence[Any]) -> list[Sequence[Any]]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


async def prepare_without_digests(stage: Stage, deals: int) -> tuple[tuple[str, str, list[Any]], tuple[str, str, list[Any]]]:
    """The same edits into two stores, of which one has nothing that digests are read from."""
    with_index, without = [await prepare_catch_up(stage, deals, deals, each_once=True) for _ in range(2)]
    database = Database(without[1])
    async with opened(database), database.transaction() as tx:
        for statement in WITHOUT_DIGESTS[stage.store]:
            await tx.execute(text(statement))
    return with_index, without


async def measure_digest_cost(stage: Stage, prepared: tuple[tuple[str, str, list[Any]], tuple[str, str, list[Any]]]) -> Figures:
    """Either goes first as often as the other, because the second finds things warm."""
    costs = {each[1]: 0.0 for each in prepared}
    for each in (*prepared, *reversed(prepared)):
        costs[each[1]] += await measure_cost(stage, each)
    with_digests, without = costs.values()
    return {"digest_cost_ratio": with_digests / without}
