"""Which process serves which partnership."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from shared_schema.sync.leases import ASTRAY_MS, LEASE_MS, take
from shared_schema.sync.shares import appear, find_share, is_alone, leave, read_living
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


async def test_who_lives_is_who_appeared_lately(tmp_path: Path) -> None:
    """Not who left, and not who appeared by a clock that was far ahead."""
    database = await open_store("partner", f"sqlite:///{tmp_path}/partner.db")
    appeared = {
        "early": NOW_MS - LEASE_MS,
        "astray": NOW_MS + ASTRAY_MS,
        "left": NOW_MS,
        "here": NOW_MS - LEASE_MS + 1,
        "ahead": NOW_MS + 1,
    }
    async with database.transaction() as tx:
        for name, now_ms in appeared.items():
            await appear(tx, name, "one", now_ms)
        await leave(tx, "left")
        await take(tx, "relay:bench", "no process", "an epoch", NOW_MS)
    async with database.reading() as connection:
        assert sorted(await read_living(connection, NOW_MS)) == ["ahead", "here"]
        assert await is_alone(connection, "one", NOW_MS) and not await is_alone(connection, "another", NOW_MS)
    async with database.transaction() as tx:
        await appear(tx, "early", "another", NOW_MS)
    async with database.reading() as connection:
        assert not await is_alone(connection, "one", NOW_MS)
        assert sorted(await read_living(connection, NOW_MS)) == ["ahead", "early", "here"]
    await database.close()
