"""The records whose whole state the peer is owed: after a repair, by a peer that went back, or because the outbox grew past its limit.

A debt is a row, so it costs the same however often a record changes meanwhile, outlives a crash, and is paid in pieces of bounded size.
It is forgotten once the event that paid it has left the outbox.
"""

import logging
from collections.abc import Collection
from typing import Any

from sqlalchemy import BigInteger, Delete, Select, and_, bindparam, case, delete, exists, func, literal, null, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import decode_event
from shared_schema.contract.records import KINDS
from shared_schema.crm.rows import Among, in_partnership, insert_for, take_turn, upsert
from shared_schema.crm.shared_records import load_records
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import partnerships, shared_records
from shared_schema.sync import metrics, outbox
from shared_schema.sync.brake import find_held
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.log_lines import ids
from shared_schema.sync.restate import cut, depth_of, make_statement
from shared_schema.sync.tables import outbox as outbox_rows
from shared_schema.sync.tables import owed_states, peer_outcomes

PIECE_RECORDS = 1_000
OWES = Statement(select(literal(1)).where(owed_states.c.partnership == bindparam("of")).limit(1))
DEPTHS = {kind: depth_of(kind) for kind in KINDS} | {"policy": -1}  # by the policy the others are judged
DEPTH = case(DEPTHS, value=shared_records.c.kind, else_=len(KINDS))
OF_PARTNERSHIP = select(shared_records.c.partnership, shared_records.c.uid, DEPTH, null()).where(
    shared_records.c.partnership == bindparam("of")
)
NEXT = Statement(
    select(owed_states.c.uid, owed_states.c.depth, outbox.BEING_RESTORED)
    .where(owed_states.c.partnership == bindparam("partnership"), owed_states.c.event.is_(None))
    .order_by(owed_states.c.depth, owed_states.c.uid)
    .limit(bindparam("most", type_=BigInteger()))
)
DELETING = Statement(
    select(outbox_rows.c.payload).where(outbox.OURS, *outbox.WAITING, outbox_rows.c.destroys, outbox_rows.c.epoch.is_(None))
)
OWING = Statement(
    select(partnerships.c.id)
    .where(exists().where(owed_states.c.partnership == partnerships.c.id, owed_states.c.event.is_(None)))
    .order_by(partnerships.c.id)
)
TRAVELLING = exists().where(outbox_rows.c.event == owed_states.c.event)
PAYING = (owed_states.c.partnership == bindparam("of"), owed_states.c.event.is_not(None), ~TRAVELLING)
PAID = Statement(delete(owed_states).where(*PAYING).returning(owed_states.c.uid, owed_states.c.event))


def forget_ignored() -> Delete:
    """What the peer had ignored of paid records, unless it said something of the payments (events), too."""
    ignored, told = peer_outcomes, peer_outcomes.alias()
    again = (told.c.partnership == ignored.c.partnership, told.c.uid.in_((ignored.c.uid, "")), Among(told.c.event, "events"))
    of_them = (ignored.c.partnership == bindparam("of"), Among(ignored.c.uid, "uids"), ignored.c.outcome == "ignored")
    return delete(ignored).where(*of_them, ~exists().where(*again))


FORGET_IGNORED = Statement(forget_ignored())

log = logging.getLogger(__name__)


async def owe_all(tx: AsyncConnection, partnership: str) -> None:
    """The peer is owed every record of the partnership."""
    await owe_selected(tx, OF_PARTNERSHIP, {"of": partnership})


async def owe(tx: AsyncConnection, partnership: str, uids: Collection[str]) -> None:
    """The peer is owed these records; those that are not here are passed over."""
    if uids:
        await owe_selected(tx, OF_PARTNERSHIP.where(Among(shared_records.c.uid, "uids")), {"of": partnership, "uids": sorted(uids)})


async def owe_selected(tx: AsyncConnection, chosen: Select[Any], parameters: dict[str, Any]) -> None:
    statement = insert_for(tx.dialect.name, owed_states).from_select(["partnership", "uid", "depth", "event"], chosen)
    key = [owed_states.c.partnership, owed_states.c.uid]
    await tx.execute(statement.on_conflict_do_update(index_elements=key, set_={"event": null()}), parameters)


