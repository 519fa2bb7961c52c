"""Several partners on one deal: what each says is its own, what the vendor's deal has is the vendor's, and values go where a save names."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from shared_schema.crm import customers, users
from shared_schema.crm.deals import add_deal, list_deals, load_deal
from shared_schema.crm.problems import Invalid, WrongState
from shared_schema.crm.projected_tables import conflicts as conflict_rows
from shared_schema.crm.projected_tables import members, shared_deals
from shared_schema.crm.tables import deals
from shared_schema.sync import conflicts, notes, offers, views
from shared_schema.sync.capture import NotWritable
from shared_schema.sync.deals import save_deal, save_shared, take_over
from shared_schema.sync.journal import list_journal
from shared_schema.sync.merging import merge_deals
from shared_schema.sync.partnerships import change_policy
from shared_schema.sync.registrations import delete_for_both, leave, unshare, withdraw
from tests.integration.trio import Trio, open_trio
from tests.twins.memory_broker import MemoryBroker, MemoryCluster
from vendor_node import assigning, reps
from vendor_node.tables import assignments


@pytest.fixture
async def trio(database_url: str, tmp_path: Path) -> AsyncIterator[Trio]:
    cluster = MemoryCluster()
    urls = (database_url, f"sqlite:///{tmp_path}/acme.db", f"sqlite:///{tmp_path}/besta.db")
    async with open_trio(urls, (MemoryBroker(cluster), MemoryBroker(cluster), MemoryBroker(cluster))) as opened:
        await opened.become_partners()
        opened.start()
        yield opened


async def share_with_both(trio: Trio, **deal: Any) -> tuple[int, int, int]:
    """One deal of the vendor's that both partners registered: its id, and the vendor's ids of the registrations."""
    acme = await trio.register("Acme", **deal)
    besta = await trio.register("Besta", **deal)
    deal_id = await trio.deal_of(acme)
    await trio.vendor.do(merge_deals, deal_id, await trio.deal_of(besta))
    return deal_id, acme, besta


async def shown_at(trio: Trio, name: str, field: str) -> Any:
    """What a partner's only deal has in a field."""
    return (await trio.partners[name].read(load_deal, 1))[field]


async def test_a_merge_stands_in_each_partnerships_log_without_a_word_of_the_other(trio: Trio) -> None:
    _, acme, besta = await share_with_both(trio)
    for name, own, other in (("Acme", acme, besta), ("Besta", besta, acme)):
        lines = await trio.vendor.read(list_journal, trio.partnerships[name])
        (told,) = (each for each in lines if each["what"] == "deals merged")
        assert (told["registration"], told["actor"]) == (await trio.uid_of(own), "Victor")
        assert await trio.uid_of(other) not in repr(lines) and {"Acme": "Besta", "Besta": "Acme"}[name] not in repr(lines)


async def test_one_partners_edit_stays_beside_the_deal_and_reaches_no_other(trio: Trio) -> None:
    deal_id, acme, besta = await share_with_both(trio, next_step="Call")
    await trio.partners["Acme"].do(save_deal, 1, {"next_step": "Send our offer", "close_date": "2027-03-01"})
    await trio.settle()
    deal = await trio.vendor.read(load_deal, deal_id)
    assert (deal["next_step"], deal["close_date"]) == ("Call", None)
    said = await trio.beside(deal)
    assert (said[acme]["differs"], said[acme]["peer"]) == (["close_date", "next_step"], "Acme")
    assert said[acme]["fields"]["next_step"]["value"] == "Send our offer" and said[acme]["fields"]["next_step"]["by"] == "Anna"
    assert "next_step" not in said[besta]["differs"] and said[besta]["fields"]["next_step"]["value"] == "Call"
    assert not said[acme]["follows"] and not said[besta]["follows"]
    assert await shown_at(trio, "Besta", "next_step") == "Call"
    await trio.check_same()


