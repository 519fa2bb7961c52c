"""A store that went back: noticed by each of three signs, and mended by what the peer still has. Nothing that the peer had is lost, nobody
gets another rep, and a forger can bring none of it about."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from sqlalchemy import func, select, text

from shared_schema.contract.digests import BUCKETS
from shared_schema.contract.topics import other
from shared_schema.crm.deals import load_deal
from shared_schema.crm.digests import read_hashes
from shared_schema.crm.problems import WrongState
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.tables import shared_records
from shared_schema.sync import held, leases, owed_states, restoration, restorer
from shared_schema.sync.braking import LEAST, Limits
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.deals import save_shared
from shared_schema.sync.notes import add_note, remove
from shared_schema.sync.registrations import unshare
from shared_schema.sync.station import Author, Keeping
from shared_schema.sync.status import read_status
from shared_schema.sync.tables import outbound_epochs, outbox, reactions, refusals, restorations
from shared_schema.sync.transport import Broker
from tests.integration.pair import open_pair, until
from tests.integration.rewinding import Rewindable, Scene, active, add_a_rep, check_agree, documents, lose_topic, reps_of, told, work_on
from tests.twins.memory_broker import MemoryBroker, MemoryCluster
from vendor_node.reps import load_reps
from vendor_node.tables import assignments

Row = dict[str, Any]


@pytest.fixture(params=["memory", "kafka"])
def brokers(request: pytest.FixtureRequest) -> tuple[Broker, Broker, MemoryCluster | None]:
    if request.param == "memory":
        cluster = MemoryCluster()
        return MemoryBroker(cluster), MemoryBroker(cluster), cluster
    address = request.getfixturevalue("kafka_address")
    return KafkaBroker(address), KafkaBroker(address), None


@pytest.fixture(params=["sqlite", "postgresql"])
async def scene(
    request: pytest.FixtureRequest, brokers: tuple[Broker, Broker, MemoryCluster | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    monkeypatch.setattr(restorer, "POLL_S", 0.05)
    monkeypatch.setattr(restoration, "ASK_MS", 500)
    postgres = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    urls = [postgres.fresh_database() if postgres else f"sqlite:///{tmp_path}/{side}.db" for side in ("partner", "vendor")]
    async with open_pair((urls[0], urls[1]), brokers[:2]) as pair:
        await pair.become_partners()
        for number in range(3):
            await pair.vendor.do(add_a_rep, f"Rep {number}")
        pair.partner.start()
        pair.vendor.start()
        await pair.share_deal()
        await active(pair, 1)
        stores = {side: Rewindable(url, postgres) for side, url in zip(("partner", "vendor"), urls, strict=True)}
        yield Scene(pair, stores, brokers[2])


@pytest.mark.parametrize("who", ["partner", "vendor"])
async def test_a_store_put_back_gets_everything_again_and_nobody_another_rep(scene: Scene, who: str) -> None:
    """By its own topic. Edits that both sides make meanwhile are kept too."""
    pair, side = scene.pair, scene.side(who)
    copy = await scene.keep(who)
    await work_on(pair)
    before, reps = await documents(side), await reps_of(pair.vendor)
    credits = {rep.id: rep.credit for rep in await pair.vendor.read(load_reps)}
    await scene.put_back(who, copy)
    await side.do(save_shared, 1, {"close_date": "2027-01-31"})
    await scene.side(other(side.station.spec.side)).do(add_note, 1, "written while the other was away")
    side.start()
    await scene.mended(who)
    await check_agree(pair)
    now = await documents(side)
    assert [now[uid].count("close_date") for uid in before if now[uid] != before[uid]] == [1]
    assert await reps_of(pair.vendor) == reps and None not in reps.values()
    assert {rep.id: rep.credit for rep in await pair.vendor.read(load_reps)} == credits
    deal = await side.read(load_deal, 1)
    assert (deal["name"], deal["next_step"], deal["close_date"]) == ("Renamed by the partner", "Set by the vendor", "2027-01-31")
    assert not await side.rows(select(reactions.c.kind))


async def test_what_ended_while_its_maker_had_lost_it_is_no_difference(scene: Scene) -> None:
    """The partner's store forgot a registration that the vendor ends: what comes of it then is all that it will ever have of it."""
    pair = scene.pair
    copy = await scene.keep("partner")
    await pair.share_deal("Hooli")
    await active(pair, 2)
    await pair.settle()
    await scene.put_back("partner", copy)
    newest = await pair.vendor.rows(select(func.max(shared_deals.c.id)))
    await pair.vendor.do(unshare, newest[0][0])
    pair.partner.start()
    await scene.mended("partner")
    await pair.settle()
    ours, theirs = [await side.read(read_hashes, pair.partnership, range(BUCKETS)) for side in (pair.partner, pair.vendor)]
    assert ours == theirs and len(await documents(pair.partner)) > len(ours)


