"""What is deleted is in the trash and comes back whole; after its days the content is gone on both sides, and nobody sees a difference."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from shared_schema.contract.documents import LIFE, Document
from shared_schema.contract.envelope import Acknowledgement, Heartbeat
from shared_schema.contract.life import make_deletion
from shared_schema.crm.deals import list_deals, load_deal
from shared_schema.crm.problems import NotAllowed, NotFound, WrongState
from shared_schema.crm.projected_tables import comments, shared_notes, trash
from shared_schema.crm.tables import property_history, shared_records
from shared_schema.sync import conflicts, notes, offers, partnerships, registrations, relay, verification, verifier, views
from shared_schema.sync.arrivals import Arrivals
from shared_schema.sync.capture import Write
from shared_schema.sync.consumer import hear_peer
from shared_schema.sync.deals import save_shared
from shared_schema.sync.outbox import count_pending
from shared_schema.sync.owed_states import owe_all
from shared_schema.sync.registrations import DAY_MS
from shared_schema.sync.station import Keeping
from shared_schema.sync.tables import inbound_epochs, journal, parked, peer_outcomes, peers, restorations
from shared_schema.sync.trash import list_trash, restore, sweep
from tests.integration.pair import DETAILS, Pair, Side, have_said_all, open_pair, until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster

Row = dict[str, Any]
LONG_AGO = Keeping(trash_days=-8)  # as if its days were over


@pytest.fixture
async def pair(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    """Two nodes that share one active deal, in step."""
    monkeypatch.setattr(verification, "PAUSE_MS", 50)
    monkeypatch.setattr(verifier, "POLL_S", 0.05)
    monkeypatch.setattr(relay, "HEARTBEAT_MS", 200)
    cluster = MemoryCluster()
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", database_url), (MemoryBroker(cluster), MemoryBroker(cluster))) as opened:
        await opened.begin_sharing()
        await opened.settle()
        await until(lambda: have_said_all(opened.partner, opened.vendor))
        yield opened


async def look(side: Side) -> list[Row]:
    return list(await side.read(list_trash, 90))


async def note_id(side: Side, body: str) -> int:
    (row,) = await side.rows(select(shared_notes.c.id).where(shared_notes.c.body == body))
    return int(row.id)


async def write(side: Side, statement: Any) -> None:
    async with side.station.database.transaction() as tx:
        await tx.execute(statement)


async def let_days_pass(side: Side, days: int) -> None:
    """As if what is in the trash had been deleted, and the peer heard last, so many days ago."""
    await write(side, update(trash).values(deleted_ms=trash.c.deleted_ms - days * DAY_MS))
    await write(side, update(peers).values(whole_ms=peers.c.whole_ms - days * DAY_MS))


async def sweep_both(pair: Pair) -> None:
    for side in (pair.partner, pair.vendor):
        before, side.station.keeping = side.station.keeping, LONG_AGO
        await sweep(side.station)
        side.station.keeping = before


async def test_a_deleted_deal_note_and_product_are_listed_on_both_sides_and_come_back(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await partner.do(notes.add_note, 1, "a note")
    product = await partner.do(offers.put_product, 1, "CRM-PRO", "CRM Professional", "5")
    await pair.settle()
    await partner.do(notes.remove, "note", 1)
    await partner.do(offers.remove, "product", product)
    await vendor.do(registrations.delete_for_both, 1, None)
    await pair.settle()
    for side in (partner, vendor):
        listed = await look(side)
        assert {(row["kind"], row["title"], row["deleted_by"]) for row in listed} == {
            ("deal", "Globex roll-out", "Victor"),
            ("note", "a note", "Paula"),
            ("product", "CRM Professional", "Paula"),
        }
        assert all(row["restorable_until_ms"] > row["deleted_ms"] for row in listed)
    ids = {row["kind"]: row["id"] for row in await look(vendor)}
    with pytest.raises(NotAllowed, match="author"):
        await vendor.do(restore, ids["note"])
    for kind in ("deal", "product"):
        await vendor.do(restore, ids[kind])
    await pair.settle()
    (left,) = await look(partner)
    await partner.do(restore, left["id"])
    await pair.settle()
    with pytest.raises(NotFound, match="trash"):
        await partner.do(restore, left["id"])
    for side in (partner, vendor):
        assert await look(side) == []
        assert [deal["deleted_ms"] for deal in await side.read(list_deals, {})] == [None]
    await pair.check_same()


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
    for _ in range(2):  # the deal; then what each side deleted of its own thereupon
        await sweep_both(pair)
        await pair.settle()
    await pair.check_same()
    for side in (partner, vendor):
        shown = [row.body for row in await side.rows(select(shared_notes.c.body))]
        assert shown == [""] * 14 and await look(side) == []
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
            await hear_peer(tx, pair.partnership, Arrivals([], [control], []), now_ms)
        assert [row.whole_ms for row in await side.rows(select(peers.c.whole_ms))] == [whole_ms]


async def test_the_trash_of_a_partnership_that_has_ended_waits_for_nobody(pair: Pair) -> None:
    await pair.vendor.do(registrations.delete_for_both, 1, None)
    await pair.settle()
    await pair.vendor.do(partnerships.change_status, pair.partnership, "terminated")
    await let_days_pass(pair.vendor, 98)
    assert await sweep(pair.vendor.station) == 1


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


async def test_a_contested_deletion_is_offered_and_settled_on_either_side(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    for by, settle, left in ((partner, registrations.restore, "alive"), (vendor, registrations.delete_anyway, "deleted")):
        await partner.stop()
        await vendor.stop()
        await partner.do(save_shared, 1, {"next_step": f"changed before {left}"})
        await vendor.do(registrations.delete_for_both, 1, None)
        partner.start()
        vendor.start()

        async def contested() -> bool:
            return all([await side.read(conflicts.list_contested) for side in (partner, vendor)])

        await until(contested)
        await pair.settle()
        for side in (partner, vendor):
            deal = (await side.read(views.read_shared_deal, side.station.spec.side, 1))["deal"]
            assert (deal["state"], deal["changed_unseen"], deal["offers"]) == ("contested", ["next_step"], ["restore", "delete anyway"])
        await by.do(settle, 1)
        await pair.settle()
        for side in (partner, vendor):
            assert (await side.read(views.read_shared_deal, side.station.spec.side, 1))["state"] == left
        await pair.check_same()


async def test_whoever_wrote_what_a_deletion_hid_is_told(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await partner.do(notes.add_note, 1, "to be commented on")
    await pair.settle()
    await vendor.stop()
    await vendor.do(notes.add_comment, await note_id(vendor, "to be commented on"), "too late")
    await partner.do(notes.remove, "note", 1)
    vendor.start()
    await pair.settle()
    assert "stored, but its note is deleted" in [row.reason for row in await vendor.rows(select(peer_outcomes.c.reason))]
    for side in (partner, vendor):
        (row,) = await look(side)
        (comment,) = await side.rows(select(comments.c.id))
        assert [each["id"] for each in row["hidden"]] == [comment.id]
    told = [(row.what, row.detail) for row in await vendor.rows(select(journal)) if row.what == "hidden by a deletion"]
    assert len(told) == 1 and "comment" in told[0][1]


async def test_deleting_for_me_is_taken_back(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await vendor.do(registrations.leave, 1)
    await pair.settle()
    assert await vendor.read(list_deals, {}) == [] and len(await partner.read(list_deals, {})) == 1
    await partner.do(save_shared, 1, {"next_step": "meanwhile"})
    await pair.settle()
    await vendor.do(registrations.come_back, 1)
    await pair.settle()
    (deal,) = await vendor.read(list_deals, {})
    assert deal["next_step"] == "meanwhile"
    with pytest.raises(WrongState, match="not left"):
        await vendor.do(registrations.come_back, 1)
    await pair.check_same()


async def test_sharing_again_is_a_new_registration_that_finds_its_deal_on_the_other_side(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    before = await vendor.read(load_deal, 1)
    await partner.do(registrations.unshare, 1)
    await pair.settle()
    await vendor.do(registrations.leave, 1)
    deal, company = await partner.read(load_deal, 1), {"name": "Globex", "domain": "globex.example"}
    await partner.do(registrations.share, pair.partnership, deal["id"], company, {}, DETAILS)

    async def active() -> bool:
        return bool(await partner.read(views.list_shared_deals, {"status": "active"}))

    await until(active)
    await pair.settle()
    (found,) = await vendor.read(list_deals, {})
    assert (found["id"], found["number_of_deal_registrations"], found["number_of_active_deal_registrations"]) == (before["id"], 2, 1)
    shown = await vendor.read(views.list_shared_deals, {"status": "active"})
    again = await vendor.read(views.read_shared_deal, "vendor", shown[0]["id"])
    first = (await vendor.read(views.list_shared_deals, {"status": "unshared"}))[0]
    assert again["registration_record"]["fields"]["previous"]["value"] == first["uid"]


async def test_the_trash_shows_what_the_deletion_had_not_seen(pair: Pair) -> None:
    """Its author edits a note on one machine and deletes it on another that had not seen the edit yet."""
    partner = pair.partner
    await partner.do(notes.add_note, 1, "first")
    await pair.settle()
    (row,) = await partner.rows(select(shared_records.c.document).where(shared_records.c.kind == "note"))
    await partner.do(notes.edit, "note", 1, "second, unseen")
    async with partner.station.working(partner.author) as work:
        note = (await work.tx.execute(select(shared_notes))).mappings().one()
        deletion = make_deletion(Document.decode(row.document))
        await work.capture(note["partnership"], note["registration"], "note.deleted", [Write(note["uid"], LIFE, deletion)])
    await pair.settle()
    for side in (partner, pair.vendor):
        (listed,) = await look(side)
        assert (listed["title"], listed["unseen"]) == ("second, unseen", ["body"])
    assert await pair.vendor.rows(select(trash.c.id))


async def test_what_was_deleted_and_is_no_longer_shared_comes_back_on_its_own_side_and_can_be_shared_again(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await partner.stop()
    await vendor.stop()
    await partner.do(registrations.delete_for_both, 1, None)
    await vendor.do(registrations.unshare, 1)
    partner.start()
    vendor.start()
    await pair.settle()
    (row,) = await look(partner)
    await partner.do(restore, row["id"])
    await pair.settle()
    assert await look(partner) == [] and len(await partner.read(list_deals, {})) == len(await vendor.read(list_deals, {})) == 1
    await partner.do(registrations.share, pair.partnership, 1, {"name": "Globex", "domain": "globex.example"}, {}, DETAILS)
    await pair.settle()
    assert sorted(row["status"] for row in await vendor.read(views.list_shared_deals, {})) == ["active", "unshared"]


@pytest.mark.parametrize("swept_first", [False, True])
async def test_with_a_deal_that_is_no_longer_shared_go_the_notes_of_both_sides(pair: Pair, swept_first: bool) -> None:
    partner, vendor = pair.partner, pair.vendor
    await partner.do(notes.add_note, 1, "the partner's")
    await vendor.do(notes.add_note, 1, "the vendor's")
    await pair.settle()
    await vendor.do(registrations.delete_for_both, 1, None)
    await pair.settle()
    if swept_first:
        await vendor.stop()
        await sweep_both(pair)
    await vendor.do(registrations.unshare, 1)
    vendor.start() if swept_first else None
    for _ in range(2):
        await pair.settle()
        await sweep_both(pair)
    for side in (partner, vendor):
        assert [(row.body, row.state) for row in await side.rows(select(shared_notes.c.body, shared_notes.c.state))] == [
            ("", "deleted")
        ] * 2
        documents = [row.document for row in await side.rows(select(shared_records.c.document))]
        assert not any("the partner's" in each or "the vendor's" in each for each in documents)
        values = [row.value for row in await side.rows(select(property_history.c.value))]
        assert not any("the partner's" in each or "the vendor's" in each for each in values)
        side.station.keeping = LONG_AGO
        await pair.settle()
        assert await sweep(side.station) == 0, "once is enough"


def go_on(pair: Pair, monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    for side in (pair.partner, pair.vendor):
        before = side.station.clock.now_ms
        monkeypatch.setattr(side.station.clock, "now_ms", lambda before=before: before() + days * 86_400_000)


async def test_a_contested_deletion_is_restored_however_long_it_waited(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    partner, vendor = pair.partner, pair.vendor
    await partner.stop()
    await vendor.stop()
    await partner.do(save_shared, 1, {"next_step": "unseen"})
    await vendor.do(registrations.delete_for_both, 1, None)
    partner.start()
    vendor.start()
    await pair.settle()
    go_on(pair, monkeypatch, 91)
    shown = await partner.read(views.read_shared_deal, "partner", 1)
    assert (shown["state"], "restore" in shown["deal"]["offers"]) == ("contested", True)
    await partner.do(registrations.restore, 1)
    await pair.settle()
    assert (await vendor.read(views.read_shared_deal, "vendor", 1))["state"] == "alive"


async def test_what_is_deleted_can_be_restored_until_the_date_that_the_trash_states(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the deletion came late: who made it lets the content go by the day on which it was made."""
    partner, vendor = pair.partner, pair.vendor
    await vendor.stop()
    await partner.do(registrations.delete_for_both, 1, None)
    go_on(pair, monkeypatch, 20)
    vendor.start()
    await pair.settle()
    (here,), (there,) = await look(partner), await look(vendor)
    assert abs(here["restorable_until_ms"] - there["restorable_until_ms"]) < 86_400_000
    go_on(pair, monkeypatch, 71)
    assert there["restorable_until_ms"] < vendor.station.clock.now_ms()
    with pytest.raises(WrongState, match="90 days ago"):
        await vendor.do(registrations.restore, 1)