async def test_a_save_goes_to_the_registrations_that_it_names_each_with_its_own_token(trio: Trio) -> None:
    deal_id, acme, besta = await share_with_both(trio, next_step="Call")
    before = await trio.beside(await trio.vendor.read(load_deal, deal_id))
    await trio.partners["Besta"].do(save_deal, 1, {"next_step": "Visit"})
    await trio.settle()
    tokens = {each: {"next_step": before[each]["fields"]["next_step"]["seen"]} for each in (acme, besta)}
    saved = await trio.vendor.do(save_deal, deal_id, {"next_step": "Mail"}, None, tokens)
    assert [(each.registration, each.result) for each in saved] == [(None, "written"), (acme, "written"), (besta, "conflict")]
    await trio.settle()
    assert (await trio.vendor.read(load_deal, deal_id))["next_step"] == "Mail"
    assert await shown_at(trio, "Acme", "next_step") == "Mail"
    assert await trio.partners["Acme"].read(conflicts.list_open) == []
    (conflict,) = await trio.vendor.read(conflicts.list_open)
    assert (conflict["shared_deal_id"], conflict["partnership"]) == (besta, trio.partnerships["Besta"])
    await trio.vendor.do(conflicts.settle, conflict["id"], "theirs")
    await trio.settle()
    assert (await trio.vendor.read(load_deal, deal_id))["next_step"] == "Mail"
    assert await shown_at(trio, "Besta", "next_step") == "Visit" and await shown_at(trio, "Acme", "next_step") == "Mail"
    await trio.vendor.do(save_deal, deal_id, {"next_step": "Write"}, None, {besta: {}})
    await trio.vendor.do(save_deal, deal_id, {"close_date": "2027-01-01"}, None, {})
    await trio.settle()
    assert (await shown_at(trio, "Besta", "next_step"), await shown_at(trio, "Acme", "next_step")) == ("Write", "Mail")
    assert await shown_at(trio, "Besta", "close_date") is None and await shown_at(trio, "Acme", "close_date") is None
    await trio.check_same()


async def test_a_save_without_names_goes_to_those_that_were_in_step(trio: Trio) -> None:
    deal_id, acme, _ = await share_with_both(trio, next_step="Call", close_date="2027-02-01")
    await trio.partners["Acme"].do(save_deal, 1, {"next_step": "Our own"})
    await trio.settle()
    saved = await trio.vendor.do(save_deal, deal_id, {"next_step": "Mail", "close_date": "2027-03-01"})
    assert {(each.field, each.registration) for each in saved if each.registration == acme} == {("close_date", acme)}
    await trio.settle()
    assert (await shown_at(trio, "Acme", "next_step"), await shown_at(trio, "Besta", "next_step")) == ("Our own", "Mail")
    assert (await shown_at(trio, "Acme", "close_date"), await shown_at(trio, "Besta", "close_date")) == ("2027-03-01", "2027-03-01")
    assert (await trio.vendor.read(load_deal, deal_id))["next_step"] == "Mail"
    await trio.check_same()


async def test_a_partners_value_is_taken_over_by_a_save_that_reaches_only_whom_it_names(trio: Trio) -> None:
    deal_id, acme, besta = await share_with_both(trio, next_step="Call")
    partner = trio.partners["Acme"]
    await partner.do(save_deal, 1, {"next_step": "Ask Ann", "amount": {"amount": "700", "currency": "EUR"}})
    await trio.settle()
    shown = (await trio.beside(await trio.vendor.read(load_deal, deal_id)))[acme]
    await trio.vendor.do(take_over, acme, ["next_step"], {"next_step": shown["fields"]["next_step"]["seen"]})
    deal = await trio.vendor.read(load_deal, deal_id)
    assert (deal["next_step"], deal["amount"]) == ("Ask Ann", None)
    await partner.do(save_deal, 1, {"amount": {"amount": "800", "currency": "EUR"}})
    await trio.settle()
    with pytest.raises(WrongState, match="amount was changed"):
        await trio.vendor.do(take_over, acme, ["amount"], {"amount": shown["fields"]["amount"]["seen"]})
    assert await shown_at(trio, "Besta", "next_step") == "Call"
    await trio.vendor.do(take_over, acme, ["amount"], None, {besta: {}})
    await trio.settle()
    deal = await trio.vendor.read(load_deal, deal_id)
    assert deal["amount"] == await shown_at(trio, "Besta", "amount") == {"amount": "800", "currency": "EUR"}
    assert (await trio.beside(deal))[acme]["differs"] == []
    journal = (await trio.vendor.read(views.read_audit, acme))["journal"]
    assert [each["detail"] for each in journal if each["what"] == "values taken over"] == ["next_step", "amount"]
    await trio.check_same()


