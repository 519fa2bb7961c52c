"""The store's connections and the one place that commits: the same calls on SQLite and on PostgreSQL.

A transaction is committed whole or not at all, and an outcome that nobody knows counts as a loss. Statements, tables and
migrations live elsewhere. One Database belongs to one event loop.

Transactions are begun and ended here in SQL, so that a statement may go through SQLAlchemy or straight to the driver (`crm/driver.py`).
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Literal, NoReturn

import asyncpg
from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, InternalError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

from shared_schema.crm.driver import LINK, Link, begin, link_of, send_gathered, send_gathered_first, sync_of

Dialect = Literal["sqlite", "postgresql"]
AsyncCreator = Callable[[], Awaitable[Any]]

log = logging.getLogger(__name__)

DRIVERS: Final[Mapping[str, str]] = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
WRITING: Final[Mapping[Dialect, str]] = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "BEGIN"}
# A plan that PostgreSQL made once for few rows of a small table goes through all of it for each of many.
BULK_ROWS: Final = 100
BULK: Final = {**WRITING, "postgresql": "BEGIN; SET LOCAL plan_cache_mode = force_custom_plan"}
READING: Final[Mapping[Dialect, str]] = {"sqlite": "BEGIN", "postgresql": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"}
SQLITE_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
SQLITE_OUTAGES: Final = ("is locked", "disk is full", "disk i/o", "unable to open database", "connection closed", "no active connection")
POSTGRES_LOST_RACES: Final = ("40001", "40P01")
# Beginnings of SQLSTATEs: gone, full, overloaded, lost against another transaction and worth a retry; or, while a database is being put in
# the place of another, closed to connections (55000) or not there (3D000).
POSTGRES_OUTAGES: Final = ("08", "53", "57P", "58", *POSTGRES_LOST_RACES, "55P03", "55000", "3D000")
LOCK_WAIT_S: Final = 30
CONNECT_WAIT_S: Final = 10
STATEMENT_WAIT_S: Final = 120
COMPACT_WAIT_S: Final = 3_600
POOL_SIZE: Final = 16  # none beyond it: those are closed after each use, and a new one costs more than any wait here
# What a server that goes away while it greets is called, by SQLAlchemy or, while it sets the connection up, by the driver.
AMID_GREETING: Final = (PoolTimeout, InternalError, asyncpg.InterfaceError, asyncpg.InternalClientError)
BROKEN_RULES: Final = (asyncpg.IntegrityConstraintViolationError, sqlite3.IntegrityError)


class DatabaseUnavailable(Exception):
    """The store can't be used now, or a transaction's outcome is unknown: back off, then do the whole transaction again."""


class Overtaken(DatabaseUnavailable):
    """Two transactions waited for each other, and this one was ended so that the other goes on: nothing of it is written."""


class BadDatabaseUrl(ValueError):
    """The address of the store can't be understood; the text is one line that says what would be."""


