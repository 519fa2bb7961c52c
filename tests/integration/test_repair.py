"""What repair does where something is refused, is asked for twice, or is lost on the way; and who is told of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.envelope import Control, Hashes, Repair
from shared_schema.contract.policy import PRESETS, Policy
from shared_schema.crm.tables import shared_records
from shared_schema.sync import controls, journal, metrics, partnerships, refusals, verification, verifier
from shared_schema.sync.deals import save_shared
from shared_schema.sync.incarnation import Incarnation
from shared_schema.sync.status import read_status
from tests.integration.pair import Pair, Side, open_pair
from tests.integration.test_verification import PARTNERS_NOTES, Row, add_notes, verify, write
from tests.twins.memory_broker import MemoryBroker, MemoryCluster


@pytest.fixture(params=["sqlite", "postgresql"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    """Two nodes that share an active deal, in step; looks follow each other at once."""
    monkeypatch.setattr(verification, "PAUSE_MS", 50)
    monkeypatch.setattr(verification, "PAUSES_MAX", 1)
    monkeypatch.setattr(verifier, "POLL_S", 0.05)
    monkeypatch.setitem(PRESETS, "hubspot-parity", Policy(preset="hubspot-parity", writers=(("deal.next_step", "vendor"),)))
    url = f"sqlite:///{tmp_path}/vendor.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    cluster = MemoryCluster()
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", url), (MemoryBroker(cluster), MemoryBroker(cluster))) as opened:
        await opened.begin_sharing()
        await opened.settle()
        yield opened


async def have_refused(pair: Pair) -> None:
    """The partner, away, writes a field that the vendor meanwhile keeps to itself: the vendor refuses it, so the field differs rightly."""
    await pair.partner.stop()
    await pair.partner.do(save_shared, 1, {"next_step": "not any more"})
    await pair.vendor.do(partnerships.change_policy, pair.partnership, {"preset": "hubspot-parity"})
    pair.partner.start()
    await pair.settle()
    assert [row["reason"] for row in await pair.vendor.read(refusals.list_refused)] == ["not_writable"]


async def stands(side: Side) -> Row:
    (row,) = await side.read(read_status, side.station.clock.now_ms())
    return row


@pytest.mark.parametrize("by", ["partner", "vendor"])
async def test_what_a_side_refused_is_no_drift_and_is_not_sent_again_whichever_side_repairs(pair: Pair, by: str) -> None:
    await have_refused(pair)
    asker = pair.partner if by == "partner" else pair.vendor
    before = await pair.vendor.read(refusals.list_refused)
    found = await verify(asker, pair.partnership, repair=True)
    assert (found["drift"], found["drifted"], found["refused"], found["repaired"]) == ([], 0, 1, 0)
    assert (await stands(asker))["drift"] == 0
    assert await pair.vendor.read(refusals.list_refused) == before, "nothing was refused once more"


async def test_another_field_that_is_lost_beside_a_refused_one_is_named_and_repaired(pair: Pair) -> None:
    await pair.partner.do(save_shared, 1, {"name": "Before"})
    await pair.settle()
    deal = shared_records.c.kind == "deal"
    (old,) = await pair.vendor.rows(select(shared_records.c.document, shared_records.c.hash).where(deal))
    await pair.partner.do(save_shared, 1, {"name": "After"})
    await pair.settle()
    await have_refused(pair)
    await write(pair.vendor, update(shared_records).where(deal).values(document=old.document, hash=old.hash))
    found = await verify(pair.vendor, pair.partnership)
    assert [each["field"] for row in found["drift"] for each in row["fields"]] == ["name", "next_step"]
    found = await verify(pair.vendor, pair.partnership, repair=True)
    assert (found["drift"], found["refused"]) == ([], 1)
    await pair.settle()
    (document,) = await pair.vendor.rows(select(shared_records.c.document).where(deal))
    assert "After" in document.document


async def test_a_field_that_was_refused_counts_again_once_somebody_wrote_to_it(pair: Pair) -> None:
    await have_refused(pair)
    assert (await stands(pair.partner))["refused"] == 1
    await pair.vendor.do(save_shared, 1, {"next_step": "the vendor's word"})
    await pair.settle()
    assert (await stands(pair.partner))["refused"] == 0


async def test_a_look_at_a_repair_that_is_under_way_does_not_end_it(pair: Pair) -> None:
    await add_notes(pair, 4)
    await write(pair.vendor, delete(shared_records).where(PARTNERS_NOTES))
    await pair.vendor.do(verification.request, pair.partnership, repair=True)
    found = await verify(pair.vendor, pair.partnership, repair=False)
    assert (found["drift"], found["repaired"]) == ([], 2)
    await pair.settle()
    await pair.check_same()


async def test_a_repair_whose_message_is_lost_is_asked_for_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    await add_notes(pair, 4)
    await write(pair.vendor, delete(shared_records).where(PARTNERS_NOTES))
    lost: list[Control] = []
    take_hashes = verification.take_hashes

    async def lose_the_first(tx: AsyncConnection, incarnation: Incarnation, hashes: Hashes) -> list[Control]:
        told = await take_hashes(tx, incarnation, hashes)
        if lost or not any(isinstance(each, Repair) for each in told):
            return told
        lost.extend(told)
        return []

    monkeypatch.setattr(controls.verification, "take_hashes", lose_the_first)
    found = await verify(pair.vendor, pair.partnership, repair=True)
    assert lost and found["drift"] == []
    await pair.settle()
    await pair.check_same()


async def test_who_asked_and_what_was_repaired_stands_in_the_journal_and_is_counted(pair: Pair) -> None:
    await add_notes(pair, 4)
    await write(pair.vendor, delete(shared_records).where(PARTNERS_NOTES))
    counter = metrics.repaired.labels(pair.partnership)
    before = counter._value.get()  # the client has no other way to read one
    await verify(pair.vendor, pair.partnership, repair=True)
    assert counter._value.get() - before == 2
    lines = [(row["what"], row["detail"], row["actor"]) for row in await pair.vendor.read(journal.list_journal, pair.partnership)]
    assert ("verification asked for", "with repair", pair.vendor.author.name) in lines
    assert ("repaired", "2 records differ between the sides; their states go both ways", "Dealbridge") in lines
