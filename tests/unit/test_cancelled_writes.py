"""Whoever is cancelled amid any statement of a transaction on SQLite leaves no lock behind, and nothing half written."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, delete, insert, select, update

from shared_schema.crm.database import Database

metadata = MetaData()
things = Table("things", metadata, Column("id", Integer, primary_key=True))


class Striker:
    """Cancels the task that calls the driver, at the calls of these numbers, once the driver has been told what to do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at: set[int] = set()
        self.calls = 0
        real = aiosqlite.Connection._execute

        async def execute(connection: aiosqlite.Connection, *arguments: Any, **named: Any) -> Any:
            self.calls += 1
            task = asyncio.current_task()
            if self.calls in self.at and task is not None:
                task.cancel()
            return await real(connection, *arguments, **named)

        monkeypatch.setattr(aiosqlite.Connection, "_execute", execute)


async def write(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(insert(things), [{"id": number} for number in range(500)])
        found = await tx.execute(select(things.c.id).order_by(things.c.id))
        assert len(found.all()) == 500
        assert len((await tx.execute(delete(things).where(things.c.id > 99).returning(things.c.id))).all()) == 400
        await tx.execute(update(things).values(id=things.c.id + 1_000))


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_cancelled_transaction_leaves_no_lock_and_nothing_half_written(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, kept, number = tmp_path / "store.db", [], 0
    striker = Striker(monkeypatch)
    while len(kept) == number:
        number += 1
        database = Database(f"sqlite:///{path}")
        async with database.transaction() as tx:
            await tx.run_sync(metadata.create_all)
        striker.calls, striker.at = 0, set(range(number, number + times))
        try:
            await write(database)
        except asyncio.CancelledError as error:
            kept.append(error)  # with all that hangs on it, such as a cursor
        striker.at = set()
        await database.close()
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            (count,) = other.execute("SELECT count(*) FROM things").fetchone()
            assert count in (0, 100), "a commit that is cancelled is done or not, as a whole"
            other.execute("DELETE FROM things")
            other.execute("COMMIT")
    assert number > 10
