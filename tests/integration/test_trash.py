"""What is deleted is in the trash and comes back whole; after its days the content is gone on both sides, and nobody sees a difference."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from shared_schema.contract.documents import LIFE, Document
from shared_schema.contract.life import make_deletion
from shared_schema.crm.deals import list_deals, load_deal
from shared_schema.crm.problems import NotAllowed, NotFound, WrongState
from shared_schema.crm.projected_tables import comments, shared_notes, trash
from shared_schema.crm.tables import shared_records
from shared_schema.sync import conflicts, notes, offers, registrations, views
from shared_schema.sync.capture import Write
from shared_schema.sync.deals import save_shared
from shared_schema.sync.emptier import sweep
from shared_schema.sync.station import Keeping
from shared_schema.sync.tables import journal, peer_outcomes
from shared_schema.sync.trash import list_trash, restore
from tests.integration.pair import DETAILS, Pair, Side, until
from tests.integration.stages import open_prompt_pair

Row = dict[str, Any]
LONG_AGO = Keeping(trash_days=-8)  # as if its days were over


@pytest.fixture
async def pair(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    async with open_prompt_pair(database_url, tmp_path, monkeypatch) as opened:
        yield opened


async def look(side: Side) -> list[Row]:
    return list(await side.read(list_trash, 90))


async def note_id(side: Side, body: str) -> int:
    (row,) = await side.rows(select(shared_notes.c.id).where(shared_notes.c.body == body))
    return int(row.id)


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


async def test_what_came_when_its_sharing_had_stopped_already_is_in_no_trash_and_is_swept(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await vendor.stop()
    shared_deal_id = await pair.share_deal("Umbrella")
    await partner.do(notes.add_note, shared_deal_id, "a note")
    note = await note_id(partner, "a note")
    for command, *arguments in (
        (notes.remove, "note", note),
        (registrations.delete_for_both, shared_deal_id, None),
        (registrations.unshare, shared_deal_id),
    ):
        await partner.do(command, *arguments)
    vendor.start()
    await pair.settle()
    waiting = await vendor.rows(select(trash.c.id))
    assert len(waiting) == 2 and await look(vendor) == []
    for row in waiting:
        with pytest.raises(NotFound, match="trash"):
            await vendor.do(restore, row.id)
    await sweep_both(pair)
    assert await vendor.rows(select(trash.c.id)) == []


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
        deletion = make_deletion(Document.decode(row.document), ("body",))
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
