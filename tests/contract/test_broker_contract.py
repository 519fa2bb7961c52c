"""What every broker behind the seam must do: the same suite against the twin in memory and a real Kafka."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import NamedTuple

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from deploy.kafka.secured import SecuredKafka
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.broker.reasons import client_options
from shared_schema.sync.security import PLAINTEXT, Security
from shared_schema.sync.transport import Broker, OffsetOutOfRange, Reader, Received, Record, SendFailed, TopicMissing
from tests.twins.memory_broker import MAX_RECORD_BYTES, MemoryBroker, MemoryCluster

DEADLINE_S = 30
numbers = itertools.count(1)


class Bench(NamedTuple):
    """A started broker, a topic of its own, and the one thing that the seam can not do."""

    broker: Broker
    topic: str
    delete_topic: Callable[[str], Awaitable[None]]


@pytest.fixture(params=["memory", "kafka", "secured"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    topic = f"dealbridge.contract-{os.getpid()}-{next(numbers)}.from-partner"
    cluster = MemoryCluster()

    async def delete_from_memory(name: str) -> None:
        cluster.delete_topic(name)

    broker: Broker
    if request.param == "memory":
        broker, delete = MemoryBroker(cluster), delete_from_memory
    elif request.param == "kafka":
        address = request.getfixturevalue("kafka_address")
        broker, delete = KafkaBroker(address, delivery_s=5), partial(delete_from_kafka, address, PLAINTEXT)
    else:
        kafka: SecuredKafka = request.getfixturevalue("secured_kafka")
        broker = KafkaBroker(kafka.address, await kafka.add_vendor(), delivery_s=5)
        delete = partial(delete_from_kafka, kafka.address, kafka.operator)
    await broker.start()
    await broker.create_topics([topic])
    yield Bench(broker, topic, delete)
    await broker.stop()


async def delete_from_kafka(address: str, security: Security, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address, **client_options(security))
    await admin.start()
    await admin.delete_topics([name])
    await admin.close()


def make(count: int, first: int = 0) -> list[Record]:
    return [Record(b"key", b"%d" % number, (("n", b"%d" % number),)) for number in range(first, first + count)]


async def publish(bench: Bench, records: list[Record]) -> None:
    producer = await bench.broker.open_producer()
    await (await producer.send(bench.topic, records))
    await producer.close()


async def read(reader: Reader, count: int) -> list[Received]:
    received: list[Received] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(received) < count:
            received += await reader.fetch(100, 500)
    return received


async def fetch_until_error(reader: Reader) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            await reader.fetch(100, 200)


async def test_sends_in_flight_together_keep_their_order(bench: Bench) -> None:
    producer = await bench.broker.open_producer()
    deliveries = [await producer.send(bench.topic, make(7, first)) for first in range(0, 700, 7)]
    await asyncio.gather(*deliveries)
    received = await read(await bench.broker.open_reader(bench.topic, 0), 700)
    assert [each.value for each in received] == [b"%d" % number for number in range(700)]
    assert [each.offset for each in received] == list(range(700))


async def test_reading_begins_at_the_offset_asked_for(bench: Bench) -> None:
    await publish(bench, make(10))
    received = await read(await bench.broker.open_reader(bench.topic, 6), 4)
    assert [each.value for each in received] == [b"6", b"7", b"8", b"9"]


async def test_a_fetch_returns_no_more_than_asked(bench: Bench) -> None:
    await publish(bench, make(10))
    reader = await bench.broker.open_reader(bench.topic, 0)
    async with asyncio.timeout(DEADLINE_S):
        while not (first := await reader.fetch(3, 500)):
            pass
    assert [each.offset for each in first] == [0, 1, 2]


async def test_key_value_and_headers_come_back_and_a_tombstone_is_none(bench: Bench) -> None:
    sent = [Record(b"k", b"v", (("a", b"1"), ("a", b"2"))), Record(b"k", None, ()), Record(None, b"", ())]
    await publish(bench, sent)
    received = await read(await bench.broker.open_reader(bench.topic, 0), 3)
    assert [Record(each.key, each.value, each.headers) for each in received] == sent
    assert all(each.topic == bench.topic and each.time_ms > 0 for each in received)


async def test_silence_is_an_empty_fetch_and_then_what_comes_is_read(bench: Bench) -> None:
    reader = await bench.broker.open_reader(bench.topic, 0)
    assert await reader.fetch(10, 100) == []
    await publish(bench, make(1))
    assert [each.value for each in await read(reader, 1)] == [b"0"]


async def test_missing_topics_are_absent_and_creating_again_changes_nothing(bench: Bench) -> None:
    await publish(bench, make(3))
    before = await bench.broker.describe_topics([bench.topic, "dealbridge.nobody.from-vendor"])
    await bench.broker.create_topics([bench.topic])
    assert await bench.broker.describe_topics([bench.topic]) == before
    assert (before[bench.topic].start_offset, before[bench.topic].end_offset) == (0, 3)
    assert await bench.broker.describe_topics([]) == {}


async def test_a_missing_topic_can_not_be_opened(bench: Bench) -> None:
    with pytest.raises(TopicMissing):
        await bench.broker.open_reader("dealbridge.nobody.from-vendor", 0)


async def test_an_offset_beyond_the_end_is_out_of_range(bench: Bench) -> None:
    await publish(bench, make(3))
    with pytest.raises(OffsetOutOfRange):
        await fetch_until_error(await bench.broker.open_reader(bench.topic, 4))


async def test_a_topic_created_anew_has_another_id_and_ends_its_readers(bench: Bench) -> None:
    await publish(bench, make(3))
    reader = await bench.broker.open_reader(bench.topic, 3)
    before = await bench.broker.describe_topics([bench.topic])
    await bench.delete_topic(bench.topic)
    await recreate(bench)
    after = await bench.broker.describe_topics([bench.topic])
    assert after[bench.topic].topic_id != before[bench.topic].topic_id
    assert after[bench.topic].end_offset == 0
    with pytest.raises(OffsetOutOfRange):
        await fetch_until_error(reader)


async def recreate(bench: Bench) -> None:
    """A broker may take a moment to delete; until then creating is refused or finds the old one."""
    async with asyncio.timeout(DEADLINE_S):
        while await bench.broker.describe_topics([bench.topic]):
            await asyncio.sleep(0.05)
    await bench.broker.create_topics([bench.topic])


async def test_a_deleted_topic_ends_its_readers(bench: Bench) -> None:
    reader = await bench.broker.open_reader(bench.topic, 0)
    await bench.delete_topic(bench.topic)
    with pytest.raises(TopicMissing):
        await fetch_until_error(reader)


async def test_a_record_that_is_too_large_fails_its_send_and_no_later_one(bench: Bench) -> None:
    producer = await bench.broker.open_producer()
    refused = await producer.send(bench.topic, [Record(b"k", bytes(MAX_RECORD_BYTES + 100_000), ())])
    accepted = await producer.send(bench.topic, make(1))
    with pytest.raises(SendFailed):
        await refused
    await accepted
    received = await read(await bench.broker.open_reader(bench.topic, 0), 1)
    assert [each.value for each in received] == [b"0"]


async def test_a_record_of_one_mebibyte_passes(bench: Bench) -> None:
    await publish(bench, [Record(None, os.urandom(MAX_RECORD_BYTES), ())])
    [received] = await read(await bench.broker.open_reader(bench.topic, 0), 1)
    assert len(received.value or b"") == MAX_RECORD_BYTES


async def test_a_closed_producer_fails_and_stopping_twice_is_harmless(bench: Bench) -> None:
    producer = await bench.broker.open_producer()
    await producer.close()
    with pytest.raises(SendFailed):
        await (await producer.send(bench.topic, make(1)))
    await producer.close()
    await bench.broker.stop()


async def test_closing_never_hangs_on_a_topic_deleted_under_the_producer(bench: Bench) -> None:
    producer = await bench.broker.open_producer()
    await (await producer.send(bench.topic, make(1)))
    await bench.delete_topic(bench.topic)
    delivery = await producer.send(bench.topic, make(1))
    async with asyncio.timeout(DEADLINE_S):
        await producer.close()
    with pytest.raises(SendFailed):
        await delivery
