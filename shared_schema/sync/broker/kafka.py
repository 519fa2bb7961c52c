"""The broker seam on a real Kafka, through aiokafka; nothing outside this package imports that.

Promises: order and acknowledgement by all replicas, no consumer groups, and that no wait outlasts a deadline of our own, whatever the
broker does. Not promised: exactly once (a failed send may have arrived; the receiver's numbers tell).
"""

import asyncio
from collections.abc import Awaitable, Sequence
from itertools import chain
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    KafkaError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)

from shared_schema.sync.broker.access import KafkaGate
from shared_schema.sync.broker.line import Line
from shared_schema.sync.broker.looks import Looks
from shared_schema.sync.broker.reasons import say
from shared_schema.sync.broker.topics import (
    MAX_REQUEST_BYTES,
    ask_settings,
    ask_topics,
    find_differences,
    make_topics,
)
from shared_schema.sync.closing import close_within
from shared_schema.sync.quiet_loggers import quieten_loggers
from shared_schema.sync.security import PLAINTEXT, Security
from shared_schema.sync.transport import (
    BrokerError,
    BrokerUnavailable,
    Gate,
    OffsetOutOfRange,
    Producer,
    Reader,
    Received,
    Record,
    SendFailed,
    TopicInfo,
    TopicMissing,
    Trouble,
)

BATCH_BYTES = 131_072
BUILT_FROM = 20
FETCH_BYTES = 4_194_304
FETCH_WAIT_MS = 5_000
ANSWER_DEADLINE_S = 10.0
DELIVERY_DEADLINE_S = 30.0
SILENCE_S = 3.0  # a reader that has heard nothing for this long asks whether its topic and the broker are still there
READING, WRITING, SEEING, SETTINGS = "read", "write", "see", "settings"


class KafkaBroker:
    """One node's way to the Kafka at `address` (host:port, or several with commas)."""

    def __init__(  # where and how, and for the tests how long
        self,
        address: str,
        security: Security = PLAINTEXT,
        *,
        answer_s: float = ANSWER_DEADLINE_S,
        delivery_s: float = DELIVERY_DEADLINE_S,
    ) -> None:
        self.address = address
        self.security = security
        self.delivery_s = delivery_s
        self.line = Line(address, security, answer_s)
        self.gate: Gate | None = KafkaGate(address, security, answer_s) if security.protocol == "sasl_tls" else None
        self.looks = Looks(self.describe_topics)
        self.opened: list[KafkaProducer | KafkaReader] = []

    async def start(self) -> None:
        quieten_loggers()

    async def stop(self) -> None:
        await asyncio.gather(self.looks.stop(), *(each.close() for each in list(self.opened)))
        await self.line.drop_admin()

    async def create_topics(self, names: Sequence[str]) -> None:
        if not names:
            return
        await self.line.ask(lambda admin: make_topics(admin, names), trying="create")
        async with self.line.answering(self.line.answer_s):  # the controller knows them before the broker does
            while len(await self.describe_topics(names)) < len(set(names)):
                await asyncio.sleep(0.02)

    async def describe_topics(self, names: Sequence[str]) -> dict[str, TopicInfo]:
        if not names:
            return {}

        async def look(admin: AIOKafkaAdminClient) -> dict[str, TopicInfo]:
            while (found := await ask_topics(admin, names)) is None:
                await asyncio.sleep(0.05)  # a leader is being elected; the deadline is around us
            return found

        return await self.line.ask(look, names[0] if len(names) == 1 else "", SEEING)

    async def check_topics(self, names: Sequence[str]) -> list[Trouble]:
        found = await self.line.ask(lambda admin: ask_settings(admin, names), trying="see the settings of")
        troubles = []
        for name in names:
            missing = Trouble(name, "missing", f"{name} does not exist; `vendor-node partners topics` creates it")
            trouble = find_differences(name, *found[name]) if name in found else missing
            if trouble is None:
                self.line.health.clear(name, SETTINGS)
            else:
                self.line.health.tell(trouble, SETTINGS)
                troubles.append(trouble)
        return troubles

    def list_troubles(self) -> list[Trouble]:
        return self.line.health.list_troubles()

    async def open_producer(self) -> Producer:
        client = AIOKafkaProducer(
            bootstrap_servers=self.address,
            acks="all",
            enable_idempotence=True,
            compression_type="zstd",
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_REQUEST_BYTES,
            linger_ms=0,
            **self.line.options(),
        )
        await self.line.start_client(client.start, client.stop)
        producer = KafkaProducer(self, client)
        self.opened.append(producer)
        return producer

    async def open_reader(self, topic: str, offset: int) -> Reader:
        found = (await self.describe_topics([topic])).get(topic)
        if found is None:
            raise TopicMissing(topic)
        client = AIOKafkaConsumer(
            bootstrap_servers=self.address,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            consumer_timeout_ms=FETCH_WAIT_MS,  # aiokafka's fetching would look around five times a second
            max_partition_fetch_bytes=FETCH_BYTES,
            **self.line.options(),
        )
        await self.line.start_client(client.start, client.stop)
        partition = TopicPartition(topic, 0)
        client.assign([partition])
        client.seek(partition, offset)
        reader = KafkaReader(self, client, partition, found.topic_id)
        self.opened.append(reader)
        return reader

    def forget(self, each: "KafkaProducer | KafkaReader") -> None:
        if each in self.opened:
            self.opened.remove(each)


