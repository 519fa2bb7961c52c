"""One edit from capture on one side to acknowledgement on the other, on both stores, without a broker in between."""

from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update

from shared_schema.contract.codec import HEADER_CONTROL, HEADER_EPOCH, HEADER_SEQUENCE, encode_control
from shared_schema.contract.envelope import Acknowledgement, EpochAcknowledgement, Resend, Void
from shared_schema.contract.policy import Policy
from shared_schema.contract.registers import decode_token, differs
from shared_schema.contract.topics import record_topic
from shared_schema.crm.database import Database
from shared_schema.crm.shared_records import load_records
from shared_schema.sync import consumer
from shared_schema.sync.capture import Captured, Command, Creation, Write, capture
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.consumer import Consumer
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.tables import inbound_positions, outbound_epochs, outbox, parked
from shared_schema.sync.transport import Received
from tests.tables import make_tables

P = "acme"
REGISTRATION = "01890000-0000-7000-8000-000000000001"
DEAL = "01890000-0000-7000-8000-000000000002"
EPOCH = "00000000000000aa"


class Side:
    """One node's store and its consumer; `offset` is where it stands in the other side's topic."""

    def __init__(self, name, url):
        self.url = url
        self.database = Database(url)
        self.incarnation = Incarnation(name, SystemClock())
        self.consumer = Consumer(self.database, None, self.incarnation, P)
        self.offset = 0

    async def set_up(self):
        await make_tables(self.url)
        async with self.database.transaction() as tx:
            await tx.execute(insert(inbound_positions).values(topic=self.consumer.inbound, topic_id="t", next_offset=0))
            await tx.execute(insert(outbound_epochs).values(partnership=P, epoch=EPOCH, acknowledged=0, began_ms=0))

    async def command(self, type_, writes, creations=()) -> Captured:
        async with self.database.transaction() as tx:
            return await capture(tx, self.incarnation, Policy(), Command(P, REGISTRATION, type_, None, writes, creations))

    async def take(self, *messages):
        """Receive messages; the control messages that answer them, as messages."""
        batch = [Received(self.consumer.inbound, self.offset + n, 0, None, value, headers) for n, (headers, value) in enumerate(messages)]
        replies = await self.consumer.receive(batch, self.offset)
        self.offset += len(batch)
        return replies

    async def messages(self):
        """Every row of the outbox under the number of its id, marked as published."""
        async with self.database.transaction() as tx:
            await tx.execute(update(outbox).values(epoch=EPOCH, sequence=outbox.c.id, published_ms=1))
            rows = (await tx.execute(select(outbox).order_by(outbox.c.id))).all()
        return [(((HEADER_EPOCH, EPOCH.encode()), (HEADER_SEQUENCE, str(row.id).encode())), row.payload.encode()) for row in rows]

    async def register(self, field="amount"):
        async with self.database.transaction() as tx:
            return (await load_records(tx, P, [DEAL]))[DEAL].document.get(field)

    async def count(self, table):
        async with self.database.reading() as connection:
            return (await connection.execute(select(func.count()).select_from(table))).scalar()


@pytest.fixture
async def pair(database_url, tmp_path: Path):
    partner, vendor = Side("partner", database_url), Side("vendor", f"sqlite:///{tmp_path}/vendor.db")
    await partner.set_up()
    await vendor.set_up()
    yield partner, vendor
    await partner.database.close()
    await vendor.database.close()


async def share(partner):
    creations = [Creation(REGISTRATION, "registration", None, REGISTRATION), Creation(DEAL, "deal", REGISTRATION, REGISTRATION)]
    writes = [Write(REGISTRATION, "domain", "globex.example"), Write(DEAL, "amount", {"amount": "10", "currency": "EUR"})]
    return await partner.command("deal.shared", writes, creations)


def control(message):
    return ((HEADER_CONTROL, message.type.encode()),), encode_control(message)


async def test_a_shared_deal_arrives_and_its_row_goes_with_the_acknowledgement(pair):
    partner, vendor = pair
    await share(partner)
    replies = await vendor.take(*await partner.messages())
    assert await vendor.register() == await partner.register()
    assert await partner.count(outbox) == 1
    assert await partner.take(*map(control, replies)) == []
    assert await partner.count(outbox) == 0