class Database:
    """One store. `on_loss` is called at every lost connection, before the error reaches the caller: its writes may or may not be there."""

    def __init__(self, url: str, *, async_creator: AsyncCreator | None = None) -> None:
        parsed = parse_url(url, file_needed=async_creator is None)
        self.dialect: Final[Dialect] = "sqlite" if parsed.drivername.startswith("sqlite") else "postgresql"
        self.losses = 0
        self.on_loss: list[Callable[[], None]] = []
        self.engine: Final = create_async_engine(parsed, hide_parameters=True, **_engine_settings(self.dialect, async_creator))
        logging.getLogger("aiosqlite").setLevel(logging.INFO)  # its debug lines quote every value, of private notes too
        self._sqlite_writer = asyncio.Lock()  # SQLite's own queue for writers is neither fair nor quick
        self._server_started: str | None = None
        self._listen()

    @asynccontextmanager
    async def transaction(self, *, rows: int = 1) -> AsyncIterator[AsyncConnection]:
        """Everything written inside is committed at the end; any exception rolls all of it back. Not to be nested. `rows`: how
        many its statements may name each; with many, PostgreSQL plans each for what it gets.

        Raises DatabaseUnavailable when the store is gone, full or locked for 30 s, and when the commit's outcome is unknown; Overtaken
        where it gave way to another one.
        """
        await self._await_turn()
        try:
            async with self._begun(BULK if rows > BULK_ROWS else WRITING) as connection:
                yield connection
                await send_gathered(connection)
                await self._commit(connection)
        finally:
            if self.dialect == "sqlite":
                self._sqlite_writer.release()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """One snapshot of the store, for reading only: it neither waits for writers nor makes them wait."""
        async with self._begun(READING) as connection:
            yield connection
            await self._roll_back(connection)

    @asynccontextmanager
    async def glancing(self) -> AsyncIterator[AsyncConnection]:
        """Every statement for itself: for a single read, which then is one round trip."""
        async with self._checkout() as connection:
            yield connection

    async def compact(self, tables: Sequence[str]) -> None:
        """Rid the store's files of what was deleted or overwritten: SQLite is rewritten with its log emptied; of PostgreSQL the tables with
        their indexes are, each locked meanwhile. What PostgreSQL's own log still holds goes with the log. Raises DatabaseUnavailable."""
        await self._await_turn()
        try:
            async with self._checkout() as connection:
                await self._compact(connection, tables)
        finally:
            if self.dialect == "sqlite":
                self._sqlite_writer.release()

    async def _compact(self, connection: AsyncConnection, tables: Sequence[str]) -> None:
        raw = link_of(connection).driver
        try:
            await (_compact_sqlite(raw) if self.dialect == "sqlite" else _compact_postgresql(raw, tables))
        except BaseException as error:
            explained = self.explain(sync_of(connection), error) if isinstance(error, Exception) else error
            _forget(sync_of(connection))  # it is not set as others are
            raise explained from error

    async def close(self) -> None:
        """Close every connection; the Database can be used again after it."""
        await self.engine.dispose()

    def explain(self, connection: Connection, error: Exception) -> Exception:
        """What a driver's error is for whoever ran the statement; a lost connection is noticed."""
        gone = connection.info[LINK].is_gone or _said_goodbye(error)
        if gone:
            self.note_loss()
            _forget(connection)
        if gone or _is_outage(error):
            return _name_outage(error)
        return IntegrityError(None, None, error, hide_parameters=True) if isinstance(error, BROKEN_RULES) else error

    def note_loss(self) -> None:
        """From now on nothing that memory says about the store is certain."""
        self.losses += 1
        for tell in self.on_loss:
            tell()

    async def _await_turn(self) -> None:
        if self.dialect == "sqlite":
            try:
                async with asyncio.timeout(LOCK_WAIT_S):
                    await self._sqlite_writer.acquire()
            except TimeoutError:
                raise DatabaseUnavailable(f"database is locked: another transaction of this process took {LOCK_WAIT_S} s") from None

    @asynccontextmanager
    async def _checkout(self) -> AsyncIterator[AsyncConnection]:
        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(self.engine.connect())
            except Exception as error:
                if not (_is_outage(error) or isinstance(error, AMID_GREETING)):
                    raise
                raise DatabaseUnavailable(f"no connection to the database: {_one_line(error)}") from error
            yield connection

    @asynccontextmanager
    async def _begun(self, how: Mapping[Dialect, str]) -> AsyncIterator[AsyncConnection]:
        async with self._checkout() as connection:
            try:
                await begin(connection, how[self.dialect])
                yield connection
            except BaseException:
                await self._roll_back(connection)
                raise

    async def _roll_back(self, connection: AsyncConnection) -> None:
        """Leave nothing open: a connection on which that can not be is not used again."""
        if connection.invalidated:
            return
        link = link_of(connection)
        try:
            if not link.is_gone:
                await (link.driver.rollback() if self.dialect == "sqlite" else link.driver.execute("ROLLBACK"))
        except BaseException as error:
            _forget(sync_of(connection))
            if not isinstance(error, Exception):
                raise
            log.warning("a transaction could not be rolled back; its connection is dropped: %s", _one_line(error))

    async def _commit(self, connection: AsyncConnection) -> None:
        losses = self.losses
        try:
            await self._end(connection)
        except (IntegrityError, Overtaken):  # refused by a deferred constraint, or ended: nothing is written, and that is certain
            raise
        except (Exception, asyncio.CancelledError) as error:
            if self.losses == losses:
                self.note_loss()
            if isinstance(error, (DatabaseUnavailable, asyncio.CancelledError)):
                raise
            raise DatabaseUnavailable(f"the outcome of a commit is unknown: {_one_line(error)}") from error

    async def _end(self, connection: AsyncConnection) -> None:
        driver = link_of(connection).driver
        try:
            if self.dialect == "sqlite":
                await driver.commit()
            elif await driver.execute("COMMIT") != "COMMIT":
                raise DatabaseUnavailable("PostgreSQL took the transaction back: one of its statements had failed")
        except DatabaseUnavailable:
            raise
        except Exception as error:
            raise self.explain(sync_of(connection), error) from error

    def _listen(self) -> None:
        engine = self.engine.sync_engine
        event.listen(engine, "handle_error", self._map_error)
        event.listen(engine, "connect", self._introduce)
        event.listen(engine, "checkout", self._check_alive)
        event.listen(engine, "before_cursor_execute", send_gathered_first)

    def _introduce(self, connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        """What a new connection needs before its first statement."""
        entry.info[LINK] = Link(self.dialect, entry.driver_connection, [], self.explain)
        if self.dialect == "sqlite":
            _set_pragmas(connection)
        else:
            self._notice_other_server(connection)

    def _check_alive(self, _connection: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: Any) -> None:
        """A server that went away while its connection lay in the pool is a loss as well; all of the pool's are opened anew."""
        if entry.info[LINK].is_gone:
            self.note_loss()
            raise InvalidatePoolError

    def _map_error(self, context: ExceptionContext) -> None:
        error = context.original_exception
        if self.dialect == "sqlite" and isinstance(error, asyncio.CancelledError):
            # A file does not go away: it is rolled back. SQLAlchemy would close it, and its lock then stays with a statement amid its rows.
            context.is_disconnect = False
        if not isinstance(error, Exception):
            return
        lost = context.is_disconnect or _said_goodbye(error)
        if lost:
            self.note_loss()
        if lost or _is_outage(error):
            raise _name_outage(error) from error

    def _notice_other_server(self, connection: DBAPIConnection) -> None:
        """A restart or a fail-over is a loss even if no open connection noticed it."""
        cursor = connection.cursor()
        cursor.execute("SELECT pg_postmaster_start_time()::text")
        row = cursor.fetchone()
        cursor.close()
        started = str(row[0]) if row else None
        if self._server_started not in (None, started):
            self.note_loss()
        self._server_started = started


def parse_url(url: str, *, file_needed: bool = True) -> URL:
    """The address with its async driver; raises BadDatabaseUrl. Never shows a password."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        _refuse("it is not a URL")
    if parsed.drivername not in DRIVERS:
        _refuse(f"there is no store named {parsed.drivername}")
    if file_needed and parsed.drivername.startswith("sqlite") and parsed.database in (None, "", ":memory:"):
        _refuse("SQLite needs a file")
    if not parsed.drivername.startswith("sqlite") and not parsed.database:
        _refuse("the name of the database is missing")
    query = {("ssl" if name == "sslmode" else name): value for name, value in parsed.query.items()}
    return parsed.set(drivername=DRIVERS[parsed.drivername], query=query)


def _refuse(reason: str) -> NoReturn:
    remedy = "use sqlite:///path/to/file.db or postgresql://user:password@host:port/database"
    raise BadDatabaseUrl(f"bad database address: {reason}; {remedy}") from None


def _engine_settings(dialect: Dialect, async_creator: AsyncCreator | None) -> dict[str, Any]:
    ending: dict[str, Any] = {"skip_autocommit_rollback": True}  # transactions are ended here, not by the pool
    pool: dict[str, Any] = {"pool_size": POOL_SIZE, "max_overflow": 0, "pool_use_lifo": True}
    if async_creator is not None:
        return {"async_creator": async_creator, "poolclass": AsyncAdaptedQueuePool, **pool, **ending}
    arguments: dict[str, Any] = {"timeout": LOCK_WAIT_S, "isolation_level": None}  # None: the driver must not begin by itself
    if dialect == "postgresql":
        server = {"application_name": "dealbridge", "jit": "off"}
        arguments = {"timeout": CONNECT_WAIT_S, "command_timeout": STATEMENT_WAIT_S, "server_settings": server}
        ending["isolation_level"] = "AUTOCOMMIT"
    return {"connect_args": arguments, **pool, **ending}


def _set_pragmas(connection: DBAPIConnection) -> None:
    cursor = connection.cursor()
    for pragma in SQLITE_PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _forget(connection: Connection) -> None:
    """Have the pool replace the connection instead of giving it out again."""
    link: Link = connection.info[LINK]
    if link.dialect == "postgresql":
        link.driver.terminate()
    connection.connection.invalidate(soft=True)


async def _compact_sqlite(raw: Any) -> None:
    await (await raw.execute("VACUUM")).close()
    cursor = await raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    busy, *_ = await cursor.fetchone()
    await cursor.close()
    if busy:
        raise DatabaseUnavailable("a reader keeps the old log open; it is emptied at the next try")


async def _compact_postgresql(raw: Any, tables: Sequence[str]) -> None:
    there = await raw.fetch("SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename = ANY($1)", list(tables))
    await raw.execute(f"SET lock_timeout = '{LOCK_WAIT_S}s'")
    for row in there:
        await raw.execute(f"VACUUM (FULL, ANALYZE) {row['tablename']}", timeout=COMPACT_WAIT_S)
    await raw.execute("RESET lock_timeout")


def _said_goodbye(error: BaseException) -> bool:
    """Whether the server has ended the connection in words, and its end itself is still to come: asyncpg calls that an error of its own."""
    return "cannot switch to state" in str(error)


def _is_outage(error: BaseException) -> bool:
    if isinstance(error, OSError):  # TimeoutError is one
        return True
    state = getattr(error, "sqlstate", None)
    if state:
        return str(state).startswith(POSTGRES_OUTAGES)
    return any(words in str(error).lower() for words in SQLITE_OUTAGES)


def _name_outage(error: BaseException) -> DatabaseUnavailable:
    kind = Overtaken if str(getattr(error, "sqlstate", None)).startswith(POSTGRES_LOST_RACES) else DatabaseUnavailable
    return kind(f"database unavailable: {_one_line(error)}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split()) or type(error).__name__
