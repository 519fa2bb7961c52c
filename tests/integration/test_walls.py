"""What a partner can try at the broker with its real credential: everything that Kafka knows, at the other partner's topics, the vendor's,
its own beyond its rights, groups, users and rights. Each try is refused, and afterwards all is as it was.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError, for_code
from aiokafka.protocol.admin import (
    AlterConfigsRequest,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteGroupsRequest,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    DescribeConfigsRequest,
    DescribeGroupsRequest,
    ListGroupsRequest,
)
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from kafka import KafkaAdminClient
from kafka.admin import ACLFilter, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePatternFilter, ResourceType

from deploy.kafka.secured import SecuredKafka
from shared_schema.contract.topics import all_topics, blob_topic, record_topic
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.broker.access import KafkaGate
from shared_schema.sync.broker.reasons import client_options
from shared_schema.sync.broker.topics import ask_settings
from shared_schema.sync.closing import close_within
from shared_schema.sync.security import Security
from shared_schema.sync.transport import AccessDenied, Record
from tests.integration.tries import check_tries, read_section

OWN, OTHER = "walls", "walls-2"  # the other's name begins with the own one
TOPIC_FORBIDDEN, GROUP_FORBIDDEN, CLUSTER_FORBIDDEN, TRANSACTION_FORBIDDEN = 29, 30, 31, 53
TOPIC, BROKER = 2, 4
ALL_RECORDS = -1
OTHERS = all_topics(OTHER)
PEERS = [record_topic(OWN, "vendor"), blob_topic(OWN, "vendor")]
OWNS = [record_topic(OWN, "partner"), blob_topic(OWN, "partner")]
NEW = ["dealbridge.walls.from-partner.more", "dealbridge.walls.from-vendor.more", "dealbridge.walls-3.from-partner", "elsewhere"]
GROUP = "vendors-group"


class Attacker(NamedTuple):
    """Partner A: its credential, and a connection of its own; what it tried, and the errors that came."""

    address: str
    security: Security
    connection: AIOKafkaConnection
    told: list[tuple[str, str]]

    @property
    def options(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.address, **client_options(self.security)}

    @property
    def gate(self) -> KafkaGate:
        return KafkaGate(self.address, self.security)


@pytest.fixture
async def attacker(secured_kafka: SecuredKafka) -> AsyncIterator[Attacker]:
    kafka = secured_kafka
    vendor = KafkaBroker(kafka.address, await kafka.add_vendor())
    await vendor.create_topics([*all_topics(OWN), *OTHERS])
    producer = await vendor.open_producer()
    for topic in (*all_topics(OWN), *OTHERS):
        await (await producer.send(topic, [Record(b"key", b"secret", ())]))
    await vendor.stop()
    gate = KafkaGate(kafka.address, kafka.operator)
    for user, partnership in ((f"{OWN}.1", OWN), (f"{OTHER}.1", OTHER)):
        await gate.admit(user, "a password of its own")
        await gate.allow([user], partnership, "partner")
    security = kafka.security(f"{OWN}.1", "a password of its own")
    host, port = kafka.address.split(":")
    connection = await create_conn(host, int(port), **client_options(security))
    yield Attacker(kafka.address, security, connection, [])
    await close_within(connection.close)


async def look(kafka: SecuredKafka) -> list[Any]:
    """Everything that a try could change, as the operator sees it."""
    broker = KafkaBroker(kafka.address, kafka.operator)
    topics = await broker.describe_topics([*all_topics(OWN), *OTHERS])
    settings = await broker.line.ask(lambda admin: ask_settings(admin, [*all_topics(OWN), *OTHERS]))
    await broker.stop()
    anything = ACLFilter(
        None, None, ACLOperation.ANY, ACLPermissionType.ANY, ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
    )

    def ask() -> list[Any]:
        admin = KafkaAdminClient(bootstrap_servers=kafka.address, **client_options(kafka.operator))
        try:
            rights = sorted(repr(each) for each in admin.describe_acls(anything)[0])
            return [sorted(admin.list_topics()), rights, sorted(admin.describe_user_scram_credentials()), admin.list_groups()]
        finally:
            admin.close()

    return [topics, settings, *await asyncio.to_thread(ask)]


def codes(answer: Any) -> list[int]:
    """Every error code in an answer."""
    if isinstance(answer, dict):
        own = [value for name, value in answer.items() if name == "error_code"]
        return own + [code for value in answer.values() for code in codes(value)]
    if isinstance(answer, list | tuple):
        return [code for each in answer for code in codes(each)]
    return []


async def refused(attacker: Attacker, request: Any, code: int) -> None:
    """Each part of a request is answered with this error."""
    answer = (await attacker.connection.send(request)).to_object()
    found = codes(answer)
    assert code in found and set(found) <= {code, 0} and found.count(code) >= max(1, found.count(0)), answer
    attacker.told.append((type(request).__name__.removesuffix("Request"), for_code(code).__name__))


async def produce(attacker: Attacker) -> None:
    for topic in (*OTHERS, *PEERS):
        producer = AIOKafkaProducer(**attacker.options)
        await producer.start()
        with pytest.raises(TopicAuthorizationFailedError):
            await producer.send_and_wait(topic, b"forged")
        await producer.stop()
        attacker.told.append(("Produce", TopicAuthorizationFailedError.__name__))


async def fetch(attacker: Attacker) -> None:
    request = FetchRequest(100, 1, 1_000_000, 0, [(topic, [(0, 0, 1_000_000)]) for topic in OTHERS])
    answer = await attacker.connection.send(request)
    assert set(codes(answer.to_object())) - {0} == {TOPIC_FORBIDDEN} and b"secret" not in answer.encode()
    attacker.told.append(("Fetch", for_code(TOPIC_FORBIDDEN).__name__))


async def open_reader(attacker: Attacker) -> None:
    """Our own reader does not spin there, as the client's would: it says that it has no right."""
    broker = KafkaBroker(attacker.address, attacker.security)
    for topic in OTHERS:
        with pytest.raises(AccessDenied, match=topic):
            await broker.open_reader(topic, 0)
        attacker.told.append(("our own reader", AccessDenied.__name__))
    await broker.stop()


