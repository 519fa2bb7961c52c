"""A deal that was shared before: its content goes with the registration that it is shared in, is kept for what else it is shared in, and
comes back under its name."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared_schema.crm import customers
from shared_schema.crm.deals import change_deal, list_deals, load_deal
from shared_schema.sync import emptier, erasing, relay, views
from shared_schema.sync.deals import save_deal
from shared_schema.sync.merging import merge_deals
from shared_schema.sync.registrations import delete_for_both, restore, share, unshare
from shared_schema.sync.station import Keeping
from tests.integration.erasure_stage import MARK, rows_with
from tests.integration.pair import DETAILS, Side, have_said_all, until
from tests.integration.test_several_partners import share_with_both
from tests.integration.trio import Trio, open_trio
from tests.twins.memory_broker import MemoryBroker, MemoryCluster
from vendor_node.decisions import decide
from vendor_node.invitations import Invitation, bring_in


@pytest.fixture
async def trio(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Trio]:
    monkeypatch.setattr(relay, "HEARTBEAT_MS", 200)
    cluster = MemoryCluster()
    urls = (database_url, f"sqlite:///{tmp_path}/acme.db", f"sqlite:///{tmp_path}/besta.db")
    async with open_trio(urls, (MemoryBroker(cluster), MemoryBroker(cluster), MemoryBroker(cluster))) as opened:
        await opened.become_partners()
        opened.start()
        yield opened


async def share_again(trio: Trio, name: str) -> int:
    """A partner's deal in a new registration, once it is active, with marked content; the partner's id of it."""
    side = trio.partners[name]
    company = {"name": "Globex", "domain": "globex.example"}
    shared_deal_id = int(await side.do(share, trio.partnerships[name], 1, company, {}, DETAILS))
    (row,) = [each for each in await side.read(views.list_shared_deals, {}) if each["id"] == shared_deal_id]
    await trio.until_status(name, row["uid"], "active")
    await side.do(save_deal, 1, {"name": MARK, "next_step": MARK})
    await trio.settle()
    return shared_deal_id


async def sweep(trio: Trio) -> None:
    """As if the days in the trash were over."""
    await until(lambda: have_said_all(*trio.sides))
    for side in trio.sides:
        before, side.station.keeping = side.station.keeping, Keeping(trash_days=-8)
        await emptier.sweep(side.station)
        side.station.keeping = before
    await trio.settle()


async def names_at(side: Side) -> list[Any]:
    """The name and next step of each deal in a side's lists."""
    return [(each["name"], each["next_step"]) for each in await side.read(list_deals, {})]


@pytest.mark.parametrize("ended", ["unshared", "lost", "deleted"])
@pytest.mark.parametrize("how", ["erased", "deleted and swept"])
async def test_an_earlier_registration_that_has_ended_keeps_no_content_of_a_later_one(trio: Trio, ended: str, how: str) -> None:
    acme, vendor = trio.partners["Acme"], trio.vendor
    first = await trio.register("Acme")
    if ended == "unshared":
        await acme.do(unshare, 1)
    elif ended == "lost":
        await vendor.do(decide, first, "lost")
    else:
        await acme.do(delete_for_both, 1, None)
    await trio.settle()
    second = await share_again(trio, "Acme")
    await acme.do(*((erasing.erase_deal, second) if how == "erased" else (delete_for_both, second, None)))
    await trio.settle()
    await sweep(trio)
    for side in (acme, vendor):
        assert await rows_with(side, MARK) == [] and await names_at(side) == []


@pytest.mark.parametrize("how", ["erased", "deleted and swept"])
async def test_what_one_partner_takes_back_leaves_the_deal_that_is_shared_with_another(trio: Trio, how: str) -> None:
    await share_with_both(trio, name="Depots", next_step="Call")
    await trio.partners["Besta"].do(*((erasing.erase_deal, 1) if how == "erased" else (delete_for_both, 1, None)))
    await trio.settle()
    await sweep(trio)
    assert await names_at(trio.vendor) == await names_at(trio.partners["Acme"]) == [("Depots", "Call")]
    assert await names_at(trio.partners["Besta"]) == []


@pytest.mark.parametrize("how", ["erased", "deleted and swept"])
async def test_a_copy_that_was_kept_of_one_partnership_does_not_go_by_the_word_of_another(trio: Trio, how: str) -> None:
    """It goes by this side's own."""
    _, acme, besta = await share_with_both(trio, name="Depots", next_step="Call")
    await trio.vendor.do(unshare, acme)
    await trio.settle()
    partner = trio.partners["Besta"]
    await partner.do(*((erasing.erase_deal, 1) if how == "erased" else (delete_for_both, 1, None)))
    await trio.settle()
    await sweep(trio)
    assert await names_at(trio.vendor) == await names_at(trio.partners["Acme"]) == [("Depots", "Call")]
    if how == "deleted and swept":
        await trio.vendor.do(erasing.erase_deal, besta)
        assert await names_at(trio.vendor) == []


@pytest.mark.parametrize("how", ["erased", "deleted", "deleted and swept"])
async def test_a_deal_whose_content_went_comes_back_under_the_name_that_it_is_shared_by(trio: Trio, how: str) -> None:
    deal_id, acme, _ = await share_with_both(trio, name="Depots", next_step="Call")
    vendor = trio.vendor
    async with vendor.station.working(vendor.author) as work:
        contact = await customers.add_contact(work.tx, {"name": "Ann", "email": "ann@globex.example"}, work.now_ms)
        await change_deal(work.tx, deal_id, {"contact_ids": [contact]}, None, work.now_ms)
    await vendor.do(*((erasing.erase_deal, acme) if how == "erased" else (delete_for_both, acme, None)))
    await trio.settle()
    if how == "deleted and swept":
        await sweep(trio)
    assert await names_at(trio.partners["Acme"]) == []
    await vendor.do(bring_in, deal_id, trio.partnerships["Acme"], Invitation("Come in", confirmed=True))
    await trio.settle()
    assert await names_at(trio.partners["Acme"]) == await names_at(vendor) == [("Depots", "Call")]


async def test_what_comes_back_from_the_trash_brings_the_content_that_went_with_another_registration(trio: Trio) -> None:
    await trio.register("Acme", name="Depots", next_step="Call")
    await trio.register("Acme", "Umbrella", name="Offices", next_step="Visit")
    partner = trio.partners["Acme"]
    await partner.do(merge_deals, 1, 2)
    await partner.do(delete_for_both, 2, None)
    await trio.settle()
    await partner.do(erasing.erase_deal, 1)
    assert await names_at(partner) == [] and (await partner.read(load_deal, 1))["name"] == "(erased)"
    await partner.do(restore, 2)
    assert await names_at(partner) == [("Offices", "Visit")]
    await trio.settle()
    await trio.check_same()
