"""How a loop outlives what it depends on: it says once that something is away, backs off, and says when it goes on."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

FIRST_S, LONGEST_S = 0.2, 10.0
WELL_S = 120.0  # longer than any deadline: who has worked for so long was well

log = logging.getLogger(__name__)


async def keep_at(name: str, work: Callable[[], Awaitable[None]], outages: tuple[type[Exception], ...]) -> None:
    """Run `work` over and over until cancelled. Other exceptions than the outages are bugs and end the process. Of one outage each kind of
    failure is one line, however they take turns."""
    loop = asyncio.get_running_loop()
    pause_s: float = FIRST_S
    told: set[type[Exception]] = set()
    while True:
        began_s = loop.time()
        try:
            await work()
            if told:
                log.info("%s goes on", name)
            pause_s, told = FIRST_S, set()
        except outages as error:
            if loop.time() - began_s >= WELL_S:
                pause_s, told = FIRST_S, set()
            if type(error) not in told:
                log.warning("%s waits: %s", name, error)
            told.add(type(error))
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_S)