async def describe(attacker: Attacker) -> None:
    await refused(attacker, MetadataRequest(OTHERS), TOPIC_FORBIDDEN)
    seen = (await attacker.connection.send(MetadataRequest([]))).to_object()
    assert {topic["topic"] for topic in seen["topics"]} <= {*OWNS, *PEERS}


async def ask_offsets(attacker: Attacker) -> None:
    await refused(attacker, OffsetRequest(-1, 0, [(topic, [(0, -1)]) for topic in OTHERS]), TOPIC_FORBIDDEN)


async def create_topics(attacker: Attacker) -> None:
    await refused(attacker, CreateTopicsRequest([(topic, 1, 1, [], []) for topic in NEW], 5_000, False), TOPIC_FORBIDDEN)


async def delete_topics(attacker: Attacker) -> None:
    await refused(attacker, DeleteTopicsRequest([*OTHERS, *PEERS, *OWNS], 5_000), TOPIC_FORBIDDEN)


async def delete_records(attacker: Attacker) -> None:
    topics = [(topic, [(0, ALL_RECORDS)]) for topic in (*OTHERS, *PEERS, *OWNS)]
    await refused(attacker, DeleteRecordsRequest(topics, 5_000), TOPIC_FORBIDDEN)


async def add_partitions(attacker: Attacker) -> None:
    topics = [(topic, (3, None)) for topic in (*OTHERS, *PEERS, *OWNS)]
    await refused(attacker, CreatePartitionsRequest(topics, 5_000, False), TOPIC_FORBIDDEN)


async def change_settings(attacker: Attacker) -> None:
    resources = [(TOPIC, topic, [("retention.ms", "1")]) for topic in (*OTHERS, *PEERS, *OWNS)]
    await refused(attacker, AlterConfigsRequest(resources), TOPIC_FORBIDDEN)


async def read_settings(attacker: Attacker) -> None:
    resources = [(TOPIC, topic, None) for topic in (*OTHERS, *PEERS, *OWNS)]
    await refused(attacker, DescribeConfigsRequest(resources), TOPIC_FORBIDDEN)


