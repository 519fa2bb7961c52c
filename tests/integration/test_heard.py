"""After a start, and after a lost connection to the store, nothing reacts until the node knows that its store did not go back."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from shared_schema.sync.consumer import Consumer
from shared_schema.sync.notes import add_note
from shared_schema.sync.tables import inbound_positions
from tests.integration.pair import open_pair, until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster


class Gate:
    """Holds the first batch that is read after `close`."""

    def __init__(self) -> None:
        self.take = Consumer.take
        self.reached, self.opened = asyncio.Event(), asyncio.Event()
        self.opened.set()

    async def pass_through(self, consumer: Consumer, *batch: Any) -> None:
        self.reached.set()
        await self.opened.wait()
        await self.take(consumer, *batch)

    def close(self) -> None:
        self.reached.clear()
        self.opened.clear()


async def test_nothing_reacts_until_what_the_peer_had_said_by_then_is_taken(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its acknowledgements may name what this side's own topic has lost, as its store has."""
    cluster, gate = MemoryCluster(), Gate()

    async def take(consumer: Consumer, *batch: Any) -> None:
        await gate.pass_through(consumer, *batch)

    monkeypatch.setattr(Consumer, "take", take)
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", database_url), (MemoryBroker(cluster), MemoryBroker(cluster))) as pair:
        await pair.begin_sharing()
        vendor, topics = pair.vendor, select(inbound_positions.c.next_offset)
        assert vendor.station.proven() == [pair.partnership]
        await vendor.stop()
        (before,) = await vendor.rows(topics)
        await pair.partner.do(add_note, 1, "said while the vendor was away")
        await until(lambda: has_said(cluster, before.next_offset))
        gate.close()
        await vendor.restart(database_url)
        vendor.start()
        await gate.reached.wait()
        assert vendor.station.proven() == []
        gate.opened.set()
        await until(lambda: is_proven(vendor, [pair.partnership]))
        (after,) = await vendor.rows(topics)
        assert after.next_offset > before.next_offset
        await pair.settle()


async def has_said(cluster: MemoryCluster, offset: int) -> bool:
    return any(name.endswith("from-partner") and log.end > offset for name, log in cluster.logs.items())


async def is_proven(side: Any, wanted: Sequence[str]) -> bool:
    return bool(side.station.proven() == wanted)
