"""Every leaf of every golden sample exchanged for something hostile, applied to a real store: refused, ignored, parked with a reason or
merged; never poison, because what raises in apply is a defect of ours."""

import json
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import insert, select

from shared_schema.contract.codec import HEADER_EPOCH, HEADER_SEQUENCE, Event, decode_event, encode_control
from shared_schema.contract.envelope import CONTROL_TYPES, EVENT_BYTES_MAX, Acknowledgement
from shared_schema.contract.registers import Side
from shared_schema.contract.topics import other
from shared_schema.crm.database import Database
from shared_schema.crm.tables import shared_records
from shared_schema.sync import arrivals
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.consumer import Consumer
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.limits import Limits
from shared_schema.sync.tables import inbound_positions, outbound_epochs, outbox, parked
from shared_schema.sync.transport import Received
from tests.contract.golden import SAMPLES, Sample
from tests.contract.hostile import hostile_variants
from tests.tables import make_tables

P = "initech-acme"
EPOCH = "feedfacefeedface"
OURS = "00000000000000aa"


@pytest.fixture(params=["partner", "vendor"])
async def consumer(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Consumer]:
    database = Database(database_url)
    made = Consumer(database, None, Incarnation(request.param, SystemClock()), P)  # type: ignore[arg-type]  # nothing is sent here
    made.limits = Limits(parked_max=10**6, parked_per_minute=10**6)
    await make_tables(database_url)
    async with database.transaction() as tx:
        await tx.execute(insert(inbound_positions).values(topic=made.inbound, topic_id="t", next_offset=0))
        await tx.execute(insert(outbound_epochs).values(partnership=P, epoch=OURS, acknowledged=0, began_ms=0))
    yield made
    await database.close()


def sent_to(side: Side) -> list[Sample]:
    """The samples that this side would receive: the peer's events, and control messages."""
    return [each for each in SAMPLES if each.type in CONTROL_TYPES or f'/{other(side)}"'.encode() in each.value]


def a_person_for(consumer: Consumer) -> bytes:
    """The golden person of the partner's, or the like of the vendor's."""
    value = next(sample.value for sample in SAMPLES if sample.type == "person.changed")
    return value if consumer.incarnation.side == "vendor" else value.replace(b'"p-', b'"v-').replace(b'"partner"', b'"vendor"')


async def test_whatever_stands_in_a_leaf_the_stream_goes_on(consumer: Consumer) -> None:
    side = consumer.incarnation.side
    samples = sent_to(side)
    assert len(samples) > len(CONTROL_TYPES) + 5
    whole = [sample for sample in samples if sample.type not in CONTROL_TYPES]
    hostile = [(sample, payload) for sample in samples for payload in hostile_variants(sample.value)]
    values = [(sample, sample.value) for sample in whole] + hostile
    batch = [
        Received(consumer.inbound, offset, 0, None, payload, sample.headers if sample.type in CONTROL_TYPES else number(offset + 1))
        for offset, (sample, payload) in enumerate(values)
    ]
    for start in range(0, len(batch), 200):
        for reply in await consumer.receive(batch[start : start + 200], start):
            encode_control(reply)
    async with consumer.database.reading() as connection:
        position = (await connection.execute(select(inbound_positions.c.next_offset))).scalar_one()
        raised = (await connection.execute(select(parked.c.detail).where(parked.c.reason == "poison"))).scalars().all()
        kinds = set((await connection.execute(select(shared_records.c.kind))).scalars())
        answers = (await connection.execute(select(outbox.c.payload))).scalars().all()
    assert position == len(batch)
    assert raised == []
    assert kinds and answers


def number(sequence: int) -> tuple[tuple[str, bytes], ...]:
    return ((HEADER_EPOCH, EPOCH.encode()), (HEADER_SEQUENCE, str(sequence).encode()))


async def test_a_defect_of_ours_in_decoding_parks_one_record_with_its_stack(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = a_person_for(consumer)

    def stumble(payload: bytes) -> Event:
        if payload == b"trap":
            raise RuntimeError("a defect of ours")
        return decode_event(payload)

    monkeypatch.setattr(arrivals, "decode_event", stumble)
    batch = [Received(consumer.inbound, offset, 0, None, value, number(offset + 1)) for offset, value in enumerate((b"trap", honest))]
    (acknowledged, *rest) = await consumer.receive(batch, 0)
    assert isinstance(acknowledged, Acknowledgement) and acknowledged.epochs[EPOCH].watermark == 2 and rest == []
    async with consumer.database.reading() as connection:
        (row,) = (await connection.execute(select(parked))).all()
        assert (row.reason, row.payload, "a defect of ours" in row.detail) == ("poison", b"trap", True)
        assert (await connection.execute(select(shared_records.c.kind))).scalars().all() == ["person"]


async def test_a_forgery_of_thousands_of_records_is_answered_in_parts_that_can_be_sent(consumer: Consumer) -> None:
    template = json.loads(a_person_for(consumer))
    record = template["data"]["records"][0] | {"side": consumer.incarnation.side, "fields": {}}
    records = [record | {"uid": f"01998f3e-0000-7000-8000-{count:012x}"} for count in range(2_500)]
    payload = json.dumps(template | {"data": {"records": records}}).encode()
    assert len(payload) < EVENT_BYTES_MAX
    await consumer.receive([Received(consumer.inbound, 0, 0, None, payload, number(1))], 0)
    async with consumer.database.reading() as connection:
        answers = [json.loads(each) for each in (await connection.execute(select(outbox.c.payload).order_by(outbox.c.id))).scalars()]
    assert [len(each["data"]["outcomes"]) for each in answers] == [1_000, 1_000, 500]
    assert {each["causation"] for each in answers} == {template["id"]}
