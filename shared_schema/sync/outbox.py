"""The outbox: the durable queue of facts. A row stays until the peer has acknowledged it; Kafka is only transport."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Integer, and_, bindparam, delete, exists, func, not_, or_, select, true, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import Event, encode_event
from shared_schema.contract.envelope import EVENT_BYTES_MAX
from shared_schema.crm.rows import Among, insert_rows
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import SYNCED, partnerships
from shared_schema.sync.tables import leases, outbound_epochs, outbox, owed_states, restorations

BACKLOG_MAX = 100_000
TAIL_CHARACTERS = 50
REMINDED = 4  # epochs of which a heartbeat says what was acknowledged, so that a peer whose store went back learns what it has lost
WAITING = (outbox.c.published_ms.is_(None), outbox.c.held.is_(None))


class EventTooLarge(ValueError):
    """A command that would make an event over 900 KiB, or more of a record this side's than its room; shorten its texts, or split it."""


class Pending(NamedTuple):
    """A row to publish; epoch and sequence are set if it goes again under its old number."""

    id: int
    event: str
    registration: str | None
    payload: str
    epoch: str | None
    sequence: int | None


async def append(tx: AsyncConnection, events: Sequence[Event], now_ms: int, held: str | None = None, *, destroys: bool = False) -> None:
    """Queue events in the transaction that makes them true. Lock their records first: then id order is commit order per record.
    `held`: why they wait unsent, if they do. `destroys`: a command deletes something by them."""
    if events:
        await insert_rows(tx, outbox, [make_row(event, now_ms) | {"held": held, "destroys": destroys} for event in events])


def fits(event: Event) -> bool:
    return len(encode_event(event)) <= EVENT_BYTES_MAX


def make_row(event: Event, now_ms: int) -> dict[str, Any]:
    payload = encode_event(event)
    if len(payload) > EVENT_BYTES_MAX:
        raise EventTooLarge(f"{event.type} would take {len(payload):,} bytes of at most {EVENT_BYTES_MAX:,}; split or shorten it")
    return {
        "partnership": event.partnership,
        "registration": event.registration,
        "event": event.id,
        "answers": event.causation if event.data.outcomes else None,
        "payload": payload.decode(),
        "created_ms": now_ms,
    }


OURS = outbox.c.partnership == bindparam("partnership")
BEING_RESTORED = exists().where(restorations.c.partnership == bindparam("partnership"))
ERASES = outbox.c.payload.like('%"type":"record.erased"%')
MAY_LEAVE = or_(outbox.c.epoch.is_not(None), not_(outbox.c.destroys), not_(BEING_RESTORED))
# Said as a range, so that only the index of what is pending has this order: else PostgreSQL, whose statistics know nothing of what was
# published since, walks the primary key through all of that, every time.
OURS_IN_ORDER = outbox.c.partnership.between(bindparam("partnership"), bindparam("partnership"))
PENDING = Statement(
    select(outbox.c.id, outbox.c.event, outbox.c.registration, outbox.c.payload, outbox.c.epoch, outbox.c.sequence)
    .where(OURS_IN_ORDER, *WAITING, not_(Among(outbox.c.id, "in_flight")), MAY_LEAVE)
    .order_by(outbox.c.partnership, outbox.c.id)
    .limit(bindparam("limit", type_=BigInteger()))
)


async def read_pending(connection: AsyncConnection, partnership: str, in_flight: Collection[int], limit: int) -> list[Pending]:
    """The oldest unpublished rows that are neither in flight nor held. Never by a last id: id order is not commit order. While the store
    is being restored a deletion that has no number yet waits: it can not have had in view what is still to come back."""
    parameters = {"partnership": partnership, "in_flight": sorted(in_flight), "limit": limit}
    return [Pending(*row) for row in await PENDING.fetch(connection, parameters)]


