"""Topic names: per partnership and direction one for records, one for file bytes."""

import re

from shared_schema.contract.registers import Side

TOPIC_PREFIX = "dealbridge."
BLOBS = ".blobs"
PARTNERSHIP = re.compile(r"^[a-z0-9][a-z0-9-]{0,62}$")


def is_partnership(name: str) -> bool:
    """Lower-case letters, digits and hyphens; no dot, because a dot ends the part of a topic that an ACL names."""
    return PARTNERSHIP.fullmatch(name) is not None


def record_topic(partnership: str, sender: Side) -> str:
    return f"{TOPIC_PREFIX}{partnership}.from-{sender}"


def blob_topic(partnership: str, sender: Side) -> str:
    return f"{record_topic(partnership, sender)}{BLOBS}"


def is_blob_topic(topic: str) -> bool:
    return topic.endswith(BLOBS)


def all_topics(partnership: str) -> list[str]:
    sides: tuple[Side, Side] = ("partner", "vendor")
    return [make(partnership, side) for side in sides for make in (record_topic, blob_topic)]


def partnership_of(topic: str) -> str:
    """The partnership that a topic belongs to; empty if it is none of ours."""
    parts = topic.removeprefix(TOPIC_PREFIX).split(".")
    return parts[0] if topic.startswith(TOPIC_PREFIX) and is_partnership(parts[0]) else ""


def other(side: Side) -> Side:
    return "vendor" if side == "partner" else "partner"
