"""All of a node's ways: the broker of its settings, and those that bundles brought, each with a credential of its own."""

import asyncio
from pathlib import Path
from typing import NamedTuple

from shared_schema.sync.broker.kafka import KafkaBroker
from shared_schema.sync.joining import find_way
from shared_schema.sync.transport import Trouble

ALL = ""


class Found(NamedTuple):
    """A trouble, and the partnership that it concerns: empty for all that have no way of their own."""

    partnership: str
    trouble: Trouble


class Lines:
    """Opens a partnership's own way when it is first asked for."""

    def __init__(self, broker: KafkaBroker, secrets: Path | None) -> None:
        self.broker = broker
        self.secrets = secrets
        self.own: dict[str, KafkaBroker] = {}

    def find(self, partnership: str) -> KafkaBroker:
        if partnership not in self.own:
            way = find_way(self.secrets, partnership, self.broker.address)
            if way is None:
                return self.broker
            self.own[partnership] = KafkaBroker(*way)
        return self.own[partnership]

    def list_troubles(self) -> list[Found]:
        ways = {ALL: self.broker, **self.own}
        return [Found(partnership, trouble) for partnership, broker in ways.items() for trouble in broker.list_troubles()]

    async def stop(self) -> None:
        await asyncio.gather(self.broker.stop(), *(each.stop() for each in self.own.values()))
