"""A broker that goes away politely, under load, costs lines of the log, whatever its clients would say of every try."""

import asyncio
import itertools
import logging
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.kafka.embedded import EmbeddedKafka
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.deals import save_shared
from tests.integration.pair import open_pair, until
from tests.integration.test_stream import DELIVERY_S

EDITS = 100
LINES_MAX = 100  # of two nodes with two streams each, in about half a minute; unlimited, the client alone would write thousands


@pytest.fixture
def owner() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as thread:
        yield thread


async def test_a_broker_that_is_away_costs_lines_and_not_pages(tmp_path: Path, owner: Executor, caplog: pytest.LogCaptureFixture) -> None:
    kafka, loop = EmbeddedKafka(tmp_path / "kafka"), asyncio.get_running_loop()
    await loop.run_in_executor(owner, kafka.start)
    brokers = KafkaBroker(kafka.address, delivery_s=DELIVERY_S), KafkaBroker(kafka.address, delivery_s=DELIVERY_S)
    try:
        async with open_pair((f"sqlite:///{tmp_path}/partner.db", f"sqlite:///{tmp_path}/vendor.db"), brokers) as pair:
            await pair.become_partners()
            pair.partner.start()
            pair.vendor.start()
            await pair.share_deal()
            await pair.settle()
            caplog.clear()
            caplog.set_level(logging.INFO)
            await loop.run_in_executor(owner, kafka.stop)  # politely: the client's worst case
            numbers = itertools.count()

            async def edited() -> bool:
                await pair.vendor.do(save_shared, 1, {"next_step": f"step {next(numbers)}"})
                await asyncio.sleep(0.2)
                return next(numbers) > 2 * EDITS

            await until(edited)
            assert all(trouble.kind == "down" for broker in brokers for trouble in broker.list_troubles())
            assert brokers[0].list_troubles() and brokers[1].list_troubles()
    finally:
        await loop.run_in_executor(owner, kafka.stop)
        for broker in brokers:
            await broker.stop()
    of_commands = "shared_schema.sync.station"  # a line for each edit, as ever
    said = [record for record in caplog.records if record.levelno >= logging.INFO and record.name != of_commands]
    assert 0 < len(said) < LINES_MAX, "\n".join(f"{record.name} {record.getMessage()}" for record in said[:LINES_MAX])
