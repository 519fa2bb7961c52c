"""What somebody deletes whose clock is months behind can be restored, and counts, for as long as their side keeps it by that clock."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from shared_schema.sync.notes import add_note
from shared_schema.sync.registrations import delete_for_both, restore
from shared_schema.sync.restorable import DAY_MS
from shared_schema.sync.tables import peers
from tests.integration.pair import Pair, until
from tests.integration.stages import open_prompt_pair
from tests.integration.test_brake import LEAST, OFF, TIGHT, notes_of, remove_notes, set_brakes, until_held
from tests.integration.test_trash import look

BEHIND_MS = 100 * DAY_MS


@pytest.fixture
async def pair(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    """Seven notes of the partner's; then it comes back by a slow clock, deletes the deal, and is heard."""
    async with open_prompt_pair(database_url, tmp_path, monkeypatch) as opened:
        for number in range(7):
            await opened.partner.do(add_note, 1, f"note {number}")
        await opened.settle()
        await opened.partner.restart(opened.partner.url)
        clock = opened.partner.station.clock
        monkeypatch.setattr(clock, "now_ms", lambda now_ms=clock.now_ms: now_ms() - BEHIND_MS)
        await set_brakes(opened, OFF, TIGHT)
        await opened.partner.do(delete_for_both, 1, None)

        async def heard() -> bool:
            (row,) = await opened.vendor.rows(select(peers.c.skew_ms))
            return row.skew_ms < -BEHIND_MS / 2 and len(await look(opened.vendor)) == 1

        await until(heard)
        yield opened


async def test_what_was_deleted_just_now_can_be_restored_whatever_the_other_sides_clock_says(pair: Pair) -> None:
    (row,) = await look(pair.vendor)
    now_ms = pair.vendor.station.clock.now_ms()
    assert now_ms + 89 * DAY_MS < row["restorable_until_ms"] <= row["deleted_ms"] + 90 * DAY_MS
    await pair.vendor.do(restore, 1)
    await pair.settle()
    await pair.check_same()
    assert await look(pair.vendor) == await look(pair.partner) == []


async def test_the_parts_of_a_deal_that_was_deleted_just_now_count_whatever_that_clock_says(pair: Pair) -> None:
    await remove_notes(pair.partner, 7)
    await until_held(pair.vendor, 2)
    await pair.settle()
    assert (await notes_of(pair.vendor, "deleted"), await notes_of(pair.vendor, "alive")) == (LEAST, 2)
