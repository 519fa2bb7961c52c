"""Verify names exactly what differs, never what is only on its way; repair brings both sides in step, whatever one of them lost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import and_, delete, select, update

from shared_schema.contract.topics import record_topic
from shared_schema.crm.tables import shared_records
from shared_schema.sync import drift, erasing, refusals, tables, verification, verifier, views
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.deals import save_shared
from shared_schema.sync.limits import Limits
from shared_schema.sync.notes import add_note
from shared_schema.sync.registrations import unshare
from shared_schema.sync.status import read_status
from shared_schema.sync.transport import Broker
from tests.integration.pair import Pair, Side, open_pair, until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster

Row = dict[str, Any]


@pytest.fixture(params=["memory-sqlite", "kafka-postgresql"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    """Two nodes that share an active deal, in step; looks follow each other at once."""
    monkeypatch.setattr(verification, "PAUSE_MS", 50)
    monkeypatch.setattr(verification, "PAUSES_MAX", 1)
    monkeypatch.setattr(verification, "LOOKS_MAX", 1_000)
    monkeypatch.setattr(verifier, "POLL_S", 0.05)
    medium, store = request.param.split("-")
    brokers: tuple[Broker, Broker]
    if medium == "memory":
        cluster = MemoryCluster()
        brokers = MemoryBroker(cluster), MemoryBroker(cluster)
    else:
        address = request.getfixturevalue("kafka_address")
        brokers = KafkaBroker(address), KafkaBroker(address)
    url = f"sqlite:///{tmp_path}/vendor.db" if store == "sqlite" else request.getfixturevalue("postgres_url")
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", url), brokers) as opened:
        await opened.begin_sharing()
        await opened.settle()
        yield opened


async def verify(side: Side, partnership: str, *, repair: bool = False) -> Row:
    """One verification from this side, to its end."""
    await side.do(verification.request, partnership, repair=repair)
    found: Row = {}

    async def done() -> bool:
        found.update(await side.read(verification.read_verification, partnership))
        return found["phase"] == "done"

    await until(done)
    return found


async def write(side: Side, statement: Any) -> None:
    """What a defect or a hand in the store would do."""
    async with side.station.database.transaction() as tx:
        await tx.execute(statement)


PARTNERS_NOTES = and_(shared_records.c.kind == "note", shared_records.c.side == "partner")


async def add_notes(pair: Pair, count: int) -> None:
    for number in range(count):
        await (pair.partner if number % 2 else pair.vendor).do(add_note, 1, f"note {number}")
    await pair.settle()


async def test_two_sides_that_agree_are_told_so_in_one_look(pair: Pair) -> None:
    for side in (pair.partner, pair.vendor):
        found = await verify(side, pair.partnership)
        assert (found["drift"], found["repaired"], found["busy"]) == ([], 0, 0)


@pytest.mark.parametrize("by", ["partner", "vendor"])
async def test_what_one_side_lost_is_named_and_repaired_whoever_asks(pair: Pair, by: str) -> None:
    await add_notes(pair, 6)
    lost = [row.uid for row in await pair.vendor.rows(select(shared_records.c.uid).where(PARTNERS_NOTES).limit(2))]
    await write(pair.vendor, delete(shared_records).where(shared_records.c.uid.in_(lost)))
    side = pair.partner if by == "partner" else pair.vendor
    found = await verify(side, pair.partnership)
    where = "only here" if by == "partner" else "only there"
    assert {(row["uid"], row["where"]) for row in found["drift"]} == {(uid, where) for uid in lost}
    (status,) = await side.read(read_status, side.station.clock.now_ms())
    assert status["drift"] == 2
    found = await verify(side, pair.partnership, repair=True)
    assert (found["drift"], found["repaired"]) == ([], 2)
    await pair.settle()
    await pair.check_same()


async def test_what_a_side_lost_of_its_own_comes_back_because_its_own_topic_tells_that_it_was_there(pair: Pair) -> None:
    """States of ours that we do not have are a forgery, or our store went back. The topic in which we alone can write decides."""
    await pair.vendor.do(add_note, 1, "the vendor's own")
    await pair.settle()
    notes = select(shared_records.c.uid).where(shared_records.c.kind == "note")
    lost = await pair.vendor.rows(notes)
    await write(pair.vendor, delete(shared_records).where(shared_records.c.kind == "note"))
    await pair.partner.do(verification.request, pair.partnership, repair=True)

    async def back() -> bool:
        return bool(await pair.vendor.rows(notes))

    await until(back)
    await pair.settle()
    assert await pair.vendor.rows(notes) == lost
    assert await pair.vendor.read(refusals.list_refused) == []
    assert (await verify(pair.partner, pair.partnership))["drift"] == []


async def test_a_state_that_went_back_on_one_side_comes_forward_again(pair: Pair) -> None:
    """The vendor's deal as it was before two edits: an older document, with the hash that belongs to it."""
    old = select(shared_records.c.uid, shared_records.c.document, shared_records.c.hash).where(shared_records.c.kind == "deal")
    (before,) = await pair.vendor.rows(old)
    await pair.partner.do(save_shared, 1, {"name": "Renamed"})
    await pair.settle()
    await write(
        pair.vendor,
        update(shared_records).where(shared_records.c.uid == before.uid).values(document=before.document, hash=before.hash),
    )
    found = await verify(pair.vendor, pair.partnership)
    (row,) = found["drift"]
    assert (row["uid"], row["where"]) == (before.uid, "on both sides, unequal")
    assert row["fields"] == [{"field": "name", "ours": ["Globex roll-out"], "theirs": ["Renamed"]}]
    assert (await verify(pair.vendor, pair.partnership, repair=True))["drift"] == []
    await pair.settle()
    await pair.check_same()


