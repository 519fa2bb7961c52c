"""What becomes of a topic: read, lost, grown old, sent again, or without its tail."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

FETCH_MS = 2_000
Way = Mapping[str, Any]


class Message(NamedTuple):
    """What a record is made of."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@asynccontextmanager
async def opened_admin(way: Way) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**way)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def read_topics(way: Way) -> dict[str, list[ConsumerRecord]]:
    """Everything that the broker still has of ours."""
    consumer = AIOKafkaConsumer(**way, enable_auto_commit=False)
    await consumer.start()
    try:
        names = sorted(name for name in await consumer.topics() if name.startswith("dealbridge."))
        partitions = [TopicPartition(name, 0) for name in names]
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        found: dict[str, list[ConsumerRecord]] = {name: [] for name in names}
        while any([await consumer.position(each) < ends[each] for each in partitions]):
            for partition, records in (await consumer.getmany(timeout_ms=FETCH_MS)).items():
                found[partition.topic] += records
        return found
    finally:
        await consumer.stop()


async def delete_topic(way: Way, topic: str) -> None:
    async with opened_admin(way) as admin:
        await admin.delete_topics([topic])


async def let_pass(way: Way, topic: str) -> None:
    """Whatever is in it is older than its retention."""
    async with opened_admin(way) as admin:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=-1)})


async def send(way: Way, topic: str, *messages: Message) -> None:
    """What somebody else than the sender puts into its topic."""
    producer = AIOKafkaProducer(**way)
    await producer.start()
    try:
        for key, value, headers in messages:
            await producer.send_and_wait(topic, value, key, headers=list(headers))
    finally:
        await producer.stop()


async def send_again(way: Way, topic: str, count: int) -> None:
    """The last records once more, as they were."""
    last = (await read_topics(way)).get(topic, [])[-count:]
    await send(way, topic, *(Message(each.key, each.value, each.headers) for each in last))


def cut_tail(data: Path, topic: str, share: float) -> None:
    """Of a broker that is dead: this part of the newest segment was never on disk."""
    newest = max((data / f"{topic}-0").glob("*.log"), default=None)
    if newest is not None:
        os.truncate(newest, int(newest.stat().st_size * (1 - share)))
