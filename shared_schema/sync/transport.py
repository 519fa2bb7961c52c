"""What the sync daemon asks of a broker: the values that cross the seam, its errors, and the protocols.

Promises nothing about who implements it: `broker.KafkaBroker` in production, `tests.twins.memory_broker` in the simulation.
"""

from collections.abc import Awaitable, Sequence
from typing import NamedTuple, Protocol


class Record(NamedTuple):
    """A record to send; a `value` of None is a tombstone."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Received(NamedTuple):
    """A record as read back; `time_ms` is when its sender queued it, UTC milliseconds."""

    topic: str
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class TopicInfo(NamedTuple):
    """A topic as it stands: its id changes when it is created anew; readable offsets are `start_offset` <= o < `end_offset`."""

    topic_id: str
    start_offset: int
    end_offset: int


class BrokerError(Exception):
    """Anything that went wrong between us and the broker."""


class BrokerUnavailable(BrokerError):
    """The broker did not answer within our own deadline; trying again later may help."""


class TopicMissing(BrokerError):
    """The topic does not exist (any more), or this node may not see it."""


class SendFailed(BrokerError):
    """It is unknown whether the records are in the log; close the producer and send again with a new one."""


class OffsetOutOfRange(BrokerError):
    """The position is below the start or above the end of the log: retention, a lost tail, or a topic created anew."""


class Producer(Protocol):
    """Appends records in the order of the `send` calls; several sends may be in flight."""

    async def send(self, topic: str, records: Sequence[Record]) -> Awaitable[None]:
        """Return once the records are queued in order; awaiting the result means acknowledged by the broker, or raises SendFailed."""
        ...

    async def close(self) -> None:
        """Give up what is not acknowledged after a deadline of its own; never hangs, never raises a BrokerError."""
        ...


class Reader(Protocol):
    """Reads one topic onwards from the offset it was opened at; belongs to no consumer group."""

    async def fetch(self, max_records: int, wait_ms: int) -> list[Received]:
        """Return the next records, or [] after `wait_ms` of silence; raises OffsetOutOfRange, TopicMissing or BrokerUnavailable."""
        ...

    async def close(self) -> None:
        """Let go of the connection; never hangs."""
        ...


class Broker(Protocol):
    """One node's way to the broker."""

    async def start(self) -> None:
        """Make ready; the broker itself may still be down."""
        ...

    async def stop(self) -> None:
        """Close every producer and reader that this broker opened; never hangs."""
        ...

    async def create_topics(self, names: Sequence[str]) -> None:
        """Create the topics that do not exist, one partition each; raises BrokerUnavailable."""
        ...

    async def describe_topics(self, names: Sequence[str]) -> dict[str, TopicInfo]:
        """Return the topics that exist, missing ones absent; raises BrokerUnavailable."""
        ...

    async def open_producer(self) -> Producer:
        """Return a new idempotent producer; raises BrokerUnavailable."""
        ...

    async def open_reader(self, topic: str, offset: int) -> Reader:
        """Return a reader whose first fetch begins at `offset`; raises TopicMissing or BrokerUnavailable."""
        ...
