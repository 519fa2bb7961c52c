"""A broker in memory that behaves, and fails, as Kafka does: for unit tests and the deterministic simulation.

`MemoryCluster` holds the logs and outlives its clients; each node has its own `MemoryBroker`. No real time, no threads, no chance but
the `Random` handed in: two runs of one seed are one history. Not modelled: groups, transactions, compaction, more than one partition.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from shared_schema.sync.security import PLAINTEXT
from shared_schema.sync.transport import (
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

MAX_RECORD_BYTES = 1_048_576
ANSWER_DEADLINE_S = 10.0
DELIVERY_DEADLINE_S = 30.0
ALL_OFFSETS = 1 << 62

OnStep = Callable[[str], Awaitable[None] | None]


@dataclass
class Faults:
    """Chances per send (0 .. 1), drawn from `random`; none by default, and then nothing is drawn."""

    random: Random = field(default_factory=lambda: Random(0))
    duplicate: float = 0.0  # the records are appended twice
    lost_acknowledgement: float = 0.0  # appended, yet the sender is told that it failed
    failed_send: float = 0.0  # not appended, and the sender is told
    delay: float = 0.0  # before a send, an acknowledgement or a fetch
    delay_ms: int = 200  # the longest such delay

    def strikes(self, chance: float) -> bool:
        return chance > 0 and self.random.random() < chance

    async def linger(self) -> None:
        if self.strikes(self.delay):
            await asyncio.sleep(self.random.randint(1, self.delay_ms) / 1000)


@dataclass
class Log:
    """One topic's log. `lost_at` is the cluster's tick when its tail was last lost: older producers are out of sequence."""

    topic_id: str
    start: int = 0
    records: list[Received] = field(default_factory=list)
    lost_at: int = 0

    @property
    def end(self) -> int:
        return self.start + len(self.records)


class MemoryCluster:
    """The logs, shared by every node's client, and the disasters that befall them."""

    def __init__(self, faults: Faults | None = None, epoch_ms: int = 1_700_000_000_000) -> None:
        self.faults = faults or Faults()
        self.unavailable = False
        self.stalled = False
        self.logs: dict[str, Log] = {}
        self.epoch_ms = epoch_ms
        self.ticks = 0
        self.waiters: dict[asyncio.Future[None], None] = {}

    def stall(self, stalled: bool) -> None:
        """While stalled the broker takes everything and delivers nothing."""
        self.stalled = stalled
        self.wake_readers()

    def tick(self) -> int:
        self.ticks += 1
        return self.ticks

    def create_topic(self, name: str) -> None:
        if name not in self.logs:
            self.logs[name] = Log(f"topic-{self.tick():08d}")

    def delete_topic(self, name: str) -> None:
        self.logs.pop(name, None)

    def recreate_topic(self, name: str) -> None:
        """An empty log under the same name with another id; producers notice nothing."""
        self.delete_topic(name)
        self.create_topic(name)

    def lose_tail(self, topic: str, count: int) -> None:
        """The last `count` records vanish; producers opened before fail from now on, unless nothing at all is left."""
        log = self.logs[topic]
        if count > 0:
            del log.records[-count:]
            log.lost_at = self.tick() if log.records else log.lost_at

    def trim(self, topic: str, before: int = ALL_OFFSETS) -> None:
        """Retention: the records below offset `before` are gone."""
        log = self.logs[topic]
        start = min(max(before, log.start), log.end)
        del log.records[: start - log.start]
        log.start = start

    def append(self, topic: str, records: Sequence[Record]) -> None:
        log = self.logs[topic]
        time_ms = self.epoch_ms + int(asyncio.get_running_loop().time() * 1000)
        offset = log.end
        log.records.extend(Received(topic, offset + place, time_ms, *record) for place, record in enumerate(records))
        self.wake_readers()

    def wake_readers(self) -> None:
        waiters, self.waiters = self.waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait_for_append(self, wait_s: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters[waiter] = None
        try:
            await asyncio.wait({waiter}, timeout=wait_s)
        finally:
            self.waiters.pop(waiter, None)


class MemoryBroker:
    """One node's client. `on_step` is called before each step, by name: create, describe, open, send, append, ack, fetch, deliver.

    What it raises (a crash is a BaseException) leaves through whatever was waiting.
    """

    address = "memory"
    security = PLAINTEXT
    gate: Gate | None = None

    def __init__(self, cluster: MemoryCluster, on_step: OnStep | None = None) -> None:
        self.cluster = cluster
        self.on_step = on_step
        self.opened: list[MemoryProducer | MemoryReader] = []

    async def step(self, point: str) -> None:
        waited = self.on_step(point) if self.on_step else None
        if waited is not None:
            await waited

    async def reach(self, point: str) -> None:
        """Pass the step and find the broker there, or fail after the answer deadline as the real one does."""
        await self.step(point)
        if self.cluster.unavailable:
            await asyncio.sleep(ANSWER_DEADLINE_S)
        if self.cluster.unavailable:
            raise BrokerUnavailable("the broker does not answer")

    async def start(self) -> None:
        """Nothing to do: the logs are there."""

    async def stop(self) -> None:
        for each in list(self.opened):
            await each.close()

    async def create_topics(self, names: Sequence[str]) -> None:
        await self.reach("create")
        for name in names:
            self.cluster.create_topic(name)

    async def describe_topics(self, names: Sequence[str]) -> dict[str, TopicInfo]:
        await self.reach("describe")
        found = {name: self.cluster.logs[name] for name in names if name in self.cluster.logs}
        return {name: TopicInfo(log.topic_id, log.start, log.end) for name, log in found.items()}

    async def check_topics(self, names: Sequence[str]) -> list[Trouble]:
        """Only whether they exist: a log in memory has no settings."""
        await self.reach("describe")
        return [Trouble(name, "missing", f"{name} does not exist") for name in names if name not in self.cluster.logs]

    def list_troubles(self) -> list[Trouble]:
        return []

    async def open_producer(self) -> Producer:
        await self.reach("open")
        producer = MemoryProducer(self)
        self.opened.append(producer)
        return producer

    async def open_reader(self, topic: str, offset: int) -> Reader:
        await self.reach("open")
        if topic not in self.cluster.logs:
            raise TopicMissing(topic)
        reader = MemoryReader(self, topic, offset)
        self.opened.append(reader)
        return reader

    def forget(self, each: "MemoryProducer | MemoryReader") -> None:
        if each in self.opened:
            self.opened.remove(each)


@dataclass(eq=False)
class Sending:
    """Records queued by one `send`, and the future that its caller awaits."""

    topic: str
    records: tuple[Record, ...]
    delivered: asyncio.Future[None]


class MemoryProducer:
    """Appends what is queued, in order, one send at a time."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker
        self.cluster = broker.cluster
        self.opened_at = self.cluster.tick()
        self.queue: deque[Sending] = deque()
        self.worker: asyncio.Task[None] | None = None
        self.closed = False

    async def send(self, topic: str, records: Sequence[Record]) -> Awaitable[None]:
        await self.broker.step("send")
        delivered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        delivered.add_done_callback(look_at_error)
        if self.closed:
            delivered.set_exception(SendFailed("the producer is closed"))
        elif any(count_bytes(record) > MAX_RECORD_BYTES for record in records):
            delivered.set_exception(SendFailed("a record is too large"))
        else:
            self.queue.append(Sending(topic, tuple(records), delivered))
            if self.worker is None or self.worker.done():
                self.worker = asyncio.get_running_loop().create_task(self.work())
        return delivered

    async def work(self) -> None:
        """Until the queue is empty; so an idle producer leaves no task behind."""
        while self.queue:
            sending = self.queue[0]
            try:
                await self.deliver(sending)
            except SendFailed as error:
                if not sending.delivered.done():
                    sending.delivered.set_exception(error)
            else:
                if not sending.delivered.done():
                    sending.delivered.set_result(None)
            if self.queue:
                self.queue.popleft()

    async def deliver(self, sending: Sending) -> None:
        faults = self.cluster.faults
        await faults.linger()
        await self.broker.step("append")
        await self.await_log(sending.topic)
        if self.cluster.logs[sending.topic].lost_at > self.opened_at:
            raise SendFailed("out of order sequence number: the tail of the log was lost")
        if faults.strikes(faults.failed_send):
            raise SendFailed("the send failed")
        self.cluster.append(sending.topic, sending.records)
        if faults.strikes(faults.duplicate):
            self.cluster.append(sending.topic, sending.records)
        await faults.linger()
        await self.broker.step("ack")
        if faults.strikes(faults.lost_acknowledgement):
            raise SendFailed("the acknowledgement was lost")

    async def await_log(self, topic: str) -> None:
        """Wait while the broker is away or the topic missing, as Kafka's client does, up to the delivery deadline."""
        for _ in range(int(DELIVERY_DEADLINE_S * 10)):
            if not self.cluster.unavailable and topic in self.cluster.logs:
                return
            await asyncio.sleep(0.1)
        raise SendFailed(f"not delivered to {topic} in {DELIVERY_DEADLINE_S:.0f} s")

    async def close(self) -> None:
        self.closed = True
        if self.worker is not None and not self.worker.done():
            self.worker.cancel()
            await asyncio.wait({self.worker})
        for sending in self.queue:
            if not sending.delivered.done():
                sending.delivered.set_exception(SendFailed("the producer was closed"))
        self.queue.clear()
        self.broker.forget(self)


class MemoryReader:
    """Reads by the topic's name, as Kafka does: in a log created anew it goes on in silence once that has grown past its offset."""

    def __init__(self, broker: MemoryBroker, topic: str, offset: int) -> None:
        self.broker = broker
        self.cluster = broker.cluster
        self.topic = topic
        self.offset = offset
        self.topic_id = self.cluster.logs[topic].topic_id

    async def fetch(self, max_records: int, wait_ms: int) -> list[Received]:
        await self.broker.step("fetch")
        await self.cluster.faults.linger()
        received = await self.await_records(max_records, wait_ms)
        await self.broker.step("deliver")
        self.offset += len(received)
        return received

    async def await_records(self, max_records: int, wait_ms: int) -> list[Received]:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + wait_ms / 1000
        while True:
            received = self.look(max_records)
            if received:
                return received
            left_s = deadline_s - loop.time()
            if left_s <= 0:
                self.explain_silence()
                return []
            await self.cluster.wait_for_append(left_s)

    def look(self, max_records: int) -> list[Received]:
        log = self.cluster.logs.get(self.topic)
        if log is None or self.cluster.unavailable or self.cluster.stalled:
            return []
        if not log.start <= self.offset <= log.end:
            raise OffsetOutOfRange(f"{self.topic}: {self.offset} is not within {log.start} .. {log.end}")
        place = self.offset - log.start
        return log.records[place : place + max_records]

    def explain_silence(self) -> None:
        if self.cluster.unavailable:
            raise BrokerUnavailable("the broker does not answer")
        if self.topic not in self.cluster.logs:
            raise TopicMissing(self.topic)
        if self.cluster.logs[self.topic].topic_id != self.topic_id:
            raise OffsetOutOfRange(f"{self.topic} was created anew")

    async def close(self) -> None:
        self.broker.forget(self)


def count_bytes(record: Record) -> int:
    headers = sum(len(name) + len(value) for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def look_at_error(future: "asyncio.Future[None]") -> None:
    """A caller may drop a delivery that failed: mark the error as seen, so that nothing is logged for it."""
    if not future.cancelled():
        future.exception()
