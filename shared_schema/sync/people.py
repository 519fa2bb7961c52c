"""People who act: what the peers know of them follows what is known here."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from shared_schema.crm import users
from shared_schema.crm.tables import shared_records
from shared_schema.sync.capture import Write
from shared_schema.sync.station import Work

Row = dict[str, Any]


async def change_user(work: Work, user_id: int, values: Mapping[str, Any]) -> Row:
    """Change a user's name, role or activity; every partnership that knows them as a person is told. The user as they are now."""
    user = await users.change_user(work.tx, user_id, values)
    ours = (shared_records.c.uid == user["uid"], shared_records.c.kind == "person", shared_records.c.side == work.side)
    known = select(shared_records.c.partnership).where(*ours)
    for partnership in sorted((await work.tx.execute(known)).scalars()):
        writes = [Write(user["uid"], name, user[name]) for name in ("name", "role", "active")]
        await work.capture(partnership, None, "person.changed", writes)
    return user
