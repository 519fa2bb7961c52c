"""After its days the content of what is deleted is gone on both sides, and nobody sees a difference; not before all was heard of it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from shared_schema.contract.envelope import Acknowledgement, Heartbeat
from shared_schema.crm.deals import load_deal
from shared_schema.crm.problems import WrongState
from shared_schema.crm.projected_tables import shared_notes, trash
from shared_schema.crm.tables import property_history, shared_records
from shared_schema.sync import held, notes, offers, partnerships, registrations, verification
from shared_schema.sync.arrivals import Arrivals
from shared_schema.sync.braking import Limits
from shared_schema.sync.emptier import sweep
from shared_schema.sync.hearing import hear_peer
from shared_schema.sync.outbox import count_pending
from shared_schema.sync.owed_states import owe_all
from shared_schema.sync.restorable import DAY_MS
from shared_schema.sync.station import Keeping
from shared_schema.sync.tables import inbound_epochs, outbox, parked, peers, restorations
from tests.integration.pair import Pair, Side, until
from tests.integration.stages import open_prompt_pair
from tests.integration.test_brake import ANN, settle_but_held
from tests.integration.test_trash import look, sweep_both

Row = dict[str, Any]
LONG_AGO = Keeping(trash_days=-8)  # as if its days were over


@pytest.fixture
async def pair(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    async with open_prompt_pair(database_url, tmp_path, monkeypatch) as opened:
        yield opened


async def write(side: Side, statement: Any) -> None:
    async with side.station.database.transaction() as tx:
        await tx.execute(statement)


async def let_days_pass(side: Side, days: int) -> None:
    """As if what is in the trash had been deleted, and the peer heard last, so many days ago."""
    await write(side, update(trash).values(deleted_ms=trash.c.deleted_ms - days * DAY_MS))
    await write(side, update(peers).values(whole_ms=peers.c.whole_ms - days * DAY_MS))


async def delete_deal_with_notes(pair: Pair) -> None:
    """The deal has a note of either side."""
    await pair.partner.do(notes.add_note, 1, "the partner's")
    await pair.vendor.do(notes.add_note, 1, "the vendor's")
    await pair.settle()
    await pair.vendor.do(registrations.delete_for_both, 1, None)
    await pair.settle()


async def test_after_its_days_the_content_is_gone_on_both_sides_and_the_tombstone_makes_no_difference(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await partner.do(notes.add_note, 1, "swept away")
    await pair.settle()
    await partner.do(notes.remove, "note", 1)
    await vendor.do(registrations.delete_for_both, 1, None)
    await pair.settle()
    hashes = select(shared_records.c.uid, shared_records.c.hash).order_by(shared_records.c.uid)
    before = await vendor.rows(hashes)
    vendor.station.keeping = LONG_AGO
    assert await sweep(vendor.station) == 2
    assert await vendor.rows(hashes) == before
    await vendor.do(verification.request, pair.partnership, repair=True)

    async def verified() -> bool:
        return (await vendor.read(verification.read_verification, pair.partnership))["phase"] == "done"

    await until(verified)
    found = await vendor.read(verification.read_verification, pair.partnership)
    assert (found["drift"], found["repaired"]) == ([], 0), "one side has swept, and the other not yet"
    async with partner.station.working() as work:
        await owe_all(work.tx, pair.partnership)  # everything once more, from the side that has not swept
    await pair.settle()
    await sweep_both(pair)
    await pair.check_same()
    for side in (partner, vendor):
        assert await look(side) == []
        gone = select(shared_records.c.document).where(shared_records.c.state == "deleted")
        texts = [row.document for row in await side.rows(gone)]
        assert len(texts) == 2 and not any("swept away" in each or "roll-out" in each for each in texts)
        values = [row.value for row in await side.rows(select(property_history.c.value))]
        assert not any("swept away" in each for each in values)
        assert (await side.read(load_deal, 1))["name"] == "(deleted)"
    with pytest.raises(WrongState, match="days ago"):
        await vendor.do(registrations.restore, 1)


async def test_with_a_deal_go_its_notes_and_lines_of_both_sides_past_any_brake(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    for number in range(7):
        await partner.do(notes.add_note, 1, f"partner's {number}")
        await vendor.do(notes.add_note, 1, f"vendor's {number}")
    await partner.do(offers.put_product, 1, "CRM-PRO", "CRM Professional", "5")
    await pair.settle()
    await partner.do(registrations.delete_for_both, 1, None)
    await pair.settle()

    for side in (partner, vendor):
        await let_days_pass(side, 98)

    async def swept() -> bool:
        """The deal; then what each side deleted of its own thereupon."""
        for side in (partner, vendor):
            await sweep(side.station)
        await pair.settle()
        shown = [row.body for side in (partner, vendor) for row in await side.rows(select(shared_notes.c.body))]
        return shown == [""] * 28 and not any([await look(side) for side in (partner, vendor)])

    await until(swept)
    await pair.check_same()
    for side in (partner, vendor):
        documents = [row.document for row in await side.rows(select(shared_records.c.document))]
        assert not any("'s 3" in each or "Professional" in each for each in documents)


async def test_nothing_is_swept_while_it_is_on_its_way(pair: Pair) -> None:
    partner = pair.partner
    await pair.vendor.stop()
    await partner.do(notes.add_note, 1, "unacknowledged")
    await partner.do(notes.remove, "note", 1)
    partner.station.keeping = LONG_AGO
    assert await sweep(partner.station) == 0
    pair.vendor.start()
    await pair.settle()
    assert await sweep(partner.station) == 1


async def test_what_a_peer_that_was_away_restored_in_time_is_not_swept_however_late_it_is_heard(pair: Pair) -> None:
    """Its line was down from before the end of the ninety days until after the week more."""
    partner, vendor = pair.partner, pair.vendor
    await vendor.do(notes.add_note, 1, "a note of the vendor's")
    await pair.settle()
    await vendor.do(registrations.delete_for_both, 1, None)
    await pair.settle()
    await partner.stop()
    await partner.do(registrations.restore, 1)
    await let_days_pass(vendor, 98)
    assert await sweep(vendor.station) == 0
    partner.start()
    await pair.settle()
    await pair.check_same()
    assert (await vendor.read(load_deal, 1))["name"] == "Globex roll-out" and await look(vendor) == []
    assert await vendor.rows(select(shared_notes.c.state)) == [("alive",)]


async def test_what_the_peer_has_yet_to_say_or_this_side_to_understand_keeps_the_trash_as_it_is(pair: Pair) -> None:
    """A gap, states that the peer owes, a restoration, and what is parked: a restore may be among them."""
    partner, vendor = pair.partner, pair.vendor
    await vendor.do(registrations.delete_for_both, 1, None)
    await pair.settle()
    await partner.stop()
    await vendor.stop()
    where, now_ms = {"partnership": pair.partnership}, vendor.station.clock.now_ms()
    letter = {**where, "topic": "t", "record_offset": 1, "reason": "newer_major", "detail": "", "headers": "[]", "at_ms": now_ms}
    going_back = {**where, "request": "r", "why": "", "since_ms": 1, "asked_ms": 1, "merged": False, "doubted": False}
    gap = {**where, "epoch": "f" * 16, "next_sequence": 3, "gaps": "[[1, 2]]", "event": None, "moved_ms": 1}
    vendor.station.keeping = LONG_AGO
    for table, row in ((parked, letter), (restorations, going_back), (inbound_epochs, gap)):
        await write(vendor, insert(table).values(row))
        assert await sweep(vendor.station) == 0, table.name
        await write(vendor, delete(table).where(*(table.c[name] == value for name, value in row.items() if value is not None)))
    async with partner.station.database.transaction() as tx:
        await owe_all(tx, pair.partnership)
        assert await count_pending(tx, pair.partnership) > 0
    assert await sweep(vendor.station) == 1


async def test_only_a_heartbeat_that_leaves_nothing_to_say_tells_that_the_peer_has_said_all(pair: Pair) -> None:
    """By the peer's clock, unless that is ahead; an acknowledgement may overtake what the peer has yet to send."""
    side, now_ms = pair.vendor, pair.vendor.station.clock.now_ms() + DAY_MS
    await pair.partner.stop()
    await side.stop()
    about: Row = {"partnership": pair.partnership, "epochs": {}}
    told = [
        (Heartbeat(**about, sent_ms=now_ms + 1), now_ms),
        (Heartbeat(**about, sent_ms=now_ms - 5), now_ms - 5),
        (Heartbeat(**about, sent_ms=now_ms - 4, backlog=1), now_ms - 5),
        (Acknowledgement(**about, sent_ms=now_ms - 3, withheld=[]), now_ms - 5),
    ]
    for control, whole_ms in told:
        async with side.station.database.transaction() as tx:
            await hear_peer(tx, pair.partnership, Arrivals([], [control], []), {}, now_ms)
        assert [row.whole_ms for row in await side.rows(select(peers.c.whole_ms))] == [whole_ms]


