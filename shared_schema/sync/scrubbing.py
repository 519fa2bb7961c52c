"""What an erasure clears in the store beyond the record's own document: history, conflicts, the queue's and the parked events' texts,
journal, projected rows. Rows that bear numbers stay, in their erased state. It clears the store's rows; `Database.compact` their traces."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import Undecodable, decode_event, encode_event
from shared_schema.contract.documents import WHOLE
from shared_schema.contract.erasure import Gone, strip_event
from shared_schema.contract.policy import value_of
from shared_schema.crm import customers, deals
from shared_schema.crm.projected_tables import conflicts, shared_deals, trash
from shared_schema.crm.rows import change_rows
from shared_schema.crm.shared_records import SharedRecord, load_of_registrations
from shared_schema.crm.tables import property_history
from shared_schema.sync.tables import drifts, journal, outbox, parked, peer_outcomes, reactions

Row = dict[str, Any]
WITHOUT_ID = "its content was erased"
CHUNK = 500


async def load_around(tx: AsyncConnection, partnership: str, registrations: Iterable[str | None]) -> dict[str, SharedRecord]:
    """Every record that may hang below one that is to be erased, locked."""
    named = {each for each in registrations if each}
    return await load_of_registrations(tx, partnership, named) if named else {}


def erase_below(root: SharedRecord, records: Iterable[SharedRecord]) -> list[SharedRecord]:
    """Erase a record whole with all that hang below it among `records`; those that were not erased yet."""
    gone, erased = {root.uid}, [] if root.document.erased else [root]
    rest = [each for each in records if each.uid != root.uid]
    while below := [each for each in rest if each.parent in gone or each.registration in gone]:
        rest = [each for each in rest if each not in below]
        gone |= {each.uid for each in below}
        erased += [each for each in below if not each.document.erased]
    for each in erased:
        each.erase()
    return erased


def describe_gone(records: Iterable[SharedRecord]) -> Gone:
    return {each.uid: each.document.gone for each in records}


async def scrub(tx: AsyncConnection, records: Sequence[SharedRecord], now_ms: int) -> None:
    """Clear what hangs on the content of records of one partnership that were erased in this transaction."""
    partnership, gone = records[0].partnership, describe_gone(records)
    for table in (property_history, conflicts):
        await tx.execute(delete(table).where(table.c.partnership == partnership, names_gone(table, gone)))
    whole = sorted(uid for uid, fields in gone.items() if fields >= WHOLE)
    for table, uids in ((trash, whole), (drifts, sorted(gone))):
        await tx.execute(delete(table).where(table.c.partnership == partnership, table.c.uid.in_(uids)))
    mentioned = (peer_outcomes.c.partnership == partnership, peer_outcomes.c.uid.in_(whole))
    await tx.execute(update(peer_outcomes).where(*mentioned).values(reason=""))
    for table in (journal, reactions):
        await tx.execute(update(table).where(table.c.partnership == partnership, table.c.registration.in_(whole)).values(detail=""))
    needles = {each.registration or each.uid for each in records}
    await scrub_outbox(tx, partnership, needles, gone)
    await scrub_parked(tx, partnership, needles, gone)
    await scrub_deals(tx, partnership, [each for each in records if each.kind == "deal" and each.document.erased], now_ms)
    await scrub_contacts(tx, partnership, [each for each in records if "contact" in each.named], now_ms)


def names_gone(table: Any, gone: Gone) -> ColumnElement[bool]:
    """The rows of erased records and of erased fields."""
    whole = table.c.uid.in_(sorted(uid for uid, fields in gone.items() if fields >= WHOLE))
    single = [(uid, name) for uid, fields in gone.items() for name in sorted(fields - WHOLE)]
    return or_(whole, tuple_(table.c.uid, table.c.field).in_(single)) if single else whole


async def scrub_outbox(tx: AsyncConnection, partnership: str, needles: Collection[str], gone: Gone) -> None:
    """Rewrite the queued events that carry any of it to their erased state; they keep id, number and place."""
    anywhere = or_(*(outbox.c.payload.contains(needle, autoescape=True) for needle in sorted(needles)))
    mentions = or_(outbox.c.registration.in_(sorted(needles)), and_(outbox.c.registration.is_(None), anywhere))
    rows = (await tx.execute(select(outbox.c.id, outbox.c.payload).where(outbox.c.partnership == partnership, mentions))).all()
    stripped = [(id, strip_event(decode_event(payload.encode()), gone)) for id, payload in rows]
    changed = [{"id": id, "payload": encode_event(event).decode()} for id, event in stripped if event is not None]
    await change_rows(tx, outbox, changed, "id")


async def scrub_parked(tx: AsyncConnection, partnership: str, needles: Collection[str], gone: Gone) -> None:
    """The same for what is parked; what names it and can not be read keeps its place and loses its bytes."""
    marks, after = [each.encode() for each in needles], 0
    while True:
        page = select(parked.c.id, parked.c.payload).where(parked.c.partnership == partnership, parked.c.id > after)
        rows = (await tx.execute(page.order_by(parked.c.id).limit(CHUNK))).all()
        changed = [
            {"id": row.id, "payload": strip_payload(row.payload, gone), "detail": WITHOUT_ID}
            for row in rows
            if row.payload is not None and any(mark in row.payload for mark in marks)
        ]
        await change_rows(tx, parked, changed, "id")
        if len(rows) < CHUNK:
            return
        after = rows[-1].id


def strip_payload(payload: bytes, gone: Gone) -> bytes | None:
    try:
        event = decode_event(payload)
    except Undecodable:
        return None
    stripped = strip_event(event, gone)
    return payload if stripped is None else encode_event(stripped)


async def scrub_deals(tx: AsyncConnection, partnership: str, records: Sequence[SharedRecord], now_ms: int) -> None:
    """The shared columns of this CRM's deals, and their history; not of a deal that is kept for another registration."""
    if records:
        await deals.erase_shared_columns(tx, partnership, {str(each.registration) for each in records}, now_ms)


async def scrub_contacts(tx: AsyncConnection, partnership: str, records: Sequence[SharedRecord], now_ms: int) -> None:
    """This CRM's own contacts that the erased details had been matched with, or made."""
    for record in records:
        before = record.before()
        described = value_of(before.document, "contact") if before else None
        if isinstance(described, dict):
            deal = select(shared_deals.c.deal_id).where(shared_deals.c.partnership == partnership, shared_deals.c.uid == record.uid)
            await customers.erase_contacts(tx, await customers.find_contacts(tx, described, deal), now_ms)
