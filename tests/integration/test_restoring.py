"""What waits while a store that went back is being restored, and what waits no longer: nothing that it deletes leaves it, and its trash
stays as it is, for neither had in view what is still to come back; nobody loses a registration for what the store has forgotten."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from shared_schema.contract.codec import decode_event
from shared_schema.contract.documents import Document
from shared_schema.contract.topics import record_topic
from shared_schema.crm.deals import load_deal
from shared_schema.crm.problems import WrongState
from shared_schema.crm.projected_tables import shared_notes, trash
from shared_schema.crm.tables import property_history, shared_records
from shared_schema.sync import notes, offers, partnerships, registrations, relay, restoration, restorer
from shared_schema.sync.arrivals import HEADER_EPOCH
from shared_schema.sync.braking import act_of_change
from shared_schema.sync.deals import save_shared
from shared_schema.sync.emptier import sweep
from shared_schema.sync.notes import add_note
from shared_schema.sync.owed_states import list_owing, owe_all
from shared_schema.sync.restater import fold_piece
from shared_schema.sync.restorable import DAY_MS
from shared_schema.sync.station import Author
from shared_schema.sync.tables import outbound_epochs, outbox, reactions, refusals, restorations
from tests.integration.pair import Side, open_pair, until
from tests.integration.rewinding import Rewindable, Scene, active, add_a_rep, check_agree, reps_of, told, work_on
from tests.twins.memory_broker import MemoryBroker, MemoryCluster
from vendor_node.assigning import accept


@pytest.fixture(params=["sqlite", "postgresql"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """Two nodes that share an active deal with a note of either side and a product."""
    monkeypatch.setattr(restorer, "POLL_S", 0.05)
    monkeypatch.setattr(restoration, "ASK_MS", 500)
    monkeypatch.setattr(relay, "HEARTBEAT_MS", 200)
    postgres = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    urls = [postgres.fresh_database() if postgres else f"sqlite:///{tmp_path}/{side}.db" for side in ("partner", "vendor")]
    cluster = MemoryCluster()
    async with open_pair((urls[0], urls[1]), (MemoryBroker(cluster), MemoryBroker(cluster))) as pair:
        await pair.become_partners(timers={"accept_hours": 24})
        for name in ("Rita", "Sam"):
            await pair.vendor.do(add_a_rep, name)
        pair.partner.start()
        pair.vendor.start()
        await pair.share_deal()
        await active(pair, 1)
        await pair.vendor.do(add_note, 1, "a note of the vendor's")
        await pair.partner.do(add_note, 1, "a note of the partner's")
        await pair.partner.do(offers.put_product, 1, "CRM-PRO", "CRM Professional", "5")
        await pair.settle()
        stores = {side: Rewindable(url, postgres) for side, url in zip(("partner", "vendor"), urls, strict=True)}
        yield Scene(pair, stores, cluster)


@pytest.mark.parametrize("last", ["a state", "a fact"])
async def test_a_peer_put_back_beyond_the_retention_takes_nobody_for_put_back(scene: Scene, last: str) -> None:
    """Of what it has to read again only the last is left, which no history explains; the rest it is told to be void."""
    pair, vendor = scene.pair, scene.pair.vendor
    copy = await scene.keep("partner")
    for which in ("another", "yet another"):
        await vendor.do(add_note, 1, f"{which} note of the vendor's")
        await pair.settle()
    async with vendor.station.database.transaction() as tx:
        if last == "a state":
            await owe_all(tx, pair.partnership)
        else:  # its days are over
            await tx.execute(delete(property_history))
    vendor.station.bell.ring({"owed", pair.partnership})
    await pair.settle()
    newest = select(outbound_epochs).order_by(outbound_epochs.c.began_ms.desc()).limit(1)
    (reached,) = await vendor.rows(newest)
    await scene.put_back("partner", copy)
    topic = record_topic(pair.partnership, "vendor")
    scene.cluster.trim(topic, max(each.offset for each in scene.cluster.logs[topic].records if HEADER_EPOCH in dict(each.headers)))
    pair.partner.start()

    async def is_reached_again() -> bool:
        rows = await vendor.rows(select(outbound_epochs).order_by(outbound_epochs.c.began_ms))
        before = next(row for row in rows if row.epoch == reached.epoch)
        return bool(rows[-1].began_ms > reached.moved_ms and before.acknowledged >= reached.acknowledged)

    await until(is_reached_again)
    await pair.settle()
    await check_agree(pair)
    assert not await told(vendor, "store restored") and not await is_restoring(vendor)


async def is_restoring(side: Side) -> bool:
    return bool(await side.rows(select(restorations.c.partnership)))


async def go_back(scene: Scene, name: str) -> None:
    """A store is put back, and knows it; its peer is away and can not answer."""
    copy = await scene.keep(name)
    await work_on(scene.pair)
    for side in (scene.pair.partner, scene.pair.vendor):
        await side.stop()
    await scene.put_back(name, copy)
    scene.side(name).start()
    await until(lambda: is_restoring(scene.side(name)))


async def note_id(side: Side, body: str) -> int:
    (row,) = await side.rows(select(shared_notes.c.id).where(shared_notes.c.body == body))
    return int(row.id)


async def said(scene: Scene, name: str, since: int) -> list[str]:
    """Kind and uid of what was said in this side's topic to be destroyed, from an offset on."""
    (log,) = [log for topic, log in scene.cluster.logs.items() if topic.endswith(f"from-{name}")] if scene.cluster else []
    events = [decode_event(each.value) for each in log.records[since:] if dict(each.headers).get("epoch") and each.value]
    return [f"{change.kind} {change.uid}" for event in events for change in event.data.records if act_of_change(change, Document())]


