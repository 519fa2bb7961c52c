"""The duplicate check: the vendor sees who else works on a customer, side by side; the partner hears that somebody does, and not who."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared_schema.crm import customers
from shared_schema.crm.deals import add_deal
from shared_schema.sync import views
from shared_schema.sync.merging import merge_deals
from shared_schema.sync.registrations import withdraw
from tests.integration.trio import Trio, open_trio, share_with_contact
from tests.twins.memory_broker import MemoryBroker, MemoryCluster
from vendor_node.duplicates import read_similar


@pytest.fixture
async def trio(database_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Trio]:
    cluster = MemoryCluster()
    urls = (database_url, f"sqlite:///{tmp_path}/acme.db", f"sqlite:///{tmp_path}/besta.db")
    async with open_trio(urls, (MemoryBroker(cluster), MemoryBroker(cluster), MemoryBroker(cluster))) as opened:
        await opened.become_partners(approval=getattr(request, "param", "auto"))
        opened.start()
        yield opened


async def told(trio: Trio, name: str, shared_deal_id: int = 1) -> Any:
    """What a partner hears about its registration's customer."""
    shown = await trio.partners[name].read(views.read_shared_deal, "partner", shared_deal_id)
    field = shown["registration_record"]["fields"].get("duplicate")
    return field and {key: value for key, value in field["value"].items() if key != "at"}


async def test_the_second_to_register_a_domain_hears_no_more_than_that_it_is_in_progress(trio: Trio) -> None:
    first = await trio.register("Acme", amount={"amount": "700", "currency": "EUR"})
    second = await trio.register("Besta")
    assert await told(trio, "Acme") is None
    assert await told(trio, "Besta") == {"said": "already in progress"}
    similar = await trio.vendor.read(read_similar, second)
    (other,) = similar["registrations"]
    assert (other["id"], other["partner"], other["deal"], other["amount"]) == (first, "Acme", "Globex of Acme", "700")
    assert (other["same"], similar["owned"], similar["this"]["deal"]["name"]) == (["domain"], [], "Globex of Besta")
    assert other["merge"] == f"/api/deals/{await trio.deal_of(first)}/merge"
    assert [each["id"] for each in (await trio.vendor.read(read_similar, first))["registrations"]] == [second]
    journal = (await trio.vendor.read(views.read_audit, second))["journal"]
    assert "1 open registrations, 0 deals" in next(each["detail"] for each in journal if each["what"] == "similar requests")
    await trio.vendor.do(merge_deals, await trio.deal_of(first), await trio.deal_of(second))
    await trio.settle()
    await trio.check_same()


async def test_a_contacts_e_mail_is_enough_and_another_customer_is_none(trio: Trio) -> None:
    await share_with_contact(trio.partners["Acme"], "Globex", "hank@globex.example")
    await trio.settle()
    await share_with_contact(trio.partners["Besta"], "Umbrella", "Hank@Globex.example")
    await share_with_contact(trio.partners["Besta"], "Tyrell", "roy@tyrell.example")
    await trio.settle()
    assert [await told(trio, "Besta", each) for each in (1, 2)] == [{"said": "already in progress"}, None]


async def test_a_partners_own_second_registration_and_the_vendors_own_deals_count_too(trio: Trio) -> None:
    async with trio.vendor.station.working(trio.vendor.author) as work:
        company_id = await customers.add_company(work.tx, {"name": "Tyrell", "domain": "tyrell.example"}, work.now_ms)
        own = await add_deal(work.tx, {"name": "Tyrell direct", "company_id": company_id, "owner_id": 1}, 1, work.now_ms)
    first = await trio.register("Acme", "Tyrell")
    assert await told(trio, "Acme") == {"said": "already in progress"}
    (owned,) = (await trio.vendor.read(read_similar, first))["owned"]
    assert (owned["deal_id"], owned["deal"], owned["owner"]) == (own, "Tyrell direct", "Victor")
    await trio.register("Acme", "Globex")
    await trio.register("Acme", "Globex")
    assert [await told(trio, "Acme", each) for each in (2, 3)] == [None, {"said": "already in progress"}]


async def test_what_has_ended_is_no_duplicate(trio: Trio) -> None:
    await trio.register("Acme")
    await trio.partners["Acme"].do(withdraw, 1, None)
    await trio.settle()
    second = await trio.register("Besta")
    assert await told(trio, "Besta") is None
    assert (await trio.vendor.read(read_similar, second))["registrations"] == []


@pytest.mark.parametrize("trio", ["manual"], indirect=True)
async def test_it_is_told_before_a_person_decides(trio: Trio) -> None:
    for name in trio.partners:
        await share_with_contact(trio.partners[name], "Globex", "hank@globex.example")
        await trio.settle()
    assert [await told(trio, name) for name in trio.partners] == [None, {"said": "already in progress"}]
    assert {each["status"] for each in await trio.vendor.read(views.list_shared_deals, {})} == {"submitted"}
