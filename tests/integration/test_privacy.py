"""What is private stays: a private note crosses nowhere, and is in no log."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from shared_schema.contract.topics import record_topic
from shared_schema.crm import private_notes
from shared_schema.crm.tables import metadata
from shared_schema.sync.broker import KafkaBroker
from tests.integration.trio import Trio, open_trio, read_topic, read_whole_store, table_names

SECRET = "they would pay twice as much"


@pytest.fixture
async def trio(database_url: str, kafka_address: str, tmp_path: Path) -> AsyncIterator[Trio]:
    urls = (database_url, f"sqlite:///{tmp_path}/acme.db", f"sqlite:///{tmp_path}/besta.db")
    async with open_trio(urls, (KafkaBroker(kafka_address), KafkaBroker(kafka_address), KafkaBroker(kafka_address))) as opened:
        await opened.become_partners()
        opened.start()
        yield opened


async def test_a_private_note_is_nowhere_but_in_its_own_table(trio: Trio, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await trio.register("Acme")
    acme = trio.partners["Acme"]
    async with acme.station.working(acme.author) as work:
        await private_notes.add(work.tx, 1, acme.author.user_id, SECRET, work.now_ms)
    holding = [name for name in sorted(table_names(acme)) if SECRET in repr(await acme.rows(select(metadata.tables[name])))]
    assert holding == ["private_notes"]
    await trio.settle()
    for other in (trio.vendor, trio.partners["Besta"]):
        assert SECRET not in await read_whole_store(other)
    for sender in ("partner", "vendor"):
        read = await read_topic(trio.vendor.broker, record_topic(trio.partnerships["Acme"], sender))
        assert read and not any(SECRET.encode() in part for part in read)
    assert caplog.text and SECRET not in caplog.text
