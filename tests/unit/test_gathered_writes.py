"""Writes that go to PostgreSQL together: nobody can tell, but by the clock; the same on SQLite, where each goes by itself."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, bindparam, func, select
from sqlalchemy.exc import IntegrityError

from shared_schema.crm.database import Database
from shared_schema.crm.driver import join_texts
from shared_schema.crm.rows import change_rows, insert_missing, insert_rows, upsert
from shared_schema.crm.statements import Statement

TABLES = MetaData()
DEALS, NOTES = (Table(name, TABLES, Column("id", Integer, primary_key=True), Column("amount", Integer)) for name in ("deal", "note"))
COUNT = Statement(select(func.count()).select_from(DEALS).where(DEALS.c.amount >= bindparam("least")))
ALL = select(DEALS.c.id, DEALS.c.amount).order_by(DEALS.c.id)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    async with database.transaction() as tx:
        await tx.run_sync(TABLES.create_all)
    yield database
    await database.close()


async def test_the_next_statement_sees_them_whichever_way_it_goes(database: Database) -> None:
    async with database.transaction() as tx:
        await insert_rows(tx, DEALS, [{"id": 1, "amount": 10}, {"id": 2, "amount": 20}])
        await insert_rows(tx, NOTES, [{"id": 1, "amount": 0}])
        assert [row[0] for row in await COUNT.fetch(tx, {"least": 20})] == [1]
        await change_rows(tx, DEALS, [{"id": 1, "amount": 30}], "id")
        assert (await tx.execute(select(func.sum(DEALS.c.amount)))).scalar_one() == 50


async def test_two_writes_of_one_table_come_one_after_the_other(database: Database) -> None:
    async with database.transaction() as tx:
        await insert_rows(tx, DEALS, [{"id": 1, "amount": 10}])
        await upsert(tx, DEALS, [{"id": 1, "amount": 11}, {"id": 2, "amount": 12}], ("amount",))
        await insert_missing(tx, DEALS, [{"id": 2, "amount": 99}, {"id": 3, "amount": 13}])
        await change_rows(tx, DEALS, [{"id": 3, "amount": 14}], "id")
    async with database.reading() as connection:
        assert [tuple(row) for row in await connection.execute(ALL)] == [(1, 11), (2, 12), (3, 14)]


async def test_one_that_breaks_a_rule_takes_back_everything_and_is_no_loss(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await insert_rows(tx, NOTES, [{"id": 1, "amount": 0}])
            await insert_rows(tx, DEALS, [{"id": 1, "amount": 10}])
            await insert_rows(tx, DEALS, [{"id": 1, "amount": 11}])
    async with database.glancing() as connection:
        assert (await connection.execute(select(func.count()).select_from(NOTES))).scalar_one() == 0
    assert database.losses == 0


async def test_what_a_failed_command_gathered_is_not_written_by_the_next(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as tx:
            await insert_rows(tx, DEALS, [{"id": 1, "amount": 10}])
            raise ZeroDivisionError
    async with database.transaction() as tx:
        await insert_rows(tx, DEALS, [{"id": 2, "amount": 20}])
    async with database.reading() as connection:
        assert [tuple(row) for row in await connection.execute(ALL)] == [(2, 20)]


def test_parameters_are_numbered_on() -> None:
    joined = join_texts("INSERT INTO a VALUES ($1, $2, $1)", "UPDATE b SET x = $1 WHERE y = $12", "DELETE FROM c WHERE z = $1")
    assert joined == "WITH w0 AS (INSERT INTO a VALUES ($1, $2, $1)), w1 AS (UPDATE b SET x = $3 WHERE y = $14) DELETE FROM c WHERE z = $15"
