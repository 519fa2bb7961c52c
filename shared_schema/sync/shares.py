"""Shares: of the processes that sync one store, each serves some of its partnerships. Which ones follows from the names of those that live,
so that nobody need hand anything over, and one that comes or goes moves as few as can be. Who lives is who holds the lease on its own name.

A share saves work and protects nothing: two processes that serve the same partnership, as one that slept may, are harmless.
"""

from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm.statements import Statement
from shared_schema.sync.leases import ASTRAY_MS, release, take
from shared_schema.sync.tables import leases

OF_PROCESS = leases.c.name.startswith("process:")
IS_LIVING = (OF_PROCESS, leases.c.expires_ms.between(bindparam("after_ms"), bindparam("until_ms")))
LIVING = Statement(select(leases.c.owner, leases.c.epoch).where(*IS_LIVING))


def find_share(process: str, living: Collection[str], partnerships: Iterable[str]) -> set[str]:
    """The partnerships of which, among the living and this process, this one draws the highest number."""
    return {each for each in partnerships if process == max({process, *living}, key=lambda name: draw_number(name, each))}


def draw_number(process: str, partnership: str) -> bytes:
    """The same for everybody, and as good as random."""
    return sha256(f"{process} {partnership}".encode()).digest()


async def appear(tx: AsyncConnection, process: str, version: str, now_ms: int) -> None:
    """Say that a process lives, and of which version (at most 16 characters) it is."""
    await take(tx, f"process:{process}", process, version, now_ms)


async def leave(tx: AsyncConnection, process: str) -> None:
    """Say that a process ends, so that the others need not wait for it."""
    await release(tx, f"process:{process}", process)


async def read_living(connection: AsyncConnection, now_ms: int) -> list[str]:
    """The processes whose leases run; not those that were taken before the clock went back."""
    return [name for name, _ in await fetch_living(connection, now_ms)]


async def is_alone(connection: AsyncConnection, version: str, now_ms: int) -> bool:
    """Whether no process of another version lives."""
    return all(other == version for _, other in await fetch_living(connection, now_ms))


async def fetch_living(connection: AsyncConnection, now_ms: int) -> Sequence[Any]:
    return await LIVING.fetch(connection, {"after_ms": now_ms + 1, "until_ms": now_ms + ASTRAY_MS})
