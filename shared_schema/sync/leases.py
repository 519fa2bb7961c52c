"""Leases in SQL: they save work, they do not protect data. Two relays at once are harmless."""

from collections.abc import Collection

from sqlalchemy import bindparam, or_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm.rows import Among, insert_for
from shared_schema.crm.statements import Statement
from shared_schema.sync.tables import leases, outbound_epochs

LEASE_MS = 6_000
ASTRAY_MS = 60_000  # a lease that would run longer than this was taken before the clock went back: nobody need wait for it

RENEW_ALL = Statement(update(leases).where(Among(leases.c.epoch, "epochs")).values(expires_ms=bindparam("until_ms")))


async def take(tx: AsyncConnection, name: str, owner: str, epoch: str, now_ms: int) -> bool:
    """Take a lease for a new epoch; whether it is ours now."""
    statement = insert_for(tx, leases).values(name=name, owner=owner, epoch=epoch, expires_ms=now_ms + LEASE_MS)
    free = or_(leases.c.expires_ms <= now_ms, leases.c.expires_ms > now_ms + ASTRAY_MS, leases.c.owner == owner)
    changes = {key: statement.excluded[key] for key in ("owner", "epoch", "expires_ms")}
    taken = await tx.execute(statement.on_conflict_do_update(index_elements=[leases.c.name], set_=changes, where=free))
    return taken.rowcount == 1


async def renew(tx: AsyncConnection, name: str, epoch: str, now_ms: int) -> bool:
    """Keep a lease for as long as it names this epoch; whether it does."""
    statement = update(leases).where(leases.c.name == name, leases.c.epoch == epoch)
    return (await tx.execute(statement.values(expires_ms=now_ms + LEASE_MS))).rowcount == 1


async def renew_all(tx: AsyncConnection, epochs: Collection[str], now_ms: int) -> None:
    """Keep the leases that name these epochs still; whoever has lost one notices where it would mark."""
    if epochs:
        await RENEW_ALL.fetch(tx, {"epochs": sorted(epochs), "until_ms": now_ms + LEASE_MS})


async def end_epoch(tx: AsyncConnection, name: str) -> None:
    """Whoever holds the lease has to begin a new epoch: nothing can be marked with this one any more."""
    await tx.execute(update(leases).where(leases.c.name == name).values(epoch="", expires_ms=0))


async def release(tx: AsyncConnection, name: str, owner: str) -> None:
    """Let go of a lease that is ours, so that the next relay need not wait."""
    await tx.execute(update(leases).where(leases.c.name == name, leases.c.owner == owner).values(expires_ms=0))


async def begin_epoch(tx: AsyncConnection, partnership: str, epoch: str, now_ms: int, acknowledged: int = 0) -> None:
    """Remember an epoch of ours before its first number is published; or one that was forgotten, when the peer tells of it."""
    row = {"partnership": partnership, "epoch": epoch, "acknowledged": acknowledged, "began_ms": now_ms}
    await tx.execute(insert_for(tx, outbound_epochs).values(row).on_conflict_do_nothing())
