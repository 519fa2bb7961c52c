"""Leases in SQL: they save work, they do not protect data. Two relays at once are harmless.

An owner names its machine and process, so that nobody waits for a process of this machine that is no more.
"""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm.database import Database, DatabaseUnavailable
from shared_schema.crm.rows import insert_for
from shared_schema.sync.clock import Clock, SystemClock
from shared_schema.sync.tables import leases, outbound_epochs

LEASE_MS = 10_000
ASTRAY_MS = 60_000  # a lease that would run longer than this was taken before the clock went back: nobody need wait for it
HOST = socket.gethostname()[:12].replace(":", "-")
LIFE = f"{SystemClock().random_bits(24):06x}"  # of this process: a container's next one has the same machine and number


class LeaseLost(Exception):
    """Another process has this lease now."""


def name_owner(clock: Clock) -> str:
    """Somebody in this process who takes leases; at most 36 characters."""
    return f"{HOST}:{os.getpid()}:{LIFE}:{clock.random_bits(24):06x}"


def is_dead(owner: str) -> bool:
    """Whether an owner was in a process of this machine that is no more."""
    parts = owner.split(":")
    host, pid, life = parts[:3] if len(parts) == 4 else ("", "", "")
    if host != HOST or life == LIFE or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return int(pid) == os.getpid()


async def take(tx: AsyncConnection, name: str, owner: str, epoch: str, now_ms: int) -> bool:
    """Take a lease for a new epoch; whether it is ours now."""
    holder = (await tx.execute(select(leases.c.owner).where(leases.c.name == name))).scalar_one_or_none()
    heirs = [owner, holder] if holder is not None and is_dead(holder) else [owner]
    statement = insert_for(tx, leases).values(name=name, owner=owner, epoch=epoch, expires_ms=now_ms + LEASE_MS)
    free = or_(leases.c.expires_ms <= now_ms, leases.c.expires_ms > now_ms + ASTRAY_MS, leases.c.owner.in_(heirs))
    changes = {key: statement.excluded[key] for key in ("owner", "epoch", "expires_ms")}
    taken = await tx.execute(statement.on_conflict_do_update(index_elements=[leases.c.name], set_=changes, where=free))
    return taken.rowcount == 1


@asynccontextmanager
async def let_go(database: Database, name: str, owner: str) -> AsyncIterator[None]:
    """However the block ends, another process can take this lease at once; unless the store is away: then it runs out by itself."""
    try:
        yield
    finally:
        with suppress(DatabaseUnavailable):
            async with database.transaction() as tx:
                await release(tx, name, owner)


async def renew(tx: AsyncConnection, name: str, epoch: str, now_ms: int) -> bool:
    """Keep a lease for as long as it names this epoch; whether it does."""
    statement = update(leases).where(leases.c.name == name, leases.c.epoch == epoch)
    return (await tx.execute(statement.values(expires_ms=now_ms + LEASE_MS))).rowcount == 1


async def end_epoch(tx: AsyncConnection, name: str) -> None:
    """Whoever holds the lease has to begin a new epoch: nothing can be marked with this one any more."""
    await tx.execute(update(leases).where(leases.c.name == name).values(epoch="", expires_ms=0))


async def release(tx: AsyncConnection, name: str, owner: str) -> None:
    """Let go of a lease that is ours, so that the next one need not wait."""
    await tx.execute(update(leases).where(leases.c.name == name, leases.c.owner == owner).values(expires_ms=0))


async def begin_epoch(tx: AsyncConnection, partnership: str, epoch: str, now_ms: int, acknowledged: int = 0) -> None:
    """Remember an epoch of ours before its first number is published; or one that was forgotten, when the peer tells of it."""
    row = {"partnership": partnership, "epoch": epoch, "acknowledged": acknowledged, "began_ms": now_ms}
    await tx.execute(insert_for(tx, outbound_epochs).values(row).on_conflict_do_nothing())
