"""This node's own journal: what machines and people did that is no write of a record, in their order, with who did it."""

import logging
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm.rows import insert_rows
from shared_schema.sync.log_lines import ids
from shared_schema.sync.station import Work
from shared_schema.sync.tables import journal

PAGE_MAX = 200

log = logging.getLogger(__name__)


async def note(work: Work, partnership: str, registration: str | None, what: str, detail: str) -> None:
    """One line, in the transaction of what it tells; once that is committed, one of the log, which has no names and no details."""
    row = {"partnership": partnership, "registration": registration, "what": what, "detail": detail, "actor": work.author.name}
    await insert_rows(work.tx, journal, [row | {"at_ms": work.now_ms}])
    work.after.append(partial(log.info, "%s", what, extra=ids(partnership, registration)))


async def list_journal(connection: AsyncConnection, partnership: str, after: int = 0, limit: int = PAGE_MAX) -> list[dict[str, Any]]:
    """A page of a partnership's lines, oldest first: what was done, by whom and when (UTC ms)."""
    where = (journal.c.partnership == partnership, journal.c.id > after)
    rows = await connection.execute(select(journal).where(*where).order_by(journal.c.id).limit(min(limit, PAGE_MAX)))
    return [dict(row) for row in rows.mappings()]