IN_ROW = Statement(
    update(outbox)
    .where(outbox.c.id.between(bindparam("first"), bindparam("last")), outbox.c.published_ms.is_(None))
    .values(epoch=bindparam("epoch"), sequence=outbox.c.id + bindparam("ahead", type_=BigInteger()), published_ms=bindparam("now_ms"))
)
SINGLY = Statement(
    update(outbox)
    .where(outbox.c.id == bindparam("row"), outbox.c.published_ms.is_(None))
    .values(epoch=bindparam("epoch"), sequence=bindparam("number"), published_ms=bindparam("now_ms"))
)
LAST = select(outbox.c.event).where(outbox.c.id == bindparam("last")).scalar_subquery()
NAMED = Statement(select(leases.c.epoch, LAST).where(leases.c.name == bindparam("lease")).with_for_update())


async def mark_published(
    tx: AsyncConnection, lease: str, epoch: str, numbers: Sequence[tuple[int, int]], last_event: str, now_ms: int
) -> int:
    """Give published rows (id, sequence) their number, only while the lease still names this epoch and the last one is still of this event:
    in a store that went back unnoticed the ids of lost rows stand for others soon. How many were published."""
    if not numbers or not await names_epoch(tx, lease, epoch, (numbers[-1][0], last_event)):
        return 0
    (first, number), (last, _) = numbers[0], numbers[-1]
    if all(id - sequence == first - number for id, sequence in numbers):
        named = {"first": first, "last": last, "ahead": number - first, "epoch": epoch, "now_ms": now_ms}
        await IN_ROW.fetch(tx, named)
        return len(numbers)
    await SINGLY.run_each(tx, [{"row": id, "number": sequence, "epoch": epoch, "now_ms": now_ms} for id, sequence in numbers])
    return len(numbers)


async def mark_resent(tx: AsyncConnection, ids: Sequence[int], now_ms: int) -> None:
    """Rows that went again under their old number."""
    if ids:
        await tx.execute(update(outbox).where(outbox.c.id.in_(ids), outbox.c.epoch.is_not(None)).values(published_ms=now_ms))


async def names_epoch(tx: AsyncConnection, lease: str, epoch: str, last: tuple[int, str]) -> bool:
    """Whether the lease names this epoch now, and the row of this id is of this event; locked until the transaction ends."""
    id, event = last
    return [tuple(row) for row in await NAMED.fetch(tx, {"lease": lease, "last": id})] == [(epoch, event)]


LAST_NUMBERS = select(outbox.c.epoch, func.max(outbox.c.sequence)).where(OURS, outbox.c.epoch.is_not(None)).group_by(outbox.c.epoch)
NEWEST = (
    select(outbound_epochs.c.epoch, outbound_epochs.c.acknowledged)
    .where(outbound_epochs.c.partnership == bindparam("partnership"), outbound_epochs.c.acknowledged > 0)
    .order_by(outbound_epochs.c.began_ms.desc(), outbound_epochs.c.epoch)
    .limit(REMINDED)
    .subquery()
)
NUMBERS = Statement(union_all(select(NEWEST), LAST_NUMBERS))


async def read_last_numbers(connection: AsyncConnection, partnership: str) -> dict[str, int]:
    """For the heartbeat: the last number of every epoch with unacknowledged rows, and of the newest the last acknowledged; the higher one
    where an epoch has both."""
    rows = await NUMBERS.fetch(connection, {"partnership": partnership})
    return {epoch: last for epoch, last in sorted(tuple(row) for row in rows)}


async def request_again(tx: AsyncConnection, partnership: str, epoch: str, ranges: Iterable[tuple[int, int]]) -> set[int]:
    """Make the rows with these numbers pending again, under their old numbers; the numbers that were found."""
    within = or_(*(outbox.c.sequence.between(first, last) for first, last in ranges))
    where = and_(outbox.c.partnership == partnership, outbox.c.epoch == epoch, within)
    found = await tx.execute(update(outbox).where(where).values(published_ms=None).returning(outbox.c.sequence))
    return set(found.scalars())


