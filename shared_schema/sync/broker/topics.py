"""What Kafka is asked about topics beyond what aiokafka knows: their ids, and where their logs begin and end."""

from collections.abc import Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.types import AbstractType, Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

from shared_schema.sync.transport import TopicInfo

NO_ERROR, UNKNOWN_TOPIC, FORBIDDEN, TOPIC_EXISTS = 0, 3, 29, 36
EARLIEST, LATEST = -2, -1
TAGS = ("tags", TaggedFields)


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
    """Ids and offsets of the topics that exist; None while a partition has no leader or went away between the questions."""
    answer = await admin._send_request(TopicsRequest(names))
    ids: dict[str, str] = {}
    by_leader: dict[int, list[str]] = {}
    for code, name, topic_id, _, partitions, *_ in answer.topics:
        if code in (UNKNOWN_TOPIC, FORBIDDEN):
            continue
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
