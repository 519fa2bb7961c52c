"""A plain sqlite3 connection in the shape of an aiosqlite one: real transactions, without a thread, each step a point of fate.

A commit has three outcomes: not committed, committed, and committed while the caller sees an error.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Any, Self

from tests.simulation.fate import Fate

DOWN, FULL = "unable to open database file", "database or disk is full"
READING = ("PRAGMA", "SELECT", "BEGIN", "ROLLBACK")
LOCK_WAIT_S = 30
LOCK_PAUSE_S = 0.01


class SimulatedCursor:
    """Executes at once; what it waits for is fate."""

    def __init__(self, connection: "SimulatedConnection") -> None:
        self.connection = connection
        self.raw = connection.raw.cursor() if not connection.is_gone() else None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Self:
        await self.connection.reach(statement)
        await self.connection.patiently(lambda: self.raw.execute(statement, parameters))
        return self

    async def executemany(self, statement: str, parameters: Sequence[Sequence[Any]]) -> Self:
        await self.connection.reach(statement)
        await self.connection.patiently(lambda: self.raw.executemany(statement, parameters))
        return self

    async def fetchall(self) -> list[Any]:
        return self.raw.fetchall()

    async def fetchone(self) -> Any:
        return self.raw.fetchone()

    async def close(self) -> None:
        if self.raw is not None and not self.connection.is_gone():
            self.raw.close()

    @property
    def description(self) -> Any:
        return self.raw.description if self.raw is not None else None

    @property
    def rowcount(self) -> int:
        return self.raw.rowcount

    @property
    def lastrowid(self) -> Any:
        return self.raw.lastrowid


class SimulatedConnection:
    """One connection to a node's store."""

    def __init__(self, path: str, fate: Fate) -> None:
        self.fate = fate
        self.check_outage("PRAGMA")
        self.raw = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
        self.isolation_level = None
        self._conn = self.raw
        self._connection: sqlite3.Connection | None = self.raw
        self.changes = 0
        self.lost = False
        fate.connections.append(self)

    def cursor(self) -> SimulatedCursor:
        return SimulatedCursor(self)

    def is_gone(self) -> bool:
        return self.fate.dead or self.lost

    def check_open(self) -> None:
        """The words are those by which SQLAlchemy knows a connection that is lost."""
        if self.is_gone():
            raise sqlite3.OperationalError("no active connection")

    def check_outage(self, statement: str) -> None:
        """A database that is down answers nothing; one whose disk is full takes no writes."""
        outage = self.fate.outage()
        if outage == DOWN or (outage == FULL and not statement.startswith(READING)):
            raise sqlite3.OperationalError(outage)

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> SimulatedCursor:
        return await self.cursor().execute(statement, parameters)

    async def execute_fetchall(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        await self.reach(statement)
        found: list[Any] = []
        await self.patiently(lambda: found.extend(self.raw.execute(statement, parameters).fetchall()))
        return found

    async def executemany(self, statement: str, parameters: Sequence[Sequence[Any]]) -> None:
        await self.reach(statement)
        await self.patiently(lambda: self.raw.executemany(statement, parameters))

    def is_closed(self) -> bool:
        return self.is_gone()

    async def reach(self, statement: str) -> None:
        self.check_open()
        if not statement.startswith("PRAGMA"):
            await self.fate.point("statement")
            self.check_open()
            self.check_outage(statement)

    async def patiently(self, run: Any) -> None:
        """Wait in virtual time while another connection has the lock."""
        for _ in range(int(LOCK_WAIT_S / LOCK_PAUSE_S)):
            self.check_open()
            try:
                run()
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
            await asyncio.sleep(LOCK_PAUSE_S)
        raise sqlite3.OperationalError("database is locked")

    async def commit(self) -> None:
        self.check_open()
        if not self.raw.in_transaction:
            return
        await self.fate.point("commit")
        self.check_open()
        wrote = self.raw.total_changes != self.changes
        self.check_outage("COMMIT" if wrote else "SELECT")
        self.raw.commit()
        self.changes = self.raw.total_changes
        if wrote and self.fate.on_commit is not None:
            self.fate.on_commit(self.raw)
        await self.fate.point("committed")
        if await self.fate.point("commit unknown", lethal=False):
            raise sqlite3.OperationalError("disk i/o error")

    async def rollback(self) -> None:
        if not self.is_gone() and self.raw.in_transaction:
            self.raw.rollback()

    async def close(self) -> None:
        if not self.is_gone():
            self.fate.connections.remove(self)
            self.raw.close()

    def stop(self) -> None:
        """What a pool calls when it can not wait."""
        self.raw.close()

    async def create_function(self, *arguments: Any, **named: Any) -> None:
        self.raw.create_function(*arguments, **named)