class Removed(NamedTuple):
    """A row that the peer has applied: when it was made (ms), the event of the peer's that it answered, its registration, if any, its own
    event and number, and how its payload ends: with its type."""

    created_ms: int
    answers: str | None
    registration: str | None
    event: str
    sequence: int
    tail: str

    @property
    def kind(self) -> str:
        """The kind of record that the event's type names."""
        return self.tail.rpartition('"type":"')[2].partition(".")[0]


OF_EPOCH = (outbox.c.epoch == bindparam("epoch"), outbox.c.sequence <= bindparam("watermark"))
TAIL = func.substr(outbox.c.payload, func.length(outbox.c.payload) - TAIL_CHARACTERS)
REMOVED = (outbox.c.created_ms, outbox.c.answers, outbox.c.registration, outbox.c.event, outbox.c.sequence, TAIL)
REMOVE = Statement(delete(outbox).where(OURS, *OF_EPOCH, not_(Among(outbox.c.event, "withheld"))).returning(*REMOVED))


async def remove_acknowledged(
    tx: AsyncConnection, partnership: str, epoch: str, watermark: int, withheld: Collection[str]
) -> list[Removed]:
    """Drop what the peer has applied: only below its watermark, and without what it withholds."""
    parameters = {"partnership": partnership, "epoch": epoch, "watermark": watermark, "withheld": list(withheld)}
    return [Removed(*row) for row in await REMOVE.fetch(tx, parameters)]


OF_OURS = outbound_epochs.c.partnership == bindparam("partnership")
BORNE = (outbox.c.partnership == outbound_epochs.c.partnership, outbox.c.epoch == outbound_epochs.c.epoch)
BEARS = select(true()).where(*BORNE).limit(1).scalar_subquery()  # else PostgreSQL may look at all of the outbox at once
ACKNOWLEDGED = Statement(
    select(outbound_epochs.c.epoch, outbound_epochs.c.acknowledged, outbound_epochs.c.explained, BEARS)
    .where(OF_OURS, Among(outbound_epochs.c.epoch, "epochs"))
    .order_by(outbound_epochs.c.epoch)
    .with_for_update()
)
ACKNOWLEDGE = Statement(
    update(outbound_epochs)
    .where(OF_OURS, outbound_epochs.c.epoch == bindparam("at"))
    .values(acknowledged=bindparam("watermark"), explained=bindparam("known"), moved_ms=bindparam("now_ms"))
)


class Reached(NamedTuple):
    """Of an epoch of ours: the peer's watermark, the highest number that it may acknowledge all the same, because its row was taken out
    unacknowledged or the peer's store went back behind it, and whether a row bears the epoch."""

    acknowledged: int
    explained: int
    bears: bool


async def raise_acknowledged(tx: AsyncConnection, partnership: str, watermarks: Mapping[str, int], now_ms: int) -> dict[str, Reached]:
    """Keep the peer's watermarks of epochs of ours; what was reached before, of those that we ever had."""
    found = await ACKNOWLEDGED.fetch(tx, {"partnership": partnership, "epochs": sorted(watermarks)})
    before = {epoch: Reached(acknowledged, explained, bool(bears)) for epoch, acknowledged, explained, bears in found}
    for epoch, reached in before.items():
        if watermarks[epoch] != reached.acknowledged:
            known = max(reached.acknowledged, reached.explained)
            moved = {"partnership": partnership, "at": epoch, "watermark": watermarks[epoch], "known": known, "now_ms": now_ms}
            await ACKNOWLEDGE.fetch(tx, moved)
    return before


WITHHELD = Statement(select(outbox.c.answers).where(OURS, outbox.c.answers.is_not(None)).distinct())


async def read_withheld(connection: AsyncConnection, partnership: str) -> list[str]:
    """The peer's events whose outcome it has not acknowledged yet: they must not read as applied there."""
    return sorted(answered for (answered,) in await WITHHELD.fetch(connection, {"partnership": partnership}))


