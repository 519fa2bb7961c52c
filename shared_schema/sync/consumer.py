"""The consumer: reads one partnership's inbound topic and applies it, batch by batch, with the position in the same transaction.

Positions are ours and in SQL. A topic with another id, or shorter than our position, is read from its beginning: the numbers decide what
is missing, and merging again changes nothing.
"""

import asyncio
import logging
import traceback
from collections.abc import Sequence

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.codec import HEADER_CONTROL, Outcome, encode_control
from shared_schema.contract.envelope import Acknowledgement, Control, Resend, Void
from shared_schema.contract.policy import Policy
from shared_schema.contract.topics import other, record_topic
from shared_schema.crm.database import Database, DatabaseUnavailable
from shared_schema.crm.rows import upsert
from shared_schema.crm.shared_records import find_long_contexts
from shared_schema.crm.statements import Statement
from shared_schema.sync import batch_log, controls, discards, metrics, outbox, parking, progress, restoration, stops
from shared_schema.sync.answers import OUTCOME, answer, make_answers
from shared_schema.sync.apply import NO_LIMITS, Desk, apply_events
from shared_schema.sync.arrivals import Arrivals, sort_arrivals
from shared_schema.sync.bell import Bell
from shared_schema.sync.effects import Due, nothing_due
from shared_schema.sync.hearing import find_ahead, hear_peer
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.limits import Limits
from shared_schema.sync.log_lines import ids
from shared_schema.sync.long_contexts import tell_long
from shared_schema.sync.patience import keep_at
from shared_schema.sync.relay import deliver
from shared_schema.sync.standing import read_standing
from shared_schema.sync.stops import StreamStopped
from shared_schema.sync.tables import inbound_positions
from shared_schema.sync.topic_reading import read_last_facts
from shared_schema.sync.transport import Broker, BrokerError, Producer, Reader, Received, Record, TopicMissing

BATCH_RECORDS = 2_000
BATCH_BYTES = 4 << 20  # of one transaction: a fetch is compressed, and an event may hold fifty whole states
WAIT_MS = 1_000
SILENCE_CHECKS = 60
SUSPECT_MS = 60_000

log = logging.getLogger(__name__)

OF_TOPIC = select(inbound_positions.c.topic_id, inbound_positions.c.next_offset).where(inbound_positions.c.topic == bindparam("topic"))
POSITION, LOCKED_POSITION = Statement(OF_TOPIC), Statement(OF_TOPIC.with_for_update())
MOVE = Statement(
    update(inbound_positions)
    .where(inbound_positions.c.topic == bindparam("at"), inbound_positions.c.next_offset == bindparam("before"))
    .values(next_offset=bindparam("after"))
    .returning(inbound_positions.c.next_offset)
)


def cut_batch(fetched: Sequence[Received]) -> tuple[Sequence[Received], Sequence[Received]]:
    """As many of the records as one transaction takes, at least one if there is one; and the others."""
    size, count = 0, 0
    for each in fetched:
        size += len(each.value or b"")
        if count and size > BATCH_BYTES:
            break
        count += 1
    return fetched[:count], fetched[count:]


class PositionMoved(Exception):
    """Another consumer applied these offsets, or the topic is another one: read the position again."""


class OursAfterAll(Exception):
    """Writes of ours were refused as forged while this store is being restored: the batch is to be taken again, with them."""


OUTAGES = (BrokerError, DatabaseUnavailable, PositionMoved, StreamStopped)


