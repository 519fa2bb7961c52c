"""What happens is one line of the log, with the same event and registration on both sides."""

import logging
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from shared_schema.contract.codec import HEADER_EPOCH, HEADER_SEQUENCE
from shared_schema.contract.topics import record_topic
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.tables import property_history
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.deals import save_shared
from shared_schema.sync.tables import parked
from shared_schema.sync.transport import Record
from tests.integration.pair import open_pair, until

POISON = "01998f50-0000-7000-8000-000000000002"


def lines(caplog: pytest.LogCaptureFixture, level: int, message: str) -> list[dict[str, Any]]:
    return [getattr(each, "ids", {}) for each in caplog.records if each.levelno == level and each.getMessage() == message]


async def test_an_edit_a_conflict_and_a_poison_are_a_line_each_with_their_ids(
    tmp_path: Path, kafka_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    brokers = KafkaBroker(kafka_address), KafkaBroker(kafka_address)
    caplog.set_level(logging.DEBUG, "shared_schema")
    try:
        async with open_pair((f"sqlite:///{tmp_path}/partner.db", f"sqlite:///{tmp_path}/vendor.db"), brokers) as pair:
            await pair.begin_sharing()
            await pair.settle()
            [(registration,)] = await pair.vendor.rows(select(shared_deals.c.uid))
            caplog.clear()
            await pair.partner.stop()
            await pair.partner.do(save_shared, 1, {"next_step": "ours"})
            await pair.vendor.do(save_shared, 1, {"next_step": "theirs"})
            pair.partner.start()
            await pair.settle()
            events = await pair.vendor.rows(select(property_history.c.event).where(property_history.c.value.in_(['"ours"', '"theirs"'])))
            said = lines(caplog, logging.INFO, "deal.changed")
            assert [each["event"] for each in said] and {each["event"] for each in said} == {event for (event,) in events}
            assert len(said) == 2 and {each["registration"] for each in said} == {registration}
            taken = lines(caplog, logging.DEBUG, "took deal.changed")
            assert sorted(each["event"] for each in taken) == sorted(each["event"] for each in said)
            met = lines(caplog, logging.INFO, "conflict: both sides changed it")
            assert {(each["registration"], each["field"]) for each in met} == {(registration, "next_step")}
            assert {each["event"] for each in met} <= {each["event"] for each in said}
            await poison(pair.partner.broker, record_topic(pair.partnership, "partner"))

            async def is_parked() -> bool:
                return bool(await pair.vendor.rows(select(parked.c.id)))

            await until(is_parked)
            told = lines(caplog, logging.WARNING, "parked: newer_major")
            assert [each["event"] for each in told] == [POISON]
    finally:
        for broker in brokers:
            await broker.stop()


async def poison(broker: KafkaBroker, topic: str) -> None:
    """An event that nobody can read, with an id that can be answered."""
    value = f'{{"dataschema":"urn:dealbridge:event:9.0","id":"{POISON}","type":"deal.changed"}}'.encode()
    producer = await broker.open_producer()
    await (await producer.send(topic, [Record(None, value, ((HEADER_EPOCH, b"0" * 16), (HEADER_SEQUENCE, b"1")))]))
    await producer.close()