class KafkaProducer:
    """Sends in order, many in flight; its deliveries fail after the delivery deadline, or when it is closed."""

    def __init__(self, broker: KafkaBroker, client: AIOKafkaProducer) -> None:
        self.broker = broker
        self.client = client
        self.turn = asyncio.Lock()
        self.pending: set[asyncio.Future[None]] = set()
        self.closed = False

    async def send(self, topic: str, records: Sequence[Record]) -> Awaitable[None]:
        """Waits while the client's batch is full. Never raises for the broker's sake: the returned future does."""
        delivered = self.expect_delivery()
        if self.closed:
            fail(delivered, "the producer is closed")
            return delivered
        try:
            async with self.turn, self.broker.line.answering(self.broker.delivery_s, topic, WRITING):
                futures = await self.queue(topic, records)
        except BrokerError as error:
            fail(delivered, f"{topic}: {error}")
            return delivered
        acknowledged = asyncio.gather(*futures, return_exceptions=True)
        acknowledged.add_done_callback(lambda done: self.settle(delivered, done, topic))
        return delivered

    async def queue(self, topic: str, records: Sequence[Record]) -> list[Awaitable[Any]]:
        """Few records go one by one; of many, batches are built here, which costs a fifth."""
        if len(records) < BUILT_FROM:
            return [await self.client.send(topic, value, key, 0, None, list(headers)) for key, value, headers in records]
        futures, batch = [], self.client.create_batch()
        for key, value, headers in records:
            if batch.append(timestamp=None, key=key, value=value, headers=list(headers)) is None:  # it is full
                futures.append(await self.client.send_batch(batch, topic, partition=0))
                batch = self.client.create_batch()
                batch.append(timestamp=None, key=key, value=value, headers=list(headers))
        futures.append(await self.client.send_batch(batch, topic, partition=0))
        return futures

    def settle(self, delivered: "asyncio.Future[None]", done: "asyncio.Future[list[Any]]", topic: str) -> None:
        if done.cancelled():
            fail(delivered, f"{topic}: the sending was cancelled")
            return
        error = next((each for each in done.result() if isinstance(each, BaseException)), None)
        if isinstance(error, TopicAuthorizationFailedError):
            error = self.broker.line.deny(error, topic, WRITING)
        if error is not None:
            fail(delivered, f"{topic}: {say(error)}")
            return
        self.broker.line.be_well(topic, WRITING)
        if not delivered.done():
            delivered.set_result(None)

    def expect_delivery(self) -> "asyncio.Future[None]":
        """A future that somebody settles: the broker, the deadline or `close`."""
        loop = asyncio.get_running_loop()
        delivered: asyncio.Future[None] = loop.create_future()
        deadline_s = self.broker.delivery_s
        timer = loop.call_later(deadline_s, fail, delivered, f"not acknowledged within {deadline_s:.0f} s")
        self.pending.add(delivered)

        def end(done: "asyncio.Future[None]") -> None:
            timer.cancel()
            self.pending.discard(done)
            if not done.cancelled():
                done.exception()  # a caller may drop a failed delivery: nothing is to be logged for it

        delivered.add_done_callback(end)
        return delivered

    async def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.broker.forget(self)
        if not await close_within(self.client.stop):
            await self.abandon()
        for delivered in list(self.pending):
            fail(delivered, "the producer was closed")

    async def abandon(self) -> None:
        """End the tasks of a client whose stop() waits for a batch that nobody will ever answer."""
        accumulator = self.client._message_accumulator
        batches = [*chain(*accumulator._batches.values()), *accumulator._pending_batches]
        accumulator.fail_all(KafkaError("abandoned"))
        for batch in batches:
            if batch._drain_waiter.done():
                batch._drain_waiter.exception()  # nobody waits for it: asyncio would log that nobody looked
        await close_within(self.client._sender.close)
        await close_within(self.client.client.close)


