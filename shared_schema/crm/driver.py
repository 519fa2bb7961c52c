"""Statements straight to the store's own driver, which costs a third of what SQLAlchemy's way does, and writes gathered into one round
trip. The errors are the same as through SQLAlchemy. Connections come from `crm/database.py`, which also begins and ends transactions.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.ext.asyncio import AsyncConnection

LINK: Final = "dealbridge"
PARAMETER: Final = re.compile(r"\$(\d+)")


class Gathered(NamedTuple):
    """A write that goes to PostgreSQL together with the next ones."""

    table: str
    text: str
    arguments: Sequence[Any]


class Link(NamedTuple):
    """What hangs on a connection: the store's name, the driver's own connection beneath it, the writes gathered for it, and what a
    driver's error is for whoever ran the statement."""

    dialect: str
    driver: Any
    gathered: list[Gathered]
    explain: Callable[[Connection, Exception], Exception]

    @property
    def is_gone(self) -> bool:
        is_closed = getattr(self.driver, "is_closed", None)  # aiosqlite has none: a file does not go away
        return is_closed is not None and bool(is_closed())

    async def send_gathered(self) -> None:
        """Send what was gathered as one statement."""
        writes = tuple(self.gathered)
        self.gathered.clear()
        if writes:
            await self.driver.fetch(join_texts(*(each.text for each in writes)), *(one for each in writes for one in each.arguments))


def sync_of(connection: AsyncConnection) -> Connection:
    """SQLAlchemy's connection within the asynchronous one."""
    assert connection.sync_connection is not None
    return connection.sync_connection


def link_of(connection: AsyncConnection) -> Link:
    link: Link = sync_of(connection).info[LINK]
    return link


async def run(connection: AsyncConnection, text: str, arguments: Sequence[Any] = ()) -> Sequence[Any]:
    """One statement in the store's own SQL; the rows."""
    link = link_of(connection)
    try:
        if link.gathered:
            await link.send_gathered()
        if link.dialect == "postgresql":
            return await link.driver.fetch(text, *arguments)  # type: ignore[no-any-return]  # asyncpg has no types
        return await link.driver.execute_fetchall(text, arguments)  # type: ignore[no-any-return]  # the driver is any of three
    except Exception as error:
        raise link.explain(sync_of(connection), error) from error


async def begin(connection: AsyncConnection, text: str) -> None:
    """Begin a transaction, by one statement or several without arguments; nothing that was gathered before is part of it."""
    link = link_of(connection)
    link.gathered.clear()
    try:
        await (link.driver.execute(text) if link.dialect == "postgresql" else link.driver.execute_fetchall(text))
    except Exception as error:
        raise link.explain(sync_of(connection), error) from error


async def run_each(connection: AsyncConnection, text: str, rows: Sequence[Sequence[Any]]) -> None:
    """One statement for each of the rows of arguments."""
    link = link_of(connection)
    try:
        await link.send_gathered()
        await link.driver.executemany(text, rows)
    except Exception as error:
        raise link.explain(sync_of(connection), error) from error


async def gather(connection: AsyncConnection, table: str, text: str, arguments: Sequence[Any]) -> None:
    """One write of rows, whose result nobody asks for. On PostgreSQL it waits for the next ones, at the latest until the next statement
    or the commit, and all go in one round trip; of writes that go together none sees the other, so each is to another table."""
    link = link_of(connection)
    if link.dialect != "postgresql":
        await run(connection, text, arguments)
        return
    if any(each.table == table for each in link.gathered):
        await send_gathered(connection)
    link.gathered.append(Gathered(table, text, arguments))


async def send_gathered(connection: AsyncConnection) -> None:
    link = link_of(connection)
    try:
        await link.send_gathered()
    except Exception as error:
        raise link.explain(sync_of(connection), error) from error


def send_gathered_first(connection: Connection, _cursor: DBAPICursor, *_: Any) -> None:
    """A statement that goes through SQLAlchemy sees what was gathered before it: its listener `before_cursor_execute`."""
    link: Link = connection.info[LINK]
    if link.gathered:
        adapted: Any = connection.connection.dbapi_connection
        try:
            adapted.run_async(lambda _: link.send_gathered())
        except Exception as error:
            raise link.explain(connection, error) from error


@lru_cache(maxsize=1024)
def join_texts(*texts: str) -> str:
    """Several of PostgreSQL's writes as one statement, their parameters numbered on."""
    parts: list[str] = []
    ahead = 0
    for text in texts:
        parts.append(number_on(text, ahead))
        ahead += max((int(number) for number in PARAMETER.findall(text)), default=0)
    named = ", ".join(f"w{place} AS ({part})" for place, part in enumerate(parts[:-1]))
    return f"WITH {named} {parts[-1]}" if named else parts[-1]


def number_on(text: str, ahead: int) -> str:
    return PARAMETER.sub(lambda found: f"${int(found[1]) + ahead}", text)
