"""A store read from outside, whatever it is in, and copied into SQLite, so that the one checker reads it as it reads every other. By the
drivers alone: nothing of the product is between the store and who looks."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg

from tests.checker import KEEP_REMOVED, KEEP_REMOVED_POSTGRESQL

SQLITE = "sqlite:///"
WAIT_S = 60  # for whoever holds the lock, a process that stands still for a while among them
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
AWAY = (sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)  # how a store says that it can not be read now


class StoreCopy:
    """One side's store at one moment."""

    def __init__(self, side: str, path: Path) -> None:
        self.side = side
        self.path = path

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(statement, parameters).fetchall()


def file_of(url: str) -> Path:
    """The file of a store in SQLite."""
    return Path(url.removeprefix(SQLITE))


def open_file(path: Path) -> sqlite3.Connection:
    """A connection to a file that is there; one that is not is not made."""
    return sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=WAIT_S, isolation_level=None)


async def keep_removed(url: str) -> None:
    """From now on, keep what the outbox loses."""
    if url.startswith(SQLITE):
        with closing(open_file(file_of(url))) as connection:
            for statement in KEEP_REMOVED:
                connection.execute(statement)
        return
    link = await asyncpg.connect(url)
    for statement in KEEP_REMOVED_POSTGRESQL:
        await link.execute(statement)
    await link.close()


async def read_rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    """One statement's rows, as the store stands now; raises what the driver raises where the store is away."""
    if url.startswith(SQLITE):
        with closing(open_file(file_of(url))) as connection:
            return connection.execute(statement).fetchall()
    link = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await link.fetch(statement)]
    finally:
        await link.close()


async def copy_store(url: str, side: str, path: Path) -> StoreCopy:
    """The whole store at one moment, in a file of its own."""
    with closing(sqlite3.connect(path)) as copy:
        if url.startswith(SQLITE):
            with closing(open_file(file_of(url))) as store:
                store.backup(copy)
        else:
            await copy_tables(url, copy)
        copy.commit()
    return StoreCopy(side, path)


async def copy_tables(url: str, copy: sqlite3.Connection) -> None:
    link = await asyncpg.connect(url)
    try:
        async with link.transaction(isolation="repeatable_read", readonly=True):
            for (table,) in await link.fetch(TABLES):
                asked = await link.prepare(f'SELECT * FROM "{table}"')
                names = [each.name for each in asked.get_attributes()]
                columns = ", ".join(f'"{name}"' for name in names)
                copy.execute(f'CREATE TABLE "{table}" ({columns})')
                marks = ", ".join("?" for _ in names)
                copy.executemany(f'INSERT INTO "{table}" VALUES ({marks})', [tuple(row) for row in await asked.fetch()])
    finally:
        await link.close()
