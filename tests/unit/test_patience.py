"""A loop outlives what it depends on, and says so in a line for each kind of failure, not in one for each try."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable

import pytest

from shared_schema.sync.patience import FIRST_S, LONGEST_S, WELL_S, keep_at
from tests.simulation.virtual_loop import VirtualLoop

OUTAGES = (ConnectionError, TimeoutError)


def live(work: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Keep at it for so long, in virtual time."""
    loop = VirtualLoop()
    task = loop.create_task(keep_at("the work", work, OUTAGES))
    loop.run_until_complete(asyncio.wait({task}, timeout=seconds))
    task.cancel()
    loop.run_until_complete(asyncio.wait({task}))
    loop.close()


def test_an_hour_of_failures_of_two_kinds_in_turns_is_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    tries = itertools.count()

    async def fail() -> None:
        raise OUTAGES[next(tries) % 2]("away")

    live(fail, 3600)
    assert next(tries) > 100 and len(caplog.records) == 2


def test_after_it_was_well_for_long_it_is_told_again_and_tried_again_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """The relay's work does not end when all is well: only how long it lasted says so."""
    begun: list[float] = []

    async def work() -> None:
        begun.append(asyncio.get_running_loop().time())
        if len(begun) == 10:
            await asyncio.sleep(WELL_S)
        raise ConnectionError("away")

    live(work, 3600)
    assert begun[9] - begun[8] == pytest.approx(LONGEST_S)
    assert begun[10] - begun[9] == pytest.approx(WELL_S + FIRST_S)
    assert len(caplog.records) == 2


def test_what_works_again_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tries = itertools.count()

    async def work() -> None:
        if next(tries) < 5:
            raise ConnectionError("away")
        await asyncio.sleep(1)

    live(work, 60)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_bug_ends_it() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(keep_at("the work", fail, OUTAGES))