async def pay(tx: AsyncConnection, incarnation: Incarnation, partnership: str) -> int:
    """Queue the next piece of what is owed, parents first; how many records. A store that is being restored says nothing of deletions that
    wait for the end of that: then the peer is owed everything. What no event can carry is passed over and owed no more; the log, a metric
    and each verification name it."""
    await take_turn(tx, f"owed:{partnership}")
    found = await NEXT.fetch(tx, {"partnership": partnership, "most": PIECE_RECORDS})
    if not found:
        return 0
    depths, restoring = {uid: depth for uid, depth, _ in found}, bool(found[0][2])
    records = await load_records(tx, partnership, depths)
    ordered = sorted(records.values(), key=lambda record: (depths[record.uid], record.uid))
    held = {uid for uid, _ in await find_held(tx, partnership, "out")}
    held |= await find_deleting(tx, partnership) if restoring else set()
    events, rows, unfit = [], [], []
    for some in cut(ordered):
        event = make_statement(incarnation, partnership, some, held)
        if len(some) == 1 and not outbox.fits(event):  # a piece of several fits, or it would have been cut
            unfit.append(some[0].uid)
            continue
        if event.data.records:
            events.append(event)
        rows += [{"partnership": partnership, "uid": each.uid, "depth": depths[each.uid], "event": event.id} for each in some]
    await outbox.append(tx, events, incarnation.clock.now_ms())
    await upsert(tx, owed_states, rows, ("event",))
    await pass_over(tx, partnership, unfit)
    return len(found)


async def find_deleting(tx: AsyncConnection, partnership: str) -> set[str]:
    """The records that people deleted here while the store is being restored."""
    payloads = [decode_event(payload.encode()) for (payload,) in await DELETING.fetch(tx, {"partnership": partnership})]
    return {change.uid for event in payloads for change in event.data.records}


async def pass_over(tx: AsyncConnection, partnership: str, uids: Collection[str]) -> None:
    """Drop the debts of records that no event can carry, aloud."""
    if not uids:
        return
    await forget(tx, partnership, uids)
    metrics.unstated.labels(partnership).inc(len(uids))
    for uid in uids:
        log.error("the state of a record is too large for an event, and is passed over", extra=ids(partnership, uid=uid))


async def forget(tx: AsyncConnection, partnership: str, uids: Collection[str]) -> None:
    """These are no longer owed."""
    if uids:
        where = (owed_states.c.partnership == partnership, Among(owed_states.c.uid, "uids"))
        await tx.execute(delete(owed_states).where(*where), {"uids": sorted(uids)})


async def list_owing(connection: AsyncConnection) -> list[str]:
    """The partnerships with something owed that is not queued yet."""
    return [partnership for (partnership,) in await OWING.fetch(connection, {})]


async def owe_registrations(tx: AsyncConnection, partnership: str, registrations: Collection[str]) -> None:
    """The peer is owed every record of these registrations."""
    its = OF_PARTNERSHIP.where(Among(shared_records.c.registration, "registrations"))
    await owe_selected(tx, its, {"of": partnership, "registrations": sorted(registrations)})


async def forgive(tx: AsyncConnection, partnership: str, registration: str) -> set[str]:
    """What is not queued yet of a registration is no longer owed, because its sharing stops, but for what is erased; the records' uids."""
    of_it = (in_partnership(shared_records, partnership), shared_records.c.registration == registration)
    its = select(shared_records.c.uid).where(*of_it, shared_records.c.state != "erased")
    where = (owed_states.c.partnership == partnership, owed_states.c.event.is_(None), owed_states.c.uid.in_(its))
    return set((await tx.execute(delete(owed_states).where(*where).returning(owed_states.c.uid))).scalars())


async def forget_paid(tx: AsyncConnection, partnership: str) -> None:
    """Drop the debts whose events the peer has acknowledged. Of what it took so it no longer holds that it had ignored something before."""
    paid = {uid: event for uid, event in await PAID.fetch(tx, {"of": partnership})}
    if paid:
        await FORGET_IGNORED.fetch(tx, {"of": partnership, "uids": sorted(paid), "events": sorted(set(paid.values()))})


async def is_owing(connection: AsyncConnection, partnership: str) -> bool:
    """Whether states of this partnership wait to be queued or acknowledged."""
    return bool(await OWES.fetch(connection, {"of": partnership}))


async def count_owed(connection: AsyncConnection) -> dict[str, int]:
    """Records whose state is owed, per partnership."""
    statement = select(owed_states.c.partnership, func.count()).group_by(owed_states.c.partnership)
    return {partnership: count for partnership, count in await connection.execute(statement)}


async def load_owed(connection: AsyncConnection, partnership: str, registration: str) -> dict[str, str]:
    """Of one registration's records that are owed: pending until the broker has the state, then sent."""
    record = and_(shared_records.c.partnership == owed_states.c.partnership, shared_records.c.uid == owed_states.c.uid)
    joined = owed_states.join(shared_records, record).outerjoin(outbox_rows, outbox_rows.c.event == owed_states.c.event)
    where = (in_partnership(shared_records, partnership), shared_records.c.registration == registration)
    rows = await connection.execute(select(owed_states.c.uid, outbox_rows.c.published_ms).select_from(joined).where(*where))
    return {uid: "pending" if published_ms is None else "sent" for uid, published_ms in rows}
