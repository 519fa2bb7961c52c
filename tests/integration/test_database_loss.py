"""PostgreSQL killed under load and started again: every loop waits, goes on by itself, and no acknowledged edit is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import make_url, select, text

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

STEP_BYTES = 50


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


class EndlessWay:
    """A way to the server on which the first connection's end never arrives, only the goodbye before it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        asked = asyncio.create_task(self.pass_on(reader, back))
        await self.pass_on(there, writer)
        if not self.ended.is_set():
            self.ended.set()
            await asked
        for each in (back, writer):
            each.close()

    @staticmethod
    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)


async def compact(database: Database) -> None:
    await database.compact(["full_of_holes"])


async def read(database: Database) -> None:
    async with database.reading() as connection:
        await connection.execute(text("SELECT * FROM full_of_holes"))


async def write(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(text("INSERT INTO full_of_holes VALUES (1)"))


@pytest.mark.parametrize("act", [compact, read, write])
async def test_a_server_that_said_goodbye_to_an_idle_connection_is_an_outage_and_no_bug(
    postgres: EmbeddedPostgres, act: Callable[[Database], Awaitable[None]]
) -> None:
    url = make_url(postgres.fresh_database())
    way = EndlessWay(url.port or 0)
    server = await asyncio.start_server(way.serve, "127.0.0.1", 0)
    database = Database(url.set(port=server.sockets[0].getsockname()[1]).render_as_string(hide_password=False))
    async with database.transaction() as tx:
        await tx.execute(text("CREATE TABLE full_of_holes (id integer)"))
    await act(database)
    postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{url.database}'")
    await way.ended.wait()
    await asyncio.sleep(0.1)
    with pytest.raises(DatabaseUnavailable):
        await act(database)
    assert database.losses == 1
    await act(database)
    await database.close()
    server.close()


async def test_a_server_that_goes_away_anywhere_in_its_greeting_is_an_outage_and_no_bug(postgres: EmbeddedPostgres) -> None:
    url = make_url(postgres.fresh_database())
    allowed = heard = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = 0
        there, back = await asyncio.open_connection("127.0.0.1", url.port)
        asked = asyncio.create_task(EndlessWay.pass_on(reader, back))
        while heard < allowed and (data := await there.read(min(65_536, allowed - heard))):
            heard += len(data)
            writer.write(data)
        asked.cancel()
        for each in (back, writer):
            each.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    is_greeted = False
    while not is_greeted:
        database = Database(url.set(port=server.sockets[0].getsockname()[1]).render_as_string(hide_password=False))
        with suppress(DatabaseUnavailable):
            async with database.reading():
                is_greeted = True
        await database.close()
        allowed += STEP_BYTES
    server.close()
    assert allowed > 10 * STEP_BYTES
