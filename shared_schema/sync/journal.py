"""This node's own journal: what machines and people did that is no write of a record, in their order, with who did it."""

from sqlalchemy import insert

from shared_schema.sync.station import Work
from shared_schema.sync.tables import journal


async def note(work: Work, partnership: str, registration: str | None, what: str, detail: str) -> None:
    """One line, in the transaction of what it tells."""
    row = {"partnership": partnership, "registration": registration, "what": what, "detail": detail, "actor": work.author.name}
    await work.tx.execute(insert(journal).values(**row, at_ms=work.now_ms))