async def test_what_is_named_must_be_open_in_the_deal_and_tokens_belong_to_one_registration(trio: Trio) -> None:
    deal_id, acme, besta = await share_with_both(trio)
    with pytest.raises(Invalid, match="not open in this deal"):
        await trio.vendor.do(save_deal, deal_id, {"next_step": "Mail"}, None, {besta + 7: {}})
    seen = {"next_step": (await trio.beside(await trio.vendor.read(load_deal, deal_id)))[acme]["fields"]["next_step"]["seen"]}
    with pytest.raises(Invalid, match="seen belongs to one registration"):
        await trio.vendor.do(save_deal, deal_id, {"next_step": "Mail"}, seen)
    with pytest.raises(Invalid, match="fields takes"):
        await trio.vendor.do(take_over, acme, ["pipeline"])
    assert (await trio.vendor.read(load_deal, deal_id))["next_step"] is None


async def end_of_besta(trio: Trio, besta: int, how: str) -> None:
    """Besta's registration is no longer open, one way or another."""
    partner = trio.partners["Besta"]
    if how == "withdrawn":
        await partner.do(withdraw, 1, "they went elsewhere")
    elif how == "unshared":
        await trio.vendor.do(unshare, besta)
    else:
        await partner.do(delete_for_both, 1, None)
    await trio.settle()


@pytest.mark.parametrize("how", ["withdrawn", "unshared", "deleted"])
async def test_when_one_is_left_the_column_follows_where_both_agree_and_keeps_its_value_where_not(trio: Trio, how: str) -> None:
    deal_id, acme, besta = await share_with_both(trio, next_step="Call", close_date="2027-02-01")
    await trio.vendor.do(save_deal, deal_id, {"next_step": "The vendor's own"}, None, {})
    counts = ("number_of_deal_registrations", "number_of_active_deal_registrations", "open_registrations")
    assert [(await trio.vendor.read(load_deal, deal_id))[name] for name in counts] == [2, 2, 2]
    await end_of_besta(trio, besta, how)
    deal = await trio.vendor.read(load_deal, deal_id)
    assert [deal[name] for name in counts] == [2, 1, 1] and deal["is_active_shared_deal"] and deal["deleted_ms"] is None
    assert (deal["next_step"], (await trio.beside(deal))[acme]["differs"]) == ("The vendor's own", ["next_step"])
    assert "close_date" in (await trio.beside(deal))[acme]["follows"]
    await trio.partners["Acme"].do(save_deal, 1, {"next_step": "Visit", "close_date": "2027-05-01"})
    await trio.settle()
    deal = await trio.vendor.read(load_deal, deal_id)
    assert (deal["next_step"], deal["close_date"]) == ("The vendor's own", "2027-05-01")
    await trio.vendor.do(save_deal, deal_id, {"next_step": "Said to nobody"})
    await trio.settle()
    assert await shown_at(trio, "Acme", "next_step") == "Visit"
    await trio.vendor.do(take_over, acme)
    await trio.partners["Acme"].do(save_deal, 1, {"next_step": "Sign"})
    await trio.settle()
    deal = await trio.vendor.read(load_deal, deal_id)
    assert (deal["next_step"], (await trio.beside(deal))[acme]["differs"]) == ("Sign", [])


