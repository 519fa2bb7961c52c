"""Readers that have heard nothing ask the broker together."""

import asyncio
from collections.abc import Sequence

import pytest

from shared_schema.sync.broker import looks
from shared_schema.sync.broker.looks import Looks
from shared_schema.sync.transport import AccessDenied, BrokerUnavailable, TopicInfo

HERE = TopicInfo("id", 0, 5)


class Asked:
    """A broker that has the topics `a` and `b`, and forbids to see `secret`."""

    def __init__(self) -> None:
        self.questions: list[list[str]] = []
        self.fails: Exception | None = None

    async def describe(self, topics: Sequence[str]) -> dict[str, TopicInfo]:
        self.questions.append(list(topics))
        if self.fails:
            raise self.fails
        if "secret" in topics:
            raise AccessDenied("secret is not for you")
        return {each: HERE for each in topics if each in ("a", "b")}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "GATHER_S", 0.01)


async def test_who_asks_at_the_same_time_asks_once() -> None:
    broker = Asked()
    gathered = Looks(broker.describe)
    assert await asyncio.gather(*(gathered.look(each) for each in ("b", "a", "gone", "a"))) == [HERE, HERE, None, HERE]
    assert await gathered.look("a") == HERE
    assert broker.questions == [["a", "b", "gone"], ["a"]]


async def test_a_topic_that_may_not_be_seen_is_denied_to_who_asks_for_it_alone() -> None:
    broker = Asked()
    gathered = Looks(broker.describe)
    found = await asyncio.gather(gathered.look("a"), gathered.look("secret"), return_exceptions=True)
    assert found[0] == HERE
    assert isinstance(found[1], AccessDenied)


async def test_an_outage_is_told_to_all_at_once() -> None:
    broker = Asked()
    broker.fails = BrokerUnavailable("away")
    gathered = Looks(broker.describe)
    found = await asyncio.gather(gathered.look("a"), gathered.look("b"), return_exceptions=True)
    assert [type(each) for each in found] == [BrokerUnavailable, BrokerUnavailable]
    assert len(broker.questions) == 1


async def test_who_is_cut_off_cuts_nobody_else_off_and_an_end_ends_all() -> None:
    broker = Asked()
    gathered = Looks(broker.describe)
    first, second = (asyncio.create_task(gathered.look(each)) for each in ("a", "b"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == HERE
    left = asyncio.create_task(gathered.look("a"))
    await asyncio.sleep(0)
    await gathered.stop()
    with pytest.raises(asyncio.CancelledError):
        await left
    assert not gathered.asking
    assert await gathered.look("a") == HERE
