"""What people and the sync path ask of a store leads by an index to the rows that they mean, and never through all rows of a partnership:
asked of SQLite, which keeps no statistics and so is the one that goes astray; and of PostgreSQL where its statistics are of before."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, event, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm import projected_tables
from shared_schema.crm.database import Database
from shared_schema.crm.driver import link_of, run
from shared_schema.crm.shared_deals import HOLD_DEALS_OF
from shared_schema.crm.shared_records import LOCKED
from shared_schema.crm.statements import DIALECTS, Statement, compile_for
from shared_schema.sync import emptier, outbox, owed_states, trash, views
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.deals import save_shared
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.notes import add_comment, add_note, edit, remove
from shared_schema.sync.registrations import delete_for_both, unshare
from shared_schema.sync.restorable import DAY_MS
from shared_schema.sync.station import Station
from shared_schema.sync.tables import parked, peers
from tests.bench.population import PARTNERSHIP, make_edits, open_store, populate, queue_edits, registration_uid
from tests.integration.pair import Pair, Side, open_pair
from tests.postgres import EmbeddedPostgres
from tests.twins.memory_broker import MemoryBroker, MemoryCluster
from vendor_node.spec import SPEC as VENDOR

GROWING = (
    *("shared_records", "property_history", "shared_deals", "deals", "companies", "contacts", "deal_history"),
    *("shared_notes", "comments", "products", "quotes", "members", "journal", "assignments"),
)
PLANS_OF_ITS_OWN = 5  # so often PostgreSQL plans a statement for what it gets before it keeps a plan
STEP = re.compile(r"(SCAN|SEARCH) (\w+)")


class Heard:
    """Every statement that a store ran, as the store says it."""

    def __init__(self) -> None:
        self.statements: set[str] = set()

    async def listen(self, side: Side) -> None:
        """From its next connections on; the node is stopped meanwhile, because one in use would be left open."""
        await side.stop()
        event.listen(side.station.database.engine.sync_engine, "connect", self.trace)
        await side.station.database.close()
        side.start()

    def trace(self, connection: Any, _entry: object) -> None:
        connection.run_async(lambda driver: driver.set_trace_callback(self.statements.add))

    async def find_astray(self, side: Side) -> list[str]:
        """Steps of a plan that go through a growing table, or all of a partnership in it, with their statements."""
        asked = sorted(each for each in self.statements if each.startswith(("SELECT", "UPDATE", "DELETE", "INSERT", "WITH")))
        self.statements.clear()
        async with side.station.database.reading() as connection:
            driver = link_of(connection).driver
            plans = {each: await driver.execute_fetchall(f"EXPLAIN QUERY PLAN {each}") for each in asked}
        return [f"{row[3]}: {each}" for each, plan in plans.items() for row in plan if is_astray(row[3])]


def is_astray(step: str) -> bool:
    found = STEP.match(step)
    return found is not None and found[2] in GROWING and (found[1] == "SCAN" or step.endswith("(partnership=?)"))


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    cluster = MemoryCluster()
    urls = f"sqlite:///{tmp_path}/partner.db", f"sqlite:///{tmp_path}/vendor.db"
    async with open_pair(urls, (MemoryBroker(cluster), MemoryBroker(cluster))) as opened:
        await opened.begin_sharing()
        for name in ("Hooli", "Stark", "Wayne"):
            await opened.share_deal(name)
        await opened.settle()
        yield opened


async def test_no_plan_goes_through_all_of_a_partnership(pair: Pair) -> None:
    heard = Heard()
    for side in (pair.partner, pair.vendor):
        await heard.listen(side)
    await work(pair)
    for side in (pair.partner, pair.vendor):
        await side.read(views.read_shared_deal, side.station.spec.side, 1)
        await side.read(views.read_audit, 1)
        await side.read(trash.list_trash, 90)
    assert len(heard.statements) > 200
    assert await heard.find_astray(pair.vendor) == []
    async with pair.vendor.station.database.reading() as connection:
        await link_of(connection).driver.execute_fetchall("SELECT * FROM comments WHERE partnership = 'x'")
    assert len(await heard.find_astray(pair.vendor)) == 1, "what goes astray is found"


async def test_the_relay_does_not_walk_through_what_it_published_however_long_the_backlog(postgres: EmbeddedPostgres) -> None:
    """PostgreSQL counted the rows when all of them were pending, and has not counted again."""
    database = await open_store("partner", postgres.fresh_database())
    await queue_edits(database, make_edits(4_000, 100))
    async with database.glancing() as connection:
        await run(connection, "VACUUM ANALYZE outbox")
    async with database.transaction() as tx:
        await tx.execute(update(outbox.outbox).where(outbox.outbox.c.id <= 3_500).values(epoch="a", sequence=1, published_ms=1))
    async with database.reading() as connection:
        plan = await explain(connection, outbox.PENDING, {"partnership": PARTNERSHIP, "in_flight": [], "limit": 100})
        assert [row.id for row in await outbox.read_pending(connection, PARTNERSHIP, [], 100)] == [*range(3_501, 3_601)]
    await database.close()
    assert [node for node in nodes_of(plan) if node.get("Rows Removed by Filter")] == []


async def test_states_that_are_owed_are_found_without_sorting_all_of_them(postgres: EmbeddedPostgres) -> None:
    """The next piece, and what was paid and has left the outbox, cost the same however much is owed."""
    database = await open_store("partner", postgres.fresh_database())
    await populate(database, 1, 2_000)
    async with database.transaction() as tx:
        await owed_states.owe_all(tx, PARTNERSHIP)
    async with database.glancing() as connection:
        await run(connection, "VACUUM ANALYZE owed_states")
    async with database.transaction() as tx:
        paid = await owed_states.pay(tx, Incarnation("partner", SystemClock()), PARTNERSHIP)
        for statement in (owed_states.NEXT, owed_states.PAID):
            nodes = list(nodes_of(await explain(tx, statement, {"of": PARTNERSHIP, "partnership": PARTNERSHIP, "most": paid})))
            assert [each for each in nodes if each["Node Type"] == "Sort" or each.get("Rows Removed by Filter")] == []
            assert max(each["Actual Rows"] for each in nodes) <= paid
    await database.close()


async def test_a_list_of_uids_is_looked_up_by_the_index_even_by_a_plan_for_an_empty_table(postgres: EmbeddedPostgres) -> None:
    """A connection keeps its plans until PostgreSQL has counted again; compared with each row, a list costs the product of both."""
    database = await open_store("vendor", postgres.fresh_database())
    async with database.transaction() as tx:
        await run(tx, "SET LOCAL plan_cache_mode = force_generic_plan")
        plan = await explain(tx, LOCKED, {"partnership": PARTNERSHIP, "uids": ["a", "b"]})
    await database.close()
    assert any("= ANY" in node.get("Index Cond", "") for node in nodes_of(plan))


async def test_what_names_many_rows_is_not_run_by_the_plan_that_is_kept_for_few(postgres: EmbeddedPostgres) -> None:
    """A plan that is kept was made while the table was empty, and compares each row of a partnership with each of a list."""
    database = await open_store("vendor", postgres.fresh_database())
    statement = compile_for(DIALECTS["postgresql"], HOLD_DEALS_OF.build("postgresql"))
    execute = f"EXECUTE kept ('{PARTNERSHIP}', ARRAY['{registration_uid(1)}', '{registration_uid(2)}'])"
    async with database.glancing() as connection:
        await run(connection, f"PREPARE kept (varchar, varchar[]) AS {statement.text}")
        for _ in range(PLANS_OF_ITS_OWN + 1):
            await run(connection, execute)
    for rows, is_kept in ((1, True), (5_000, False), (1, True)):
        async with database.transaction(rows=rows) as tx:
            plan = await run(tx, f"EXPLAIN {execute}")
        assert any("$2" in line for (line,) in plan) == is_kept
    await database.close()


@pytest.mark.parametrize("days", [0, 100])
@pytest.mark.parametrize("table", [outbox.outbox, parked])
async def test_a_sweep_of_the_trash_costs_no_more_however_much_waits(tmp_path: Path, table: Table, days: int) -> None:
    """Nothing is due: what is deleted is young, or waits for what is in the table. Told by the steps that SQLite's machine goes."""
    steps: list[int] = []
    for waiting in (10, 4_000):
        database = await open_store("vendor", f"sqlite:///{tmp_path}/{waiting}.db")
        await turn_index_around(database)
        await fill_trash(database, table, waiting, days)
        station = Station(VENDOR, database, SystemClock())
        station.proofs[PARTNERSHIP] = database.losses
        with count_steps(database) as counted:
            assert await emptier.sweep(station) == 0
        await database.close()
        steps.append(len(counted))
    assert steps[1] < 2 * steps[0]


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("table", [outbox.outbox, parked])
async def test_postgresql_compares_no_thing_in_the_trash_with_all_that_waits(
    postgres: EmbeddedPostgres, table: Table, analyzed: bool
) -> None:
    database = await open_store("vendor", postgres.fresh_database())
    await fill_trash(database, table, 4_000, 100)
    if analyzed:
        async with database.glancing() as connection:
            await run(connection, "VACUUM ANALYZE")
    span = emptier.Span(PARTNERSHIP, False, -1, SystemClock().now_ms())
    async with database.reading() as connection:
        for statement in (emptier.select_heaps(), emptier.select_past(span), emptier.select_below([PARTNERSHIP]), emptier.select_left()):
            plan = await explain(connection, Statement(statement), {})
            assert sum(map(count_rows, nodes_of(plan))) < 10 * (4_000 + 4_000), plan
    await database.close()