async def test_a_save_that_names_the_single_one_ends_the_difference(trio: Trio) -> None:
    deal_id, acme, besta = await share_with_both(trio, next_step="Call")
    await trio.vendor.do(save_deal, deal_id, {"next_step": "Mine"}, None, {})
    await end_of_besta(trio, besta, "withdrawn")
    deal = await trio.vendor.read(load_deal, deal_id)
    token = {"next_step": (await trio.beside(deal))[acme]["fields"]["next_step"]["seen"]}
    await trio.vendor.do(save_deal, deal_id, {"next_step": "Ours"}, token)
    await trio.settle()
    assert await shown_at(trio, "Acme", "next_step") == "Ours"
    await trio.partners["Acme"].do(save_deal, 1, {"next_step": "Theirs"})
    await trio.settle()
    assert (await trio.vendor.read(load_deal, deal_id))["next_step"] == "Theirs"
    await trio.check_same()


async def test_a_name_that_is_the_partners_alone_leaves_the_vendors_deal_a_name_of_its_own(trio: Trio) -> None:
    acme = await trio.register("Acme")
    await trio.vendor.do(change_policy, trio.partnerships["Acme"], {"preset": "hubspot-parity"})
    await trio.settle()
    deal_id = await trio.deal_of(acme)
    await trio.vendor.do(save_deal, deal_id, {"name": "Our name for it", "next_step": "Call"})
    await trio.settle()
    assert [await shown_at(trio, "Acme", name) for name in ("name", "next_step")] == ["Globex of Acme", "Call"]
    deal = await trio.vendor.read(load_deal, deal_id)
    assert (deal["name"], (await trio.beside(deal))[acme]["differs"]) == ("Our name for it", ["name"])
    with pytest.raises(NotWritable):
        await trio.vendor.do(save_deal, deal_id, {"name": "Theirs too"}, None, {acme: {}})
    await trio.check_same()


async def test_delete_for_me_keeps_a_deal_that_others_still_work_on(trio: Trio) -> None:
    deal_id, acme, besta = await share_with_both(trio)
    await trio.vendor.do(leave, acme)
    assert [each["id"] for each in await trio.vendor.read(list_deals, {})] == [deal_id]
    await trio.vendor.do(leave, besta)
    assert await trio.vendor.read(list_deals, {}) == []


async def test_notes_teams_stages_and_the_audit_are_each_registrations_own(trio: Trio) -> None:
    deal_id, acme, besta = await share_with_both(trio)
    await trio.vendor.do(notes.add_note, acme, "for Acme alone")
    await trio.vendor.do(offers.put_member, acme, trio.vendor.author.user_id, "Sales")
    await trio.partners["Acme"].do(offers.put_member, 1, trio.partners["Acme"].author.user_id, None)
    await trio.vendor.do(save_deal, deal_id, {"stage": "Proposal"}, None, {acme: {}})
    await trio.settle()
    assert len(await trio.partners["Acme"].rows(select(members.c.id))) == 2
    assert await trio.partners["Besta"].rows(select(members.c.id)) == []
    stages = [(await trio.partners[name].read(views.read_shared_deal, "partner", 1))["deal"]["fields"] for name in trio.partners]
    assert stages[0]["vendor_stage"]["value"]["stage"] == "Proposal" and "vendor_stage" not in stages[1]
    for shared_deal_id, there in ((acme, True), (besta, False)):
        audit = await trio.vendor.read(views.read_audit, shared_deal_id)
        assert ("for Acme alone" in str(audit)) is there and ("Anna" in str(audit)) is there
    assert "Acme" not in str(await trio.partners["Besta"].read(views.read_audit, 1))
    await trio.check_same()


