"""The list of erasures outlives a store that goes back: what it names is erased again, and told to whoever may not have been told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from partner_node.registrations import share_from_contact
from shared_schema.crm import customers, private_notes
from shared_schema.crm.database import Database, DatabaseUnavailable
from shared_schema.crm.projected_tables import shared_deals, shared_notes
from shared_schema.crm.tables import contacts, deals
from shared_schema.crm.tables import private_notes as own_notes
from shared_schema.sync import eraser, erasing, erasure_list, restoration, restorer, views
from shared_schema.sync.braking import Limits
from shared_schema.sync.clock import SystemClock
from shared_schema.sync.deals import save_deal, save_shared
from shared_schema.sync.eraser import finish_erasures
from shared_schema.sync.notes import add_note
from shared_schema.sync.station import Author, Keeping, Station
from shared_schema.sync.tables import erasures, outbox
from tests.integration.pair import DETAILS, Side, open_pair, until
from tests.integration.rewinding import Rewindable, Scene, check_agree, told
from tests.twins.memory_broker import MemoryBroker, MemoryCluster

ANN = Author(1, None, "Ann Admin", "admin")


@pytest.fixture(params=["sqlite", "postgresql"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """An active deal with two notes of the partner's, whose store can be put back; and a contact that is the partner's own."""
    for module, name, value in ((eraser, "POLL_S", 0.05), (restorer, "POLL_S", 0.05), (restoration, "ASK_MS", 500)):
        monkeypatch.setattr(module, name, value)
    cluster = MemoryCluster()
    postgres = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    url = postgres.fresh_database() if postgres else f"sqlite:///{tmp_path}/partner.db"
    async with open_pair((url, f"sqlite:///{tmp_path}/vendor.db"), (MemoryBroker(cluster), MemoryBroker(cluster))) as pair:
        await pair.become_partners()
        pair.partner.station.keeping = Keeping(brake=Limits(10_000, 100), erasure_list=tmp_path / "erasures")
        pair.partner.start()
        pair.vendor.start()
        await pair.share_deal()
        for text in ("to be erased", "stays"):
            await pair.partner.do(add_note, 1, text)
        async with pair.partner.station.working() as work:
            await customers.add_contact(work.tx, {"name": "Hank", "email": "hank@globex.example"}, work.now_ms)

        async def active() -> bool:
            return bool(await pair.partner.read(views.list_shared_deals, {"status": "active"}))

        await until(active)
        await pair.settle()
        yield Scene(pair, {"partner": Rewindable(url, postgres)}, cluster)


async def put_back(scene: Scene, copy: str) -> Side:
    """The partner's store is as it was; its node has not been started yet."""
    keeping = scene.pair.partner.station.keeping
    await scene.put_back("partner", copy)
    scene.pair.partner.station.keeping = keeping
    return scene.pair.partner


async def erase_note(side: Side) -> None:
    async with side.station.working(ANN) as work:
        await erasing.erase_text(work, "note", 1)


async def stated(side: Side) -> list[tuple[Any, ...]]:
    found = await side.read(erasing.list_erasures, side.station.keeping)
    return [(each["origin"], each["state"], bool(each["gone_by"])) for each in found]


async def until_gone(side: Side) -> None:
    async def gone() -> bool:
        return set(await stated(side)) == {("here", "gone", True)}

    await until(gone)


async def note_states(side: Side) -> list[str]:
    return sorted(row.state for row in await side.rows(select(shared_notes.c.state)))


async def test_an_erasure_that_a_store_lost_before_the_peer_heard_of_it_is_told_after_all(scene: Scene) -> None:
    pair = scene.pair
    copy = await scene.keep("partner")
    await pair.partner.stop()
    await erase_note(pair.partner)
    await finish_erasures(pair.partner.station)
    assert await stated(pair.partner) == [("here", "on its way", False)]
    partner = await put_back(scene, copy)
    assert [await erasure_list.apply(partner.station) for _ in range(2)] == [1, 0]
    await finish_erasures(partner.station)
    assert await stated(partner) == [("here", "on its way", False)]
    assert partner.station.keeping.erasure_list and partner.station.keeping.erasure_list.read_text().count("\n") == 1
    partner.start()
    await until_gone(partner)
    await pair.settle()
    assert await note_states(pair.vendor) == ["alive", "erased"]
    await check_agree(pair)


async def test_it_is_told_again_where_the_peer_heard_of_it_and_both_say_when_it_is_gone(scene: Scene) -> None:
    """A process that starts applies the list by itself."""
    pair = scene.pair
    copy = await scene.keep("partner")
    await erase_note(pair.partner)
    await until_gone(pair.partner)
    await pair.settle()
    partner = await put_back(scene, copy)
    partner.start()
    await until_gone(partner)
    await pair.settle()
    assert len(await pair.vendor.rows(select(erasures))) == 1
    await check_agree(pair)