async def test_a_busy_pair_shows_no_false_difference(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "LOOKS_MAX", 5)
    await add_notes(pair, 4)
    stopped = asyncio.Event()

    async def edit(side: Side, field: str) -> None:
        count = 0
        while not stopped.is_set():
            count += 1
            await side.do(save_shared, 1, {field: f"{field} {count}"})
            await asyncio.sleep(0.02)

    editing = [asyncio.create_task(edit(pair.partner, "name")), asyncio.create_task(edit(pair.vendor, "next_step"))]
    try:
        for side in (pair.partner, pair.vendor, pair.partner):
            assert (await verify(side, pair.partnership))["drift"] == []
    finally:
        stopped.set()
        await asyncio.gather(*editing)
    await pair.settle()
    assert (await verify(pair.vendor, pair.partnership))["drift"] == []


async def test_very_many_differences_go_in_parts_and_several_rounds(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "PART_RECORDS", 4)
    monkeypatch.setattr(verification, "PARTS_MAX", 3)
    await add_notes(pair, 30)
    await write(pair.vendor, delete(shared_records).where(PARTNERS_NOTES))
    found = await verify(pair.vendor, pair.partnership, repair=True)
    assert (found["drift"], found["repaired"]) == ([], 15)
    await pair.settle()
    await pair.check_same()


async def test_a_verification_waits_for_a_peer_that_is_away(pair: Pair) -> None:
    await pair.vendor.stop()
    await pair.partner.do(verification.request, pair.partnership, repair=False)
    await asyncio.sleep(0.3)
    assert (await pair.partner.read(verification.read_verification, pair.partnership))["phase"] != "done"
    pair.vendor.start()

    async def done() -> bool:
        return (await pair.partner.read(verification.read_verification, pair.partnership))["phase"] == "done"

    await until(done)


async def test_the_schedule_verifies_and_repairs_by_itself(pair: Pair) -> None:
    await add_notes(pair, 2)
    await pair.partner.stop()
    await write(pair.vendor, delete(shared_records).where(PARTNERS_NOTES))
    pair.partner.start(Limits(verify_minutes=1))

    async def repaired() -> bool:
        return len(await pair.vendor.rows(select(shared_records.c.uid).where(PARTNERS_NOTES))) == 1

    await until(repaired)


async def test_what_is_no_longer_shared_is_no_difference(pair: Pair) -> None:
    await add_notes(pair, 2)
    await pair.partner.do(unshare, 1)
    await pair.settle()
    await write(pair.vendor, delete(shared_records).where(shared_records.c.kind == "note"))
    assert (await verify(pair.partner, pair.partnership))["drift"] == []


async def test_an_idle_pair_that_agrees_exchanges_one_digest_and_its_answer(pair: Pair) -> None:
    async def ends() -> list[int]:
        topics = [record_topic(pair.partnership, side) for side in ("partner", "vendor")]
        infos = await pair.partner.broker.describe_topics(topics)
        return [infos[topic].end_offset for topic in topics]

    before = await ends()
    await verify(pair.partner, pair.partnership)
    grown = [after - earlier for after, earlier in zip(await ends(), before, strict=True)]
    assert sum(grown) <= 8, "a digest, its answer, acknowledgements, and perhaps heartbeats"


async def test_what_was_refused_is_left_out_of_repair_until_something_is_written_to_it(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    (uid,) = [row.uid for row in await vendor.rows(select(shared_records.c.uid).where(shared_records.c.kind == "deal"))]
    place = {"partnership": pair.partnership, "uid": uid, "field": "next_step"}
    refused = {"event": uid, "reason": "not_writable", "at_ms": vendor.station.clock.now_ms()}
    await write(vendor, tables.refusals.insert().values(place | refused))
    drifted = {"partnership": pair.partnership, "uid": uid, "ours": 1, "theirs": 2, "look": "x", "looks": drift.SURE, "since_ms": 1}
    await write(vendor, tables.drifts.insert().values(drifted))
    assert await vendor.read(drift.find_drifted, pair.partnership, 10) == []
    await partner.do(save_shared, 1, {"next_step": "rightly this time"})
    await pair.settle()
    assert await vendor.read(drift.find_drifted, pair.partnership, 10) == [uid]


@pytest.mark.parametrize("withdrawn", [True, False])
async def test_what_unsharing_had_parted_is_no_difference_once_its_deal_is_erased(pair: Pair, withdrawn: bool) -> None:
    """The erasure makes a tombstone of what one side alone has: what was never sent, or what the other ignored."""
    partner, vendor = pair.partner, pair.vendor
    await partner.stop()
    alone = partner if withdrawn else vendor
    await alone.do(add_note, (await alone.read(views.list_shared_deals, {}))[0]["id"], "never with the other side")
    await partner.do(unshare, 1)
    partner.start()
    await pair.settle()
    await partner.do(erasing.erase_deal, 1)
    await pair.settle()
    tombstones = select(shared_records.c.uid).where(shared_records.c.kind == "note", shared_records.c.state == "erased")
    assert [len(await side.rows(tombstones)) for side in (partner, vendor)] == [withdrawn, not withdrawn]
    for side in (partner, vendor):
        assert (await verify(side, pair.partnership))["drift"] == []