async def test_each_registration_has_its_own_rep_and_the_deal_keeps_its_owner(trio: Trio) -> None:
    await trio.vendor.do(lambda work: reps.add_rep(work.tx, 1, {}))
    deal_id, acme, besta = await share_with_both(trio)
    assert [row[0] for row in await trio.vendor.rows(select(assignments.c.partnership).order_by(assignments.c.id))] == list(
        trio.partnerships.values()
    )
    async with trio.vendor.station.working() as work:
        other = (await work.tx.execute(select(deals.c.owner_id).where(deals.c.id == deal_id))).scalar_one()
    assert other == 1
    second = await add_rep(trio)
    await trio.vendor.do(assigning.reassign, besta, second)
    await trio.settle()
    assert (await trio.vendor.read(load_deal, deal_id))["owner_id"] == 1
    named = {each["id"]: each["rep_person"] for each in await trio.vendor.read(views.list_shared_deals, {})}
    assert named[acme] != named[besta]
    told = await trio.vendor.read(assigning.list_assignments, trio.partnerships["Besta"], await trio.uid_of(besta))
    assert [each["rep_id"] for each in told] == [second, 1]


async def add_rep(trio: Trio) -> int:
    async with trio.vendor.station.working() as work:
        user_id = await users.add_user(work.tx, work.incarnation.new_uid(), "Rita", "rita@vendor.example")
        await reps.add_rep(work.tx, user_id, {})
    return user_id


async def test_conflicts_are_listed_per_registration_and_settled_there(trio: Trio) -> None:
    _, acme, besta = await share_with_both(trio)
    for name, shared_deal_id in (("Acme", acme), ("Besta", besta)):
        shown = await trio.vendor.read(views.read_shared_deal, "vendor", shared_deal_id)
        seen = {"name": shown["deal"]["fields"]["name"]["seen"]}
        await trio.partners[name].do(save_shared, 1, {"name": f"{name} says"})
        await trio.settle()
        await trio.vendor.do(save_shared, shared_deal_id, {"name": "the vendor says"}, seen)
        await trio.settle()
    listed = await trio.vendor.read(conflicts.list_open)
    assert [each["shared_deal_id"] for each in listed] == [acme, besta]
    for name in trio.partners:
        (conflict,) = await trio.partners[name].read(conflicts.list_open)
        whole = await trio.partners[name].read(conflicts.read, "partner", conflict["id"])
        assert {each["value"] for each in whole["values"]} == {f"{name} says", "the vendor says"}
    await trio.vendor.do(conflicts.settle, listed[0]["id"], "keep")
    await trio.settle()
    assert await trio.partners["Acme"].rows(select(conflict_rows.c.id)) == []
    assert len(await trio.partners["Besta"].rows(select(conflict_rows.c.id))) == 1
    await trio.check_same()


async def test_a_deal_of_the_vendors_that_takes_a_registration_over_keeps_its_own_values(trio: Trio) -> None:
    async with trio.vendor.station.working(trio.vendor.author) as work:
        company_id = await customers.add_company(work.tx, {"name": "Globex"}, work.now_ms)
        own = {"name": "Our Globex", "company_id": company_id, "next_step": "Ours", "close_date": "2027-01-01"}
        deal_id = await add_deal(work.tx, own, 1, work.now_ms)
    acme = await trio.register("Acme", next_step="Theirs")
    await trio.vendor.do(merge_deals, deal_id, await trio.deal_of(acme))
    await trio.partners["Acme"].do(save_deal, 1, {"close_date": "2027-09-09", "amount": {"amount": "1", "currency": "EUR"}})
    await trio.settle()
    deal = await trio.vendor.read(load_deal, deal_id)
    assert (deal["name"], deal["next_step"], deal["close_date"]) == ("Our Globex", "Ours", "2027-01-01")
    assert deal["amount"] == {"amount": "1", "currency": "EUR"}
    assert (await trio.beside(deal))[acme]["differs"] == ["name", "close_date", "next_step"]
    rows = await trio.vendor.rows(select(shared_deals.c.deal_id))
    assert {row[0] for row in rows} == {deal_id}
