"""A Kafka client that cancels its own tasks must not end ours; a cancellation of ours must."""

import asyncio

import pytest

from shared_schema.sync.broker import KafkaBroker
from shared_schema.sync.closing import close_within, start_whole
from shared_schema.sync.transport import BrokerUnavailable

NOWHERE = "127.0.0.1:1"


async def await_cancelled() -> None:
    gone = asyncio.get_running_loop().create_future()
    gone.cancel()
    await gone


async def test_a_wait_that_the_client_cancels_is_an_outage() -> None:
    with pytest.raises(BrokerUnavailable, match="does not answer"):
        async with KafkaBroker(NOWHERE).line.answering(5):
            await await_cancelled()
    assert not await close_within(await_cancelled)


async def test_our_own_cancellation_passes() -> None:
    begun = asyncio.Event()

    async def wait_for_ever() -> None:
        async with KafkaBroker(NOWHERE).line.answering(60):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(wait_for_ever())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_deadline_is_an_outage() -> None:
    with pytest.raises(BrokerUnavailable):
        async with KafkaBroker(NOWHERE).line.answering(0.01):
            await asyncio.Event().wait()


async def test_a_client_cancelled_while_it_starts_still_comes_to_its_end() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def start() -> None:
        begun.set()
        await asyncio.sleep(0.01)
        ended.set()

    task = asyncio.create_task(start_whole(start))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