def count_said(scene: Scene, name: str) -> int:
    (log,) = [log for topic, log in scene.cluster.logs.items() if topic.endswith(f"from-{name}")] if scene.cluster else []
    return len(log.records)


async def has_sent_all_else(side: Side) -> bool:
    """Nothing but deletions waits to be sent."""
    rows = await side.rows(select(outbox.c.destroys).where(outbox.c.published_ms.is_(None)))
    return all(row.destroys for row in rows)


async def test_whatever_is_deleted_by_whichever_command_waits_until_the_states_are_here(scene: Scene) -> None:
    """Lines travel by events of other types than notes do."""
    pair, vendor = scene.pair, scene.pair.vendor
    await go_back(scene, "vendor")
    since = count_said(scene, "vendor")
    note = await note_id(vendor, "a note of the vendor's")
    await vendor.do(offers.remove, "product", 1)
    await vendor.do(notes.remove, "note", note)
    await vendor.do(registrations.leave, 1)
    await vendor.do(save_shared, 1, {"close_date": "2027-01-31"})
    await until(lambda: has_sent_all_else(vendor))
    waiting = await vendor.rows(select(outbox.c.payload).where(outbox.c.published_ms.is_(None)).order_by(outbox.c.id))
    assert [row.payload.rpartition('"type":"')[2].split('"')[0] for row in waiting] == ["products.changed", "note.deleted", "deal.left"]
    assert await is_restoring(vendor) and await said(scene, "vendor", since) == []
    pair.partner.start()
    await scene.mended("vendor")
    await check_agree(pair)
    gone = await pair.partner.rows(select(shared_records.c.kind).where(shared_records.c.state == "deleted").order_by(shared_records.c.kind))
    assert [row.kind for row in gone] == ["note", "product"]


async def test_no_state_that_is_owed_brings_a_deletion_out_before(scene: Scene) -> None:
    """Neither because the outbox was folded, nor because everything is owed."""
    pair, vendor = scene.pair, scene.pair.vendor
    await go_back(scene, "vendor")
    since = count_said(scene, "vendor")
    await vendor.do(notes.remove, "note", await note_id(vendor, "a note of the vendor's"))
    await vendor.do(offers.remove, "product", 1)
    async with vendor.station.database.transaction() as tx:
        await fold_piece(tx, pair.partnership)
        await owe_all(tx, pair.partnership)

    async def paid() -> bool:
        return not await vendor.read(list_owing) and await has_sent_all_else(vendor)

    await until(paid)
    assert await is_restoring(vendor) and await said(scene, "vendor", since) == []
    assert len(await vendor.rows(select(outbox.c.id).where(outbox.c.destroys))) == 2
    pair.partner.start()
    await scene.mended("vendor")
    await check_agree(pair)
    gone = await pair.partner.rows(select(shared_records.c.kind).where(shared_records.c.state == "deleted").order_by(shared_records.c.kind))
    assert [row.kind for row in gone] == ["note", "product"]


async def test_two_stores_that_are_restored_by_each_other_and_delete_meanwhile_do_not_wait_for_each_other(scene: Scene) -> None:
    pair = scene.pair
    copies = {name: await scene.keep(name) for name in ("partner", "vendor")}
    await work_on(pair)
    for name, copy in copies.items():
        await scene.put_back(name, copy)
    for side, body in ((pair.partner, "a note of the partner's"), (pair.vendor, "a note of the vendor's")):
        await side.do(notes.remove, "note", await note_id(side, body))
    await pair.vendor.do(offers.remove, "product", 1)
    pair.partner.start()
    pair.vendor.start()
    for name in copies:
        await scene.mended(name)
    await check_agree(pair)
    gone = await pair.partner.rows(select(shared_records.c.kind).where(shared_records.c.state == "deleted").order_by(shared_records.c.kind))
    assert [row.kind for row in gone] == ["note", "note", "product"]


