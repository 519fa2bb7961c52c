"""Stopping to share withdraws what was not sent yet, but not the people who came along in it, an erasure, or that this side has left."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from shared_schema.crm import users
from shared_schema.crm.projected_tables import persons, shared_notes
from shared_schema.sync import erasing, held, owed_states, people, views
from shared_schema.sync.braking import LEAST, Limits
from shared_schema.sync.deals import save_shared
from shared_schema.sync.notes import add_note
from shared_schema.sync.registrations import leave, unshare
from shared_schema.sync.station import Author, Keeping
from shared_schema.sync.tables import outbox
from tests.integration.pair import Pair, Side, open_pair, until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster


@pytest.fixture
async def pair(database_url: str, tmp_path: Path) -> AsyncIterator[Pair]:
    cluster = MemoryCluster()
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", database_url), (MemoryBroker(cluster), MemoryBroker(cluster))) as opened:
        await opened.begin_sharing()
        await opened.settle()
        yield opened


async def test_who_renames_themself_writes_their_name_once_and_the_peer_knows_every_write(pair: Pair) -> None:
    partner = pair.partner
    await partner.do(people.change_user, partner.author.user_id, {"name": "Paula Brandt"})
    await partner.stop()
    await partner.restart(str(partner.station.database.engine.url))  # a process to which nobody was introduced; the author has the old name
    partner.start()
    await partner.do(people.change_user, partner.author.user_id, {"name": "Paula Brandt-Meier"})
    await pair.settle()
    await pair.check_same()


async def test_whoever_acted_for_the_first_time_is_known_to_the_peer_all_the_same(pair: Pair) -> None:
    partner = pair.partner
    await partner.stop()
    async with partner.station.working() as work:
        uid = work.incarnation.new_uid()
        user_id = await users.add_user(work.tx, uid, "Nora", "nora@partner.example")
    nora = Author(user_id, uid, "Nora", "rep")
    async with partner.station.working(nora) as work:
        await save_shared(work, 1, {"next_step": "never sent"})
    async with partner.station.working(nora) as work:
        await unshare(work, 1)
    partner.start()
    await pair.settle()
    known = await pair.vendor.rows(select(persons.c.name).where(persons.c.uid == uid))
    assert [row.name for row in known] == ["Nora"]
    (shared,) = await pair.vendor.read(views.list_shared_deals, {})
    assert shared["status"] == "unshared"
    shown = await partner.read(views.read_shared_deal, "partner", 1)
    assert shown["deal"]["fields"]["next_step"]["sync"] == "not shared", "it was withdrawn, and the peer never had it"


async def states_of_notes(side: Side) -> list[str]:
    return [row.state for row in await side.rows(select(shared_notes.c.state).order_by(shared_notes.c.id))]


async def until_stated(side: Side, count: int) -> None:
    """Until so many erasures are stated to be gone everywhere by a date."""

    async def stated() -> bool:
        return [bool(each["gone_by"]) for each in await side.read(erasing.list_erasures, side.station.keeping)] == [True] * count

    await until(stated)


async def test_an_erasure_that_was_not_sent_yet_reaches_the_peer_and_is_acknowledged(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await partner.do(add_note, 1, "to be erased")
    await pair.settle()
    await partner.stop()
    await partner.do(erasing.erase_text, "note", 1)
    await partner.do(save_shared, 1, {"next_step": "never sent"})
    await partner.do(unshare, 1)
    partner.start()
    await pair.settle()
    assert await states_of_notes(vendor) == ["erased"]
    await until_stated(partner, 1)
    assert (await vendor.read(views.read_shared_deal, "vendor", 1))["deal"]["fields"].get("next_step", {}).get("value") != "never sent"


async def test_erasures_and_leaving_that_were_owed_as_states_outlast_the_sharing(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await partner.do(add_note, 1, "to be erased")
    await pair.settle()
    await partner.stop()
    await partner.do(erasing.erase_text, "note", 1)
    await partner.do(leave, 1)
    async with partner.station.working() as work:  # as an outbox past its limit does
        row = (await vendor.read(views.list_shared_deals, {}))[0]
        await owed_states.owe_registrations(work.tx, pair.partnership, [row["uid"]])
        await work.tx.execute(outbox.delete())
    await partner.do(unshare, 1)
    partner.start()
    await pair.settle()
    assert await states_of_notes(vendor) == ["erased"]
    shown = await vendor.read(views.read_shared_deal, "vendor", 1)
    assert (shown["status"], "partner_left" in shown["registration_record"]["fields"]) == ("unshared", True)
    await until_stated(partner, 1)


async def test_an_erasure_that_the_brake_holds_stays_held_and_goes_at_a_release(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    for number in range(LEAST + 1):
        await partner.do(add_note, 1, f"note {number}")
    await pair.settle()
    await partner.stop()
    await vendor.stop()
    partner.station.keeping, vendor.station.keeping = Keeping(brake=Limits(1, 100)), Keeping(brake=Limits(10_000, 100))
    vendor.start()
    for number in range(LEAST + 1):
        await partner.do(erasing.erase_text, "note", number + 1)
    await partner.do(unshare, 1)
    assert [row["act"] for row in await partner.read(held.list_held)] == ["erased"]
    partner.start()

    async def ended() -> bool:
        return [row["status"] for row in await vendor.read(views.list_shared_deals, {})] == ["unshared"]

    await until(ended)
    assert (await states_of_notes(vendor)).count("erased") == LEAST
    await held.decide(partner.station, Author(1, None, "Ann Admin", "admin"), pair.partnership, "out", "release")
    await pair.settle()
    assert await states_of_notes(vendor) == ["erased"] * (LEAST + 1)


async def test_who_left_before_stopping_to_share_has_told_so(pair: Pair) -> None:
    partner = pair.partner
    await partner.stop()
    await partner.do(leave, 1)
    await partner.do(unshare, 1)
    partner.start()
    await pair.settle()
    shown = await pair.vendor.read(views.read_shared_deal, "vendor", 1)
    assert (shown["status"], "partner_left" in shown["registration_record"]["fields"]) == ("unshared", True)
