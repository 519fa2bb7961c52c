"""Topics as we need them: their settings, and what Kafka is asked beyond what aiokafka knows (ids, where logs begin and end)."""

from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.types import AbstractType, Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

from shared_schema.contract.topics import is_blob_topic
from shared_schema.sync.transport import BrokerUnavailable, TopicInfo, Trouble

MAX_RECORD_BYTES = 1_048_576
MAX_REQUEST_BYTES = MAX_RECORD_BYTES + 65_536
MAX_CHUNK_BYTES = 700_000
HOUR_MS = 3_600_000
# Long enough for a peer's holidays and short enough for erasures, which state when topics have forgotten. What expired unread is in the
# outbox of its sender still, and is sent again.
RETENTION_MS = 7 * 24 * HOUR_MS
SEGMENT_MS = 24 * HOUR_MS  # a segment goes as a whole, once its last record is old enough; heartbeats keep an open one young
FOR_EVER = "-1"
PARTITIONS = 1  # order within a partnership rests on it
BROKERS_DEFAULT = -1
RECORD_SETTINGS = {
    "cleanup.policy": "delete",
    "retention.ms": str(RETENTION_MS),
    "retention.bytes": FOR_EVER,
    "segment.ms": str(SEGMENT_MS),
    "segment.bytes": str(128 * 1_048_576),
    "max.message.bytes": str(MAX_REQUEST_BYTES),
    "message.timestamp.type": "CreateTime",
}
# Chunks are keyed by their content, and a tombstone must take the bytes away: small segments, since the active one is never compacted.
BLOB_SETTINGS = {
    "cleanup.policy": "compact,delete",
    "retention.ms": FOR_EVER,
    "retention.bytes": FOR_EVER,
    "segment.bytes": str(4 * 1_048_576),
    "segment.ms": str(HOUR_MS),
    "max.compaction.lag.ms": str(HOUR_MS),
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": str(24 * HOUR_MS),
    "max.message.bytes": str(MAX_CHUNK_BYTES),
    "message.timestamp.type": "CreateTime",
}
NO_ERROR, UNKNOWN_TOPIC, FORBIDDEN, TOPIC_EXISTS = 0, 3, 29, 36
EARLIEST, LATEST = -2, -1
TAGS = ("tags", TaggedFields)


class Forbidden(Exception):
    """This user may not do that with the topic of this name, or not even see it."""


def settings_of(topic: str) -> dict[str, str]:
    """The settings that a topic is created with, and held to."""
    return BLOB_SETTINGS if is_blob_topic(topic) else RECORD_SETTINGS


def plan_topic(name: str) -> NewTopic:
    """As many copies as the broker makes by default: one on one broker, three on three."""
    topic = NewTopic(name, num_partitions=PARTITIONS, replication_factor=1, topic_configs=settings_of(name))
    topic.replication_factor = BROKERS_DEFAULT  # the constructor knows only explicit numbers
    return topic


async def make_topics(admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    """Create those that do not exist. Raises Forbidden or BrokerUnavailable."""
    answer = await admin.create_topics([plan_topic(name) for name in names])
    for name, code, message in answer.topic_errors:
        if code == FORBIDDEN:
            raise Forbidden(name)
        if code not in (NO_ERROR, TOPIC_EXISTS):
            raise BrokerUnavailable(f"topic {name} was not created: {message or code}")


def find_differences(topic: str, partitions: int, found: Mapping[str, str]) -> Trouble | None:
    """What is not as we rely on, with what to do."""
    wanted = {name: value for name, value in settings_of(topic).items() if found.get(name) != value}
    if partitions != PARTITIONS:
        why = f"{topic} has {partitions} partitions, and order rests on {PARTITIONS}; delete it and create it anew (`partners topics`)"
        return Trouble(topic, "settings", why)
    if not wanted:
        return None
    has = ", ".join(f"{name}={found.get(name)}" for name in wanted)
    change = ",".join(f"{name}=[{value}]" if "," in value else f"{name}={value}" for name, value in wanted.items())
    remedy = f"kafka-configs.sh --alter --topic {topic} --add-config {change}"
    return Trouble(topic, "settings", f"{topic} has {has}, which is not what Dealbridge relies on; at the broker: {remedy}")


class Uuid(AbstractType[str]):
    """Sixteen bytes, here as hexadecimal digits."""

    @classmethod
    def encode(cls, value: str) -> bytes:
        return bytes.fromhex(value)

    @classmethod
    def decode(cls, data: Any) -> str:
        return str(data.read(16).hex())


class TopicsResponse(Response):
    """Metadata, version 12: aiokafka stops at 5, and topic ids came with 10."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(("node_id", Int32), ("host", CompactString("utf-8")), ("port", Int32), ("rack", CompactString("utf-8")), TAGS),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        TAGS,
                    ),
                ),
                ("authorized_operations", Int32),
                TAGS,
            ),
        ),
        TAGS,
    )


class TopicsRequestStruct(RequestStruct):
    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = TopicsResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", Uuid), ("name", CompactString("utf-8")), TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_authorized_operations", Boolean),
        TAGS,
    )


class TopicsRequest(Request[TopicsRequestStruct]):
    """Asks for topics by name, with their ids."""

    API_KEY = 3

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def build(self, request_struct_class: type[TopicsRequestStruct]) -> TopicsRequestStruct:
        return request_struct_class([("00" * 16, name, {}) for name in self.names], False, False, {})


async def ask_topics(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, TopicInfo] | None:
    """Ids and offsets of the topics that exist; None while a partition has no leader or went away between the questions. Raises
    Forbidden for a topic that this user may not even see."""
    answer = await admin._send_request(TopicsRequest(names))
    ids: dict[str, str] = {}
    by_leader: dict[int, list[str]] = {}
    for code, name, topic_id, _, partitions, *_ in answer.topics:
        if code == UNKNOWN_TOPIC:
            continue
        if code == FORBIDDEN:
            raise Forbidden(name)
        if code != NO_ERROR or not partitions or partitions[0][2] < 0:
            return None
        ids[name] = topic_id
        by_leader.setdefault(partitions[0][2], []).append(name)
    starts, ends = await ask_offsets(admin, by_leader, EARLIEST), await ask_offsets(admin, by_leader, LATEST)
    if starts.keys() != ids.keys() or ends.keys() != ids.keys():
        return None
    return {name: TopicInfo(topic_id, starts[name], ends[name]) for name, topic_id in ids.items()}


async def ask_offsets(admin: AIOKafkaAdminClient, by_leader: dict[int, list[str]], which: int) -> dict[str, int]:
    """The earliest or latest offset of each topic's one partition; those that were not told are absent."""
    offsets: dict[str, int] = {}
    for leader, names in by_leader.items():
        answer = await admin._send_request(OffsetRequest(-1, 0, [(name, [(0, which)]) for name in names]), leader)
        for name, [(_, code, _, offset)] in answer.topics:
            if code == NO_ERROR:
                offsets[name] = offset
    return offsets


async def ask_settings(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, tuple[int, dict[str, str]]]:
    """Partitions and settings of the topics that exist. Raises Forbidden."""
    answer = await admin._send_request(TopicsRequest(names))
    counts = {name: len(partitions) for code, name, _, _, partitions, *_ in answer.topics if code == NO_ERROR}
    if not counts:
        return {}
    settings = {}
    for response in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in counts]):
        for code, _, _, name, entries in response.resources:
            if code == FORBIDDEN:
                raise Forbidden(name)
            if code == NO_ERROR:
                settings[name] = counts[name], {entry[0]: entry[1] for entry in entries}
    return settings