async def test_rotation_goes_on_from_the_assignments_that_came_back(scene: Scene) -> None:
    pair = scene.pair
    copy = await scene.keep("vendor")
    for company in ("Hooli", "Umbrella"):
        await pair.share_deal(company)
    await active(pair, 3)
    await scene.put_back("vendor", copy)
    pair.vendor.start()
    await scene.mended("vendor")
    for company in ("Stark", "Wayne", "Wonka"):
        await pair.share_deal(company)
    await active(pair, 6)
    reps = list((await reps_of(pair.vendor)).values())
    assert sorted(reps.count(each) for each in set(reps)) == [2, 2, 2]
    made = await pair.vendor.rows(select(assignments.c.registration, assignments.c.method))
    assert len(made) == len({row.registration for row in made}) == 6
    assert sorted(row.method for row in made) == ["restored", "restored", *["round_robin"] * 4]


@pytest.mark.parametrize("brokers", ["memory"], indirect=True)
@pytest.mark.parametrize("who", ["partner", "vendor"])
async def test_an_acknowledgement_alone_tells_a_store_that_it_went_back(scene: Scene, who: str) -> None:
    """Both topics are lost as well, so nothing but the peer's memory is left of what this side wrote."""
    pair, side = scene.pair, scene.side(who)
    copy = await scene.keep(who)
    await work_on(pair)
    before = await documents(side)
    await scene.put_back(who, copy)
    await lose_topic(scene, "partner")
    await lose_topic(scene, "vendor")
    side.start()
    await scene.mended(who)
    await check_agree(pair)
    assert await documents(side) == before
    (row,) = await told(side, "store restored")
    assert "acknowledges" in row.detail


@pytest.mark.parametrize("brokers", ["memory"], indirect=True)
async def test_a_store_that_went_back_and_lost_its_topic_learns_of_epochs_it_never_heard_of(scene: Scene) -> None:
    """It wrote nothing since its copy was made, so nothing says that it went back; the heartbeat names what was acknowledged."""
    pair = scene.pair
    copy = await scene.keep("partner")
    await pair.vendor.stop()
    pair.vendor.start()
    await pair.vendor.do(save_shared, 1, {"next_step": "Set by the vendor"})
    await pair.settle()
    await scene.put_back("partner", copy)
    await lose_topic(scene, "vendor")
    pair.partner.start()

    async def agree() -> bool:
        return await documents(pair.partner) == await documents(pair.vendor)

    await until(agree)
    assert not await told(pair.partner, "store restored") and (await pair.partner.read(load_deal, 1))["next_step"] == "Set by the vendor"


@pytest.mark.parametrize("brokers", ["memory"], indirect=True)
async def test_an_acknowledgement_within_a_known_epoch_tells_it_too(scene: Scene) -> None:
    """The copy was made without stopping the process, so the epoch went on and the store knows its name."""
    pair, side = scene.pair, scene.pair.partner
    copy = await scene.keep("partner")
    await side.do(add_note, 1, "so that the epoch has a number")
    await pair.settle()
    live = await scene.stores["partner"].keep(side)
    side.start()
    await pair.settle()
    await side.do(add_note, 1, "lost with the store")
    await pair.settle()
    await side.stop()  # no epoch begins any more
    epochs = [row.epoch for row in await side.rows(select(outbound_epochs.c.epoch))]
    await scene.put_back("partner", live)
    async with side.station.database.transaction() as tx:
        for epoch in epochs:
            await leases.begin_epoch(tx, pair.partnership, epoch, side.station.clock.now_ms())
    await lose_topic(scene, "partner")
    side.start()
    await scene.mended("partner")
    (row,) = await told(side, "store restored")
    assert "which this store never made" in row.detail and copy
    await check_agree(pair)


