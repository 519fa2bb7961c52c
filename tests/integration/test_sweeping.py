"""What the store keeps and what it lets go: nothing that somebody may still need goes, and a pair at rest grows nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, update

from shared_schema.crm.tables import deal_history, metadata, property_history
from shared_schema.sync import erasing, relay, sweeper
from shared_schema.sync.deals import save_shared
from shared_schema.sync.notes import add_note
from shared_schema.sync.sweeper import Sweeper
from shared_schema.sync.tables import (
    discards,
    inbound_epochs,
    journal,
    leases,
    outbound_epochs,
    outbox,
    parked,
    peer_outcomes,
    restorations,
)
from tests.integration.pair import Pair, Side, open_pair, until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster

LONG_AGO = {"at_ms": 1}


@pytest.fixture
async def pair(database_url: str, tmp_path: Path) -> AsyncIterator[Pair]:
    """Two nodes that share an active deal, in step."""
    cluster = MemoryCluster()
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", database_url), (MemoryBroker(cluster), MemoryBroker(cluster))) as opened:
        await opened.begin_sharing()
        await opened.settle()
        yield opened


async def sweep(side: Side, keep_days: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sweep to its end."""
    monkeypatch.setattr(sweeper, "PAUSE_S", 0)
    monkeypatch.setattr(sweeper, "EVERY_S", 0)
    monkeypatch.setattr(sweeper, "SPAN_IDS", 7)
    monkeypatch.setattr(sweeper, "PIECE_ROWS", 3)
    swept = asyncio.Event()

    class Watched(Sweeper):
        async def turn(self) -> None:
            await super().turn()
            swept.set()

    task = asyncio.create_task(Watched(side.station, keep_days).run())
    async with asyncio.timeout(30):
        await swept.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def change(side: Side, *statements: Any) -> None:
    async with side.station.database.transaction() as tx:
        for statement in statements:
            await tx.execute(statement)


async def count(side: Side, table: Any) -> int:
    return int((await side.rows(select(func.count()).select_from(table)))[0][0])


async def newest_writes(side: Side) -> set[tuple[Any, ...]]:
    key = (property_history.c.uid, property_history.c.field)
    newest = select(func.max(property_history.c.id)).group_by(*key)
    columns = select(*key, property_history.c.value).where(property_history.c.id.in_(newest))
    return {tuple(row) for row in await side.rows(columns)}


