"""Shared notes and their comments: anyone of either side adds, only the author edits, deletes and restores."""

from typing import Any

from sqlalchemy import Table, select

from shared_schema.contract.documents import LIFE
from shared_schema.contract.life import ALIVE
from shared_schema.contract.policy import display
from shared_schema.crm.problems import NotAllowed, NotFound, WrongState
from shared_schema.crm.projected_tables import comments, shared_notes
from shared_schema.crm.shared_records import SharedRecord, load_record
from shared_schema.sync.capture import Captured, Creation, Write
from shared_schema.sync.registrations import check_restorable, open_shared_deal, read_tokens
from shared_schema.sync.rich_text import clean
from shared_schema.sync.station import Work

Row = dict[str, Any]
TABLES: dict[str, Table] = {"note": shared_notes, "comment": comments}


async def add_note(work: Work, shared_deal_id: int, body: str) -> int:
    """Add a shared note; its id."""
    row = await open_shared_deal(work.tx, shared_deal_id)
    if row["state"] == "deleted":
        raise WrongState("this deal is deleted", remedy="restore it first")
    return await add_text(work, "note", row, row["uid"], body)


async def add_comment(work: Work, note_id: int, body: str) -> int:
    """Comment on a shared note of either side; the comment's id."""
    note = await load_text(work, "note", note_id)
    record = await load_record(work.tx, note["partnership"], note["uid"])  # held: nobody erases it meanwhile
    if record.document.erased:
        raise WrongState("this note is erased", remedy="write a note of your own")
    if record.state == "deleted":
        raise WrongState("this note is deleted", remedy="its author can restore it")
    return await add_text(work, "comment", note, note["uid"], body)


async def add_text(work: Work, kind: str, row: Row, parent: str, body: str) -> int:
    uid = work.incarnation.new_uid()
    creation = Creation(uid, kind, parent, row["registration"])
    await work.capture(row["partnership"], row["registration"], f"{kind}.added", [Write(uid, "body", clean("body", body))], [creation])
    where = (TABLES[kind].c.partnership == row["partnership"], TABLES[kind].c.uid == uid)
    return int((await work.tx.execute(select(TABLES[kind].c.id).where(*where))).scalar_one())


async def load_text(work: Work, kind: str, text_id: int) -> Row:
    """A note's or comment's row, in a deal that is still shared."""
    row = (await work.tx.execute(select(TABLES[kind]).where(TABLES[kind].c.id == text_id))).mappings().one_or_none()
    if row is None:
        raise NotFound(kind, text_id)
    return dict(row)


async def load_own(work: Work, kind: str, text_id: int) -> tuple[Row, SharedRecord]:
    """A text that this author wrote, with its record locked; raises NotAllowed for another's."""
    row = await load_text(work, kind, text_id)
    record = await load_record(work.tx, row["partnership"], row["uid"])
    written = display(record.document.get("body"))
    if record.side != work.side or (written and written.actor != work.author.person):
        raise NotAllowed(f"only its author changes a {kind}", remedy="add a comment instead")
    return row, record


async def edit(work: Work, kind: str, text_id: int, body: str, seen: str | None = None) -> Captured:
    """Replace the body of one's own note or comment."""
    row, record = await load_own(work, kind, text_id)
    if record.state == "deleted":
        raise WrongState(f"this {kind} is deleted", remedy="restore it first")
    write = Write(record.uid, "body", clean("body", body), read_tokens({"body": seen}).get("body"))
    return await work.capture(row["partnership"], row["registration"], f"{kind}.edited", [write])


async def remove(work: Work, kind: str, text_id: int) -> Captured:
    """Delete one's own note or comment on both sides; restorable for 90 days."""
    row, record = await load_own(work, kind, text_id)
    if record.state == "deleted":
        raise WrongState(f"this {kind} is deleted already")
    writes = [Write(record.uid, LIFE, record.deletion())]
    return await work.capture(row["partnership"], row["registration"], f"{kind}.deleted", writes)


async def bring_back(work: Work, kind: str, text_id: int) -> Captured:
    """Restore one's own deleted note or comment."""
    row, record = await load_own(work, kind, text_id)
    await check_restorable(work, record)
    return await work.capture(row["partnership"], row["registration"], f"{kind}.restored", [Write(record.uid, LIFE, ALIVE)])
