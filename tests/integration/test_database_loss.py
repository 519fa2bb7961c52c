"""PostgreSQL killed under load and started again: every loop waits, goes on by itself, and no acknowledged edit is lost."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select, text

from shared_schema.crm.database import Database, DatabaseUnavailable
from shared_schema.crm.tables import property_history
from shared_schema.sync import views, wakeups
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.deals import save_shared
from shared_schema.sync.station import Station
from tests.integration.pair import Pair, Side, open_pair, until
from tests.postgres import EmbeddedPostgres
from tests.twins.memory_broker import MemoryBroker, MemoryCluster
from vendor_node.spec import SPEC as VENDOR

OTHERS = "datname = current_database() AND pid <> pg_backend_pid()"


async def edit(side: Side, field: str, ended: asyncio.Event, acknowledged: list[str]) -> int:
    """One edit after another; how many got no answer. What was acknowledged is kept."""
    lost = 0
    while not ended.is_set():
        value = f"{field} {len(acknowledged)} {lost}"
        try:
            await side.do(save_shared, 1, {field: value})
            acknowledged.append(value)
        except DatabaseUnavailable:
            lost += 1
        await asyncio.sleep(0.02)
    return lost


async def grow(acknowledged: list[str], count: int) -> None:
    goal = len(acknowledged) + count

    async def reached() -> bool:
        return len(acknowledged) >= goal

    await until(reached)


async def check_kept(pair: Pair, acknowledged: list[str]) -> None:
    for side in (pair.partner, pair.vendor):
        known = {row.value for row in await side.rows(select(property_history.c.value))}
        assert {f'"{value}"' for value in acknowledged} <= known


async def test_a_database_killed_under_load_loses_nothing_that_was_acknowledged(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    cluster = MemoryCluster()
    urls = f"sqlite:///{tmp_path}/partner.db", postgres.fresh_database()
    async with open_pair(urls, (MemoryBroker(cluster), MemoryBroker(cluster))) as pair:
        await pair.become_partners()
        pair.partner.start()
        pair.vendor.start()
        await pair.share_deal()

        async def active() -> bool:
            return bool(await pair.partner.read(views.list_shared_deals, {"status": "active"}))

        await until(active)
        await pair.settle()
        ended = asyncio.Event()
        ours: list[str] = []
        theirs: list[str] = []
        load = [
            asyncio.create_task(edit(pair.partner, "name", ended, ours)),
            asyncio.create_task(edit(pair.vendor, "next_step", ended, theirs)),
        ]
        for _ in range(2):
            await grow(theirs, 10)
            await asyncio.get_running_loop().run_in_executor(None, postgres.kill)
            await grow(ours, 10)
            await asyncio.get_running_loop().run_in_executor(None, postgres.start)
        await grow(theirs, 10)
        ended.set()
        unanswered = await asyncio.gather(*load)
        assert unanswered[0] == 0 and unanswered[1] > 0
        await pair.settle()
        await pair.check_same()
        await check_kept(pair, [*ours, *theirs])


async def test_a_listener_whose_connection_ends_while_it_waits_listens_again(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "ALIVE_S", 0.3)
    database = Database(postgres.fresh_database())
    station = Station(VENDOR, database, SystemClock())
    wake = station.bell.listen("acme")
    listening = asyncio.create_task(wakeups.Wakeups(station).run())

    async def ask(question: str) -> int:
        async with database.glancing() as connection:
            return int((await connection.execute(text(question))).scalar_one())

    async def listener_is_there() -> bool:
        return await ask(f"SELECT count(*) FROM pg_stat_activity WHERE {OTHERS}") == 1

    async def hears() -> bool:
        await ask(f"SELECT 1 FROM (SELECT pg_notify('{wakeups.CHANNEL}', 'acme')) AS told")
        return wake.is_set()

    await until(listener_is_there)
    assert await ask(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {OTHERS}") == 1
    await until(hears)
    assert not listening.done()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await database.close()
