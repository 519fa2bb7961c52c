"""Closing clients of the broker under a deadline of our own: their own stop may hang for ever."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

CLOSE_DEADLINE_S = 2.0

log = logging.getLogger(__name__)


async def close_within(close: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Close a client; whether it ended in time. It is not worth an error: what is lost by it was never acknowledged."""
    try:
        async with asyncio.timeout(CLOSE_DEADLINE_S):
            await close()
    except Exception as error:  # whatever a dying client raises, it is left behind
        log.info("a Kafka client was left before it had closed: %r", error)
        return False
    return True
