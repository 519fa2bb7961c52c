"""How a loop outlives what it depends on: it says once that something is away, backs off, and says when it goes on."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

FIRST_S, LONGEST_S = 0.2, 10.0

log = logging.getLogger(__name__)


async def keep_at(name: str, work: Callable[[], Awaitable[None]], outages: tuple[type[Exception], ...]) -> None:
    """Run `work` over and over until cancelled. Other exceptions than the outages are bugs and end the process."""
    pause_s, away = FIRST_S, ""
    while True:
        try:
            await work()
            if away:
                log.info("%s goes on", name)
            pause_s, away = FIRST_S, ""
        except outages as error:
            if away != type(error).__name__:
                log.warning("%s waits: %s", name, error)
            away = type(error).__name__
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_S)
