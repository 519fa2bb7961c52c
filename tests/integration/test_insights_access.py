"""Over a broker with users the statistics come in as their node does, with a right to groups of their own; that a partner has no right to
others is `test_walls`."""

import pytest

from deploy.kafka.secured import SecuredKafka
from shared_schema.contract.registers import Side
from shared_schema.contract.topics import all_topics, record_topic
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.broker.access import KafkaGate
from shared_schema.sync.insights.follower import Follower, Seen
from shared_schema.sync.security import Security
from shared_schema.sync.transport import Record
from tests.integration.pair import until

OWN, OTHER = "counted", "counted-2"  # the other's name begins with the own one
SIDES: tuple[Side, Side] = ("partner", "vendor")


@pytest.fixture
async def securities(secured_kafka: SecuredKafka) -> dict[str, Security]:
    """The vendor, and one of two partners; a record in each topic of both."""
    vendor = await secured_kafka.add_vendor()
    broker = KafkaBroker(secured_kafka.address, vendor)
    await broker.create_topics([*all_topics(OWN), *all_topics(OTHER)])
    producer = await broker.open_producer()
    for partnership in (OWN, OTHER):
        for side in SIDES:
            await (await producer.send(record_topic(partnership, side), [Record(b"key", partnership.encode(), (("epoch", b"e"),))]))
    await broker.stop()
    gate = KafkaGate(secured_kafka.address, secured_kafka.operator)
    await gate.admit(f"{OWN}.1", "a password of its own")
    await gate.allow([f"{OWN}.1"], OWN, "partner")
    return {"vendor": vendor, "partner": secured_kafka.security(f"{OWN}.1", "a password of its own")}


@pytest.mark.parametrize(
    ("side", "group", "named"),
    [("vendor", "insights-vendor.1", (OWN, OTHER)), ("partner", f"{OWN}.insights-partner.1", (OWN,))],
)
async def test_each_side_follows_its_own_topics(
    securities: dict[str, Security], secured_kafka: SecuredKafka, side: str, group: str, named: tuple[str, ...]
) -> None:
    topics = [record_topic(partnership, each) for partnership in named for each in SIDES]
    seen: list[Seen] = []
    follower = Follower(secured_kafka.address, securities[side], group, topics, seen.append)
    await follower.start()
    try:

        async def all_read() -> bool:
            return {each.topic for each in seen} == set(topics)

        await until(all_read)
        assert all(each.headers == {"epoch": b"e"} and (each.value or b"").decode() in each.topic for each in seen)
    finally:
        await follower.stop()