async def test_what_a_store_has_lost_of_its_own_deletions_comes_back_from_a_peer_that_is_being_restored_as_well(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which hears that all is said only once that store is mended, so that it answers amid its own restoration; and the topic of that store
    is lost, so that it does not begin once more."""
    pair, real = scene.pair, restoration.take_restated
    copy = await scene.keep("partner")
    await pair.partner.do(offers.remove, "product", 1)
    await pair.partner.do(notes.remove, "note", await note_id(pair.partner, "a note of the partner's"))
    await pair.settle()
    await pair.partner.stop()
    await pair.vendor.do(restoration.confirm)
    await scene.put_back("partner", copy)
    assert scene.cluster is not None
    scene.cluster.recreate_topic(record_topic(pair.partnership, "partner"))

    async def take_late(tx: Any, told: Any, reach: Any) -> None:
        if not await is_restoring(pair.partner) or told.request in [row.request for row in await pair.partner.rows(select(restorations))]:
            await real(tx, told, reach)

    monkeypatch.setattr(restoration, "take_restated", take_late)
    pair.partner.start()
    for name in ("partner", "vendor"):
        await scene.mended(name)
    await check_agree(pair)
    assert await pair.partner.rows(select(refusals.c.uid, refusals.c.field, refusals.c.reason)) == []
    gone = await pair.partner.rows(select(shared_records.c.kind).where(shared_records.c.state == "deleted").order_by(shared_records.c.kind))
    assert [row.kind for row in gone] == ["note", "product"]


async def test_the_trash_of_an_old_copy_is_not_emptied_before_the_peer_was_heard(scene: Scene) -> None:
    """What lies in it too long was restored after the copy had been made."""
    pair, vendor, partner = scene.pair, scene.pair.vendor, scene.pair.partner
    await partner.do(registrations.delete_for_both, 1, None)
    await pair.settle()
    copy = await scene.keep("vendor")
    await partner.do(registrations.restore, 1)
    await pair.settle()
    await vendor.do(save_shared, 1, {"next_step": "Set by the vendor"})
    await pair.settle()
    await scene.put_back("vendor", copy)
    async with vendor.station.database.transaction() as tx:
        await tx.execute(update(trash).values(deleted_ms=trash.c.deleted_ms - 98 * DAY_MS))
    assert await sweep(vendor.station) == 0
    vendor.start()
    await scene.mended("vendor")
    await check_agree(pair)
    for side in (partner, vendor):
        deal = await side.read(load_deal, 1)
        assert (deal["name"], deal["next_step"], deal["deleted_ms"]) == ("Globex roll-out", "Set by the vendor", None)
        alive = await side.rows(select(shared_notes.c.body).where(shared_notes.c.state == "alive").order_by(shared_notes.c.body))
        assert [row.body for row in alive] == ["a note of the partner's", "a note of the vendor's"]
        assert await side.rows(select(trash.c.id)) == []


async def test_a_rep_who_accepted_after_the_copy_was_made_keeps_the_registration(scene: Scene) -> None:
    pair, vendor = scene.pair, scene.pair.vendor
    copy, reps = await scene.keep("vendor"), await reps_of(vendor)
    async with vendor.station.working(Author(1, None, "Ann", "admin")) as work:
        await accept(work, 1)
    await vendor.do(save_shared, 1, {"next_step": "Set by the vendor"})
    await pair.settle()
    await scene.put_back("vendor", copy)
    assert [row.kind for row in await vendor.rows(select(reactions.c.kind))] == ["accept"]
    vendor.start()
    await scene.mended("vendor")
    assert await vendor.rows(select(reactions.c.kind)) == []
    assert await reps_of(vendor) == reps
    assert len(await told(vendor, "accepting no longer awaited")) == 1


async def test_a_partnership_that_has_ended_is_not_restored(scene: Scene) -> None:
    """Nobody would ever answer. One that is suspended may go on one day, and is."""
    vendor, partnership = scene.pair.vendor, scene.pair.partnership
    await scene.pair.partner.stop()
    await vendor.do(partnerships.change_status, partnership, "suspended")
    assert await vendor.do(restoration.confirm) == [partnership]
    await vendor.do(partnerships.change_status, partnership, "terminated")
    assert not await is_restoring(vendor)
    with pytest.raises(WrongState, match="nothing is left to restore"):
        await vendor.do(restoration.confirm)
