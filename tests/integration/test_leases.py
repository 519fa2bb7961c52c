"""Processes of one side share out the relaying by leases: one at a time has a partnership, and another goes on without it."""

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from shared_schema.crm.database import Database
from shared_schema.crm.tables import metadata
from shared_schema.sync import leases
from shared_schema.sync.clock import SystemClock

NAME = "relay:here"


class HandClock(SystemClock):
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at_ms = 1_790_000_000_000

    def now_ms(self) -> int:
        return self.at_ms


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url)
    async with made.transaction() as tx:
        await tx.run_sync(metadata.create_all)
    yield made
    await made.close()


async def take(database: Database, clock: HandClock, owner: str) -> bool:
    async with database.transaction() as tx:
        return await leases.take(tx, NAME, owner, owner[-16:], clock.now_ms())


async def test_a_lease_runs_out_and_one_that_a_clock_left_far_ahead_binds_nobody(database: Database) -> None:
    clock = HandClock()
    assert await take(database, clock, "first")
    clock.at_ms += leases.LEASE_MS - 1
    assert not await take(database, clock, "second")
    async with database.transaction() as tx:
        assert await leases.renew(tx, NAME, "first", clock.now_ms())
    clock.at_ms += 1
    assert not await take(database, clock, "second"), "it was renewed"
    clock.at_ms -= leases.ASTRAY_MS
    assert await take(database, clock, "second")
    async with database.transaction() as tx:
        assert not await leases.renew(tx, NAME, "first", clock.now_ms()), "it has gone to another"


async def test_whoever_ends_lets_the_next_begin_at_once(database: Database) -> None:
    clock = HandClock()
    with suppress(RuntimeError):
        async with leases.let_go(database, NAME, "first"):
            assert await take(database, clock, "first")
            raise RuntimeError("it ends badly")
    assert await take(database, clock, "second")
    async with leases.let_go(database, NAME, "first"):
        pass
    assert not await take(database, clock, "third"), "nobody lets go what is another's"


async def test_nobody_waits_for_a_process_of_this_machine_that_is_no_more(database: Database) -> None:
    clock = HandClock()
    other = subprocess.Popen(["sleep", "60"])
    owners = {"alive": f"{leases.HOST}:{other.pid}:0dd1fe:000001", "here before": f"{leases.HOST}:{os.getpid()}:0dd1fe:000001"}
    owners |= {"elsewhere": f"elsewhere:{other.pid}:0dd1fe:000001", "of another version": "0123456789abcdef"}
    assert {name for name, owner in owners.items() if leases.is_dead(owner)} == {"here before"}
    assert await take(database, clock, owners["alive"])
    assert not await take(database, clock, leases.name_owner(clock))
    other.kill()
    other.wait()
    assert leases.is_dead(owners["alive"]) and not leases.is_dead(owners["elsewhere"])
    assert await take(database, clock, leases.name_owner(clock))
    assert not await take(database, clock, owners["elsewhere"])