async def test_what_is_told_again_outlives_the_restoration(scene: Scene) -> None:
    """Writes that the peer has are lost, too, so that the store is restored from the peer, whose states hold what is erased."""
    pair = scene.pair
    copy = await scene.keep("partner")
    await pair.partner.do(save_shared, 1, {"next_step": "lost, and comes back"})
    await pair.settle()
    await pair.partner.stop()
    await erase_note(pair.partner)
    await finish_erasures(pair.partner.station)
    partner = await put_back(scene, copy)
    partner.start()
    await scene.mended("partner")
    await until_gone(partner)
    await pair.settle()
    for side in (partner, pair.vendor):
        assert await note_states(side) == ["alive", "erased"]
    await check_agree(pair)


async def test_two_processes_that_start_tell_it_once(scene: Scene) -> None:
    copy = await scene.keep("partner")
    await scene.pair.partner.stop()
    await erase_note(scene.pair.partner)
    await finish_erasures(scene.pair.partner.station)
    station = (await put_back(scene, copy)).station
    other = Station(station.spec, Database(scene.stores["partner"].url), SystemClock(), station.keeping)
    assert sum(await asyncio.gather(*(erasure_list.apply(each) for each in (station, other)))) == 1
    await other.database.close()
    assert len(await scene.pair.partner.rows(select(outbox))) == 1


async def test_what_is_not_on_the_list_yet_is_not_gone(scene: Scene) -> None:
    """As when something is erased while the eraser is between the list and the files."""
    partner = scene.pair.partner
    await partner.stop()
    async with partner.station.working(ANN) as work:
        await erasing.erase_contact(work, 1)
    assert await eraser.clean(partner.station) == 0
    assert await stated(partner) == [("here", "being cleaned up", False)]
    assert await finish_erasures(partner.station) == 1
    assert await stated(partner) == [("here", "gone", True)]


@pytest.mark.parametrize("scene", ["postgresql"], indirect=True)
async def test_a_database_that_fails_over_erases_again_without_a_restart(scene: Scene) -> None:
    """Also what no peer ever heard of, so that nothing but the list says that the store went back."""
    partner, store = scene.pair.partner, scene.stores["partner"]
    copy = await scene.keep("partner")
    async with partner.station.working(ANN) as work:
        await erasing.erase_contact(work, 1)
    await until_gone(partner)
    assert store.postgres is not None
    store.postgres.fail_over(store.name, copy)

    async def erased_again() -> bool:
        try:
            return [row.name for row in await partner.rows(select(contacts.c.name))] == ["(erased)"]
        except DatabaseUnavailable:
            return False

    await until(erased_again)
    await until_gone(partner)
    assert not await told(partner, "store restored")


async def test_before_a_store_that_went_back_asks_its_peer_the_list_is_applied(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an operator's word, without a lost connection."""
    partner = scene.pair.partner
    async with partner.station.working(ANN) as work:
        before = (await work.tx.execute(select(contacts.c.name, contacts.c.email).where(contacts.c.id == 1))).one()
        await erasing.erase_contact(work, 1)
    await until_gone(partner)
    async with partner.station.database.transaction() as tx:
        await tx.execute(update(contacts).values(**before._asdict(), erased_ms=None))
        await tx.execute(delete(erasures))
    ask, names = restoration.ask, []

    async def look_and_ask(tx: Any, partnership: str, now_ms: int) -> Any:
        names.append((await tx.execute(select(contacts.c.name))).scalar_one())
        return await ask(tx, partnership, now_ms)

    monkeypatch.setattr(restoration, "ask", look_and_ask)
    await partner.do(restoration.confirm)
    await scene.mended("partner")
    assert set(names) == {"(erased)"}


async def test_the_peers_erasure_of_a_deal_takes_nothing_of_this_sides_own_although_this_side_erased_its_contact(scene: Scene) -> None:
    pair, partner = scene.pair, scene.pair.partner
    async with partner.station.working(partner.author) as work:
        contact = await customers.add_contact(work.tx, {"name": "Iris", "email": "iris@hooli.example"}, work.now_ms)
        shared = await share_from_contact(work, pair.partnership, contact, {"name": "Hooli roll-out"}, DETAILS)
        deal, uid = (await work.tx.execute(select(shared_deals.c.deal_id, shared_deals.c.uid).where(shared_deals.c.id == shared))).one()
        await private_notes.add(work.tx, deal, partner.author.user_id, "my own, private", work.now_ms)
        await save_deal(work, deal, {"properties": {"ours": "mine"}})
    await pair.settle()
    copy = await scene.keep("partner")
    async with partner.station.working(ANN) as work:
        await erasing.erase_contact(work, contact)
    await pair.settle()
    (there,) = await pair.vendor.rows(select(shared_deals.c.id).where(shared_deals.c.uid == uid))
    async with pair.vendor.station.working(ANN) as work:
        await erasing.erase_deal(work, there.id)

    async def both_gone() -> bool:
        return {each[:2] for each in await stated(partner)} == {("here", "gone"), ("there", "gone")}

    await until(both_gone)
    partner = await put_back(scene, copy)
    partner.start()
    await until(both_gone)
    bodies = [row.body for row in await partner.rows(select(own_notes.c.body))]
    properties = [row.properties for row in await partner.rows(select(deals.c.properties).where(deals.c.id == deal))]
    assert (bodies, properties) == (["my own, private"], ['{"ours": "mine"}'])
