"""One event's life as either node tells it: the same steps, times and numbers, whichever side is asked."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from shared_schema.crm.problems import NotFound
from shared_schema.crm.tables import property_history
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.deals import save_shared
from shared_schema.sync.trace import trace
from shared_schema.web.trace_commands import show_trace
from tests.integration.pair import Pair, Side, open_pair

WHOLE = ["committed", "published", "applied", "acknowledged"]


@pytest.fixture
async def pair(database_url: str, tmp_path: Path, kafka_address: str) -> AsyncIterator[Pair]:
    brokers = KafkaBroker(kafka_address), KafkaBroker(kafka_address, answer_s=2)
    try:
        async with open_pair((f"sqlite:///{tmp_path}/partner.db", database_url), brokers) as pair:
            await pair.begin_sharing()
            await pair.settle()
            yield pair
    finally:
        for broker in brokers:
            await broker.stop()


async def edit(side: Side, text: str) -> str:
    """An edit of the shared deal; its event."""
    await side.do(save_shared, 1, {"next_step": text})
    [(event,)] = await side.rows(select(property_history.c.event).where(property_history.c.value == f'"{text}"'))
    return str(event)


async def tell(side: Side, event: str) -> dict[str, Any]:
    return await trace(side.station.database, side.station.spec.side, event, lambda _: side.broker)


def times(told: dict[str, Any], source: str) -> dict[tuple[str, str], int]:
    return {(each["what"], each["side"]): each["at_ms"] for each in told["steps"] if each["source"] == source}


async def test_both_sides_tell_the_same_life_of_an_edit(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    event = await edit(pair.partner, "Call them")
    await pair.settle()
    here, there = await tell(pair.partner, event), await tell(pair.vendor, event)
    assert (here["state"], there["state"], here["type"], there["type"]) == ("acknowledged", "applied", "deal.changed", "deal.changed")
    assert here["registration"] == there["registration"] and here["notes"] == there["notes"] == []
    assert [each["what"] for each in here["steps"]] == ["committed", "published", "acknowledged"]
    assert [each["what"] for each in there["steps"]] == WHOLE
    # what the topics tell is the same for both, and what the maker's store says is what its event says
    told = times(here, "topic")
    assert told == times(there, "topic") and ("acknowledged", "vendor") in told
    details = [[each["detail"] for each in side["steps"] if each["what"] == "published"] for side in (here, there)]
    assert details[0] == details[1] and "number" in details[0][0]
    at = [each["at_ms"] for each in there["steps"]]
    assert at == sorted(at)
    show_trace(there, False)
    shown = capsys.readouterr().out
    assert event in shown and all(what in shown for what in WHOLE)


async def test_a_conflict_is_in_the_life_of_the_edit_that_met_it(pair: Pair) -> None:
    await pair.vendor.stop()
    theirs = await edit(pair.vendor, "theirs")
    ours = await edit(pair.partner, "ours")
    waiting = await tell(pair.vendor, theirs)
    assert waiting["state"] == "pending" and "not published yet" in waiting["notes"][0]
    pair.vendor.start()
    await pair.settle()
    steps = {
        (side.station.spec.side, event): [each["what"] for each in (await tell(side, event))["steps"]]
        for side in (pair.partner, pair.vendor)
        for event in (ours, theirs)
    }
    met = [event for event in (ours, theirs) if "outcome heard" in steps["partner" if event == ours else "vendor", event]]
    assert met  # whoever came second, or both
    for event in met:
        assert {"answered", "outcome heard", "acknowledged"} <= set(steps["partner" if event == ours else "vendor", event])


async def test_without_the_broker_the_store_tells_what_it_knows(pair: Pair, tmp_path: Path) -> None:
    event = await edit(pair.partner, "Call them")
    await pair.settle()
    away = KafkaBroker("127.0.0.1:1", answer_s=2)
    told = await trace(pair.vendor.station.database, "vendor", event, lambda _: away)
    await away.stop()
    assert [each["what"] for each in told["steps"]] == ["committed", "applied"] and "can not be read now" in told["notes"][0]
    alone = await trace(pair.partner.station.database, "partner", event)
    assert (alone["state"], alone["notes"]) == ("no longer waits here", [])
    with pytest.raises(NotFound, match="no event"):
        await trace(pair.vendor.station.database, "vendor", "01998f50-0000-7000-8000-000000000002")