async def test_numbers_that_no_row_bears_are_void_at_once_however_many_a_forged_acknowledgement_made_them(pair):
    partner, _ = pair
    await share(partner)
    await partner.messages()
    forged = EpochAcknowledgement(watermark=10**12, gaps=[], event=None)
    await partner.take(control(Acknowledgement(partnership=P, sent_ms=0, epochs={EPOCH: forged})))
    replies = await partner.take(control(Resend(partnership=P, sent_ms=0, epochs={EPOCH: [(2, 10**12)]})))
    (void,) = [each for each in replies if isinstance(each, Void)]
    assert void.epochs == {EPOCH: [(2, 10**12)]}


async def test_concurrent_edits_are_one_conflict_on_both_sides_and_a_save_in_view_closes_it(pair):
    partner, vendor = pair
    await share(partner)
    await vendor.take(*await partner.messages())
    mine = await partner.command("deal.changed", [Write(DEAL, "amount", {"amount": "11", "currency": "EUR"})])
    await vendor.command("deal.changed", [Write(DEAL, "amount", {"amount": "12", "currency": "EUR"})])
    theirs = (await vendor.messages())[:1]
    await vendor.take(*await partner.messages())
    await partner.take(*theirs)
    assert await partner.register() == await vendor.register()
    assert differs(await partner.register())
    stale = decode_token(mine.fields[0].seen)
    await partner.command("deal.changed", [Write(DEAL, "amount", {"amount": "13", "currency": "EUR"}, stale)])
    assert differs(await partner.register())
    await partner.command("conflict.settled", [Write(DEAL, "amount", {"amount": "12", "currency": "EUR"})])
    assert not differs(await partner.register())


async def test_a_child_before_its_parent_is_parked_and_leaves_by_itself(pair):
    partner, vendor = pair
    await share(partner)
    note = "01890000-0000-7000-8000-000000000003"
    await partner.command("note.added", [Write(note, "body", "hello")], [Creation(note, "note", REGISTRATION, REGISTRATION)])
    first, second = await partner.messages()
    replies = await vendor.take(second)
    assert await vendor.count(parked) == 1
    assert any(isinstance(each, Resend) and each.epochs == {EPOCH: [(1, 1)]} for each in replies)
    (ack,) = [each for each in replies if isinstance(each, Acknowledgement)]
    assert len(ack.withheld) == 1 and ack.epochs[EPOCH].watermark == 0
    await vendor.take(first)
    assert await vendor.count(parked) == 0


async def test_bad_bytes_are_parked_and_the_stream_goes_on(pair):
    partner, vendor = pair
    await share(partner)
    (good,) = await partner.messages()
    await vendor.take((good[0], b"\xff{not json"), ((), b"{}"), good)
    assert await vendor.count(parked) == 2
    assert await vendor.register() == await partner.register()
    assert record_topic(P, "partner") == vendor.consumer.inbound


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [([], [[]]), ([1, 2, 3], [[1, 2, 3]]), ([6, 6, 2, 9], [[6], [6, 2], [9]]), ([30, 1, 9, 1], [[30], [1, 9], [1]])],
)
def test_one_transaction_takes_so_many_bytes_and_never_less_than_a_record(sizes, batches, monkeypatch):
    monkeypatch.setattr(consumer, "BATCH_BYTES", 10)
    fetched = [Received("t", offset, 0, None, bytes(size)) for offset, size in enumerate(sizes)]
    found = []
    while fetched or not found:
        batch, fetched = consumer.cut_batch(fetched)
        found.append([len(each.value) for each in batch])
    assert found == batches


async def test_what_a_fetch_had_beyond_one_transaction_is_taken_next(monkeypatch):
    monkeypatch.setattr(consumer, "BATCH_BYTES", 10)
    left = [[Received("t", offset, 0, None, b"seven b") for offset in range(3)], [Received("t", 3, 0, None, b"x")]]

    class Fetching:
        async def fetch(self, _most, _wait_ms):
            return left.pop(0)

    reading = Consumer(None, None, Incarnation("partner", SystemClock()), P)
    taken = [[each.offset for each in (await reading.fetch_ahead(Fetching()))[0]] for _ in range(4)]
    assert taken == [[0], [1], [2], [3]]
