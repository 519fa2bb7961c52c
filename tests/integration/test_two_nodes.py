"""Two whole nodes over a real Kafka and over its twin, on both stores: what people do on one side is there on the other."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from shared_schema.contract.documents import LIFE
from shared_schema.crm import private_notes
from shared_schema.crm.deals import list_deals, load_deal
from shared_schema.crm.problems import WrongState
from shared_schema.sync import conflicts, metrics, notes, offers, refusals, registrations, views
from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.deals import save_deal, save_shared
from tests.integration.pair import Pair, open_pair, until


@pytest.fixture
async def pair(database_url: str, kafka_address: str, tmp_path: Path) -> AsyncIterator[Pair]:
    brokers = KafkaBroker(kafka_address), KafkaBroker(kafka_address)
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", database_url), brokers) as opened:
        await opened.become_partners()
        opened.partner.start()
        opened.vendor.start()
        yield opened


async def shared(pair: Pair, **deal: object) -> int:
    """A deal that is active on both sides; its id is the same on both, because it is the first."""
    shared_deal_id = await pair.share_deal(**deal)

    async def active() -> bool:
        rows = await pair.partner.read(views.list_shared_deals, {"status": "active"})
        return bool(rows)

    await until(active)
    await pair.settle()
    return shared_deal_id


async def test_a_shared_deal_appears_with_its_company_and_is_counted(pair: Pair) -> None:
    await shared(pair, amount={"amount": "1200.50", "currency": "EUR"}, close_date="2026-12-24")
    (deal,) = await pair.vendor.read(list_deals, {"shared": True})
    assert (deal["name"], deal["company"], deal["close_date"]) == ("Globex roll-out", "Globex", "2026-12-24")
    assert deal["amount"] == {"amount": "1200.5", "currency": "EUR"}
    assert deal["is_active_shared_deal"] and deal["number_of_active_deal_registrations"] == 1
    assert await pair.vendor.read(list_deals, {"shared": False}) == []
    await pair.check_same()


async def test_a_field_that_seventy_processes_wrote_is_sent_like_any_other(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """Each command of the command line is a process, and leaves an entry in the context. With the sixty-fourth both sides say so, once."""
    await shared(pair)
    for count in range(70):
        pair.vendor.station.incarnation.renew()
        await pair.vendor.do(save_shared, 1, {"next_step": f"step {count}"})
    await pair.settle()
    assert (await pair.partner.read(load_deal, 1))["next_step"] == "step 69"
    assert await pair.partner.read(refusals.list_refused) == []
    await pair.check_same()
    assert sum("incarnations wrote one field, of at most 1024" in each.message for each in caplog.records) == 2
    assert metrics.longest_context.labels(pair.partnership)._value.get() == 70


async def test_edits_of_different_fields_meet_and_stages_are_mirrored_only(pair: Pair) -> None:
    await shared(pair)
    await pair.partner.do(save_deal, 1, {"next_step": "Call", "stage": "Proposal"})
    await pair.vendor.do(save_deal, 1, {"close_date": "2027-01-31"})
    await pair.settle()
    for side in (pair.partner, pair.vendor):
        deal = await side.read(load_deal, 1)
        assert (deal["next_step"], deal["close_date"]) == ("Call", "2027-01-31")
    assert (await pair.vendor.read(load_deal, 1))["stage"] == "New"
    seen = await pair.vendor.read(views.read_shared_deal, "vendor", 1)
    assert seen["deal"]["fields"]["partner_stage"]["value"] == {"pipeline": "Sales", "stage": "Proposal"}
    await pair.check_same()


async def test_concurrent_edits_are_one_conflict_that_either_side_settles(pair: Pair) -> None:
    await shared(pair)
    await pair.vendor.stop()
    await pair.partner.do(save_shared, 1, {"next_step": "Call"})
    await pair.vendor.do(save_shared, 1, {"next_step": "Mail"})
    pair.vendor.start()

    async def opened() -> bool:
        return bool(await pair.partner.read(conflicts.list_open)) and bool(await pair.vendor.read(conflicts.list_open))

    await until(opened)
    conflict = await pair.partner.read(conflicts.read, "partner", 1)
    assert (conflict["ours"]["value"], conflict["theirs"]["value"]) == ("Call", "Mail")
    assert (conflict["ours"]["by"], conflict["theirs"]["by"]) == ("Paula", "Victor")
    await pair.settle()
    shown = await pair.vendor.read(views.read_shared_deal, "vendor", 1)
    assert shown["sync"] == "conflict" and len(shown["deal"]["fields"]["next_step"]["values"]) == 2
    await pair.partner.do(conflicts.settle, 1, "theirs", seen=conflict["seen"])
    await pair.settle()
    assert await pair.vendor.read(conflicts.list_open) == []
    assert (await pair.partner.read(load_deal, 1))["next_step"] == "Mail"
    await pair.check_same()


async def test_a_deletion_that_did_not_see_an_edit_is_contested_until_somebody_restores(pair: Pair) -> None:
    await shared(pair)
    shown = await pair.partner.read(views.read_shared_deal, "partner", 1)
    await pair.partner.stop()
    await pair.vendor.do(save_shared, 1, {"next_step": "Mail"})
    seen = {name: field["seen"] for name, field in shown["deal"]["fields"].items()}
    await pair.partner.do(registrations.delete_for_both, 1, seen | {LIFE: shown["deal"]["life_seen"]})
    assert await pair.partner.read(list_deals, {}) == []
    pair.partner.start()
    await pair.settle()
    for side in (pair.partner, pair.vendor):
        contested = await side.read(views.read_shared_deal, side.station.spec.side, 1)
        assert contested["state"] == "contested" and contested["deal"]["changed_unseen"] == ["next_step"]
        assert len(await side.read(list_deals, {})) == 1
    await pair.vendor.do(registrations.restore, 1)
    await pair.settle()
    assert (await pair.partner.read(views.read_shared_deal, "partner", 1))["state"] == "alive"
    await pair.check_same()


async def test_notes_comments_products_quotes_and_team_are_on_both_sides_and_private_notes_are_not(pair: Pair) -> None:
    await shared(pair)
    note = await pair.partner.do(notes.add_note, 1, "<p>Budget <b>approved</b></p><script>steal()</script>")
    async with pair.partner.station.working(pair.partner.author) as work:
        await private_notes.add(work.tx, 1, work.author.user_id, "they will pay anything", work.now_ms)
    await pair.settle()
    await pair.vendor.do(notes.add_comment, note, "Great")
    await pair.vendor.do(offers.put_product, 1, "CRM-PRO", "CRM Professional", "10")
    await pair.vendor.do(offers.put_quote, 1, {"number": "Q-1", "total": {"amount": "900", "currency": "EUR"}})
    await pair.vendor.do(offers.put_eligibility, 1, {"eligible": True, "rate": "15"})
    await pair.partner.do(offers.put_member, 1, pair.partner.author.user_id, "Sales")
    await pair.settle()
    partner = await pair.partner.read(views.read_shared_deal, "partner", 1)
    vendor = await pair.vendor.read(views.read_shared_deal, "vendor", 1)
    assert partner["notes"][0]["fields"]["body"]["value"] == "<p>Budget <b>approved</b></p>"
    for plural in ("notes", "comments", "products", "quotes", "eligibility", "team"):
        assert [each["fields"].keys() for each in partner[plural]] == [each["fields"].keys() for each in vendor[plural]], plural
        assert len(partner[plural]) == 1, plural
    assert partner["sync"] == vendor["sync"] == "applied"
    assert "pay anything" not in str(vendor)
    await pair.check_same()


async def test_after_unsharing_each_keeps_its_copy_and_edits_are_answered(pair: Pair) -> None:
    await shared(pair)
    await pair.vendor.stop()
    await pair.partner.do(registrations.unshare, 1)
    await pair.vendor.do(save_shared, 1, {"next_step": "Mail"})
    pair.vendor.start()
    await pair.settle()
    for side in (pair.partner, pair.vendor):
        assert (await side.read(views.list_shared_deals, {}))[0]["status"] == "unshared"
        with pytest.raises(WrongState, match="no longer shared"):
            await side.do(notes.add_note, 1, "anyone there?")
    vendor = await pair.vendor.read(views.read_shared_deal, "vendor", 1)
    assert vendor["deal"]["fields"]["next_step"]["outcome"] == {"outcome": "ignored", "reason": "unshared"}
    assert (await pair.partner.read(load_deal, 1))["next_step"] is None


async def test_the_audit_trail_is_the_same_on_both_sides(pair: Pair) -> None:
    await shared(pair)
    await pair.partner.do(save_deal, 1, {"next_step": "Call"})
    await pair.settle()
    partner, vendor = await pair.partner.read(views.read_audit, 1), await pair.vendor.read(views.read_audit, 1)
    trails = [[(each["dot"], each["field"], each["value"], each["by"]) for each in audit["entries"]] for audit in (partner, vendor)]
    assert trails[0] == trails[1]
    assert ("next_step", '"Call"', "Paula") in {entry[1:] for entry in trails[0]}


async def test_a_product_that_both_add_at_once_is_one_line_with_both_quantities(pair: Pair) -> None:
    await shared(pair)
    await pair.partner.stop()
    await pair.vendor.stop()
    await pair.partner.do(offers.put_product, 1, "CRM-PRO", None, "1")
    await pair.vendor.do(offers.put_product, 1, "crm-pro", None, "2")
    pair.partner.start()
    pair.vendor.start()
    await pair.settle()
    await pair.check_same()
    for side in (pair.partner, pair.vendor):
        (line,) = (await side.read(views.read_shared_deal, side.station.spec.side, 1))["products"]
        assert sorted(each["value"] for each in line["fields"]["quantity"]["values"]) == ["1", "2"]
        assert await side.read(refusals.list_refused) == []


async def test_a_product_that_arrives_while_it_is_being_added_here_overwrites_nothing(pair: Pair) -> None:
    await shared(pair)
    vendor = pair.vendor

    async def consumer_waits() -> bool:
        """On PostgreSQL for the deal that the command has locked; SQLite lets nobody else write."""
        if vendor.station.database.engine.dialect.name == "sqlite":
            return True
        async with vendor.station.database.reading() as connection:
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            return bool((await connection.execute(text(waiting))).scalar_one())

    async with vendor.station.working(vendor.author) as work:
        await offers.put_product(work, 1, "CRM-PRO", None, "2")
        await pair.partner.do(offers.put_product, 1, "CRM-PRO", None, "1")
        await until(consumer_waits)
    await pair.settle()
    await pair.check_same()
    (line,) = (await vendor.read(views.read_shared_deal, "vendor", 1))["products"]
    assert sorted(each["value"] for each in line["fields"]["quantity"]["values"]) == ["1", "2"]
