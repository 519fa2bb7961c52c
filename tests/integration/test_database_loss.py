"""PostgreSQL killed under load and started again: every loop waits, goes on by itself, and no acknowledged edit is lost."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select

from partner_node.spec import SPEC as PARTNER
from shared_schema.crm.database import Database, DatabaseUnavailable
from shared_schema.crm.tables import property_history
from shared_schema.sync import views, wakeups
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.deals import save_shared
from shared_schema.sync.station import Station
from shared_schema.sync.wakeups import Wakeups
from tests.integration.pair import Pair, Side, open_pair, until
from tests.postgres import EmbeddedPostgres
from tests.twins.memory_broker import MemoryBroker, MemoryCluster


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


async def test_wake_ups_between_processes_outlive_a_lost_connection(postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever listens has a connection on which nothing else is said: its loss is noticed all the same, and does not end the process."""
    monkeypatch.setattr(wakeups, "ALIVE_S", 0.05)
    url = postgres.fresh_database()
    teller, hearer = [Station(PARTNER, Database(url), SystemClock()) for _ in range(2)]
    heard = hearer.bell.listen("something")
    tasks = [asyncio.create_task(Wakeups(station).run()) for station in (teller, hearer)]

    async def is_heard() -> bool:
        teller.bell.ring({"something"})
        await asyncio.sleep(0.05)
        return heard.is_set()

    for _ in range(2):
        await until(is_heard)
        heard.clear()
        await asyncio.get_running_loop().run_in_executor(None, postgres.restart)
    await until(is_heard)
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for station in (teller, hearer):
        await station.database.close()


async def test_a_database_that_is_closed_or_being_replaced_is_away_and_no_bug(postgres: EmbeddedPostgres) -> None:
    url = postgres.fresh_database()
    name = url.rsplit("/", 1)[-1]
    for statement in (f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false", f"ALTER DATABASE {name} RENAME TO {name}_away"):
        postgres.execute(statement)
        database = Database(url)
        with pytest.raises(DatabaseUnavailable):
            async with database.reading():
                pass
        await database.close()
