"""What this side published last, as its own topic still has it: nobody else can write there."""

from collections import deque

from shared_schema.contract.codec import HEADER_CONTROL, Event, Undecodable, decode_event
from shared_schema.sync.transport import Broker, BrokerUnavailable, Received

FACTS = 200
WINDOWS = (500, 20_000, 1 << 62)  # an idle pair's topic ends in thousands of control messages
BATCH_RECORDS = 2_000
WAIT_MS = 500
SILENCES_MAX = 10


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
    offset, silences = begin, 0
    if offset >= end:
        return []
    reader = await broker.open_reader(topic, offset)
    try:
        while offset < end:
            batch = await reader.fetch(BATCH_RECORDS, WAIT_MS)
            silences = 0 if batch else silences + 1
            if silences > SILENCES_MAX:
                raise BrokerUnavailable(f"{topic} has been silent at {offset} of {end}")
            facts.extend(each for each in map(read_fact, (record for record in batch if record.offset < end)) if each)
            offset = batch[-1].offset + 1 if batch else offset
    finally:
        await reader.close()
    return list(facts)


def read_fact(record: Received) -> Event | None:
    """The event in a record, or None for a control message and for what this version can not read."""
    if any(name == HEADER_CONTROL for name, _ in record.headers):
        return None
    try:
        return decode_event(record.value)
    except Undecodable:
        return None
