"""What a run leaves for the checker: both stores, what the topics hold, every log, and what the people were told."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.chaos.client_log import Command, Seen, read_log
from tests.chaos.faults import Replacement
from tests.chaos.schedule import SIDES
from tests.chaos.town import Town
from tests.stores import StoreCopy, copy_store

FETCH_MS = 2_000


class Evidence(NamedTuple):
    """`topics`: every record's bytes by topic; `logs`: the nodes' own; `left`: what was still on its way at the end, as nothing should."""

    stores: Mapping[str, StoreCopy]
    topics: Mapping[str, Sequence[bytes]]
    logs: Sequence[Path]
    commands: Sequence[Command]
    seen: Sequence[Seen]
    replacements: Sequence[Replacement]
    left: Mapping[str, int]
    deaths: Sequence[str]


async def gather(town: Town, replacements: Sequence[Replacement], left: Mapping[str, int]) -> Evidence:
    directory = town.directory
    await town.keep_logs()
    stores = {side: await copy_store(town.urls[side], side, directory / f"{side}-at-the-end.db") for side in SIDES}
    told = [read_log(side, directory / f"{side}-people.jsonl") for side in SIDES]
    return Evidence(
        stores,
        await read_topics(town.reach_broker()),
        [node.log for node in town.nodes.values()],
        [command for commands, _ in told for command in commands],
        [seen for _, seens in told for seen in seens],
        replacements,
        left,
        town.deaths,
    )


async def read_topics(way: Mapping[str, Any]) -> dict[str, list[bytes]]:
    """Everything that the broker still has of ours."""
    consumer = AIOKafkaConsumer(**way, enable_auto_commit=False)
    await consumer.start()
    try:
        names = sorted(name for name in await consumer.topics() if name.startswith("dealbridge."))
        partitions = [TopicPartition(name, 0) for name in names]
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        found: dict[str, list[bytes]] = {name: [] for name in names}
        while any([await consumer.position(each) < ends[each] for each in partitions]):
            for partition, records in (await consumer.getmany(timeout_ms=FETCH_MS)).items():
                found[partition.topic] += [(each.key or b"") + (each.value or b"") for each in records]
        return found
    finally:
        await consumer.stop()
