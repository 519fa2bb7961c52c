"""The emptier: after the time to restore it the content of what was deleted goes, once nothing of it is on its way any more, on either
side; the tombstone stays for ever."""

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, FromClause, Select, and_, delete, exists, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.documents import LIFE
from shared_schema.contract.registers import Sibling, write
from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.crm.deals import clear_shared_columns
from shared_schema.crm.policies import load_policy
from shared_schema.crm.projected_tables import shared_deals, trash
from shared_schema.crm.projection import project
from shared_schema.crm.shared_records import SharedRecord, load_of_registrations, load_records, save_records
from shared_schema.crm.tables import ENDED, partnerships, property_history, shared_records
from shared_schema.sync import bell
from shared_schema.sync.capture import Command, Write, capture
from shared_schema.sync.patience import keep_at
from shared_schema.sync.restorable import DAY_MS
from shared_schema.sync.station import Station, Work
from shared_schema.sync.tables import inbound_epochs, outbox, owed_states, parked, peers, restorations

SWEEP_S = 600.0
GRACE_DAYS = 7  # a restore of the last hour may still be on its way here: what it brings back must not be gone
BATCH = 500
NEVER_MS = -1
PARTS = ("note", "comment", "product", "quote", "eligibility", "member")


class Emptier:
    """One process's. What a second one beside it has swept is swept."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.wake = station.bell.listen("trash")

    async def run(self) -> None:
        """Until cancelled."""
        await keep_at("the trash", self.turn, (DatabaseUnavailable,))

    async def turn(self) -> None:
        while await sweep(self.station) == BATCH:
            continue
        await bell.wait(self.wake, SWEEP_S)


class Heap(NamedTuple):
    """One partnership's trash: the moment of its oldest deletion, up to when the peer had said everything, when something was parked last
    (UTC ms), and whether something is missing or a restoration goes on."""

    partnership: str
    ended: bool
    oldest_ms: int
    whole_ms: int
    parked_ms: int
    missing: bool


class Span(NamedTuple):
    """Deletions after one moment and before another (UTC ms) whose days are over; `ended`: they wait for nobody."""

    partnership: str
    ended: bool
    after_ms: int
    before_ms: int


async def sweep(station: Station) -> int:
    """Clear the content of what was deleted too long ago to be restored, of which nothing is on its way; how many, at most BATCH. However
    long the peer is away, what it may have restored in time stays until it was heard; a partnership that has ended waits for nobody."""
    kept_ms, proven = (station.keeping.trash_days + GRACE_DAYS) * DAY_MS, station.proven()
    async with station.working() as work:
        heaps = [Heap(*row) for row in await work.tx.execute(select_heaps())]
        spans = [span for each in heaps if (span := find_span(each, work.now_ms - kept_ms, kept_ms, proven))]
        found = await find_due(work.tx, spans, [each.partnership for each in heaps if has_heard_all(each, proven)])
        ended = {each.partnership for each in heaps if each.ended}
        for partnership, uids in group(found):
            of_deals = await clear(work, partnership, list((await load_records(work.tx, partnership, uids)).values()))
            if partnership not in ended:  # there nobody is told, and all that is left is buried
                await delete_parts(work, partnership, of_deals)
        left = (await work.tx.execute(select_left().limit(BATCH - len(found)))).all()
        for partnership, uids in group(left):
            around = await load_of_registrations(work.tx, partnership, uids)
            await bury(work, partnership, [each for each in around.values() if each.kind in PARTS and each.state == "alive"])
    return len(found) + len(left)


def group(rows: Sequence[Any]) -> list[tuple[str, list[str]]]:
    """By partnership, the uids."""
    return [(each, [row.uid for row in rows if row.partnership == each]) for each in sorted({row.partnership for row in rows})]


def select_heaps() -> Select[Any]:
    """What each partnership's trash waits for, once and not for each thing in it; in the order of `Heap`."""
    oldest = select(func.min(trash.c.deleted_ms)).where(trash.c.partnership == partnerships.c.id).scalar_subquery()
    said = select(peers.c.whole_ms).where(peers.c.partnership == partnerships.c.id).scalar_subquery()
    letter = select(func.max(parked.c.at_ms)).where(parked.c.partnership == partnerships.c.id).scalar_subquery()
    going_back = exists().where(restorations.c.partnership == partnerships.c.id)
    gap = exists().where(inbound_epochs.c.partnership == partnerships.c.id, inbound_epochs.c.gaps != "[]")
    columns = (partnerships.c.id, partnerships.c.status == ENDED, oldest, func.coalesce(said, NEVER_MS), func.coalesce(letter, NEVER_MS))
    return select(*columns, or_(going_back, gap)).where(oldest.is_not(None)).order_by(partnerships.c.id)


