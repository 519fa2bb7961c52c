"""Whether both sides are in step again, read from the stores: how long that takes after each fault, and whether all is quiet at the end."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from tests.chaos.client_log import now_ms
from tests.chaos.town import Town
from tests.stores import AWAY, read_rows

POLL_S = 0.25
QUIET_DEADLINE_S = 240  # only a bug reaches it
UNSETTLED = "SELECT 'restoration' FROM restorations UNION ALL SELECT 'owed state' FROM owed_states"
STANDS = (
    "SELECT 'unsettled', 0 FROM restorations UNION ALL SELECT 'unsettled', 0 FROM owed_states"
    " UNION ALL SELECT 'unsettled', min(created_ms) FROM outbox"
    " UNION ALL SELECT 'restored', max(at_ms) FROM journal WHERE what = 'store restored'"
)
BUSY = (
    UNSETTLED
    + " UNION ALL SELECT 'unacknowledged event' FROM outbox"
    + " UNION ALL SELECT 'reaction' FROM reactions WHERE due_ms <= {ms}"
    + " UNION ALL SELECT 'gap' FROM inbound_epochs WHERE gaps <> '[]'"
)


async def count_amiss(urls: Mapping[str, str], statement: str, ms: int) -> dict[str, int] | None:
    """What is not in step, counted by side and kind; None where a store can not be read now."""
    found: dict[str, int] = {}
    try:
        for side, url in urls.items():
            for (what,) in await read_rows(url, statement.format(ms=ms)):
                found[f"{side}: {what}"] = found.get(f"{side}: {what}", 0) + 1
    except AWAY:
        return None
    return found


class Moment(NamedTuple):
    """From when on somebody waits. `side`: whose store went back, not before `since_ms`, and is to be restored first."""

    at_ms: int
    at_s: float
    side: str
    since_ms: int
    in_step: "asyncio.Future[float]"


class Look(NamedTuple):
    """When the oldest was written that the other side has not acknowledged, 0 while a store is being mended; and when each side's store was
    last restored, 0 if never."""

    oldest_ms: float
    restored_ms: Mapping[str, float]

    def is_in_step(self, moment: Moment) -> bool:
        return moment.at_ms < self.oldest_ms and (not moment.side or self.restored_ms[moment.side] >= moment.since_ms)


class StepWatch:
    """How long both sides take, from one moment after another, until nothing that either had written by then is unacknowledged; under
    load, so what is newer does not count, and whatever else happens meanwhile."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.urls = urls
        self.waiting: list[Moment] = []

    def begin(self, side: str = "", since_ms: int = 0) -> "asyncio.Future[float]":
        """Seconds from now, once it is so; of a moment's side and since."""
        self.waiting.append(Moment(now_ms(), time.monotonic(), side, since_ms, asyncio.get_running_loop().create_future()))
        return self.waiting[-1].in_step

    async def settle(self) -> None:
        """Look once, for all that wait."""
        waiting, look = list(self.waiting), await look_at(self.urls)
        for moment in waiting:
            if look is not None and look.is_in_step(moment):
                moment.in_step.set_result(time.monotonic() - moment.at_s)
                self.waiting.remove(moment)

    async def go_on(self) -> None:
        while True:
            if self.waiting:
                await self.settle()
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def watching_steps(urls: Mapping[str, str]) -> AsyncIterator[StepWatch]:
    """Looks as long as it is open. Whoever still waits then is given up."""
    watch = StepWatch(urls)
    looking = asyncio.create_task(watch.go_on())
    try:
        yield watch
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await watch.settle()
    finally:
        looking.cancel()
        for moment in watch.waiting:
            moment.in_step.cancel()


async def look_at(urls: Mapping[str, str]) -> Look | None:
    """None where a store can not be read now."""
    try:
        found = [(side, what, ms) for side, url in urls.items() for what, ms in await read_rows(url, STANDS) if ms is not None]
    except AWAY:
        return None
    oldest_ms = min((ms for _, what, ms in found if what == "unsettled"), default=float("inf"))
    return Look(oldest_ms, {side: max((ms for of, what, ms in found if (of, what) == (side, "restored")), default=0) for side in urls})


async def wait_until_quiet(town: Town) -> tuple[float, dict[str, int]]:
    """Seconds until nothing at all is on its way or due any more, and what is left where that takes too long."""
    began_s = time.monotonic()
    left: dict[str, int] | None = None
    while time.monotonic() - began_s < QUIET_DEADLINE_S:
        await town.revive()
        left = await count_amiss(town.urls, BUSY, now_ms())
        if left == {}:
            break
        await asyncio.sleep(POLL_S)
    return time.monotonic() - began_s, left if left is not None else {"a store can not be read": 1}
