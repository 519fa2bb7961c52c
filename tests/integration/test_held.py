"""A person's word about what the brake holds is whole: nothing is lost by it, and whoever gave it is known, whenever the process dies."""

from typing import Any

import pytest
from sqlalchemy import select

from shared_schema.sync import held, views
from shared_schema.sync.braking import LEAST, Limits
from shared_schema.sync.deals import save_shared
from shared_schema.sync.notes import add_note
from shared_schema.sync.registrations import unshare
from shared_schema.sync.station import Author, Keeping, Station
from shared_schema.sync.tables import journal
from tests.integration.pair import Pair
from tests.integration.test_brake import (
    ANN,
    OFF,
    TIGHT,
    bring_note_back,
    have_held,
    notes_of,
    pair,
    remove_notes,
    set_brakes,
    settle_but_held,
    until_verified,
)

__all__ = ["pair"]


async def test_nothing_of_a_deal_is_lost_whose_held_unsharing_is_dropped_and_nothing_is_called_applied_that_is_not(pair: Pair) -> None:
    """What was not sent yet when it was unshared, and what the peer wrote while the brake held that."""
    partner, vendor = pair.partner, pair.vendor
    await set_brakes(pair, OFF, OFF)
    last = LEAST + 2
    for number in range(LEAST + 1):
        await pair.share_deal(f"Company{number}")
    await pair.settle()
    await set_brakes(pair, TIGHT, OFF)
    for shared_deal in range(2, last):
        await partner.do(unshare, shared_deal)
    await pair.settle()
    await partner.stop()
    await partner.do(save_shared, last, {"next_step": "said before the unsharing"})
    await partner.do(add_note, last, "not sent yet")
    await partner.do(unshare, last)
    partner.start()
    await settle_but_held(pair)
    theirs = max(row["id"] for row in await vendor.read(views.list_shared_deals, {"status": "active"}))
    await vendor.do(save_shared, theirs, {"close_date": "2027-01-02"})
    await settle_but_held(pair)
    await held.decide(partner.station, ANN, pair.partnership, "out", "drop")
    await until_verified(partner, pair.partnership)
    await pair.settle()
    for side, place in ((partner, last), (vendor, theirs)):
        shown = await side.read(views.read_shared_deal, side.station.spec.side, place)
        fields = shown["deal"]["fields"]
        told = {name: (fields[name]["value"], fields[name]["sync"]) for name in ("next_step", "close_date")}
        assert told == {"next_step": ("said before the unsharing", "applied"), "close_date": ("2027-01-02", "applied")}
        assert [(each["fields"]["body"]["value"], each["sync"]) for each in shown["notes"]] == [("not sent yet", "applied")]
    await pair.check_same()


async def test_a_held_deletion_in_a_deal_whose_held_unsharing_is_dropped_is_taken_back_with_it(pair: Pair) -> None:
    partner, vendor = pair.partner, pair.vendor
    await set_brakes(pair, Keeping(brake=Limits(1, 0)), OFF)
    await remove_notes(partner, LEAST + 1)
    for number in range(LEAST):
        await pair.share_deal(f"Company{number}")
    await settle_but_held(pair)
    for shared_deal in range(LEAST + 1, 0, -1):
        await partner.do(unshare, shared_deal)
    await settle_but_held(pair)
    assert {row["act"] for row in await partner.read(held.list_held)} == {"deleted", "unshared"}
    await held.decide(partner.station, ANN, pair.partnership, "out", "drop")
    await until_verified(partner, pair.partnership)
    await pair.settle()
    for side in (partner, vendor):
        assert (await notes_of(side, "deleted"), await notes_of(side, "alive")) == (LEAST, 2)
    await pair.check_same()


async def test_a_word_that_was_cut_short_says_whose_it_was_and_the_verification_follows(pair: Pair) -> None:
    vendor = pair.vendor
    await have_held(pair, 2)
    for word, what in (("drop", "dead letter dropped"), ("release", "dead letter replayed")):
        before = max(row.id for row in await vendor.rows(select(journal)))
        with pytest.raises(Killed):
            await held.decide(Killing(vendor.station, 1), ANN, pair.partnership, "in", word)  # type: ignore[arg-type]  # it acts as one
        told = [(row.what, row.actor) for row in await vendor.rows(select(journal).where(journal.c.id > before))]
        assert told == [(what, "Ann Admin")]
    await until_verified(vendor, pair.partnership)


class Killed(Exception):
    """As if the process had ended."""


class Killing:
    """A station that ends after so many commands."""

    def __init__(self, station: Station, commands: int) -> None:
        self.station, self.left = station, commands

    def __getattr__(self, name: str) -> Any:
        return getattr(self.station, name)

    def working(self, author: Author) -> Any:
        self.left -= 1
        if self.left < 0:
            raise Killed
        return self.station.working(author)


async def test_all_that_is_held_is_counted_and_can_be_paged_through(pair: Pair) -> None:
    partner = pair.partner
    await set_brakes(pair, TIGHT, OFF)
    await remove_notes(partner, LEAST + 2)
    async with partner.station.working(partner.author) as work:
        await bring_note_back(work, LEAST + 1)
    assert await partner.read(held.count_held) == {"out": {"records": 2, "events": 3}, "in": {"records": 0, "events": 0}}
    assert (await partner.read(held.count_held, "another"))["out"] == {"records": 0, "events": 0}
    (first,) = await partner.read(held.list_held, None, 0, 1)
    (second,) = await partner.read(held.list_held, pair.partnership, first["id"], 1)
    assert first["uid"] != second["uid"] and await partner.read(held.list_held, None, second["id"]) == []
