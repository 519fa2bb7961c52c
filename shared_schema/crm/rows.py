"""Set-based writes that read the same on both stores."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Table, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

Row = Mapping[str, Any]


def insert_for(connection: AsyncConnection, table: Table) -> Any:
    """An INSERT that knows ON CONFLICT, in the store's own dialect."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


async def insert_missing(connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> None:
    """Insert the rows that are not there yet; those that are stay as they are."""
    if rows:
        await connection.execute(insert_for(connection, table).on_conflict_do_nothing(), rows)


async def upsert(
    connection: AsyncConnection, table: Table, rows: Sequence[Row], changing: Sequence[str], key: Sequence[str] | None = None
) -> None:
    """Insert the rows; where the key (by default the primary key) is there, change the columns in `changing`."""
    if not rows:
        return
    statement = insert_for(connection, table)
    changes = {name: statement.excluded[name] for name in changing}
    where = list(key) if key else list(table.primary_key)
    await connection.execute(statement.on_conflict_do_update(index_elements=where, set_=changes), rows)


async def take_turn(connection: AsyncConnection, name: str) -> None:
    """One transaction at a time past this point, until it ends. SQLite has only one writer anyway."""
    if connection.dialect.name == "postgresql":
        await connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(name))))