@pytest.mark.parametrize("brokers", ["memory"], indirect=True)
async def test_a_context_alone_only_alarms_until_an_operator_confirms(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """The store lacks a note of its own, and nobody but a state of the peer's says so: that may be a forgery."""
    pair, side = scene.pair, scene.pair.vendor
    await side.do(add_note, 1, "the vendor's own")
    await pair.settle()
    await side.stop()
    uid = (await side.rows(select(shared_records.c.uid).where(shared_records.c.kind == "note")))[0].uid
    async with side.station.database.transaction() as tx:
        await tx.execute(text("DELETE FROM shared_records WHERE uid = :uid"), {"uid": uid})
    await lose_topic(scene, "vendor")
    await side.restart(scene.stores["vendor"].url)
    side.start()
    async with pair.partner.station.database.transaction() as tx:
        await owed_states.owe_all(tx, pair.partnership)

    async def refused() -> bool:
        return bool(await side.rows(select(refusals.c.uid).where(refusals.c.uid == uid)))

    with caplog.at_level(logging.ERROR):
        await until(refused)
        await pair.settle()
    assert caplog.text.count("run `sync confirm-restore`") == 1
    (status,) = await side.read(read_status, side.station.clock.now_ms())
    assert (status["suspected"], status["restoring_since_ms"]) == (1, None)
    assert uid not in await documents(side)
    async with side.station.database.transaction() as tx:
        await tx.execute(text("UPDATE refusals SET at_ms = at_ms - 10800000"))  # it takes the operator three hours to say so
    assert await side.do(restoration.confirm) == [pair.partnership]
    with pytest.raises(WrongState):
        await side.do(restoration.confirm)
    await scene.mended("vendor")
    await check_agree(pair)
    assert uid in await documents(side)
    assert not await side.rows(select(refusals.c.uid))
    assert [row.actor for row in await told(side, "restore confirmed")] == ["Victor"]


@pytest.mark.parametrize("brokers", ["memory"], indirect=True)
async def test_reactions_and_deletions_wait_until_the_states_are_here(scene: Scene) -> None:
    pair, vendor = scene.pair, scene.pair.vendor
    note = await vendor.do(add_note, 1, "to be deleted")
    await pair.settle()
    copy = await scene.keep("vendor")
    await work_on(pair)
    await pair.partner.stop()
    await scene.put_back("vendor", copy)
    vendor.start()

    async def restoring() -> bool:
        (status,) = await vendor.read(read_status, vendor.station.clock.now_ms())
        return status["restoring_since_ms"] is not None

    await until(restoring)
    await vendor.do(remove, "note", note)
    await vendor.do(save_shared, 1, {"close_date": "2027-01-31"})

    async def sent() -> bool:
        rows = await vendor.rows(select(outbox.c.payload).where(outbox.c.published_ms.is_(None)))
        return len(rows) == 1

    await until(sent)
    (row,) = await vendor.rows(select(outbox.c.payload).where(outbox.c.published_ms.is_(None)))
    assert '"type":"note.deleted"' in row.payload
    waiting = await vendor.rows(select(reactions.c.kind))
    assert {each.kind for each in waiting} <= {"decide", "assign"}
    assert not [row for row in await vendor.rows(select(assignments)) if row.method == "restored"]
    pair.partner.start()
    await scene.mended("vendor")
    await check_agree(pair)
    gone = await pair.partner.rows(select(shared_records.c.uid).where(shared_records.c.kind == "note", shared_records.c.state == "deleted"))
    assert len(gone) == 1


@pytest.mark.parametrize("brokers", ["memory"], indirect=True)
async def test_a_restoration_survives_kills_of_either_side_at_any_time(scene: Scene) -> None:
    pair = scene.pair
    for number in range(12):
        await (pair.partner if number % 2 else pair.vendor).do(add_note, 1, f"before {number}")
    await pair.settle()
    copy = await scene.keep("vendor")
    for number in range(40):
        await (pair.partner if number % 2 else pair.vendor).do(add_note, 1, f"after {number}")
    await work_on(pair)
    before, reps = await documents(pair.vendor), await reps_of(pair.vendor)
    await scene.put_back("vendor", copy)
    with patch.object(owed_states, "PIECE_RECORDS", 3):
        for round_ in range(12):
            for side in (pair.vendor, pair.partner):
                await side.restart(scene.stores[side.station.spec.side].url)
                side.start()
            await asyncio.sleep(0.1 * (round_ % 4))
        await scene.mended("vendor")
    await check_agree(pair)
    assert await documents(pair.vendor) == before and await reps_of(pair.vendor) == reps


async def keep_a_copy_that_asks(scene: Scene) -> str:
    """The vendor's store goes back and is restored; the copy is of the middle of that, when the peer was asked."""
    pair, vendor = scene.pair, scene.pair.vendor
    copy = await scene.keep("vendor")
    await work_on(pair)
    await pair.partner.stop()
    await scene.put_back("vendor", copy)
    vendor.start()

    async def asked() -> bool:
        return bool(await vendor.rows(select(restorations.c.partnership).where(restorations.c.asked_ms > 0)))

    await until(asked)
    middle = await scene.keep("vendor")
    pair.partner.start()
    await scene.mended("vendor")
    return middle


@pytest.mark.parametrize("brokers", ["memory"], indirect=True)
async def test_a_store_put_back_twice_gets_everything_twice(scene: Scene) -> None:
    """The second copy was made in the middle of the first restoration."""
    pair, vendor = scene.pair, scene.pair.vendor
    middle = await keep_a_copy_that_asks(scene)
    before = await documents(vendor)
    await scene.put_back("vendor", middle)
    await lose_topic(scene, "partner")
    await lose_topic(scene, "vendor")
    vendor.start()
    await scene.mended("vendor")
    await check_agree(pair)
    assert await documents(vendor) == before


@pytest.mark.parametrize("brokers", ["memory"], indirect=True)
async def test_a_store_put_back_into_its_own_restoration_does_not_take_the_answer_of_then(scene: Scene) -> None:
    """The topic still holds what the peer answered to the request that the copy has open; what was written since is not in that."""
    pair, vendor = scene.pair, scene.pair.vendor
    middle = await keep_a_copy_that_asks(scene)
    await vendor.do(add_note, 1, "written after the first restoration")
    await pair.settle()
    before, reps = await documents(vendor), await reps_of(vendor)
    await scene.put_back("vendor", middle)
    vendor.start()
    await scene.mended("vendor")
    await check_agree(pair)
    assert await documents(vendor) == before and await reps_of(vendor) == reps


@pytest.mark.parametrize("brokers", ["memory"], indirect=True)
async def test_a_store_that_went_back_gets_its_own_events_that_wait_with_the_peer(scene: Scene) -> None:
    """Deletions that the vendor's brake holds; the partner's store goes back to before it made them, and the vendor lets them go later."""
    pair, partner, vendor = scene.pair, scene.pair.partner, scene.pair.vendor
    for side, limits in ((partner, Limits(10_000, 100)), (vendor, Limits(1, 100))):
        await side.stop()
        side.station.keeping = Keeping(brake=limits)
        side.start()
    for number in range(LEAST + 2):
        await partner.do(add_note, 1, f"note {number}")
    await pair.settle()
    copy = await scene.keep("partner")
    for number in range(LEAST + 2):
        await partner.do(remove, "note", number + 1)
    await pair.settle()
    assert len(await vendor.read(held.list_held)) == 2
    await scene.put_back("partner", copy)
    partner.station.keeping = Keeping(brake=Limits(10_000, 100))
    partner.start()
    await scene.mended("partner")
    living = select(shared_records.c.uid).where(shared_records.c.kind == "note", shared_records.c.state == "alive")
    assert (len(await partner.rows(living)), len(await vendor.rows(living))) == (0, 2)
    assert await held.decide(vendor.station, Author(1, None, "Ann", "admin"), pair.partnership, "in", "release") == {"applied": 2}
    await pair.settle()
    assert await vendor.rows(living) == []
    await check_agree(pair)


@pytest.mark.parametrize("brokers", ["memory"], indirect=True)
async def test_both_stores_put_back_at_once_lose_only_what_neither_has(scene: Scene) -> None:
    pair = scene.pair
    older = await scene.keep("vendor")
    await pair.partner.do(add_note, 1, "in the partner's copy")
    await pair.settle()
    newer = await scene.keep("partner")
    known = await documents(pair.partner)
    await work_on(pair)
    await scene.put_back("vendor", older)
    await scene.put_back("partner", newer)
    pair.vendor.start()
    pair.partner.start()
    await scene.mended("vendor")
    await scene.mended("partner")
    await check_agree(pair)
    assert set(known) <= set(await documents(pair.vendor))


@pytest.mark.parametrize("brokers", ["memory"], indirect=True)
@pytest.mark.parametrize("scene", ["postgresql"], indirect=True)
async def test_a_database_that_fails_over_to_an_older_copy_is_noticed_without_a_restart(scene: Scene) -> None:
    """The replica lacked the last seconds; the process lives on, and only its connections broke."""
    pair, vendor = scene.pair, scene.pair.vendor
    store = scene.stores["vendor"]
    assert store.postgres is not None
    copy = await scene.keep("vendor")
    await work_on(pair)
    before, reps = await documents(vendor), await reps_of(vendor)
    store.postgres.fail_over(store.name, copy)
    await scene.mended("vendor")
    await check_agree(pair)
    assert await documents(vendor) == before and await reps_of(vendor) == reps
