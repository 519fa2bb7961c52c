"""What protects our loops from a client of the broker: its stop may hang for ever, and it lets cancellations of its own tasks out."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

CLOSE_DEADLINE_S = 2.0

log = logging.getLogger(__name__)


async def start_whole(start: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start a client. If the wait for it is cancelled, it may still come to its end for a moment: one that is cut off while it connects
    leaves the connection open, with nobody to close it."""
    starting = asyncio.ensure_future(start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait({starting}, timeout=CLOSE_DEADLINE_S)
        starting.cancel()
        await asyncio.wait({starting}, timeout=CLOSE_DEADLINE_S)
        if starting.done() and not starting.cancelled():
            starting.exception()  # it is told by the cancellation already
        raise


async def close_within(close: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Close a client; whether it ended in time. It is not worth an error: what is lost by it was never acknowledged."""
    try:
        async with asyncio.timeout(CLOSE_DEADLINE_S):
            with own_cancellation_only():
                await close()
    except Exception as error:  # whatever a dying client raises, it is left behind
        log.info("a Kafka client was left before it had closed: %r", error)
        return False
    return True


@contextmanager
def own_cancellation_only() -> Iterator[None]:
    """Let only a cancellation of the task itself pass. One of the client's own is a lost connection to us: a loop would end in silence."""
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionError("the client gave the wait up") from error