async def turn_index_around(database: Database) -> None:
    """Of indexes that are as good to SQLite it takes the one that was made last: have it be the one that is not."""
    for index in outbox.outbox.indexes:
        if index.name == "ix_outbox_epoch":
            async with database.transaction() as tx:
                await tx.run_sync(index.drop)
                await tx.run_sync(index.create)


async def fill_trash(database: Database, table: Table, waiting: int, days: int) -> None:
    """4,000 notes of one deal, deleted so many days ago, and what waits: edits for the peer, the later half of that deal, or what was
    parked yesterday."""
    now_ms = SystemClock().now_ms()
    note = {"partnership": PARTNERSHIP, "registration": "r", "kind": "note", "deleted_ms": now_ms - days * DAY_MS}
    edit = {"partnership": PARTNERSHIP, "payload": "x" * 1_000, "created_ms": now_ms}
    letter = {"partnership": PARTNERSHIP, "topic": "t", "reason": "newer_major", "detail": "", "headers": "[]", "at_ms": now_ms - DAY_MS}
    edits = [edit | {"event": f"{n:036}", "registration": "r" if n >= waiting / 2 else "another"} for n in range(waiting)]
    rows = edits if table is outbox.outbox else [letter | {"record_offset": n} for n in range(waiting)]
    async with database.transaction() as tx:
        heard = {"heard_ms": now_ms, "skew_ms": 0, "backlog": 0, "whole_ms": now_ms}
        await tx.execute(insert(peers).values(partnership=PARTNERSHIP, **heard))
        await tx.execute(insert(projected_tables.trash), [note | {"uid": f"{n:036}"} for n in range(4_000)])
        await tx.execute(insert(table), rows)


