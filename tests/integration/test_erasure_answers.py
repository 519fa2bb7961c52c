"""Every erasure is answered by the peer with the date by which it is gone there, also where it was gone already."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from partner_node.registrations import share_from_contact
from shared_schema.crm import customers
from shared_schema.crm.tables import contacts
from shared_schema.sync import eraser, erasing, views
from shared_schema.sync.braking import Limits
from shared_schema.sync.notes import add_comment, add_note
from shared_schema.sync.owed_states import owe_all
from shared_schema.sync.registrations import withdraw
from shared_schema.sync.restater import fold_piece
from shared_schema.sync.station import Author, Keeping
from shared_schema.sync.tables import erasures, outbox
from tests.integration.erasure_stage import note_of
from tests.integration.pair import DETAILS, Pair, Side, open_pair, until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster

ANN = Author(1, None, "Ann Admin", "admin")


@pytest.fixture
async def pair(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    """Two nodes that share an active deal of a contact, with a note of the partner's, in step."""
    monkeypatch.setattr(eraser, "POLL_S", 0.05)
    cluster = MemoryCluster()
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", database_url), (MemoryBroker(cluster), MemoryBroker(cluster))) as opened:
        for side in (opened.partner, opened.vendor):
            side.station.keeping = Keeping(brake=Limits(10_000, 100))
        await opened.become_partners()
        opened.partner.start()
        opened.vendor.start()
        await share(opened)
        await opened.partner.do(add_note, 1, "the partner's")
        await opened.settle()
        yield opened


async def share(pair: Pair) -> None:
    partner = pair.partner
    async with partner.station.working(partner.author) as work:
        company = await customers.add_company(work.tx, {"name": "Globex", "domain": "globex.example"}, work.now_ms)
        person = {"name": "Hank", "email": "hank@globex.example", "company_id": company}
        contact = await customers.add_contact(work.tx, person, work.now_ms)
        await share_from_contact(work, pair.partnership, contact, {"name": "Roll-out"}, DETAILS)

    async def active() -> bool:
        return bool(await partner.read(views.list_shared_deals, {"status": "active"}))

    await until(active)


async def erase(side: Side, command: Any, *arguments: Any) -> None:
    async with side.station.working(ANN) as work:
        await command(work, *arguments)


async def part(pair: Pair) -> None:
    await pair.partner.stop()
    await pair.vendor.stop()


async def meet(pair: Pair) -> None:
    """Both nodes run, until every erasure of theirs is stated to be gone everywhere, by the word of both."""
    pair.partner.start()
    pair.vendor.start()
    for side in (pair.partner, pair.vendor):
        await until(lambda side=side: is_gone(side))  # type: ignore[misc]  # mypy can not see the default
    await pair.settle()
    await pair.check_same()


async def is_gone(side: Side) -> bool:
    ours = await side.rows(select(erasures.c.peer_gone_by).where(erasures.c.origin == "here", erasures.c.event.is_not(None)))
    stated = await side.read(erasing.list_erasures, side.station.keeping)
    return all(row.peer_gone_by for row in ours) and all((each["state"], bool(each["gone_by"])) == ("gone", True) for each in stated)


async def test_what_both_sides_erase_is_answered_to_both(pair: Pair) -> None:
    await part(pair)
    for side in (pair.partner, pair.vendor):
        await erase(side, erasing.erase_deal, 1)
    await meet(pair)
    for side in (pair.partner, pair.vendor):
        assert [(row.origin, row.fields) for row in await side.rows(select(erasures))] == [("here", "")]


async def test_what_went_along_with_the_peers_erasure_is_answered_for_itself(pair: Pair) -> None:
    await pair.vendor.do(add_comment, await note_of(pair.vendor, "partner"), "the vendor's")
    await pair.settle()
    await part(pair)
    await erase(pair.partner, erasing.erase_text, "note", 1)
    await erase(pair.vendor, erasing.erase_deal, 1)
    await meet(pair)
    assert [row.origin for row in await pair.partner.rows(select(erasures).where(erasures.c.kind == "note"))] == ["here"]


@pytest.mark.parametrize("told_by", ["events", "a state"])
async def test_a_contact_and_then_its_deal_erased_before_the_peer_heard_of_either_are_answered(pair: Pair, told_by: str) -> None:
    """All that is queued of the registration, and its state, tell of the whole by then; the peer's own contact goes all the same."""
    await part(pair)
    await pair.partner.do(withdraw, 1, "changed our mind")
    await erase(pair.partner, erasing.erase_contact, 1)
    await erase(pair.partner, erasing.erase_deal, 1)
    if told_by == "a state":
        async with pair.partner.station.working() as work:
            await work.tx.execute(delete(outbox))
            await owe_all(work.tx, pair.partnership)
    await meet(pair)
    assert len(await pair.partner.rows(select(erasures))) == 3
    assert [tuple(row) for row in await pair.vendor.rows(select(contacts.c.name, contacts.c.email))] == [("(erased)", None)]
    there = await pair.vendor.rows(select(erasures.c.origin, erasures.c.fields).order_by(erasures.c.fields))
    assert [tuple(row) for row in there] == [("there", ""), ("there", "contact")], "a store that goes back erases both again"


async def test_a_contact_of_a_deal_that_the_peer_erased_is_answered(pair: Pair) -> None:
    await part(pair)
    await erase(pair.partner, erasing.erase_contact, 1)
    await erase(pair.vendor, erasing.erase_deal, 1)
    await meet(pair)
    told = select(erasures.c.peer_gone_by).where(erasures.c.origin == "here", erasures.c.fields == "contact", erasures.c.event.is_not(None))
    assert [bool(row.peer_gone_by) for row in await pair.partner.rows(told)] == [True]


async def test_an_outbox_past_its_limit_keeps_erasures(pair: Pair) -> None:
    """A state says nothing that the peer, who erased all around it, had to answer."""
    await part(pair)
    await erase(pair.partner, erasing.erase_text, "note", 1)
    await erase(pair.vendor, erasing.erase_deal, 1)
    await pair.partner.do(add_note, 1, "is folded")
    async with pair.partner.station.working() as work:
        await fold_piece(work.tx, pair.partnership)
    assert len(await pair.partner.rows(select(outbox.c.id))) == 1
    await meet(pair)


async def test_an_answer_that_a_store_lost_is_given_again_to_its_states(pair: Pair) -> None:
    """The peer has no event of ours left that it could answer, and cleans nothing up twice."""
    await erase(pair.partner, erasing.erase_text, "note", 1)
    await part(pair)
    await meet(pair)
    cleaned = await pair.vendor.rows(select(erasures.c.cleaned_ms))
    async with pair.partner.station.working() as work:
        await work.tx.execute(update(erasures).values(peer_gone_by=None))
        await owe_all(work.tx, pair.partnership)
    await part(pair)
    await meet(pair)
    assert await pair.vendor.rows(select(erasures.c.cleaned_ms)) == cleaned and len(cleaned) == 1
