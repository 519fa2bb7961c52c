"""Which process serves which partnership."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from shared_schema.sync.shares import ALIVE_MS, FORGOTTEN_MS, appear, find_share, leave, read_living
from shared_schema.sync.tables import processes
from tests.bench.population import open_store

NOW_MS = 1_790_000_000_000
NAMES = st.sets(st.text("0123456789abcdef", min_size=16, max_size=16), min_size=1, max_size=8)
PARTNERSHIPS = [f"acme-{number:03}" for number in range(60)]


@given(NAMES)
def test_each_partnership_is_served_by_one_of_the_living(living: set[str]) -> None:
    shares = [find_share(each, living, PARTNERSHIPS) for each in sorted(living)]
    assert sorted(partnership for share in shares for partnership in share) == PARTNERSHIPS


@given(NAMES, st.text("ghijkl", min_size=16, max_size=16))
def test_who_comes_takes_from_the_others_and_moves_nothing_between_them(living: set[str], comes: str) -> None:
    for each in living:
        assert find_share(each, living, PARTNERSHIPS) - find_share(comes, living, PARTNERSHIPS) == find_share(
            each, {*living, comes}, PARTNERSHIPS
        )


def test_two_processes_have_about_half_each() -> None:
    """With these names; that it is random is all that there is to balance."""
    assert 20 <= len(find_share("a" * 16, ["b" * 16], PARTNERSHIPS)) <= 40


async def test_who_was_not_seen_lately_does_not_live_and_is_forgotten_later(tmp_path: Path) -> None:
    """Also where the clock that saw it was far ahead."""
    database = await open_store("partner", f"sqlite:///{tmp_path}/partner.db")
    async with database.transaction() as tx:
        await appear(tx, "early", NOW_MS - ALIVE_MS)
        await appear(tx, "ahead", NOW_MS + ALIVE_MS)
        await appear(tx, "left", NOW_MS)
        await appear(tx, "here", NOW_MS - ALIVE_MS + 1)
        await leave(tx, "left")
    async with database.reading() as connection:
        assert await read_living(connection, NOW_MS) == ["here"]
    async with database.transaction() as tx:
        await appear(tx, "later", NOW_MS + FORGOTTEN_MS)
    async with database.reading() as connection:
        assert set((await connection.execute(select(processes.c.name))).scalars()) == {"ahead", "later"}
    await database.close()
