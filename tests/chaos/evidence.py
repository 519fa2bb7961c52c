"""What a run leaves for the checker: both stores, what the topics hold, every log, and what the people were told."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.chaos.client_log import Command, Seen, read_log
from tests.chaos.faults import Replacement
from tests.chaos.schedule import SIDES
from tests.chaos.topics import read_topics
from tests.chaos.town import Town
from tests.stores import StoreCopy, copy_store


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
    read = await read_topics(town.reach_broker())
    told = [read_log(side, directory / f"{side}-people.jsonl") for side in SIDES]
    return Evidence(
        stores,
        {topic: [(each.key or b"") + (each.value or b"") for each in records] for topic, records in read.items()},
        [node.log for node in town.nodes.values()],
        [command for commands, _ in told for command in commands],
        [seen for _, seens in told for seen in seens],
        replacements,
        left,
        town.deaths,
    )
