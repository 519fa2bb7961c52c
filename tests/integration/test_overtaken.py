"""Commands that wait for each other on PostgreSQL: they hold what they share in one order, and where one has to give way all the same,
it begins again, and whoever asked for it hears only what came of it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from shared_schema.crm import users
from shared_schema.crm.database import Database, Overtaken
from shared_schema.sync import deals, views
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.deals import save_deal, save_shared
from shared_schema.sync.station import TRIES, Author, Station, persist
from tests.integration.pair import Pair, Side, until
from tests.integration.stages import open_two_deals
from tests.web.conftest import Api, running

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
TURN = "hashtext('matching')"


@pytest.fixture
async def pair(postgres_url: str, tmp_path: Path) -> AsyncIterator[Pair]:
    async with open_two_deals(postgres_url, tmp_path) as opened:
        yield opened


async def wait_for_waiting(database: Database, count: int = 1) -> None:
    """Until so many of the store's transactions wait for another."""

    async def waits() -> bool:
        async with database.glancing() as connection:
            return (await connection.execute(text(WAITING))).scalar_one() == count

    await until(waits)


async def hire(side: Side) -> Author:
    """Somebody of whom no peer knows yet."""
    async with side.station.working() as work:
        uid = work.incarnation.new_uid()
        return Author(await users.add_user(work.tx, uid, "Nina", "nina@vendor.example"), uid, "Nina", "rep")


async def test_the_first_commands_of_one_person_never_wait_for_each_other_both_ways(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = pair.vendor
    await vendor.do(save_shared, 1, {"next_step": "now the partner knows them"})
    await pair.settle()
    vendor.station.begin_anew()
    real, held, go_on = deals.write_fields, asyncio.Event(), asyncio.Event()

    async def write_late(*arguments: Any) -> Any:
        if not held.is_set():
            held.set()
            await go_on.wait()
        return await real(*arguments)

    monkeypatch.setattr(deals, "write_fields", write_late)
    first = asyncio.create_task(vendor.do(save_deal, 1, {"next_step": "first"}))
    await held.wait()
    second = asyncio.create_task(vendor.do(save_shared, 1, {"name": "second"}))
    await wait_for_waiting(vendor.station.database)
    go_on.set()
    await asyncio.gather(first, second)
    await pair.settle()
    await pair.check_same()


async def test_whom_two_processes_introduce_at_once_both_sides_know_alike(pair: Pair) -> None:
    vendor, author = pair.vendor, await hire(pair.vendor)
    one, other = [each["id"] for each in await vendor.read(views.list_shared_deals, {})]
    beside = Station(vendor.station.spec, Database(vendor.station.database.engine.url.render_as_string(False)), SystemClock())

    async def save_beside() -> None:
        async with beside.working(author) as work:
            await save_shared(work, other, {"next_step": "of the other process"})

    async with vendor.station.working(author) as work:
        await save_shared(work, one, {"next_step": "of this process"})
        second = asyncio.create_task(save_beside())
        await wait_for_waiting(vendor.station.database)
    await second
    await beside.database.close()
    await pair.settle()
    await pair.check_same()


async def test_a_request_whose_command_gave_way_to_another_is_answered_as_if_it_had_not(postgres_url: str) -> None:
    with running("vendor", postgres_url) as api:
        ids = [api.post("/api/companies", name=name)["id"] for name in ("Globex", "Globex Ltd")]
        deal = api.post("/api/deals", values={"name": "Roll-out", "company_id": ids[1]})["id"]
        merged = await merge_and_give_way(api, postgres_url, ids, deal)
        assert merged["id"] == ids[0]
        assert api.get(f"/api/deals/{deal}")["company_id"] == ids[0]


async def merge_and_give_way(api: Api, url: str, ids: list[Any], deal: Any) -> dict[str, object]:
    """A merge of two companies holds the deal and waits for a company, which somebody holds who waits for the deal and is patient. What the
    merge answers."""
    database = Database(url)
    patient, turn = [await asyncpg.connect(url) for _ in range(2)]
    await turn.execute(f"SELECT pg_advisory_lock({TURN})")
    await patient.execute(f"SET deadlock_timeout = '1h'; BEGIN; SELECT FROM companies WHERE id = {ids[1]} FOR UPDATE")
    body = {"company_id": ids[1]}
    task = asyncio.create_task(asyncio.to_thread(api.ask, "POST", f"/api/companies/{ids[0]}/merge", 200, json=body))
    await wait_for_waiting(database)
    waits = asyncio.create_task(patient.execute(f"SELECT FROM deals WHERE id = {deal} FOR UPDATE"))
    await wait_for_waiting(database, 2)
    await turn.execute(f"SELECT pg_advisory_unlock({TURN})")
    await waits
    await patient.execute("ROLLBACK")
    await until(lambda: has_ended_one(database))
    for each in (patient, turn, database):
        await each.close()
    return await task


async def has_ended_one(database: Database) -> bool:
    """Whether the server has ended one transaction so that another goes on."""
    async with database.glancing() as connection:
        ended = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        return bool((await connection.execute(text(ended))).scalar_one() == 1)


async def test_what_gives_way_again_and_again_says_so_in_the_end() -> None:
    tries = 0

    async def give_way() -> None:
        nonlocal tries
        tries += 1
        raise Overtaken("deadlock detected")

    with pytest.raises(Overtaken):
        await persist(give_way)
    assert tries == TRIES


async def test_what_was_done_in_part_is_not_begun_again(pair: Pair) -> None:
    tries = 0

    async def do_a_part() -> None:
        nonlocal tries
        tries += 1
        await pair.vendor.do(save_shared, 1, {"next_step": f"try {tries}"})
        raise Overtaken("deadlock detected")

    with pytest.raises(Overtaken):
        await persist(do_a_part)
    assert tries == 1
