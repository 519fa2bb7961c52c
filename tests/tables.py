"""A node's tables in an empty store. Almost every test begins with them, so they are made by one script of the driver's."""

import sqlite3
from contextlib import closing
from functools import cache

import asyncpg
from sqlalchemy import create_mock_engine
from sqlalchemy.schema import CreateIndex, CreateTable

from partner_node.spec import SPEC as PARTNER
from shared_schema.crm.tables import metadata
from tests.stores import SQLITE, file_of
from vendor_node.spec import SPEC as VENDOR

SIDES = (PARTNER, VENDOR)  # whose tables are known once they are imported


async def make_tables(url: str) -> None:
    """What `metadata.create_all` would make, as far as it is not there; all of it or nothing."""
    if url.startswith(SQLITE):
        with closing(sqlite3.connect(file_of(url))) as connection:
            connection.executescript(f"BEGIN; {write_script(SQLITE)}; COMMIT")
        return
    link = await asyncpg.connect(url)
    try:
        await link.execute(write_script("postgresql://"))
    finally:
        await link.close()


@cache
def write_script(dialect: str) -> str:
    statements: list[str] = []

    def write(made: CreateTable | CreateIndex, *_: object) -> None:
        made.if_not_exists = True
        statements.append(str(made.compile(dialect=engine.dialect)))

    engine = create_mock_engine(dialect, write)
    metadata.create_all(engine, checkfirst=False)
    return ";".join(statements)