async def test_the_trash_of_a_partnership_that_has_ended_waits_for_nobody(pair: Pair) -> None:
    await pair.vendor.do(registrations.delete_for_both, 1, None)
    await pair.settle()
    await pair.vendor.do(partnerships.change_status, pair.partnership, "terminated")
    await let_days_pass(pair.vendor, 98)
    assert await sweep(pair.vendor.station) == 1


@pytest.mark.parametrize("swept_first", [False, True])
async def test_with_a_deal_of_a_partnership_that_has_ended_go_the_notes_of_both_sides_and_nobody_is_told(
    pair: Pair, swept_first: bool
) -> None:
    partner, vendor = pair.partner, pair.vendor
    await delete_deal_with_notes(pair)
    await partner.stop()
    await let_days_pass(vendor, 98)
    waiting = await vendor.rows(select(outbox.c.id))
    if swept_first:
        await write(vendor, update(peers).values(whole_ms=vendor.station.clock.now_ms()))
        assert await sweep(vendor.station) == 1
    await vendor.do(partnerships.change_status, pair.partnership, "terminated")
    await let_days_pass(vendor, 98)
    assert await sweep(vendor.station) == 2
    assert await sweep(vendor.station) == 0, "once is enough"
    found = await vendor.rows(select(shared_notes.c.body, shared_notes.c.state))
    assert [(row.body, row.state) for row in found] == [("", "deleted")] * 2
    documents = [row.document for row in await vendor.rows(select(shared_records.c.document))]
    values = [row.value for row in await vendor.rows(select(property_history.c.value))]
    assert not any("the partner's" in each or "the vendor's" in each for each in documents + values)
    assert swept_first or await vendor.rows(select(outbox.c.id)) == waiting


