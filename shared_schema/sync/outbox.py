"""The outbox: the durable queue of facts. A row stays until the peer has acknowledged it; Kafka is only transport."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import and_, delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import Event, encode_event
from shared_schema.contract.envelope import EVENT_BYTES_MAX
from shared_schema.crm.rows import insert_rows
from shared_schema.sync.tables import leases, outbound_epochs, outbox, restorations

BACKLOG_MAX = 100_000
DELETIONS = ("deal.deleted", "deal.left", "deal.unshared", "note.deleted", "comment.deleted", "record.erased")


class EventTooLarge(ValueError):
    """A command that would make an event over 900 KiB; split it or shorten its texts."""


class Pending(NamedTuple):
    """A row to publish; epoch and sequence are set if it goes again under its old number."""

    id: int
    registration: str | None
    payload: str
    epoch: str | None
    sequence: int | None


async def append(tx: AsyncConnection, events: Sequence[Event], now_ms: int) -> None:
    """Queue events in the transaction that makes them true. Lock their records first: then id order is commit order per record."""
    if events:
        await insert_rows(tx, outbox, [make_row(event, now_ms) for event in events])


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


DELETES = and_(outbox.c.epoch.is_(None), or_(*(outbox.c.payload.like(f'%"type":"{each}"%') for each in DELETIONS)))


async def read_pending(connection: AsyncConnection, partnership: str, in_flight: Collection[int], limit: int) -> list[Pending]:
    """The oldest unpublished rows that are not in flight. Never by a last id: id order is not commit order. While the store is being
    restored a deletion that has no number yet waits: it can not have had in view what is still to come back."""
    restoring = exists().where(restorations.c.partnership == partnership)
    statement = (
        select(outbox.c.id, outbox.c.registration, outbox.c.payload, outbox.c.epoch, outbox.c.sequence)
        .where(outbox.c.partnership == partnership, outbox.c.published_ms.is_(None), or_(~restoring, ~DELETES))
        .order_by(outbox.c.id)
        .limit(limit + len(in_flight))
    )
    rows = [Pending(*row) for row in await connection.execute(statement)]
    return [row for row in rows if row.id not in in_flight][:limit]


async def mark_published(tx: AsyncConnection, lease: str, epoch: str, numbers: Sequence[tuple[int, int]], now_ms: int) -> int:
    """Give published rows (id, sequence) their number, only while the lease still names this epoch; how many were marked."""
    if not numbers or not await names_epoch(tx, lease, epoch):
        return 0
    first, last = min(id for id, _ in numbers), max(id for id, _ in numbers)
    by_sequence = dict(numbers)
    span = outbox.c.id - first
    if by_sequence == {first + step: numbers[0][1] + step for step in range(last - first + 1)}:
        values = {"epoch": epoch, "sequence": numbers[0][1] + span, "published_ms": now_ms}
        where = and_(outbox.c.id.between(first, last), outbox.c.published_ms.is_(None))
        return (await tx.execute(update(outbox).where(where).values(values))).rowcount
    for id, sequence in numbers:
        where = and_(outbox.c.id == id, outbox.c.published_ms.is_(None))
        await tx.execute(update(outbox).where(where).values(epoch=epoch, sequence=sequence, published_ms=now_ms))
    return len(numbers)


async def mark_resent(tx: AsyncConnection, ids: Sequence[int], now_ms: int) -> None:
    """Rows that went again under their old number."""
    if ids:
        await tx.execute(update(outbox).where(outbox.c.id.in_(ids), outbox.c.epoch.is_not(None)).values(published_ms=now_ms))


async def names_epoch(tx: AsyncConnection, lease: str, epoch: str) -> bool:
    """Whether the lease names this epoch now; locked until the transaction ends."""
    row = await tx.execute(select(leases.c.epoch).where(leases.c.name == lease).with_for_update())
    return row.scalar_one_or_none() == epoch


async def read_last_numbers(connection: AsyncConnection, partnership: str) -> dict[str, int]:
    """The last number of every epoch with unacknowledged rows, for the heartbeat."""
    statement = (
        select(outbox.c.epoch, func.max(outbox.c.sequence))
        .where(outbox.c.partnership == partnership, outbox.c.epoch.is_not(None))
        .group_by(outbox.c.epoch)
    )
    return {epoch: last for epoch, last in await connection.execute(statement)}


async def request_again(tx: AsyncConnection, partnership: str, epoch: str, ranges: Iterable[tuple[int, int]]) -> set[int]:
    """Make the rows with these numbers pending again, under their old numbers; the numbers that were found."""
    within = or_(*(outbox.c.sequence.between(first, last) for first, last in ranges))
    where = and_(outbox.c.partnership == partnership, outbox.c.epoch == epoch, within)
    found = await tx.execute(update(outbox).where(where).values(published_ms=None).returning(outbox.c.sequence))
    return set(found.scalars())


class Removed(NamedTuple):
    """A row that the peer has applied: when it was made (ms), the event of the peer's that it answered, its registration, if any, and its
    own event and number."""

    created_ms: int
    answers: str | None
    registration: str | None
    event: str
    sequence: int


async def remove_acknowledged(
    tx: AsyncConnection, partnership: str, epoch: str, watermark: int, withheld: Collection[str]
) -> list[Removed]:
    """Drop what the peer has applied: only below its watermark, and without what it withholds."""
    where = and_(outbox.c.partnership == partnership, outbox.c.epoch == epoch, outbox.c.sequence <= watermark)
    if withheld:
        where = and_(where, outbox.c.event.not_in(withheld))
    removed = await tx.execute(delete(outbox).where(where).returning(*REMOVED))
    return [Removed(*row) for row in removed]


REMOVED = (outbox.c.created_ms, outbox.c.answers, outbox.c.registration, outbox.c.event, outbox.c.sequence)


class Reached(NamedTuple):
    """Of an epoch of ours: the peer's watermark, and the highest number whose row was taken out unacknowledged."""

    acknowledged: int
    dropped: int