class Consumer:
    """One partnership's inbound topic. The bell rings after every batch, for whoever has work by it. Who cancels it while `writing` is held
    by nobody cuts no batch off."""

    def __init__(  # the parts of a stream, once, from the composition root
        self,
        database: Database,
        broker: Broker,
        incarnation: Incarnation,
        partnership: str,
        due: Due = nothing_due,
        bell: Bell | None = None,
    ) -> None:
        self.database = database
        self.broker = broker
        self.incarnation = incarnation
        self.partnership = partnership
        self.due = due
        self.limits = Limits()
        self.brake = NO_LIMITS
        self.trash_days = 90
        self.left = asyncio.Event()
        self.proofs: dict[str, int] = {}
        self.restoring = False
        self.suspected_ms = 0
        self.looked: int | None = None
        self.hear_until = 0
        self.fetched: Sequence[Received] = ()
        self.writing = asyncio.Lock()
        self.inbound = record_topic(partnership, other(incarnation.side))
        self.outbound = record_topic(partnership, incarnation.side)
        self.bell = bell or Bell()

    async def run(self) -> None:
        """Until cancelled."""
        await keep_at(f"consumer of {self.partnership}", self.follow, OUTAGES)

    async def follow(self) -> None:
        """Read from the stored position until the topic falls silent for a while; then it is looked at anew."""
        await self.prove()
        async with self.database.reading() as connection:
            await stops.check_running(connection, self.partnership)
        offset = await self.find_position()
        reader = await self.broker.open_reader(self.inbound, offset)
        try:
            producer = await self.broker.open_producer()
            try:
                await self.read_on(reader, producer, offset)
            finally:
                await producer.close()
        finally:
            await reader.close()

    async def read_on(self, reader: Reader, producer: Producer, offset: int) -> None:
        """The next batch is fetched and decoded while the store works on this one."""
        self.fetched = ()
        self.note_heard(offset)
        silent, ahead = 0, asyncio.ensure_future(self.fetch_ahead(reader))
        try:
            while silent < SILENCE_CHECKS and self.is_proven():
                batch, arrivals = await ahead
                ahead = asyncio.ensure_future(self.fetch_ahead(reader))
                silent = 0 if batch else silent + 1
                if batch:
                    async with self.writing:
                        await self.take(producer, batch, offset, arrivals)
                    offset = batch[-1].offset + 1
                    self.note_heard(offset)
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)

    async def take(self, producer: Producer, batch: Sequence[Received], offset: int, arrivals: Arrivals) -> None:
        """Receive a batch and answer it; also what came before a stop."""
        try:
            replies = await self.receive(batch, offset, arrivals)
        except StreamStopped as stopped:
            async with self.database.transaction() as tx:
                await stops.stop(tx, self.partnership, str(stopped), self.incarnation.clock.now_ms())
            await self.answer(producer, stopped.replies)
            raise
        await self.answer(producer, replies)

    async def fetch_ahead(self, reader: Reader) -> tuple[Sequence[Received], Arrivals]:
        batch, self.fetched = cut_batch(self.fetched or await reader.fetch(BATCH_RECORDS, WAIT_MS))
        return batch, sort_arrivals(self.partnership, batch)

    def is_proven(self) -> bool:
        return self.looked == self.database.losses

    async def prove(self) -> None:
        """Before anything is applied, and again after a lost connection to the store: whether the store has what this side last said.
        If not, it went back."""
        if self.is_proven():
            return
        losses = self.database.losses
        facts = await read_last_facts(self.broker, self.outbound)
        async with self.database.reading() as connection:
            lost = await restoration.find_lost(connection, self.incarnation.side, self.partnership, facts)
            self.restoring = await restoration.is_restoring(connection, self.partnership)
        if lost:
            async with self.database.transaction() as tx:
                await restoration.start(tx, self.incarnation, lost, self.partnership)
            self.begin_restoring()
        self.looked = losses
        self.bell.ring({"restorations"})

    def note_heard(self, offset: int) -> None:
        """Nothing reacts until what the peer had said by then is taken, too: it may name what our own topic has lost as our store has."""
        losses = self.database.losses
        if offset >= self.hear_until and self.is_proven() and self.proofs.get(self.partnership) != losses:
            self.proofs[self.partnership] = losses
            self.bell.ring({"reactions"})

    def begin_restoring(self) -> None:
        """Writes of ours may come back from now on, this process's own among them: what it writes next is another incarnation's."""
        self.restoring = True
        self.incarnation.renew()

    def suspect(self) -> None:
        """A context alone is no proof, for anybody can forge one: it is an alarm, and our own topic is looked at again."""
        now_ms = self.incarnation.clock.now_ms()
        if self.restoring or abs(now_ms - self.suspected_ms) < SUSPECT_MS:
            return
        self.suspected_ms = now_ms
        self.looked = None
        self.proofs.pop(self.partnership, None)
        log.error(
            "%s: the peer names writes of this side that were never made here: a forgery, or this store went back; look at the refusals, "
            "and if it went back, run `sync confirm-restore`",
            self.partnership,
            extra=ids(self.partnership),
        )

    async def find_position(self) -> int:
        """Where to read on. Another topic id, or an end before our position, is an alarm and a read from the beginning."""
        async with self.database.reading() as connection:
            stored = await self.read_position(connection, POSITION)
        # The topic is looked at after the position: one that another process moved on meanwhile would seem to lie past the end.
        info = (await self.broker.describe_topics([self.inbound])).get(self.inbound)
        if info is None:
            raise TopicMissing(f"{self.inbound} does not exist yet; the vendor node creates it")
        self.hear_until = info.end_offset
        topic_id, next_offset = stored or (None, 0)
        if topic_id == info.topic_id and info.start_offset <= next_offset <= info.end_offset:
            return next_offset
        async with self.database.transaction() as tx:
            if await self.read_position(tx, LOCKED_POSITION) != stored:
                raise PositionMoved(f"another process reads {self.inbound}, too")
            if stored:
                log.error("%s was lost, cut or re-created; it is read from its beginning", self.inbound, extra=ids(self.partnership))
            row = {"topic": self.inbound, "topic_id": info.topic_id, "next_offset": info.start_offset}
            await upsert(tx, inbound_positions, [row], ("topic_id", "next_offset"))
            return info.start_offset

    async def read_position(self, connection: AsyncConnection, statement: Statement) -> tuple[str, int] | None:
        """Which topic was read, and up to where; None if none was."""
        return next(((topic_id, offset) for topic_id, offset in await statement.fetch(connection, {"topic": self.inbound})), None)

    async def receive(self, batch: Sequence[Received], offset: int, arrivals: Arrivals | None = None) -> list[Control]:
        """Apply one batch; the control messages to send now that it is committed. A record that can not be applied at all is parked
        alone with its stack, and the others go on."""
        try:
            return await self.receive_whole(batch, offset, arrivals)
        except OursAfterAll:
            self.begin_restoring()
            return await self.receive(batch, offset, arrivals)
        except StreamStopped:
            if len(batch) == 1:
                raise
        except OUTAGES:
            raise
        except Exception as error:  # a poison record, or a bug of ours: kept whole, counted, and shown
            about = ids(self.partnership, topic=self.inbound, offset=batch[0].offset)
            log.exception("a batch of %d can not be applied at once", len(batch), extra=about)
            if len(batch) == 1:
                return await self.receive_alone(batch[0], offset, error)
        return await self.receive_singly(batch, offset)

    async def receive_alone(self, record: Received, offset: int, error: Exception) -> list[Control]:
        """Without what waited for it, which may be what can not be applied: that is tried afterwards, each by itself. If it is the record
        itself, it is parked."""
        try:
            replies = await self.receive_whole([record], offset, releasing=False)
        except OUTAGES:
            raise
        except Exception:  # the first one's stack says more
            return await self.park_poison(record, offset, error)
        self.left.set()
        return replies

    async def receive_singly(self, batch: Sequence[Received], offset: int) -> list[Control]:
        """One record after the other, up to the one that can not be taken."""
        replies: list[Control] = []
        for each in batch:
            try:
                replies = await self.receive([each], offset) or replies
            except StreamStopped as stopped:
                stopped.replies = stopped.replies or replies
                raise
            offset = each.offset + 1
        return replies

    async def park_poison(self, poison: Received, offset: int, error: Exception) -> list[Control]:
        """Park one record and move on; its number has arrived, its event's outcome is *parked*."""
        arrivals = sort_arrivals(self.partnership, [poison])
        stack = "".join(traceback.format_exception(error))
        async with self.database.transaction() as tx:
            await self.move_position(tx, offset, poison.offset + 1)
            desk = Desk(self.incarnation, self.partnership, Policy())
            row = parking.make_row(self.partnership, poison, "poison", stack, desk.now_ms)
            for each in (each for each in arrivals.events if each.event.type != OUTCOME):  # which nobody answers
                row["event"] = each.event.id
                desk.answers.append(answer(each.event, Outcome(each.event.id, "parked", "poison")))
            row["restoring"] = await restoration.is_restoring(tx, self.partnership)
            rows, desk.answers = await discards.pass_over(tx, self.partnership, [row], desk.answers, desk.now_ms)
            await parking.save(tx, rows)
            await stops.check_flood(tx, self.partnership, self.limits, desk.now_ms)
            await outbox.append(tx, make_answers(self.incarnation, self.partnership, desk.answers), desk.now_ms)
            reach = await self.count(tx, arrivals)
            withheld = await outbox.read_withheld(tx, self.partnership)
        metrics.note_parked(self.partnership, rows)
        self.bell.ring({self.partnership})
        return self.make_replies(reach, controls.Reply(), withheld)

    async def receive_whole(
        self, batch: Sequence[Received], offset: int, arrivals: Arrivals | None = None, *, releasing: bool = True
    ) -> list[Control]:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        arrivals = arrivals or sort_arrivals(self.partnership, batch)
        async with self.database.transaction(rows=arrivals.count_records()) as tx:
            await self.move_position(tx, offset, batch[-1].offset + 1)
            standing = await read_standing(tx, self.partnership)
            desk = Desk(self.incarnation, self.partnership, standing.policy, self.due, self.brake)
            desk.trash_days, desk.releasing = self.trash_days, releasing
            desk.discarded = await discards.find(tx, self.partnership, arrivals.events) if standing.discards else set()
            desk.restoring = self.restoring and await restoration.is_restoring(tx, self.partnership)
            await apply_events(tx, desk, arrivals)
            await self.look_at_claims(tx, desk)
            if desk.to_park:
                await stops.check_flood(tx, self.partnership, self.limits, desk.now_ms)
            await outbox.append(tx, make_answers(self.incarnation, self.partnership, desk.answers), desk.now_ms)
            reach = await self.count(tx, arrivals, standing.reach)
            ahead = find_ahead(desk.side, arrivals.events, desk.written, desk.now_ms)
            await hear_peer(tx, self.partnership, arrivals, ahead, desk.now_ms)
            reply = await controls.obey(tx, self.incarnation, reach, arrivals.controls)
            changed = desk.answers or reply.released
            withheld = await outbox.read_withheld(tx, self.partnership) if changed else standing.withheld
        self.restoring = desk.restoring
        if reply.went_back:
            self.begin_restoring()
        self.bell.ring(woken_by(self.partnership, desk, reply))
        metrics.note_applied(desk, arrivals.events, reach, loop.time() - began_s)
        metrics.note_acknowledged(desk, reply.acknowledged)
        metrics.repaired.labels(self.partnership).inc(reply.repaired)
        metrics.stamps_ahead.labels(self.partnership).inc(len(ahead))
        batch_log.tell_applied(desk, arrivals.events)
        tell_long(self.partnership, find_long_contexts(desk.records.values()))
        if not is_answered(arrivals, reply):
            return []
        return self.make_replies(reach, reply, withheld)

    async def look_at_claims(self, tx: AsyncConnection, desk: Desk) -> None:
        """What was refused as forged is ours after all where this store is being restored; raises OursAfterAll then."""
        if not desk.claimed or desk.restoring:
            return
        if await restoration.is_restoring(tx, self.partnership):
            raise OursAfterAll
        self.suspect()

    async def move_position(self, tx: AsyncConnection, offset: int, after: int) -> None:
        """Compare and set, so that two live consumers can not both apply."""
        if not await MOVE.fetch(tx, {"at": self.inbound, "before": offset, "after": after}):
            raise PositionMoved(f"{self.inbound} is no longer at {offset}")

    async def count(self, tx: AsyncConnection, arrivals: Arrivals, reach: progress.Reach | None = None) -> progress.Reach:
        """Take in the batch's numbers; `reach` is how far it was, if that is known."""
        reach = reach or await progress.load(tx, self.partnership)
        before = dict(reach.epochs)
        reach.count(arrivals)
        moved = [epoch for epoch, now in reach.epochs.items() if before.get(epoch) != now]
        await progress.save(tx, reach, moved, self.incarnation.clock.now_ms())
        return reach

    def make_replies(self, reach: progress.Reach, reply: controls.Reply, withheld: list[str]) -> list[Control]:
        partnership, sent_ms = self.partnership, self.incarnation.clock.now_ms()
        epochs = progress.acknowledge(reach)
        replies: list[Control] = [Acknowledgement(partnership=partnership, sent_ms=sent_ms, epochs=epochs, withheld=withheld)]
        if lacking := progress.missing(reach):
            replies.append(Resend(partnership=partnership, sent_ms=sent_ms, epochs=lacking))
        if reply.void:
            replies.append(Void(partnership=partnership, sent_ms=sent_ms, epochs=reply.void))
        return replies + reply.says

    async def answer(self, producer: Producer, replies: Sequence[Control]) -> None:
        records = [Record(None, encode_control(each), ((HEADER_CONTROL, each.type.encode()),)) for each in replies]
        await deliver(await producer.send(self.outbound, records))


def is_answered(arrivals: Arrivals, reply: controls.Reply) -> bool:
    """An acknowledgement is not answered, or two idle nodes would answer each other for ever; unless it released withheld events."""
    news = arrivals.events or arrivals.unreadable or reply.void or reply.released
    return bool(news) or not all(isinstance(each, Acknowledgement) for each in arrivals.controls)


def woken_by(partnership: str, desk: Desk, reply: controls.Reply) -> set[str]:
    """Who has work by what was applied: the reactor, and the relay where there are rows to send."""
    woken = {"reactions", "changes"} if desk.written else set()
    if reply.restores or reply.went_back:
        woken.add("restorations")
    woken |= {"owed"} if reply.owes else set()
    return woken | {partnership} if desk.answers or reply.resent or reply.says else woken
