"""The statistics of one node: which topics there are, one follower for each way to a broker, and the figures. Everything is recomputed from
the topics at the start, and whenever a partnership or a topic is another one; until that is done, what was known is served.
"""

import asyncio
import gc
from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import select

from shared_schema.contract.codec import HEADER_CONTROL, HEADER_EPOCH, HEADER_SEQUENCE, Undecodable, decode_control, decode_event
from shared_schema.contract.envelope import Acknowledgement
from shared_schema.contract.registers import Side
from shared_schema.contract.topics import record_topic
from shared_schema.crm.database import DatabaseUnavailable
from shared_schema.crm.tables import partnerships
from shared_schema.sync import metrics
from shared_schema.sync.insights.figures import set_gauges, summarise
from shared_schema.sync.insights.follower import Follower, Seen
from shared_schema.sync.insights.statistics import Statistics
from shared_schema.sync.patience import keep_at
from shared_schema.sync.station import Station
from shared_schema.sync.transport import Broker, BrokerError, BrokerUnavailable, TopicInfo

LOOK_S, CATCHING_UP_S = 5.0, 0.5
STUCK_LOOKS = 60
SIDES: tuple[Side, Side] = ("partner", "vendor")


class Stream(NamedTuple):
    """One direction of a partnership, and the broker that it is on."""

    partnership: str
    sender: Side
    broker: Broker


class Insights:
    """Until it has caught up with the ends that it found, `statistics` are those of before."""

    def __init__(self, station: Station, find_broker: Callable[[str], Broker]) -> None:
        self.station = station
        self.find_broker = find_broker
        self.statistics = Statistics()
        self.partnerships: list[str] = []
        self.behind: int | None = None
        self.caught_up = False

    async def run(self) -> None:
        """Until cancelled."""
        await keep_at("statistics", self.follow, (BrokerError, DatabaseUnavailable))

    def summarise(self, minutes: int) -> dict[str, Any]:
        """The figures now, and how many records of the topics are not in them yet (None: not known)."""
        now_ms = self.station.clock.now_ms()
        self.statistics.forget(now_ms)
        told = summarise(self.statistics, self.partnerships, now_ms, minutes)
        return told | {"behind_records": self.behind, "unreadable": dict(self.statistics.unreadable)}

    async def follow(self) -> None:
        """From the beginning of the topics that there are now, for as long as they are the same. Raises BrokerError."""
        streams, found = await self.find_topics()
        statistics = Statistics()
        statistics.forget(self.station.clock.now_ms())
        followers = self.make_followers(streams, statistics)
        self.behind = None
        try:
            for each in followers:
                await each.start()
            await self.look_on(statistics, followers, found)
        finally:
            for each in followers:
                await each.stop()

    async def look_on(self, statistics: Statistics, followers: list[Follower], found: dict[str, TopicInfo]) -> None:
        """Keep figures and gauges true, until something is another than it was. While the broker is away faust waits for it by itself."""
        still, before = 0, dict[str, int]()
        first_ends = {topic: info.end_offset for topic, info in found.items()}
        while not any(each.failed for each in followers):
            try:
                streams, now = await self.find_topics()
            except (BrokerError, DatabaseUnavailable):
                self.behind = None
                gc.collect()  # faust connects thirty times a second meanwhile, and each try over TLS leaves 256 kB in cycles
                await asyncio.sleep(LOOK_S)
                continue
            if {topic: info.topic_id for topic, info in now.items()} != {topic: info.topic_id for topic, info in found.items()}:
                return
            read_to = {topic: offset for each in followers for topic, offset in each.read_to.items()}
            behind = sum(max(0, info.end_offset - read_to.get(topic, info.start_offset)) for topic, info in now.items())
            still, before = (still + 1 if behind and read_to == before else 0), read_to
            if still > STUCK_LOOKS:
                raise BrokerUnavailable(f"faust has stood still with {behind} records to read")
            self.behind = behind
            if all(read_to.get(topic, found[topic].start_offset) >= end for topic, end in first_ends.items()):
                self.statistics, self.caught_up = statistics, True
                self.partnerships = sorted({stream.partnership for stream in streams.values()})
            statistics.forget(self.station.clock.now_ms())
            set_gauges(self.statistics, self.partnerships, self.station.clock.now_ms())
            metrics.insights_behind.set(behind)
            await asyncio.sleep(LOOK_S if self.caught_up and not behind else CATCHING_UP_S)
        raise BrokerUnavailable("faust has given up")

    async def find_topics(self) -> tuple[dict[str, Stream], dict[str, TopicInfo]]:
        """The record topics of the active partnerships that exist, and where they begin and end."""
        async with self.station.database.reading() as connection:
            active = list((await connection.execute(select(partnerships.c.id).where(partnerships.c.status == "active"))).scalars())
        streams = {record_topic(each, side): Stream(each, side, self.find_broker(each)) for each in sorted(active) for side in SIDES}
        found: dict[str, TopicInfo] = {}
        for broker in {stream.broker for stream in streams.values()}:
            found |= await broker.describe_topics([topic for topic, stream in streams.items() if stream.broker is broker])
        return {topic: stream for topic, stream in streams.items() if topic in found}, found

    def make_followers(self, streams: dict[str, Stream], statistics: Statistics) -> list[Follower]:
        """One for each way to a broker."""

        def look(seen: Seen) -> None:
            take(statistics, streams[seen.topic], seen)

        followers = []
        for broker in {stream.broker for stream in streams.values()}:
            topics = [topic for topic, stream in streams.items() if stream.broker is broker]
            group = self.name_group({streams[topic].partnership for topic in topics})
            followers.append(Follower(broker.address, broker.security, group, topics, look))
        return followers

    def name_group(self, of: set[str]) -> str:
        """A new group each time. A partner's user has the right to groups that begin with its partnership."""
        once, side = f"{self.station.clock.random_bits(64):016x}", self.station.spec.side
        return f"insights-{side}.{once}" if side == "vendor" or len(of) > 1 else f"{min(of)}.insights-{side}.{once}"


def take(statistics: Statistics, stream: Stream, seen: Seen) -> None:
    """One record into the sums; what can not be read is counted."""
    try:
        control = seen.headers.get(HEADER_CONTROL)
        if control is not None:
            message = decode_control(control.decode("utf-8", "replace"), seen.value)
            if isinstance(message, Acknowledgement):
                statistics.take_acknowledgement(stream.partnership, stream.sender, message)
            return
        sequence = seen.headers.get(HEADER_SEQUENCE, b"")
        if not sequence.isdigit() or len(sequence) > 16:
            raise Undecodable("malformed", "an event needs a number")
        epoch = seen.headers.get(HEADER_EPOCH, b"").decode("ascii", "replace")
        statistics.take_event(stream.partnership, stream.sender, decode_event(seen.value), (epoch, int(sequence)))
    except Undecodable:
        statistics.unreadable[stream.partnership] += 1
