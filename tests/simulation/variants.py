"""Wrong variants of the runtime (design §8), switched on by the tests: the simulation must catch each, or it can not be trusted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from unittest.mock import patch

from sqlalchemy import delete, select, update

from shared_schema.contract.documents import ERASED
from shared_schema.contract.registers import name_incarnation
from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.sync import apply, consumer, controls, notes, outbox, owed_states, parking, sequence
from shared_schema.sync import leases as lease_rules
from shared_schema.sync.arrivals import sort_arrivals
from shared_schema.sync.clock import Clock
from shared_schema.sync.consumer import Consumer
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.reactor import Reactor
from shared_schema.sync.relay import Relay
from shared_schema.sync.station import Work
from shared_schema.sync.tables import inbound_positions, leases, reactions
from shared_schema.sync.tables import outbox as rows
from tests.chaos.broken import tell_private_notes
from vendor_node.assignment import rotate
from vendor_node.reps import load_reps, save_credits


def incarnation_from_store() -> Any:
    """5: dots are counted on from what is always the same, as if read from the store."""

    def renew(self: Incarnation) -> None:
        self.name, self.count = name_incarnation(self.side, 1), 0

    return patch.object(Incarnation, "renew", renew)


class SameEpoch:
    """A clock whose randomness is always the same."""

    def __init__(self, clock: Clock) -> None:
        self.now_ms = clock.now_ms

    def random_bits(self, bits: int) -> int:
        return 7


def epoch_from_store() -> Any:
    """6: every relay counts from 1 under one epoch."""
    real = Relay.serve_epoch

    async def serve(self: Relay) -> None:
        self.clock = SameEpoch(self.clock)
        await real(self)

    return patch.object(Relay, "serve_epoch", serve)


def acknowledge_highest() -> Any:
    """7: the acknowledgement is the highest number seen, gaps or not; which removes rows above an open gap, the other half of 8: as
    acknowledgements name no gaps, there is no other way to it."""
    return patch.object(sequence, "watermark", lambda progress: progress.next - 1)


def remove_at_publish() -> Any:
    """8: rows go as soon as the broker has them."""

    async def mark(tx: Any, lease: str, epoch: str, numbers: Any, last_event: str, now_ms: int) -> int:
        await tx.execute(delete(rows).where(rows.c.id.in_([id for id, _ in numbers])))
        return len(numbers)

    return patch.object(outbox, "mark_published", mark)


def mark_when_stale() -> Any:
    """9: a relay marks whoever has the lease."""

    async def always(*_: Any) -> bool:
        return True

    return patch.object(outbox, "names_epoch", always)


def beat_live_epoch() -> Any:
    """10: a heartbeat names only the epoch that is running."""
    real = outbox.read_last_numbers

    async def read(connection: Any, partnership: str) -> dict[str, int]:
        running = (await connection.execute(select(leases.c.epoch).where(leases.c.name == f"relay:{partnership}"))).scalar_one_or_none()
        return {epoch: last for epoch, last in (await real(connection, partnership)).items() if epoch == running}

    return patch.object(outbox, "read_last_numbers", read)


def void_running_epoch() -> Any:
    """11: numbers of the epoch that is running are called void."""

    async def is_running(tx: Any, partnership: str, epoch: str) -> bool:
        return False

    return patch.object(controls, "is_running", is_running)


def merge_into_the_erased() -> Any:
    """19: what comes late is merged into what is erased."""
    real = apply.merge_change

    def merge_change(desk: Any, event: Any, change: Any) -> Any:
        record = desk.records.get(change.uid)
        if record is not None and not change.erased:
            record.document.raw().pop(ERASED, None)
        return real(desk, event, change)

    def is_below_erased(desk: Any, record: Any) -> bool:
        return False

    return both(patch.object(apply, "merge_change", merge_change), patch.object(apply, "is_below_erased", is_below_erased))


def ignore_who_went_back() -> Any:
    """20: a peer that went back gets nothing."""

    async def owe_all(tx: Any, partnership: str) -> None:
        """Nothing."""

    return patch.object(owed_states, "owe_all", owe_all)


def forget_withheld() -> Any:
    """Our own: a row goes although the outcome of its event is still on its way."""
    real = outbox.remove_acknowledged

    async def remove(tx: Any, partnership: str, epoch: str, watermark: int, withheld: Any) -> Any:
        return await real(tx, partnership, epoch, watermark, [])

    return patch.object(outbox, "remove_acknowledged", remove)


def wait_for_astray_leases() -> Any:
    """Our own: a lease taken before the clock went back is waited for."""
    return patch.object(lease_rules, "ASTRAY_MS", 1 << 50)


def mark_before_publish() -> Any:
    """12: rows are marked, then sent."""

    async def settle(self: Relay, shipment: Any, epoch: str) -> None:
        async with self.database.transaction() as tx:
            await outbox.mark_published(tx, self.lease, epoch, shipment.numbered, shipment.last_event, self.clock.now_ms())
            await outbox.mark_resent(tx, shipment.resent, self.clock.now_ms())

    return patch.object(Relay, "settle", settle)


def position_before_commit() -> Any:
    """13: the position moves in a transaction of its own, before what it stands for is applied; and no number tells what is missing."""
    real = Consumer.receive_whole

    async def receive(self: Consumer, batch: Any, offset: int, arrivals: Any = None) -> Any:
        async with self.database.transaction() as tx:
            where = inbound_positions.c.topic == self.inbound
            await tx.execute(update(inbound_positions).where(where).values(next_offset=batch[-1].offset + 1))
            await count_early(self, tx, batch)
        return await real(self, batch, offset)

    async def count_early(self: Consumer, tx: Any, batch: Any) -> None:
        await self.count(tx, sort_arrivals(self.partnership, batch))

    async def stay(self: Consumer, tx: Any, offset: int, after: int) -> None:
        """The position has moved already."""

    return both(patch.object(Consumer, "receive_whole", receive), patch.object(Consumer, "move_position", stay))


def last_id_cursor() -> Any:
    """14: the relay remembers the last id that it read, whatever became of it."""
    cursors: dict[tuple[int, str], int] = {}
    real = outbox.read_pending

    async def read(connection: Any, partnership: str, in_flight: Any, limit: int) -> Any:
        key = (id(connection.engine), partnership)
        found = [row for row in await real(connection, partnership, in_flight, limit) if row.id > cursors.get(key, 0)]
        if found:
            cursors[key] = found[-1].id
        return found

    return patch.object(outbox, "read_pending", read)


def parked_reported_applied() -> Any:
    """15: what waits for its parent is lost when the parent comes."""

    async def take(tx: Any, partnership: str, parents: Any) -> list[Any]:
        await parking_take(tx, partnership, parents)
        return []

    parking_take = parking.take_waiting
    return patch.object(parking, "take_waiting", take)


def parked_is_not_told() -> Any:
    """15: nobody is told that an event waits for its parent: its row goes, and it reads as applied."""
    real = consumer.make_answers

    def make_answers(incarnation: Any, partnership: str, answers: Any) -> Any:
        kept = [each for each in answers if not any(outcome.reason == parking.MISSING_PARENT for outcome in each.outcomes)]
        return real(incarnation, partnership, kept)

    return patch.object(consumer, "make_answers", make_answers)


def take_after_reacting() -> Any:
    """17: a reaction is run in one transaction and removed in another."""

    async def react(self: Reactor, partnership: str, registration: str, kind: str) -> bool:
        async with self.station.working() as work:
            await self.station.spec.reactions[kind](work, partnership, registration)
        key = {"partnership": partnership, "registration": registration, "kind": kind}
        async with self.station.database.transaction() as tx:
            await tx.execute(delete(reactions).filter_by(**key))
        return True

    return patch.object(Reactor, "react", react)


def rotation_outside() -> Any:
    """17: the rotation moves in a transaction of its own, and the connection is lost once before the assignment is committed."""
    lost: list[str] = []
    real = Reactor.react

    async def react(self: Reactor, partnership: str, registration: str, kind: str) -> bool:
        if kind == "assign" and not lost:
            lost.append(registration)
            async with self.station.working() as work:
                reps = await load_reps(work.tx, lock=True)
                await save_credits(work.tx, rotate(reps, "2026-01-01", "")[2])
            raise DatabaseUnavailable("the connection was lost")
        return await real(self, partnership, registration, kind)

    return patch.object(Reactor, "react", react)


def forget_some_notes() -> Any:
    """Our own: every third note is acknowledged, and not written."""
    real, numbers = notes.add_note, count(1)

    async def add_note(work: Work, shared_deal_id: int, body: str) -> int:
        return 1 if next(numbers) % 3 == 0 else await real(work, shared_deal_id, body)

    return patch.object(notes, "add_note", add_note)


def write_notes_twice() -> Any:
    """Our own: a note is written twice."""
    real = notes.add_note

    async def add_note(work: Work, shared_deal_id: int, body: str) -> int:
        await real(work, shared_deal_id, body)
        return await real(work, shared_deal_id, body)

    return patch.object(notes, "add_note", add_note)


@contextmanager
def both(first: Any, second: Any) -> Iterator[None]:
    with first, second:
        yield


VARIANTS: dict[str, Callable[[], Any]] = {
    "5 incarnation from the store": incarnation_from_store,
    "6 epoch from the store": epoch_from_store,
    "7 acknowledgement is the highest number": acknowledge_highest,
    "8 rows removed at publish": remove_at_publish,
    "9 a stale relay may mark": mark_when_stale,
    "10 heartbeat names only the live epoch": beat_live_epoch,
    "11 void for the running epoch": void_running_epoch,
    "12 mark before publish": mark_before_publish,
    "13 position before commit": position_before_commit,
    "14 last id cursor": last_id_cursor,
    "15 parked lost when its parent comes": parked_reported_applied,
    "15 nobody is told what is parked": parked_is_not_told,
    "17 reaction not unique": rotation_outside,
    "17 a reaction is removed after it was run": take_after_reacting,
    "19 erased is not absorbing": merge_into_the_erased,
    "20 a peer that went back is ignored": ignore_who_went_back,
    "own: private notes are told": tell_private_notes,
    "own: an acknowledged note is not written": forget_some_notes,
    "own: a note is written twice": write_notes_twice,
    "own: outcomes are not waited for": forget_withheld,
    "own: a lease astray is waited for": wait_for_astray_leases,
}
