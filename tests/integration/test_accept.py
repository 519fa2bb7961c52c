"""A rep who does not accept in time loses the registration to the next one; who accepts, or was chosen by a person, keeps it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from shared_schema.crm import users
from shared_schema.crm.problems import NotAllowed
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.sync.station import Author
from shared_schema.sync.tables import journal, reactions
from tests.integration.pair import Pair, open_pair, until
from tests.twins.memory_broker import MemoryBroker, MemoryCluster
from vendor_node import assigning, reps
from vendor_node.tables import assignments


@pytest.fixture
async def pair(database_url: str, tmp_path: Path) -> AsyncIterator[Pair]:
    """A vendor with three users, of whom the second and third are reps, and an hour to accept."""
    cluster = MemoryCluster()
    async with open_pair((f"sqlite:///{tmp_path}/partner.db", database_url), (MemoryBroker(cluster), MemoryBroker(cluster))) as opened:
        await opened.become_partners(timers={"accept_hours": 1})
        async with opened.vendor.station.working() as work:
            for name in ("Rita", "Sam"):
                user_id = await users.add_user(work.tx, work.incarnation.new_uid(), name, f"{name.lower()}@vendor.example")
                await reps.add_rep(work.tx, user_id, {})
        opened.partner.start()
        opened.vendor.start()
        yield opened


async def await_turn(pair: Pair, turn: int) -> int | None:
    """Wait for an automatic assignment of this turn; whom it chose."""

    async def there() -> bool:
        return bool(await pair.vendor.rows(select(assignments.c.id).where(assignments.c.turn == turn)))

    await until(there)
    await pair.settle()
    row = (await pair.vendor.rows(select(assignments).where(assignments.c.turn == turn)))[0]
    return int(row.rep_id) if row.rep_id else None


async def let_time_pass(pair: Pair) -> None:
    """The hour is over."""
    async with pair.vendor.station.working() as work:
        await work.tx.execute(update(reactions).where(reactions.c.kind == "accept").values(due_ms=0))


async def shown_rep(pair: Pair) -> str:
    """Whom the partner sees."""
    return str((await pair.partner.rows(select(shared_deals.c.rep_person)))[0][0])


async def test_silence_gives_it_to_the_next_and_then_raises_an_alert(pair: Pair) -> None:
    await pair.share_deal()
    first = await await_turn(pair, 1)
    seen = await shown_rep(pair)
    await let_time_pass(pair)
    second = await await_turn(pair, 2)
    assert {first, second} == {2, 3}
    assert await shown_rep(pair) != seen
    uid = (await pair.vendor.rows(select(shared_deals.c.uid)))[0][0]
    newest = (await pair.vendor.read(assigning.list_assignments, pair.partnership, uid))[0]
    silent = [each["id"] for each in newest["explanation"]["considered"] if each["passed_over"] and "in time" in each["passed_over"]]
    assert silent == [first]
    await let_time_pass(pair)
    assert await await_turn(pair, 3) is None
    assert "alert: no rep" in {row.what for row in await pair.vendor.rows(select(journal.c.what))}
    assert await pair.vendor.rows(select(reactions.c.kind)) == []
    await pair.check_same()


async def test_who_accepts_keeps_it(pair: Pair) -> None:
    await pair.share_deal()
    first = await await_turn(pair, 1)
    other = Author(5 - (first or 0), None, "the other", "rep")
    with pytest.raises(NotAllowed, match="only the assigned rep"):
        async with pair.vendor.station.working(other) as work:
            await assigning.accept(work, 1)
    async with pair.vendor.station.working(Author(first, None, "the rep", "rep")) as work:
        await assigning.accept(work, 1)
        await assigning.accept(work, 1)
    assert await pair.vendor.rows(select(reactions.c.kind)) == []
    assert (await pair.vendor.rows(select(assignments.c.accepted_ms)))[0][0]


async def test_whom_a_person_chose_has_no_timer(pair: Pair) -> None:
    await pair.share_deal()
    first = await await_turn(pair, 1)
    await pair.vendor.do(assigning.reassign, 1, 5 - (first or 0))
    assert await pair.vendor.rows(select(reactions.c.kind)) == []
    await pair.settle()
    await pair.check_same()
