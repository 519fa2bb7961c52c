"""Where a node may die: every statement, commit, send and fetch is a numbered point, and a plan says at which one what happens.

A killed node hangs at the point until the world has taken away its tasks; from then on nothing that it does has an effect.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable
from random import Random

HARMLESS = {"describe", "open", "create"}


class Fate:
    """One life of one node."""

    def __init__(self, random: Random, target: int | None = None, offset: int = 0) -> None:
        self.random = random
        self.target = target
        self.passed = offset
        self.kinds: Counter[str] = Counter()
        self.dead = False
        self.struck: str | None = None
        self.connections: list[sqlite3.Connection] = []
        self.on_death: Callable[[], None] = lambda: None

    async def point(self, kind: str, *, lethal: bool = True) -> bool:
        """Pass a point; True where a point that does not kill is the one that was meant."""
        if self.dead:
            await asyncio.get_running_loop().create_future()
        self.passed += 1
        self.kinds[kind] += 1
        if self.passed == self.target:
            self.struck = kind
            if not lethal:
                return True
            self.die()
            await asyncio.get_running_loop().create_future()
        await self.dawdle()
        return False

    async def dawdle(self) -> None:
        """Let others run, sometimes for a while."""
        await asyncio.sleep(self.random.random() * 0.05 if self.random.random() < 0.03 else 0)

    async def step(self, kind: str) -> None:
        """A step of the broker's client."""
        await self.point(kind)

    def die(self) -> None:
        """As kill -9: open transactions are gone, nothing has an effect any more."""
        self.dead = True
        for connection in self.connections:
            connection.close()
        self.on_death()
