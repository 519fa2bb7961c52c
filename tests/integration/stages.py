"""Where tests of several files begin: two nodes in step, in this process and over a broker in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared_schema.sync import relay, verification, verifier, views
from tests.integration.pair import Pair, have_said_all, open_pair, until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster


@asynccontextmanager
async def open_memory_pair(vendor_url: str, directory: Path) -> AsyncIterator[Pair]:
    """A partner on SQLite below a directory, and a vendor."""
    cluster = MemoryCluster()
    async with open_pair((f"sqlite:///{directory}/partner.db", vendor_url), (MemoryBroker(cluster), MemoryBroker(cluster))) as opened:
        yield opened


@asynccontextmanager
async def open_prompt_pair(vendor_url: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    """They share one active deal, and each has heard that the other has said all; looks and heartbeats follow each other at once."""
    monkeypatch.setattr(verification, "PAUSE_MS", 50)
    monkeypatch.setattr(verifier, "POLL_S", 0.05)
    monkeypatch.setattr(relay, "HEARTBEAT_MS", 200)
    async with open_memory_pair(vendor_url, directory) as opened:
        await opened.begin_sharing()
        await opened.settle()
        await until(lambda: have_said_all(opened.partner, opened.vendor))
        yield opened


@asynccontextmanager
async def open_two_deals(vendor_url: str, directory: Path) -> AsyncIterator[Pair]:
    """They share two deals, active on both sides, with the same ids there."""
    async with open_memory_pair(vendor_url, directory) as opened:
        await opened.become_partners()
        opened.partner.start()
        opened.vendor.start()
        await opened.share_deal("Globex")
        await opened.share_deal("Umbrella")

        async def active() -> bool:
            return len(await opened.partner.read(views.list_shared_deals, {"status": "active"})) == 2

        await until(active)
        await opened.settle()
        yield opened