@contextmanager
def count_steps(database: Database) -> Iterator[list[None]]:
    """One item for each thousand instructions of SQLite's machine."""
    counted: list[None] = []

    def trace(connection: Any, _entry: object) -> None:
        connection.run_async(lambda driver: driver.set_progress_handler(lambda: counted.append(None), 1_000))

    event.listen(database.engine.sync_engine, "checkout", lambda connection, entry, _: trace(connection, entry))
    yield counted


def count_rows(node: dict[str, Any]) -> int:
    """The rows that a node of PostgreSQL's plan looked at, however often it was run."""
    looked = sum(node.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter"))
    return int(looked * node["Actual Loops"])


async def explain(connection: AsyncConnection, statement: Statement, parameters: dict[str, Any]) -> dict[str, Any]:
    """How PostgreSQL runs a statement, which it does."""
    asked = statement.on(connection)
    (((found,),),) = await run(connection, f"EXPLAIN (ANALYZE, FORMAT JSON) {asked.text}", asked.bind(parameters))
    return dict(found["Plan"])


def nodes_of(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's node and all below it."""
    yield node
    for each in node.get("Plans", ()):
        yield from nodes_of(each)


async def work(pair: Pair) -> None:
    """A deal shared, talked about, met by a conflict; things deleted, and sharing stopped."""
    partner, vendor = pair.partner, pair.vendor
    await pair.share_deal("Wonka")
    await partner.do(add_note, 1, "Met their CTO.")
    await pair.settle()
    await vendor.do(add_comment, 1, "Well done.")
    await partner.do(edit, "note", 1, "Met their CTO twice.")
    await vendor.stop()
    await partner.do(save_shared, 1, {"next_step": "call"})
    await vendor.do(save_shared, 1, {"next_step": "mail"})
    await partner.read(views.read_shared_deal, "partner", 1)
    vendor.start()
    await pair.settle()
    await partner.do(remove, "note", 1)
    await partner.do(delete_for_both, 2, None)
    await pair.settle()
    await partner.do(unshare, 3)
    await pair.settle()
