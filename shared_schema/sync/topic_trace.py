"""One event's life as the topics of both directions still tell it: when its maker committed and published it, under which number, and when
the other side answered and acknowledged it. Reads only; belongs to no group."""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import NamedTuple

from shared_schema.contract.codec import HEADER_CONTROL, HEADER_EPOCH, HEADER_SEQUENCE, Event, Undecodable, decode_control, read_time
from shared_schema.contract.envelope import Acknowledgement
from shared_schema.contract.identifiers import time_of
from shared_schema.contract.registers import Side
from shared_schema.contract.topics import other, record_topic
from shared_schema.sync.answers import OUTCOME
from shared_schema.sync.topic_reading import BATCH_RECORDS, WAIT_MS, read_batches, read_fact
from shared_schema.sync.transport import Broker, BrokerUnavailable, Received, TopicInfo

MARGIN_MS = 60_000  # clocks drift, and a relay may publish the same event twice
RECORDS_MAX = 1_000_000  # of one topic; more is no question for a person to wait for
SILENCES_MAX = 4

Told = tuple[str, Side, int | None, str]


class Search(NamedTuple):
    """What is looked for. `skew_ms`: by how much the clock of the side that answers is ahead of the maker's."""

    partnership: str
    maker: Side
    event: str
    skew_ms: int


class Publication(NamedTuple):
    """The event in its topic: when it was queued (ms, its maker's clock), where, and its number."""

    at_ms: int
    offset: int
    epoch: str
    sequence: int
    event: Event


async def search(broker: Broker, asked: Search) -> tuple[list[Told], list[str]]:
    """The steps that the topics tell, and what they do not. Raises BrokerError."""
    published = await find_publications(broker, asked)
    if not published:
        return [], [f"{record_topic(asked.partnership, asked.maker)} does not have it: not published yet, or no longer kept"]
    first = published[0]
    committed_ms = read_time(first.event.time)
    steps: list[Told] = [("committed", asked.maker, committed_ms, first.event.type)]
    steps += [("published", asked.maker, each.at_ms, describe(each)) for each in published]
    answers = await find_answers(broker, asked, published)
    unanswered = [] if any(each[0] == "acknowledged" for each in answers) else [f"the {other(asked.maker)} has not acknowledged it yet"]
    return steps + answers, unanswered


def describe(each: Publication) -> str:
    return f"number {each.sequence} of epoch {each.epoch}, offset {each.offset}"


async def find_publications(broker: Broker, asked: Search) -> list[Publication]:
    """Where the event is in its maker's topic; more than once where a relay was not sure."""
    found: list[Publication] = []

    def look(record: Received) -> bool:
        if each := read_publication(record, asked.event):
            found.append(each)
        return bool(found) and record.time_ms > found[-1].at_ms + MARGIN_MS

    await read_from(broker, record_topic(asked.partnership, asked.maker), time_of(asked.event) - MARGIN_MS, look)
    return found


def read_publication(record: Received, event: str) -> Publication | None:
    """The event in a record, if it is this one."""
    if record.value is None or event.encode() not in record.value:
        return None
    fact, headers = read_fact(record), dict(record.headers)
    if fact is None or fact.id != event or not headers.get(HEADER_SEQUENCE, b"").isdigit():
        return None
    epoch = headers.get(HEADER_EPOCH, b"").decode("ascii", "replace")
    return Publication(record.time_ms, record.offset, epoch, int(headers[HEADER_SEQUENCE]), fact)


async def find_answers(broker: Broker, asked: Search, published: Sequence[Publication]) -> list[Told]:
    """What the other side said of the event, up to its acknowledgement, which comes last."""
    answerer: Side = other(asked.maker)
    told: list[Told] = []

    def look(record: Received) -> bool:
        acknowledgement = read_acknowledgement(record)
        if acknowledgement is not None and covers(acknowledgement, asked.event, published):
            told.append(("acknowledged", answerer, acknowledgement.sent_ms, f"it had been applied by then; offset {record.offset}"))
            return True
        event = read_fact(record) if record.value is not None and asked.event.encode() in record.value else None
        if event is not None and event.type == OUTCOME and event.causation == asked.event:
            said = "; ".join(dict.fromkeys(f"{each.outcome} {each.field or ''}".strip() for each in event.data.outcomes))
            told.append(("answered", answerer, read_time(event.time), f"{said}; event {event.id}"))
        return False

    await read_from(broker, record_topic(asked.partnership, answerer), published[0].at_ms + asked.skew_ms - MARGIN_MS, look)
    return told


def covers(acknowledgement: Acknowledgement, event: str, published: Sequence[Publication]) -> bool:
    """Whether it says that the event is applied, under any of its numbers."""
    if event in acknowledgement.withheld:
        return False
    reached = {epoch: each.watermark for epoch, each in acknowledgement.epochs.items()}
    return any(reached.get(each.epoch, 0) >= each.sequence for each in published)


def read_acknowledgement(record: Received) -> Acknowledgement | None:
    name = dict(record.headers).get(HEADER_CONTROL)
    if name != b"sync.acknowledged":
        return None
    try:
        message = decode_control(name.decode(), record.value)
    except Undecodable:
        return None
    return message if isinstance(message, Acknowledgement) else None


async def read_from(broker: Broker, topic: str, time_ms: int, look: Callable[[Received], bool]) -> None:
    """Show `look` the records of a topic from a time on, until it has seen enough, or the topic's end as it is now."""
    info = (await broker.describe_topics([topic])).get(topic)
    if info is None or info.start_offset == info.end_offset:
        return
    offset = await find_offset(broker, topic, info, time_ms)
    end = min(info.end_offset, offset + RECORDS_MAX)
    async with aclosing(read_batches(broker, topic, offset, end, SILENCES_MAX)) as batches:
        async for batch in batches:
            if any(look(record) for record in batch):
                return


async def find_offset(broker: Broker, topic: str, info: TopicInfo, time_ms: int) -> int:
    """The last offset found by halving before which everything is older than this time: times ascend but for a clock that jumped."""
    low, high = info.start_offset, info.end_offset
    while high - low > BATCH_RECORDS:
        middle = (low + high) // 2
        if await read_time_at(broker, topic, middle) < time_ms:
            low = middle
        else:
            high = middle
    return low


async def read_time_at(broker: Broker, topic: str, offset: int) -> int:
    """When the first record from this offset on was queued, by its sender's clock (ms)."""
    reader = await broker.open_reader(topic, offset)
    try:
        for _ in range(SILENCES_MAX):
            if batch := await reader.fetch(1, WAIT_MS):
                return batch[0].time_ms
    finally:
        await reader.close()
    raise BrokerUnavailable(f"{topic} has been silent at {offset}")
