"""Whether both sides are in step again, read from the stores: how long that takes after a fault, and whether all is quiet at the end."""

import asyncio
import time
from collections.abc import Mapping

from tests.chaos.client_log import now_ms
from tests.chaos.town import Town
from tests.stores import AWAY, read_rows

POLL_S = 0.25
QUIET_DEADLINE_S = 240  # only a bug reaches it
UNSETTLED = "SELECT 'restoration' FROM restorations UNION ALL SELECT 'owed state' FROM owed_states"
BEHIND = UNSETTLED + " UNION ALL SELECT 'unacknowledged event' FROM outbox WHERE created_ms <= {ms}"
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


async def time_until_in_step(town: Town) -> float:
    """Seconds until nothing that either side had written before now is unacknowledged; under load, so what is newer does not count."""
    began_s, began_ms = time.monotonic(), now_ms()
    while await count_amiss(town.urls, BEHIND, began_ms) != {}:
        await asyncio.sleep(POLL_S)
    return time.monotonic() - began_s


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
