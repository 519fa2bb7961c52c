"""Whole states reach the peer in pieces, whatever happens meanwhile, and an outbox past its limit turns into them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select, update

from shared_schema.contract.topics import record_topic
from shared_schema.crm.tables import shared_records
from shared_schema.sync import metrics, owed_states, restater, verification, views
from shared_schema.sync.deals import save_shared
from shared_schema.sync.limits import Limits
from shared_schema.sync.notes import add_note
from shared_schema.sync.registrations import unshare
from shared_schema.sync.status import read_status
from shared_schema.sync.tables import outbox
from shared_schema.sync.tables import owed_states as owed_rows
from tests.integration.pair import Pair, Side, open_pair, until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster

NOTES = 30


@pytest.fixture
async def pair(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    """Two nodes that share an active deal with notes, in step; states go in small pieces."""
    monkeypatch.setattr(owed_states, "PIECE_RECORDS", 4)
    monkeypatch.setattr(restater, "POLL_S", 0.05)
    monkeypatch.setattr(restater, "FOLD_EVERY_MS", 50)
    monkeypatch.setattr(restater, "FOLD_ROWS", 7)
    cluster = MemoryCluster()
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", database_url), (MemoryBroker(cluster), MemoryBroker(cluster))) as opened:
        await opened.begin_sharing()
        for number in range(NOTES):
            await opened.vendor.do(add_note, 1, f"note {number}")
        await opened.settle()
        yield opened


async def count_rows(side: Side) -> int:
    return int((await side.rows(select(func.count()).select_from(outbox)))[0][0])


async def owe_all(side: Side, partnership: str) -> None:
    async with side.station.working() as work:
        await owed_states.owe_all(work.tx, partnership)


async def test_a_store_that_lost_everything_of_the_peers_is_loaded_again_over_a_kill(pair: Pair) -> None:
    await pair.partner.stop()
    async with pair.partner.station.database.transaction() as tx:
        await tx.execute(delete(shared_records).where(shared_records.c.kind == "note"))
    await owe_all(pair.vendor, pair.partnership)

    async def begun() -> bool:
        return bool(await pair.vendor.rows(select(owed_rows.c.uid).where(owed_rows.c.event.is_not(None)).limit(1)))

    await until(begun)
    await pair.vendor.stop()
    pair.partner.start()
    pair.vendor.start()
    await pair.settle()
    await pair.check_same()


async def test_a_record_whose_state_is_owed_is_not_called_applied(pair: Pair) -> None:
    await pair.partner.stop()
    assert (await pair.vendor.read(views.read_shared_deal, "vendor", 1))["sync"] == "applied"
    await owe_all(pair.vendor, pair.partnership)
    assert (await pair.vendor.read(views.read_shared_deal, "vendor", 1))["sync"] in ("pending", "sent")
    (status,) = await pair.vendor.read(read_status, pair.vendor.station.clock.now_ms())
    assert status["owed"] > NOTES
    pair.partner.start()
    await pair.settle()
    assert (await pair.vendor.read(views.read_shared_deal, "vendor", 1))["sync"] == "applied"


async def test_what_one_partner_is_owed_keeps_no_other_waiting(pair: Pair) -> None:
    await pair.partner.stop()
    await owe_all(pair.vendor, pair.partnership)
    assert await pair.vendor.read(owed_states.is_owing, pair.partnership)
    assert not await pair.vendor.read(owed_states.is_owing, "another-partnership")


@pytest.mark.parametrize("broker_keeps_it", [True, False])
async def test_an_outbox_past_its_limit_becomes_states_and_nothing_is_lost(pair: Pair, broker_keeps_it: bool) -> None:
    """The peer is away for long; what the broker had of it is lost, or is not."""
    await pair.partner.stop()
    await pair.vendor.stop()
    pair.vendor.start(Limits(outbox_max=20))
    for number in range(60):
        await pair.vendor.do(save_shared, 1, {"next_step": f"step {number}"})
    await pair.vendor.do(add_note, 1, "the last")

    async def folded() -> bool:
        return await count_rows(pair.vendor) <= 20 and bool(await pair.vendor.rows(select(owed_rows.c.uid).limit(1)))

    await until(folded)
    if not broker_keeps_it:
        await pair.vendor.stop()
        pair.vendor.broker.cluster.recreate_topic(record_topic(pair.partnership, "vendor"))  # type: ignore[attr-defined]  # the twin's own
        pair.vendor.start(Limits(outbox_max=20))
    pair.partner.start()
    await pair.settle()
    shown = await pair.partner.read(views.read_shared_deal, "partner", 1)
    assert shown["deal"]["fields"]["next_step"]["value"] == "step 59"
    assert {note["fields"]["body"]["value"] for note in shown["notes"]} >= {"the last", "note 0"}
    assert (await pair.vendor.read(views.read_shared_deal, "vendor", 1))["sync"] == "applied"


async def test_a_record_that_no_event_can_carry_keeps_no_other_from_being_stated(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """No door lets one in, so it is put into the store: the node goes on, says which it is, and each verification names it."""
    vendor, partner = pair.vendor, pair.partner
    (row,) = await vendor.rows(select(shared_records).where(shared_records.c.kind == "deal"))
    field = {"context": {"v-1": 1}, "siblings": [{"dot": ["v-1", 1], "stamp": [1, 0], "actor": None, "value": "x" * 950_000}]}
    document = json.dumps(json.loads(row.document) | {"of_tomorrow": field}, sort_keys=True, separators=(",", ":"))
    async with vendor.station.database.transaction() as tx:
        await tx.execute(update(shared_records).where(shared_records.c.uid == row.uid).values(document=document, hash=row.hash + 1))
    counter = metrics.unstated.labels(pair.partnership)
    await partner.stop()
    async with partner.station.database.transaction() as tx:
        await tx.execute(delete(shared_records).where(shared_records.c.kind == "note"))
    partner.start()
    await vendor.do(verification.request, pair.partnership, repair=True)

    async def verified() -> bool:
        return bool((await vendor.read(verification.read_verification, pair.partnership))["phase"] == "done")

    await until(verified)
    assert counter._value.get() >= 1
    assert row.uid in {each.ids["uid"] for each in caplog.records if "is passed over" in each.message}  # type: ignore[attr-defined]  # log_lines'
    assert await count_notes(partner) == NOTES and vendor.task is not None and not vendor.task.done()
    drift = (await vendor.read(verification.read_verification, pair.partnership))["drift"]
    assert [(each["uid"], [field["field"] for field in each["fields"]]) for each in drift] == [(row.uid, ["of_tomorrow"])]


async def count_notes(side: Side) -> int:
    return len(await side.rows(select(shared_records.c.uid).where(shared_records.c.kind == "note")))


async def test_what_is_no_longer_shared_is_no_longer_owed(pair: Pair) -> None:
    await pair.partner.stop()
    await pair.vendor.stop()
    await owe_all(pair.vendor, pair.partnership)
    await pair.vendor.do(unshare, 1)
    owed = await pair.vendor.rows(select(shared_records.c.kind).join(owed_rows, owed_rows.c.uid == shared_records.c.uid).distinct())
    assert {row.kind for row in owed} <= {"person", "policy"}
