"""What the sync daemon asks of a broker: the values that cross the seam, its errors, and the protocols.

Promises nothing about who implements it: `broker.KafkaBroker` in production, `tests.twins.memory_broker` in the simulation.
"""

from collections.abc import Awaitable, Sequence
from typing import NamedTuple, Protocol

from shared_schema.contract.registers import Side
from shared_schema.sync.security import Security


class Record(NamedTuple):
    """A record to send; a `value` of None is a tombstone."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Letter(NamedTuple):
    """Where a record lay in parking, if it was stored there, and since when (UTC ms). `restoring`: it came while this store, which went
    back, got its states: it may bring our own writes, however late it leaves."""

    id: int | None
    at_ms: int
    restoring: bool = False


class Received(NamedTuple):
    """A record as read back; `time_ms` is when its sender queued it, UTC milliseconds. `letter`: it comes out of parking, not from the
    topic."""

    topic: str
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    letter: Letter | None = None


class TopicInfo(NamedTuple):
    """A topic as it stands: its id changes when it is created anew; readable offsets are `start_offset` <= o < `end_offset`."""

    topic_id: str
    start_offset: int
    end_offset: int


class BrokerError(Exception):
    """Anything that went wrong between us and the broker. `kind` is one word for it, for metrics and programs."""

    kind = "failed"


class BrokerUnavailable(BrokerError):
    """The broker did not answer within our own deadline; trying again later may help."""

    kind = "down"


class CredentialRefused(BrokerUnavailable):
    """The broker answers, and does not take our user and password."""

    kind = "credential"


class BrokerUntrusted(BrokerUnavailable):
    """Whoever answers shows a certificate that our CA does not vouch for: perhaps it is not the broker at all."""

    kind = "certificate"


class AccessDenied(BrokerError):
    """The broker knows us, and we have no right to this."""

    kind = "access"


class TopicMissing(BrokerError):
    """The topic does not exist (any more)."""

    kind = "missing"


class SendFailed(BrokerError):
    """It is unknown whether the records are in the log; close the producer and send again with a new one."""


class OffsetOutOfRange(BrokerError):
    """The position is below the start or above the end of the log: retention, a lost tail, or a topic created anew."""


class Trouble(NamedTuple):
    """What is wrong at the broker now. `topic` is empty where it concerns all of them; `why` says what to do about it."""

    topic: str
    kind: str
    why: str


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
        """Return the next records, or [] after `wait_ms` of silence; raises OffsetOutOfRange, TopicMissing, AccessDenied or
        BrokerUnavailable."""
        ...

    async def close(self) -> None:
        """Let go of the connection; never hangs."""
        ...


class Gate(Protocol):
    """Who may come in at the broker, and to what: the vendor's to say. Everything may be said again; all raise BrokerError."""

    async def list_users(self) -> list[str]:
        """Return all users, in order."""
        ...

    async def admit(self, user: str, password: str) -> None:
        """Make a user without any right, or give it another password."""
        ...

    async def allow(self, users: Sequence[str], partnership: str, side: Side) -> None:
        """Let users read and write as this side of the partnership does, and nothing else."""
        ...

    async def deny(self, users: Sequence[str]) -> None:
        """Take every right from users; what they have open reads and writes nothing any more."""
        ...

    async def dismiss(self, users: Sequence[str]) -> None:
        """Take every right from users, and the users away."""
        ...


class Broker(Protocol):
    """One node's way to the broker. `gate` is None where the broker has no users, or this node none of its own."""

    address: str
    security: Security
    gate: Gate | None

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
        """Return the topics that exist, missing ones absent; raises BrokerUnavailable or AccessDenied."""
        ...

    async def check_topics(self, names: Sequence[str]) -> list[Trouble]:
        """Return the topics that are missing, or have other settings than we rely on; raises BrokerUnavailable or AccessDenied."""
        ...

    def list_troubles(self) -> list[Trouble]:
        """Return what is wrong now, as far as whoever asked the broker for something has found out."""
        ...

    async def open_producer(self) -> Producer:
        """Return a new idempotent producer; raises BrokerUnavailable."""
        ...

    async def open_reader(self, topic: str, offset: int) -> Reader:
        """Return a reader whose first fetch begins at `offset`; raises TopicMissing, AccessDenied or BrokerUnavailable."""
        ...