async def raise_acknowledged(tx: AsyncConnection, partnership: str, epoch: str, watermark: int) -> Reached | None:
    """Keep the peer's watermark of an epoch of ours; what was reached before, or None if we never had that epoch."""
    where = and_(outbound_epochs.c.partnership == partnership, outbound_epochs.c.epoch == epoch)
    columns = (outbound_epochs.c.acknowledged, outbound_epochs.c.dropped)
    before = (await tx.execute(select(*columns).where(where).with_for_update())).one_or_none()
    if before is not None and watermark != before.acknowledged:
        await tx.execute(update(outbound_epochs).where(where).values(acknowledged=watermark))
    return Reached(*before) if before is not None else None


async def read_withheld(connection: AsyncConnection, partnership: str) -> list[str]:
    """The peer's events whose outcome it has not acknowledged yet: they must not read as applied there."""
    statement = select(outbox.c.answers).where(outbox.c.partnership == partnership, outbox.c.answers.is_not(None)).distinct()
    return sorted((await connection.execute(statement)).scalars())


async def count_pending(connection: AsyncConnection, partnership: str) -> int:
    """Rows that wait to be published, counted up to BACKLOG_MAX."""
    first = select(outbox.c.id).where(outbox.c.partnership == partnership, outbox.c.published_ms.is_(None)).limit(BACKLOG_MAX).subquery()
    return int((await connection.execute(select(func.count()).select_from(first))).scalar_one())


async def is_longer(connection: AsyncConnection, partnership: str, rows: int, *, pending: bool = False) -> bool:
    """Whether more than so many rows of a partnership are here, or wait to be published."""
    statement = select(outbox.c.id).where(outbox.c.partnership == partnership)
    if pending:
        statement = statement.where(outbox.c.published_ms.is_(None))
    return (await connection.execute(statement.offset(rows).limit(1))).one_or_none() is not None


async def list_partnerships(connection: AsyncConnection) -> list[str]:
    """The partnerships that have rows here."""
    return sorted((await connection.execute(select(outbox.c.partnership).distinct())).scalars())


async def take_oldest(tx: AsyncConnection, partnership: str, limit: int) -> list[str]:
    """Remove the oldest rows that answer nothing; their payloads."""
    oldest = select(outbox.c.id).where(outbox.c.partnership == partnership, outbox.c.answers.is_(None)).order_by(outbox.c.id).limit(limit)
    columns = (outbox.c.payload, outbox.c.epoch, outbox.c.sequence)
    taken = (await tx.execute(delete(outbox).where(outbox.c.id.in_(oldest)).returning(*columns))).all()
    await note_dropped(tx, partnership, [(row.epoch, row.sequence) for row in taken if row.epoch is not None])
    return [row.payload for row in taken]


async def note_dropped(tx: AsyncConnection, partnership: str, numbers: Iterable[tuple[str, int]]) -> None:
    """Remember that rows with these numbers (epoch, sequence) went unacknowledged: the peer may acknowledge them yet, and that is no sign
    of a store that went back."""
    highest: dict[str, int] = {}
    for epoch, sequence in numbers:
        highest[epoch] = max(sequence, highest.get(epoch, 0))
    for epoch, sequence in sorted(highest.items()):
        where = (outbound_epochs.c.partnership == partnership, outbound_epochs.c.epoch == epoch, outbound_epochs.c.dropped < sequence)
        await tx.execute(update(outbound_epochs).where(*where).values(dropped=sequence))