UNSENT = select(outbox.c.id).where(OURS, *WAITING).limit(BACKLOG_MAX)
HELD = select(outbox.c.id).where(OURS, outbox.c.held.is_not(None)).limit(BACKLOG_MAX)
FIRST_WAITING = union_all(*(select(each.subquery()) for each in (UNSENT, HELD))).subquery()  # each by its own index
UNPAID = (owed_states.c.partnership == bindparam("partnership"), owed_states.c.event.is_(None))
FIRST_UNPAID = select(owed_states.c.uid).where(*UNPAID).limit(BACKLOG_MAX).subquery()
UNPAID_COUNT = select(func.count()).select_from(FIRST_UNPAID).scalar_subquery()
COUNT_WAITING = Statement(select(func.count() + UNPAID_COUNT).select_from(FIRST_WAITING))


async def count_pending(connection: AsyncConnection, partnership: str) -> int:
    """Rows that wait to be published, rows that the brake holds, and states that are owed and not queued yet; of each up to BACKLOG_MAX are
    counted."""
    ((count,),) = await COUNT_WAITING.fetch(connection, {"partnership": partnership})
    return int(count)


PENDING_OF = (outbox.c.partnership == partnerships.c.id, *WAITING)
PENDS = select(true()).where(*PENDING_OF).limit(1).scalar_subquery()
SERVABLE = Statement(select(partnerships.c.id, PENDS).where(partnerships.c.status.in_(SYNCED)))


async def read_servable(connection: AsyncConnection) -> dict[str, bool]:
    """The partnerships that are to be synced, and whether rows of theirs wait to be published."""
    return {partnership: bool(pends) for partnership, pends in await SERVABLE.fetch(connection, {})}


LONGER = select(outbox.c.id).where(outbox.c.partnership == bindparam("of")).limit(1).offset(bindparam("rows", type_=Integer()))
LONGER_AT_ALL, LONGER_WAITING = Statement(LONGER), Statement(LONGER.where(*WAITING))
PARTNERSHIPS = Statement(select(outbox.c.partnership).distinct())


async def is_longer(connection: AsyncConnection, partnership: str, rows: int, *, pending: bool = False) -> bool:
    """Whether more than so many rows of a partnership are here, or wait to be published."""
    statement = LONGER_WAITING if pending else LONGER_AT_ALL
    return bool(await statement.fetch(connection, {"of": partnership, "rows": rows}))


async def list_partnerships(connection: AsyncConnection) -> list[str]:
    """The partnerships that have rows here."""
    return sorted(partnership for (partnership,) in await PARTNERSHIPS.fetch(connection, {}))


async def take_oldest(tx: AsyncConnection, partnership: str, limit: int) -> list[str]:
    """Remove the oldest rows that neither answer nor erase anything, so that nothing is to be said of them, are not held and need not wait
    for a restoration; their payloads."""
    free = (OURS, outbox.c.answers.is_(None), outbox.c.held.is_(None), not_(ERASES), MAY_LEAVE)
    oldest = select(outbox.c.id).where(*free).order_by(outbox.c.id).limit(limit)
    columns = (outbox.c.payload, outbox.c.epoch, outbox.c.sequence)
    taken = (await tx.execute(delete(outbox).where(outbox.c.id.in_(oldest)).returning(*columns), {"partnership": partnership})).all()
    await note_dropped(tx, partnership, [(row.epoch, row.sequence) for row in taken if row.epoch is not None])
    return [row.payload for row in taken]


async def note_dropped(tx: AsyncConnection, partnership: str, numbers: Iterable[tuple[str, int]]) -> None:
    """Remember that rows with these numbers (epoch, sequence) went unacknowledged: the peer may acknowledge them yet, and that is no sign
    of a store that went back."""
    highest: dict[str, int] = {}
    for epoch, sequence in numbers:
        highest[epoch] = max(sequence, highest.get(epoch, 0))
    for epoch, sequence in sorted(highest.items()):
        where = (outbound_epochs.c.partnership == partnership, outbound_epochs.c.epoch == epoch, outbound_epochs.c.explained < sequence)
        await tx.execute(update(outbound_epochs).where(*where).values(explained=sequence))