async def test_histories_stay_for_ever_unless_the_setting_says_otherwise(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = pair.vendor
    await vendor.stop()
    tables = (property_history, deal_history, journal, peer_outcomes)
    await change(vendor, *(update(table).values(LONG_AGO) for table in tables))
    before = [await count(vendor, table) for table in tables]
    await sweep(vendor, 0, monkeypatch)
    assert [await count(vendor, table) for table in tables] == before


async def test_what_was_replaced_goes_and_the_newest_write_of_each_field_stays(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = pair.vendor
    for number in range(5):
        await vendor.do(save_shared, 1, {"next_step": f"step {number}"})
    await pair.settle()
    await vendor.stop()
    newest = await newest_writes(vendor)
    await change(vendor, update(property_history).values(LONG_AGO))
    await sweep(vendor, 1, monkeypatch)
    assert await newest_writes(vendor) == newest
    assert await count(vendor, property_history) == len(newest)


async def test_what_is_young_on_its_way_or_in_conflict_stays(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    partner, vendor = pair.partner, pair.vendor
    await vendor.stop()
    for number in range(3):
        await vendor.do(save_shared, 1, {"next_step": f"the vendor's {number}"})
        await partner.do(save_shared, 1, {"next_step": f"the partner's {number}"})
    await change(vendor, update(property_history).values(LONG_AGO))
    unsent = {row.event for row in await vendor.rows(select(outbox.c.event))}
    await sweep(vendor, 1, monkeypatch)
    assert unsent <= {row.event for row in await vendor.rows(select(property_history.c.event))}
    vendor.start()
    await pair.settle()
    await vendor.stop()
    await change(vendor, update(property_history).where(property_history.c.field == "next_step").values(LONG_AGO))
    before = await count(vendor, property_history)
    await sweep(vendor, 1, monkeypatch)
    assert await count(vendor, property_history) == before


async def test_the_date_by_which_the_peer_is_rid_of_an_erasure_stays(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = pair.vendor
    await vendor.do(erasing.erase_text, "note", await vendor.do(add_note, 1, "erased"))

    async def stated() -> list[tuple[str, str | None]]:
        return [(each["state"], each["gone_by"]) for each in await vendor.read(erasing.list_erasures, vendor.station.keeping)]

    async def gone() -> bool:
        return all(state == "gone" and date for state, date in await stated())

    await until(gone)
    before = await stated()
    await pair.settle()
    await vendor.stop()
    await change(vendor, update(peer_outcomes).values(LONG_AGO))
    await sweep(vendor, 1, monkeypatch)
    assert (await stated(), await count(vendor, peer_outcomes)) == (before, 0)


async def test_old_outcomes_and_journal_go_but_not_what_is_unsettled(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = pair.vendor
    await vendor.stop()
    said = {"partnership": pair.partnership, "field": "name", "reason": "", "at_ms": 1}
    rows = [
        {**said, "event": f"event {number}", "uid": f"uid {number}", "outcome": outcome}
        for number, outcome in enumerate(["applied", "ignored", "refused", "parked"] * 3)
    ]
    told = {"partnership": pair.partnership, "what": "told", "detail": "", "actor": "Victor"}
    lines = [{**told, "at_ms": at_ms} for at_ms in (1, 2, 3, vendor.station.clock.now_ms())]
    await change(vendor, insert(peer_outcomes).values(rows), insert(journal).values(lines))
    await sweep(vendor, 1, monkeypatch)
    assert {row.outcome for row in await vendor.rows(select(peer_outcomes.c.outcome))} == {"refused", "parked"}
    assert len(await vendor.rows(select(journal.c.id).where(journal.c.what == "told"))) == 1


async def test_epochs_that_are_long_over_go_and_those_that_count_stay(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = pair.vendor
    await vendor.stop()
    inbound = {"partnership": pair.partnership, "next_sequence": 9, "event": None}
    epochs = [{**inbound, "epoch": f"{number:016x}", "gaps": "[]", "moved_ms": number} for number in range(20)]
    epochs.append({**inbound, "epoch": "f" * 16, "gaps": "[[1, 2]]", "moved_ms": 1})
    ours = {"partnership": pair.partnership, "began_ms": 1}
    outbound = [{**ours, "epoch": f"{number:016x}", "acknowledged": 1, "moved_ms": number} for number in range(20)]
    outbound += [{**ours, "epoch": f"{number:016x}", "acknowledged": 0, "moved_ms": 30} for number in range(20, 25)]
    waiting = {"partnership": pair.partnership, "event": "an event", "payload": "{}", "created_ms": 1, "epoch": f"{2:016x}", "sequence": 2}
    running = {row.epoch for row in await vendor.rows(select(outbound_epochs.c.epoch))}
    await change(vendor, insert(inbound_epochs).values(epochs), insert(outbound_epochs).values(outbound), insert(outbox).values(waiting))
    real = len(await vendor.rows(select(inbound_epochs.c.epoch).where(inbound_epochs.c.moved_ms > 1_000)))
    await sweep(vendor, 0, monkeypatch)
    kept = {row.epoch for row in await vendor.rows(select(inbound_epochs.c.epoch).where(inbound_epochs.c.moved_ms < 1_000))}
    assert kept == {"f" * 16, *(f"{number:016x}" for number in range(20 - (8 - real), 20))}
    stay = {f"{2:016x}", *(f"{number:016x}" for number in range(4, 20))}
    assert {row.epoch for row in await vendor.rows(select(outbound_epochs.c.epoch))} == running | stay


async def test_a_store_is_not_taken_to_have_gone_back_by_an_epoch_of_more_than_a_year_ago(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer acknowledges its newest epochs for ever, however old they are."""
    vendor = pair.vendor
    await vendor.stop()
    await change(vendor, update(outbound_epochs).values(began_ms=1, moved_ms=1))
    vendor.start()
    await vendor.do(add_note, 1, "in an epoch of today")
    await pair.settle()
    await vendor.stop()
    await sweep(vendor, 0, monkeypatch)
    vendor.start()
    await vendor.do(add_note, 1, "an ordinary note")
    await pair.settle()
    told = {row.what for row in await vendor.rows(select(journal.c.what))}
    assert "store restored" not in told and not await vendor.rows(select(restorations.c.partnership))


async def test_the_leases_of_processes_that_were_go_and_no_relays(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = pair.vendor
    await vendor.stop()
    now_ms = vendor.station.clock.now_ms()
    ran_out = {"relay:gone": 1, "process:gone": 1, "process:today": now_ms - 3_600_000, "process:here": now_ms + 1_000}
    rows = [{"name": name, "owner": "somebody", "epoch": "", "expires_ms": expires_ms} for name, expires_ms in ran_out.items()]
    await change(vendor, delete(leases), insert(leases).values(rows))
    await sweep(vendor, 0, monkeypatch)
    assert {row.name for row in await vendor.rows(select(leases.c.name))} - {"sweeper"} == {"relay:gone", "process:today", "process:here"}


async def test_what_was_discarded_is_known_until_no_topic_can_bring_it_any_more(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = pair.vendor
    await vendor.stop()
    days, now_ms = vendor.station.keeping.topic_days, vendor.station.clock.now_ms()
    ages = {"over": days * sweeper.DAY_MS, "young": (days - 0.1) * sweeper.DAY_MS}
    rows = [
        {"partnership": pair.partnership, "mark": mark, "reason": "no sense in it", "at_ms": int(now_ms - age)}
        for mark, age in ages.items()
    ]
    await change(vendor, insert(discards).values(rows))
    await sweep(vendor, 0, monkeypatch)
    assert [row.mark for row in await vendor.rows(select(discards.c.mark))] == ["young"]


async def test_a_peer_that_acknowledged_for_months_is_acknowledged_in_few_words(pair: Pair) -> None:
    """An acknowledgement names the newest epochs and those that it is about, however many lives the peer's relay has had."""
    vendor = pair.vendor
    await vendor.stop()
    old = {"partnership": pair.partnership, "next_sequence": 9, "event": None, "gaps": "[]", "moved_ms": 1}
    await change(vendor, insert(inbound_epochs).values([{**old, "epoch": f"{number:016x}"} for number in range(500)]))
    vendor.start()
    await pair.partner.do(add_note, 1, "a note")
    await pair.settle()
    cluster = vendor.broker.cluster  # type: ignore[attr-defined]  # the twin's
    log = cluster.logs[f"dealbridge.{pair.partnership}.from-vendor"].records
    longest = max(len(record.value) for record in log if record.headers[0][1] == b"sync.acknowledged")
    assert longest < 3_000


async def test_a_pair_at_rest_grows_neither_store(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred heartbeats each way, and their acknowledgements."""
    monkeypatch.setattr(relay, "HEARTBEAT_MS", 0)
    monkeypatch.setattr(relay, "REST_MS", 0)
    monkeypatch.setattr(relay, "SPREAD_BITS", 0)
    tables = [table for table in metadata.sorted_tables if table.name not in ("reps", "assignments")]
    sides = (pair.partner, pair.vendor)
    before = [[await count(side, table) for table in tables] for side in sides]
    cluster = pair.vendor.broker.cluster  # type: ignore[attr-defined]  # the twin's
    ends = [log.end for log in cluster.logs.values()]

    async def beaten() -> bool:
        return sum(log.end for log in cluster.logs.values()) > sum(ends) + 400

    await until(beaten)
    assert [[await count(side, table) for table in tables] for side in sides] == before
    assert not await pair.vendor.rows(select(parked.c.id))
