"""Reading a topic beside the streams, from an offset to another: what this side published last, or one event's traces."""

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing

from shared_schema.contract.codec import HEADER_CONTROL, Event, Undecodable, decode_event
from shared_schema.sync.transport import Broker, BrokerUnavailable, Received

FACTS = 200
WINDOWS = (500, 20_000, 1 << 62)  # an idle pair's topic ends in thousands of control messages
BATCH_RECORDS = 2_000
WAIT_MS = 500
SILENCES_MAX = 10


async def read_batches(
    broker: Broker, topic: str, begin: int, end: int, silences_max: int = SILENCES_MAX
) -> AsyncGenerator[list[Received], None]:
    """The records from `begin` up to before `end`, batch by batch. Raises BrokerError, also after `silences_max` empty answers in a row."""
    offset, silences = begin, 0
    if offset >= end:
        return
    reader = await broker.open_reader(topic, offset)
    try:
        while offset < end:
            batch = await reader.fetch(BATCH_RECORDS, WAIT_MS)
            silences = 0 if batch else silences + 1
            if silences > silences_max:
                raise BrokerUnavailable(f"{topic} has been silent at {offset} of {end}")
            yield [record for record in batch if record.offset < end]
            offset = batch[-1].offset + 1 if batch else offset
    finally:
        await reader.close()


async def read_last_facts(broker: Broker, topic: str) -> list[Event]:
    """The last facts of a topic, oldest first; none if it does not exist or holds none. Raises BrokerError."""
    info = (await broker.describe_topics([topic])).get(topic)
    if info is None:
        return []
    for window in WINDOWS:
        begin = max(info.start_offset, info.end_offset - window)
        facts = await read_facts(broker, topic, begin, info.end_offset)
        if facts or begin == info.start_offset:
            break
    return facts


async def read_facts(broker: Broker, topic: str, begin: int, end: int) -> list[Event]:
    """The last facts of those from `begin` up to before `end`."""
    facts: deque[Event] = deque(maxlen=FACTS)
    async with aclosing(read_batches(broker, topic, begin, end)) as batches:
        async for batch in batches:
            facts.extend(fact for fact in map(read_fact, batch) if fact)
    return list(facts)


def read_fact(record: Received) -> Event | None:
    """The event in a record, or None for a control message and for what this version can not read."""
    if any(name == HEADER_CONTROL for name, _ in record.headers):
        return None
    try:
        return decode_event(record.value)
    except Undecodable:
        return None
