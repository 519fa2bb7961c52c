"""Set-based writes that read the same on both stores."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Table
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


async def upsert(connection: AsyncConnection, table: Table, rows: Sequence[Row], changing: Sequence[str]) -> None:
    """Insert the rows; where the primary key is there, change the columns in `changing`."""
    if not rows:
        return
    statement = insert_for(connection, table)
    changes = {name: statement.excluded[name] for name in changing}
    await connection.execute(statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=changes), rows)
