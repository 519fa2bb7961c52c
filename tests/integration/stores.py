"""A store copied into SQLite, whatever it was in, so that the one checker reads it as it reads every other."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, insert, inspect, select, text

from shared_schema.crm.database import Database
from shared_schema.crm.tables import metadata
from tests.checker import KEEP_REMOVED, KEEP_REMOVED_POSTGRESQL


class StoreCopy:
    """One side's store at one moment."""

    def __init__(self, side: str, path: Path) -> None:
        self.side = side
        self.path = path

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(statement, parameters).fetchall()


async def keep_removed(url: str) -> None:
    """From now on, keep what the outbox loses."""
    database = Database(url)
    async with database.transaction() as tx:
        for statement in KEEP_REMOVED if url.startswith("sqlite") else KEEP_REMOVED_POSTGRESQL:
            await tx.execute(text(statement))
    await database.close()


async def copy_store(url: str, side: str, path: Path) -> StoreCopy:
    """Every table that this side has, row by row."""
    database = Database(url)
    engine = create_engine(f"sqlite:///{path}")
    async with database.reading() as connection:
        there = await connection.run_sync(lambda real: set(inspect(real).get_table_names()))
        tables = {}
        for table in metadata.sorted_tables:
            if table.name in there:
                tables[table.name] = (await connection.execute(select(table))).mappings().all()
        removed = (await connection.execute(text("SELECT event, payload FROM removed_rows"))).mappings().all()
    await database.close()
    metadata.create_all(engine)
    with engine.begin() as copied:
        for table in metadata.sorted_tables:
            if tables.get(table.name):
                copied.execute(insert(table), [dict(row) for row in tables[table.name]])
        copied.execute(text(KEEP_REMOVED[0]))
        if removed:
            copied.execute(text("INSERT INTO removed_rows VALUES (:event, :payload)"), [dict(row) for row in removed])
    engine.dispose()
    return StoreCopy(side, path)