def has_heard_all(heap: Heap, proven: Container[str]) -> bool:
    """Whether this store did not go back, by all that is known, and nothing of the partnership is missing. What is parked counts apart."""
    return heap.partnership in proven and not heap.missing


def find_span(heap: Heap, over_ms: int, kept_ms: int, proven: Container[str]) -> Span | None:
    """Which deletions' days are over, if any: those of before `over_ms` after which the peer has said, `kept_ms` later, all that it had to
    say, and after which nothing was parked."""
    after_ms, before_ms = (NEVER_MS, over_ms) if heap.ended else (heap.parked_ms, min(over_ms, heap.whole_ms - kept_ms))
    due = heap.oldest_ms < before_ms and after_ms < before_ms and (heap.ended or has_heard_all(heap, proven))
    return Span(heap.partnership, heap.ended, after_ms, before_ms) if due else None


async def find_due(tx: AsyncConnection, spans: Iterable[Span], heard: Sequence[str]) -> list[Any]:
    """What is to be cleared, at most BATCH: of these spans, and of these partnerships what lies below a deal that is gone."""
    found: dict[tuple[str, str], Any] = {}
    for statement in (*map(select_past, spans), select_below(heard)):
        if left := BATCH - len(found):
            found |= {(row.partnership, row.uid): row for row in await tx.execute(statement.limit(left))}
    return list(found.values())


def select_past(span: Span) -> Select[Any]:
    def is_within(table: FromClause) -> ColumnElement[bool]:
        return and_(table.c.partnership == span.partnership, table.c.deleted_ms > span.after_ms, table.c.deleted_ms < span.before_ms)

    waits = () if span.ended else (is_acknowledged(is_within),)
    return select(trash.c.partnership, trash.c.uid).where(is_within(trash), *waits).order_by(trash.c.deleted_ms)


def select_below(partnerships: Sequence[str]) -> Select[Any]:
    """Things in the trash that belong to a deal whose days are over."""

    def is_within(table: FromClause) -> ColumnElement[bool]:
        return table.c.partnership.in_(partnerships)

    others = trash.alias()
    of_same = (others.c.partnership == trash.c.partnership, others.c.registration == trash.c.registration)
    kept = exists().where(*of_same, others.c.kind == "deal")
    of_it = (shared_deals.c.partnership == trash.c.partnership, shared_deals.c.uid == trash.c.registration)
    deleted = exists().where(*of_it, shared_deals.c.state == "deleted")
    later = exists().where(parked.c.partnership == trash.c.partnership, parked.c.at_ms >= trash.c.deleted_ms)
    below = (is_within(trash), deleted, ~kept, ~later, is_acknowledged(is_within))
    return select(trash.c.partnership, trash.c.uid).where(*below).order_by(trash.c.id)