async def test_what_was_changed_after_it_was_swept_elsewhere_makes_no_ghost(pair: Pair) -> None:
    """A late duplicate of an old edit finds a tombstone that has forgotten the value, and brings nothing back."""
    partner, vendor = pair.partner, pair.vendor
    await partner.do(notes.add_note, 1, "old text")
    await pair.settle()
    (old,) = await partner.rows(select(shared_records).where(shared_records.c.kind == "note"))
    await partner.do(notes.remove, "note", 1)
    await pair.settle()
    await sweep_both(pair)
    async with partner.station.database.transaction() as tx:
        await tx.execute(update(shared_records).where(shared_records.c.uid == old.uid).values(document=old.document))
    async with partner.station.working() as work:
        await owe_all(work.tx, pair.partnership)
    await pair.settle()
    (row,) = await vendor.rows(select(shared_records.c.document, shared_records.c.state).where(shared_records.c.uid == old.uid))
    assert (row.state, "old text" in row.document) == ("deleted", False)


@pytest.mark.parametrize("swept_first", [False, True])
async def test_with_a_deal_that_is_no_longer_shared_go_the_notes_of_both_sides(pair: Pair, swept_first: bool) -> None:
    partner, vendor = pair.partner, pair.vendor
    await delete_deal_with_notes(pair)
    if swept_first:
        await vendor.stop()
        await sweep_both(pair)
    await vendor.do(registrations.unshare, 1)
    vendor.start() if swept_first else None

    async def swept() -> bool:
        await pair.settle()
        await sweep_both(pair)
        found = [row for side in (partner, vendor) for row in await side.rows(select(shared_notes.c.body, shared_notes.c.state))]
        return [(row.body, row.state) for row in found] == [("", "deleted")] * 4

    await until(swept)
    for side in (partner, vendor):
        documents = [row.document for row in await side.rows(select(shared_records.c.document))]
        assert not any("the partner's" in each or "the vendor's" in each for each in documents)
        values = [row.value for row in await side.rows(select(property_history.c.value))]
        assert not any("the partner's" in each or "the vendor's" in each for each in values)
        side.station.keeping = LONG_AGO
        await pair.settle()
        assert await sweep(side.station) == 0, "once is enough"


async def test_what_was_restored_in_time_stays_while_the_brake_holds_that_at_the_peer(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    for name in ("Hooli", "Stark", "Wayne", "Wonka", "Umbrella"):
        await pair.share_deal(name)
    await pair.settle()
    partner.station.keeping = Keeping(brake=Limits(1, 100))
    for deal in (2, 3, 4, 5, 6, 1):  # the last is held
        await partner.do(registrations.delete_for_both, deal, None)
    await vendor.do(registrations.delete_for_both, 1, None)
    await settle_but_held(pair)
    await partner.do(registrations.restore, 1)  # and waits behind it
    await let_days_pass(vendor, 98)

    async def heard() -> bool:
        return [row.backlog for row in await vendor.rows(select(peers.c.backlog))] == [2]

    await until(heard)
    assert len(await look(vendor)) == 6 and await sweep(vendor.station) == 0
    await held.decide(partner.station, ANN, pair.partnership, "out", "release")
    await pair.settle()
    assert [(await side.read(load_deal, 1))["name"] for side in (partner, vendor)] == ["Globex roll-out"] * 2
