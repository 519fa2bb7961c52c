"""Shares: of the processes that sync one store, each serves some of its partnerships. Which ones follows from the names of those that live,
so that nobody need hand anything over, and one that comes or goes moves as few as can be.

A share saves work and protects nothing: two processes that serve the same partnership, as one that slept may, are harmless.
"""

from collections.abc import Collection, Iterable
from hashlib import sha256

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm.rows import upsert
from shared_schema.crm.statements import Statement
from shared_schema.sync.tables import processes

ALIVE_MS = 6_000
FORGOTTEN_MS = 600_000

FAR = func.abs(processes.c.seen_ms - bindparam("now_ms"))  # a clock may have gone back
LIVING = Statement(select(processes.c.name).where(FAR < ALIVE_MS))


def find_share(process: str, living: Collection[str], partnerships: Iterable[str]) -> set[str]:
    """The partnerships of which, among the living and this process, this one draws the highest number."""
    return {each for each in partnerships if process == max({process, *living}, key=lambda name: draw_number(name, each))}


def draw_number(process: str, partnership: str) -> bytes:
    """The same for everybody, and as good as random."""
    return sha256(f"{process} {partnership}".encode()).digest()


async def appear(tx: AsyncConnection, process: str, now_ms: int) -> None:
    """Say that a process lives; those that were not seen for ten minutes are forgotten."""
    await upsert(tx, processes, [{"name": process, "seen_ms": now_ms}], ("seen_ms",))
    await tx.execute(delete(processes).where(func.abs(processes.c.seen_ms - now_ms) > FORGOTTEN_MS))


async def leave(tx: AsyncConnection, process: str) -> None:
    """Say that a process ends, so that the others need not wait for it."""
    await tx.execute(delete(processes).where(processes.c.name == process))


async def read_living(connection: AsyncConnection, now_ms: int) -> list[str]:
    """The processes that were seen within the last six seconds."""
    return [name for (name,) in await LIVING.fetch(connection, {"now_ms": now_ms})]