def fail(delivered: "asyncio.Future[None]", reason: str) -> None:
    if not delivered.done():
        delivered.set_exception(SendFailed(reason))


def read_back(record: ConsumerRecord[bytes, bytes]) -> Received:
    """A header without a value, which Kafka allows, reads as an empty one."""
    headers = tuple((name, value or b"") for name, value in record.headers)
    return Received(record.topic, record.offset, record.timestamp, record.key, record.value, headers)


class KafkaReader:
    """Reads by the topic's name: in a topic created anew that has grown past the position it may read on in silence."""

    def __init__(self, broker: KafkaBroker, client: AIOKafkaConsumer, partition: TopicPartition, topic_id: str) -> None:
        self.broker = broker
        self.client = client
        self.partition = partition
        self.topic_id = topic_id
        self.heard_at_s = asyncio.get_running_loop().time()
        self.looking: asyncio.Task[None] | None = None

    async def fetch(self, max_records: int, wait_ms: int) -> list[Received]:
        """Also raises what a look at the topic found that was silent before: what arrives meanwhile does not wait for the look."""
        if self.looking is not None and self.looking.done():
            done, self.looking = self.looking, None
            done.result()
        try:
            async with self.broker.line.answering(wait_ms / 1000 + self.broker.line.answer_s, self.partition.topic, READING):
                found = await self.client.getmany(self.partition, timeout_ms=wait_ms, max_records=max_records)
        except BrokerUnavailable as error:
            if isinstance(error.__cause__, OffsetOutOfRangeError):
                raise OffsetOutOfRange(say(error.__cause__)) from error
            raise
        now_s = asyncio.get_running_loop().time()
        if found:
            self.heard_at_s = now_s
            self.broker.line.be_well(self.partition.topic, READING)
            return [read_back(each) for each in found[self.partition]]
        if now_s - self.heard_at_s >= SILENCE_S and self.looking is None:
            self.heard_at_s = now_s
            self.looking = asyncio.create_task(self.explain_silence())
        return []

    async def explain_silence(self) -> None:
        """A deleted topic and a broker that is away answer nothing, for ever: ask."""
        topic = self.partition.topic
        found = await self.broker.looks.look(topic)
        if found is None:
            raise TopicMissing(topic)
        if found.topic_id != self.topic_id:
            raise OffsetOutOfRange(f"{topic} was created anew")
        self.broker.line.be_well(topic, READING)  # what may not be read would have said so

    async def close(self) -> None:
        self.broker.forget(self)
        if self.looking is not None:
            self.looking.cancel()
            await asyncio.gather(self.looking, return_exceptions=True)
        await close_within(self.client.stop)
