"""Stopping to share withdraws what was not sent yet, but not the people who came along in it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from shared_schema.crm import users
from shared_schema.crm.projected_tables import persons
from shared_schema.sync import people, views
from shared_schema.sync.deals import save_shared
from shared_schema.sync.registrations import unshare
from shared_schema.sync.station import Author
from tests.integration.pair import Pair, open_pair
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
