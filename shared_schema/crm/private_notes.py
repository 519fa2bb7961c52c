"""Private notes: the node's own, without a uid, in a table that nothing of the sync reads."""

from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm.problems import NotAllowed, NotFound
from shared_schema.crm.tables import private_notes, users

Row = dict[str, Any]


async def add(tx: AsyncConnection, deal_id: int, author_id: int | None, body: str, now_ms: int) -> int:
    row = {"deal_id": deal_id, "author_id": author_id, "body": body, "created_ms": now_ms}
    return int((await tx.execute(insert(private_notes).values(row).returning(private_notes.c.id))).scalar_one())


async def list_of(tx: AsyncConnection, deal_id: int) -> list[Row]:
    """A deal's private notes, newest first, with their authors' names."""
    joined = private_notes.outerjoin(users, users.c.id == private_notes.c.author_id)
    statement = select(*private_notes.c, users.c.name.label("author")).select_from(joined)
    rows = await tx.execute(statement.where(private_notes.c.deal_id == deal_id).order_by(private_notes.c.id.desc()))
    return [dict(row) for row in rows.mappings()]


async def edit(tx: AsyncConnection, note_id: int, author_id: int | None, body: str) -> None:
    await check_own(tx, note_id, author_id)
    await tx.execute(update(private_notes).where(private_notes.c.id == note_id).values(body=body))


async def remove(tx: AsyncConnection, note_id: int, author_id: int | None) -> None:
    await check_own(tx, note_id, author_id)
    await tx.execute(delete(private_notes).where(private_notes.c.id == note_id))


async def check_own(tx: AsyncConnection, note_id: int, author_id: int | None) -> None:
    found = (await tx.execute(select(private_notes.c.author_id).where(private_notes.c.id == note_id))).one_or_none()
    if found is None:
        raise NotFound("private note", note_id)
    if found.author_id != author_id:
        raise NotAllowed("only its author changes a private note")