async def join_group(attacker: Attacker) -> None:
    consumer = AIOKafkaConsumer(*PEERS, group_id=GROUP, **attacker.options)
    with pytest.raises(GroupAuthorizationFailedError):
        await consumer.start()
        await consumer.getone()
    await consumer.stop()
    attacker.told.append(("JoinGroup", GroupAuthorizationFailedError.__name__))


async def use_groups(attacker: Attacker) -> None:
    await refused(attacker, FindCoordinatorRequest(GROUP, 0), GROUP_FORBIDDEN)
    await refused(attacker, DescribeGroupsRequest([GROUP]), GROUP_FORBIDDEN)
    await refused(attacker, DeleteGroupsRequest([GROUP]), GROUP_FORBIDDEN)
    await refused(attacker, OffsetFetchRequest(GROUP, [(OTHERS[0], [0])]), GROUP_FORBIDDEN)
    await refused(attacker, OffsetCommitRequest(GROUP, -1, "", -1, [(OTHERS[0], [(0, 1, "")])]), GROUP_FORBIDDEN)
    assert (await attacker.connection.send(ListGroupsRequest())).to_object()["groups"] == []
    attacker.told.append(("ListGroups", "no group"))


async def begin_transaction(attacker: Attacker) -> None:
    await refused(attacker, InitProducerIdRequest("vendors-transaction", 1_000), TRANSACTION_FORBIDDEN)


async def make_users_and_rights(attacker: Attacker) -> None:
    """A password for the vendor, rights for itself, and the other's rights gone."""
    tries: list[Callable[[], Awaitable[Any]]] = [
        attacker.gate.list_users,
        lambda: attacker.gate.admit("vendor", "mine"),
        lambda: attacker.gate.admit(f"{OTHER}.1", "mine"),
        lambda: attacker.gate.allow([f"{OWN}.1"], OTHER, "partner"),
        lambda: attacker.gate.allow_vendor(f"{OWN}.1"),
        lambda: attacker.gate.deny([f"{OTHER}.1"]),
        lambda: attacker.gate.dismiss([f"{OTHER}.1"]),
    ]
    for each in tries:
        with pytest.raises(AccessDenied, match="may not make users and rights"):
            await each()
        attacker.told.append(("users and rights", AccessDenied.__name__))


async def change_the_broker(attacker: Attacker) -> None:
    await refused(attacker, AlterConfigsRequest([(BROKER, "1", [("log.retention.ms", "1")])]), CLUSTER_FORBIDDEN)


TRIES = [
    produce,
    fetch,
    open_reader,
    describe,
    ask_offsets,
    create_topics,
    delete_topics,
    delete_records,
    add_partitions,
    change_settings,
    read_settings,
    join_group,
    use_groups,
    begin_transaction,
    make_users_and_rights,
    change_the_broker,
]


@pytest.mark.parametrize("attempt", TRIES, ids=lambda attempt: attempt.__name__)
async def test_a_partner_can_do_nothing_beyond_its_own_two_directions(
    attempt: Callable[[Attacker], Awaitable[None]], attacker: Attacker, secured_kafka: SecuredKafka
) -> None:
    before = await look(secured_kafka)
    await attempt(attacker)
    assert await look(secured_kafka) == before
    name = attempt.__name__.replace("_", " ")
    answers = {
        (what, answer): answer if count == 1 else f"{answer}, {count} times" for (what, answer), count in Counter(attacker.told).items()
    }
    check_tries("The broker", [(name, what, said) for (what, _), said in answers.items()], name)


def test_the_table_of_tries_has_all_of_them_and_no_others() -> None:
    assert {row[0] for row in read_section("The broker")} == {attempt.__name__.replace("_", " ") for attempt in TRIES}


async def test_the_same_credential_works_where_it_should(attacker: Attacker) -> None:
    """Else the refusals above would prove nothing."""
    broker = KafkaBroker(attacker.address, attacker.security)
    producer = await broker.open_producer()
    for topic in OWNS:
        await (await producer.send(topic, [Record(b"key", b"mine", ())]))
    for topic in (*OWNS, *PEERS):
        reader = await broker.open_reader(topic, 0)
        async with asyncio.timeout(30):
            while not (found := await reader.fetch(10, 500)):
                pass
        assert found[0].value == b"secret"
    await broker.stop()
