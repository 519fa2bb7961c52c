"""Fields that a store kept before its version knew them: their columns are brought up to them, in pieces, and nothing else happens. A field
of today stands for one: the store says that it is not projected for it, and its columns are as a migration makes them."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from shared_schema.crm.deals import load_deal
from shared_schema.crm.projected_tables import conflicts, shared_notes, trash
from shared_schema.crm.tables import deal_history, deals, property_history, shared_records
from shared_schema.sync import notes, projector
from shared_schema.sync.deals import save_deal
from shared_schema.sync.projector import KNOWN, Projector
from shared_schema.sync.shares import appear, leave
from shared_schema.sync.tables import journal, outbox, peer_outcomes, projections, reactions
from tests.integration.pair import Pair, Side, open_pair, until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster

TELLING = (outbox, reactions, journal, peer_outcomes, property_history, deal_history, trash, conflicts)
FIELDS = {"deal.next_step", "note.body"}


@pytest.fixture
async def pair(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    monkeypatch.setattr(projector, "POLL_S", 0.02)
    monkeypatch.setattr(projector, "PAUSE_S", 0)
    monkeypatch.setattr(projector, "PIECE_RECORDS", 2)
    cluster = MemoryCluster()
    urls = f"sqlite:///{tmp_path}/partner.db", database_url
    async with open_pair(urls, (MemoryBroker(cluster), MemoryBroker(cluster))) as opened:
        await opened.begin_sharing()
        await opened.partner.do(save_deal, 1, {"next_step": "Call Hooli"})
        await opened.partner.do(notes.add_note, 1, "They have Hooli.")
        await opened.settle()
        yield opened


async def come_back_as_older(side: Side) -> None:
    """The next process finds a store that was upgraded."""
    await side.stop()
    async with side.station.database.transaction() as tx:
        fields = json.dumps(sorted(KNOWN - FIELDS))
        await tx.execute(update(projections).values(fields=fields))
        await tx.execute(update(deals).values(next_step=None))
        await tx.execute(update(shared_notes).values(body=""))


async def columns_of(side: Side) -> tuple[Any, ...]:
    (note,) = await side.rows(select(shared_notes.c.body))
    return (await side.read(load_deal, 1))["next_step"], note.body


async def count_told(side: Side) -> list[Any]:
    return [await side.rows(select(func.count()).select_from(each)) for each in TELLING]


async def finish(some: Projector) -> None:
    while await some.is_due():
        await some.project_piece()


async def test_columns_are_brought_up_to_fields_that_were_stored_before_and_nobody_is_told_of_anything(pair: Pair) -> None:
    await come_back_as_older(pair.vendor)
    told, documents = await count_told(pair.vendor), await pair.vendor.rows(select(shared_records))
    await finish(Projector(pair.vendor.station))
    assert await columns_of(pair.vendor) == ("Call Hooli", "They have Hooli.")
    assert await count_told(pair.vendor) == told
    assert await pair.vendor.rows(select(shared_records)) == documents


async def test_a_node_that_starts_does_so_by_itself_beside_what_is_applied_and_saved(pair: Pair) -> None:
    for name in ("Stark", "Wayne"):
        await pair.share_deal(name, next_step="Call")
    await pair.settle()
    await come_back_as_older(pair.vendor)
    for number in range(5):
        await pair.partner.do(notes.add_note, 2, f"note {number}")
        await pair.partner.do(save_deal, 2, {"next_step": f"Call {number}"})
    pair.vendor.start()
    others = [asyncio.create_task(finish(Projector(pair.vendor.station))) for _ in range(2)]
    for number in range(5):
        await pair.vendor.do(save_deal, 3, {"close_date": f"2027-01-0{number + 1}"})
    await asyncio.gather(*others)
    await pair.settle()

    async def shown() -> bool:
        return {row.next_step for row in await pair.vendor.rows(select(deals.c.next_step))} == {"Call Hooli", "Call 4", "Call"}

    await until(shown)
    await pair.check_same()


async def test_a_column_that_this_side_filled_meanwhile_keeps_what_it_says(pair: Pair) -> None:
    await come_back_as_older(pair.vendor)
    async with pair.vendor.station.database.transaction() as tx:
        await tx.execute(update(deals).values(next_step="ours"))
    await finish(Projector(pair.vendor.station))
    assert (await columns_of(pair.vendor))[0] == "ours"


async def test_after_a_kill_it_goes_on_where_it_was(pair: Pair) -> None:
    await come_back_as_older(pair.vendor)
    uids = [row.uid for row in await pair.vendor.rows(select(shared_records.c.uid).order_by(shared_records.c.uid))]
    assert len(uids) > 4
    for _ in range(2):
        await Projector(pair.vendor.station).project_piece()
    (row,) = await pair.vendor.rows(select(projections.c.uid))
    assert row.uid == uids[3]
    await finish(Projector(pair.vendor.station))
    assert await columns_of(pair.vendor) == ("Call Hooli", "They have Hooli.")


async def test_it_waits_until_no_process_of_an_older_version_syncs_the_store(pair: Pair) -> None:
    await come_back_as_older(pair.vendor)
    station = pair.vendor.station
    async with station.database.transaction() as tx:
        await appear(tx, "an older one", "of its version", station.clock.now_ms())
    assert not await Projector(station).is_due()
    async with station.database.transaction() as tx:
        await leave(tx, "an older one")
    assert await Projector(station).is_due()


async def test_a_fresh_store_has_nothing_to_do(pair: Pair) -> None:
    await until(lambda: is_said(pair.vendor))
    assert not await Projector(pair.vendor.station).is_due()
    (row,) = await pair.vendor.rows(select(projections))
    assert (set(json.loads(row.fields)), row.adding, row.uid) == (KNOWN, "[]", "")


async def is_said(side: Side) -> bool:
    return bool(await side.rows(select(projections)))
