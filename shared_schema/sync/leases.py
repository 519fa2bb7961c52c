"""Leases in SQL: they save work, they do not protect data. Two relays at once are harmless."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import bindparam, or_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm.rows import Among, insert_for, insert_missing
from shared_schema.crm.statements import Statement
from shared_schema.sync.tables import leases, outbound_epochs

LEASE_MS = 6_000
ASTRAY_MS = 60_000  # a lease that would run longer than this was taken before the clock went back: nobody need wait for it

NAMED = leases.c.name == bindparam("at")
UNTIL = bindparam("until_ms", type_=leases.c.expires_ms.type)
RENEW = Statement(update(leases).where(NAMED, leases.c.epoch == bindparam("of")).values(expires_ms=UNTIL).returning(leases.c.name))
RENEW_ALL = Statement(update(leases).where(Among(leases.c.epoch, "epochs")).values(expires_ms=UNTIL))
END_EPOCH = Statement(update(leases).where(NAMED).values(epoch="", expires_ms=0))
RELEASE = Statement(update(leases).where(NAMED, leases.c.owner == bindparam("by")).values(expires_ms=0))


def insert_or_take(store: str) -> Any:
    """A lease that is new, has run out, was taken before the clock went back, or is the owner's own."""
    names = ("name", "owner", "epoch", "expires_ms")
    statement = insert_for(store, leases).values({name: bindparam(name, type_=leases.c[name].type) for name in names})
    new = statement.excluded
    free = or_(leases.c.expires_ms <= bindparam("now_ms"), leases.c.expires_ms > bindparam("astray_ms"), leases.c.owner == new.owner)
    changes = {name: new[name] for name in names[1:]}
    taken = statement.on_conflict_do_update(index_elements=[leases.c.name], set_=changes, where=free)
    return taken.returning(leases.c.name)


TAKE = Statement(insert_or_take)


async def take(tx: AsyncConnection, name: str, owner: str, epoch: str, now_ms: int) -> bool:
    """Take a lease for a new epoch; whether it is ours now."""
    row = {"name": name, "owner": owner, "epoch": epoch, "expires_ms": now_ms + LEASE_MS}
    return bool(await TAKE.fetch(tx, {**row, "now_ms": now_ms, "astray_ms": now_ms + ASTRAY_MS}))


async def renew(tx: AsyncConnection, name: str, epoch: str, now_ms: int) -> bool:
    """Keep a lease for as long as it names this epoch; whether it does."""
    return bool(await RENEW.fetch(tx, {"at": name, "of": epoch, "until_ms": now_ms + LEASE_MS}))


async def renew_all(tx: AsyncConnection, epochs: Collection[str], now_ms: int) -> None:
    """Keep the leases that name these epochs still; whoever has lost one notices where it would mark."""
    if epochs:
        await RENEW_ALL.fetch(tx, {"epochs": sorted(epochs), "until_ms": now_ms + LEASE_MS})


async def end_epoch(tx: AsyncConnection, name: str) -> None:
    """Whoever holds the lease has to begin a new epoch: nothing can be marked with this one any more."""
    await END_EPOCH.fetch(tx, {"at": name})


async def release(tx: AsyncConnection, name: str, owner: str) -> None:
    """Let go of a lease that is ours, so that the next relay need not wait."""
    await RELEASE.fetch(tx, {"at": name, "by": owner})


async def begin_epoch(tx: AsyncConnection, partnership: str, epoch: str, now_ms: int, acknowledged: int = 0) -> None:
    """Remember an epoch of ours before its first number is published; or one that was forgotten, when the peer tells of it."""
    row = {"partnership": partnership, "epoch": epoch, "acknowledged": acknowledged, "began_ms": now_ms, "moved_ms": now_ms}
    await insert_missing(tx, outbound_epochs, [row])