def is_acknowledged(is_within: Callable[[FromClause], ColumnElement[bool]]) -> ColumnElement[bool]:
    """Whether the peer had all of a thing in the trash and of its registration, which is looked up once, however much of it is within."""
    each = select(trash.c.partnership, trash.c.registration).where(is_within(trash)).distinct().subquery()
    sent = (outbox.c.registration == each.c.registration, outbox.c.partnership.concat("") == each.c.partnership)
    waiting = select(each.c.partnership, each.c.registration).where(exists().where(*sent))
    owed = (owed_states.c.partnership == trash.c.partnership, owed_states.c.uid == trash.c.uid)
    named = tuple_(trash.c.partnership, func.coalesce(trash.c.registration, ""))
    return and_(named.not_in(waiting), ~exists().where(*owed))


def select_left() -> Select[Any]:
    """The deals whose days are over and whose sharing has stopped, alone or with the partnership, in which something lives on: that the
    peer deleted what it made there is ignored here, or is not heard."""
    of_any = shared_deals.c.partnership.in_(select(partnerships.c.id))  # so that the index of statuses serves
    of_ended = shared_deals.c.partnership.in_(select(partnerships.c.id).where(partnerships.c.status == ENDED))
    over = (or_(and_(of_any, shared_deals.c.status == "unshared"), of_ended), shared_deals.c.state == "deleted")
    of_deal = (trash.c.partnership == shared_deals.c.partnership, trash.c.registration == shared_deals.c.uid, trash.c.kind == "deal")
    of_it = (shared_records.c.registration == shared_deals.c.uid, shared_records.c.partnership.concat("") == shared_deals.c.partnership)
    lives = exists().where(*of_it, shared_records.c.kind.in_(PARTS), shared_records.c.state == "alive")
    return select(shared_deals.c.partnership, shared_deals.c.uid).where(*over, ~exists().where(*of_deal), lives)


async def bury(work: Work, partnership: str, records: Sequence[SharedRecord]) -> None:
    """Delete in this side's copy what it made and what the peer made, and let go of the content; nobody is told."""
    for record in records:
        before = record.document.get(LIFE)
        stone = Sibling(work.incarnation.next_dot(), work.incarnation.next_stamp(), None, record.deletion())
        record.document.put(LIFE, write(before, before.context, stone))
        record.touch(LIFE, before)
    await clear(work, partnership, records)


async def delete_parts(work: Work, partnership: str, registrations: Sequence[str]) -> None:
    """Each side deletes what it made in deals whose days are over: notes, comments, lines. The brake has let the deals pass, and counts
    nothing of this."""
    around = await load_of_registrations(work.tx, partnership, registrations) if registrations else {}
    ours = [each for each in around.values() if each.side == work.side and each.kind in PARTS and each.state == "alive"]
    for registration in sorted({str(each.registration) for each in ours}):
        writes = [Write(each.uid, LIFE, each.deletion()) for each in ours if each.registration == registration]
        command = Command(partnership, registration, "deal.deleted", work.author.person, writes)
        await capture(work.tx, work.incarnation, None, command, work.due, limits=None)
        work.woken |= {partnership, "reactions"}


async def clear(work: Work, partnership: str, records: Sequence[SharedRecord]) -> list[str]:
    """Leave of deleted records what tombstones keep: life, and what was ever written, without any value; the registrations whose deals are
    among them."""
    gone = [each for each in records if each.state == "deleted"]
    for record in gone:
        record.clear()
    await save_records(work.tx, gone)
    await project(work.tx, work.side, gone, await load_policy(work.tx, partnership), work.now_ms)
    uids = sorted(each.uid for each in records)
    values = (property_history.c.partnership == partnership, property_history.c.uid.in_(uids), property_history.c.field != LIFE)
    await work.tx.execute(delete(property_history).where(*values))
    await work.tx.execute(delete(trash).where(trash.c.partnership == partnership, trash.c.uid.in_(uids)))
    of_deals = [str(each.registration) for each in gone if each.kind == "deal"]
    await clear_shared_columns(work.tx, partnership, of_deals)
    return of_deals
