"""The store's promises, the same on SQLite and PostgreSQL: all or nothing, snapshots, and what a lost server looks like."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.crm.database import BadDatabaseUrl, Database, DatabaseUnavailable, Overtaken
from shared_schema.crm.driver import link_of
from tests.postgres import EmbeddedPostgres

CREATE = text("CREATE TABLE deal (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL)")
INSERT = text("INSERT INTO deal VALUES (:id, :amount)")
RAISE = text("UPDATE deal SET amount = amount + 1 WHERE id = 1")
COUNT = text("SELECT count(*) FROM deal")
AMOUNT = text("SELECT amount FROM deal WHERE id = 1")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    async with database.transaction() as tx:
        await tx.execute(CREATE)
    yield database
    await database.close()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/deals.db")
    async with database.transaction() as tx:
        await tx.execute(CREATE)
    yield database
    await database.close()


async def add(tx: AsyncConnection, deal: int) -> None:
    await tx.execute(INSERT, {"id": deal, "amount": 100})


async def count(database: Database) -> int:
    async with database.reading() as tx:
        return int((await tx.execute(COUNT)).scalar_one())


async def test_what_was_written_is_there_afterwards(database: Database) -> None:
    async with database.transaction() as tx:
        await add(tx, 1)
    assert await count(database) == 1


async def test_an_error_takes_back_everything(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as tx:
            await add(tx, 1)
            raise ZeroDivisionError
    assert await count(database) == 0


async def test_nobody_sees_a_transaction_before_its_end(database: Database) -> None:
    async with database.transaction() as tx:
        await add(tx, 1)
        assert await count(database) == 0
    assert await count(database) == 1


async def test_a_cancelled_transaction_leaves_nothing(database: Database) -> None:
    written = asyncio.Event()

    async def write_and_wait() -> None:
        async with database.transaction() as tx:
            await add(tx, 1)
            written.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write_and_wait())
    await written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await count(database) == 0
    async with database.transaction() as tx:
        await add(tx, 2)


async def test_a_reader_sees_one_moment_and_holds_up_no_writer(database: Database) -> None:
    async with database.reading() as before:
        assert (await before.execute(COUNT)).scalar_one() == 0
        async with database.transaction() as tx:
            await add(tx, 1)
        assert (await before.execute(COUNT)).scalar_one() == 0


async def test_a_broken_constraint_is_the_callers_error_and_no_loss(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await add(tx, 1)
            await add(tx, 1)
    assert await count(database) == 0
    assert database.losses == 0


async def test_concurrent_writers_wait_for_each_other(database: Database) -> None:
    async with database.transaction() as tx:
        await add(tx, 1)

    async def raise_amount() -> None:
        async with database.transaction() as tx:
            await tx.execute(RAISE)

    await asyncio.gather(*(raise_amount() for _ in range(40)))
    async with database.reading() as tx:
        assert (await tx.execute(AMOUNT)).scalar_one() == 140


async def test_two_processes_may_open_and_write_one_sqlite_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    databases = [Database(url) for _ in range(4)]  # each has a queue of its own, as a process would
    async with databases[0].transaction() as tx:
        await tx.execute(CREATE)
        await add(tx, 1)

    async def raise_amount(database: Database) -> None:
        async with database.transaction() as tx:
            amount = (await tx.execute(AMOUNT)).scalar_one()
            await tx.execute(text("UPDATE deal SET amount = :amount WHERE id = 1"), {"amount": amount + 1})

    await asyncio.gather(*(raise_amount(database) for database in databases for _ in range(10)))
    async with databases[0].reading() as tx:
        assert (await tx.execute(AMOUNT)).scalar_one() == 140
    for database in databases:
        await database.close()


async def test_sqlite_is_durable_and_checks_references(sqlite: Database) -> None:
    async with sqlite.reading() as tx:
        settings = [(await tx.execute(text(f"PRAGMA {name}"))).scalar_one() for name in ("journal_mode", "synchronous", "foreign_keys")]
    assert settings == ["wal", 2, 1]


async def test_a_full_disk_is_unavailable_and_takes_back_everything(sqlite: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="disk is full"):
        async with sqlite.transaction() as tx:
            await add(tx, 1)
            await tx.execute(text("PRAGMA max_page_count = 3"))
            for deal in range(2, 2000):
                await add(tx, deal)
    assert await count(sqlite) == 0


async def test_a_locked_store_is_unavailable_and_no_loss(sqlite: Database, tmp_path: Path) -> None:
    async with sqlite.reading() as tx:
        await tx.execute(COUNT)
        await tx.execute(text("PRAGMA busy_timeout = 1"))  # this connection goes back to the pool and comes out first
    with sqlite3.connect(tmp_path / "deals.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailable, match="locked"):
            async with sqlite.transaction():
                pass
        other.execute("ROLLBACK")
    other.close()
    assert sqlite.losses == 0
    async with sqlite.transaction() as tx:
        await add(tx, 1)


@pytest.mark.parametrize(("moment", "kept"), [("before", 0), ("after", 1)])
@pytest.mark.parametrize("words", ["disk I/O error", "something else"])
async def test_a_commit_that_fails_is_a_loss_whatever_became_of_it(tmp_path: Path, moment: str, kept: int, words: str) -> None:
    store = Store(tmp_path / "deals.db")
    database = Database("sqlite://", async_creator=store.connect)
    told: list[int] = []
    database.on_loss.append(lambda: told.append(database.losses))
    async with database.transaction() as tx:
        await tx.execute(CREATE)
    store.fails = {moment: words}
    with pytest.raises(DatabaseUnavailable, match=words):
        async with database.transaction() as tx:
            await add(tx, 1)
    store.fails = {}
    assert told == [1]
    assert await count(database) == kept
    await database.close()


async def test_a_lost_server_is_unavailable_a_loss_and_back_after_its_restart(postgres: EmbeddedPostgres) -> None:
    database = Database(postgres.fresh_database())
    told: list[int] = []
    database.on_loss.append(lambda: told.append(database.losses))
    async with database.transaction() as tx:
        await tx.execute(CREATE)
        await add(tx, 1)
    try:
        with pytest.raises(DatabaseUnavailable):
            async with database.transaction() as tx:
                await add(tx, 2)
                postgres.kill()
                await add(tx, 3)
        assert told == [1]
        with pytest.raises(DatabaseUnavailable):
            await count(database)
    finally:
        postgres.start()
    assert await count(database) == 1
    await database.close()


async def test_of_two_transactions_that_wait_for_each_other_one_gives_way_and_nothing_of_it_is_written(postgres_url: str) -> None:
    database = Database(postgres_url)
    async with database.transaction() as tx:
        await tx.execute(CREATE)
        await add(tx, 1)
        await add(tx, 2)
    both = asyncio.Barrier(2)

    async def raise_two(first: int, second: int) -> None:
        async with database.transaction() as tx:
            for at, deal in enumerate((first, second)):
                await tx.execute(text("UPDATE deal SET amount = amount + 1 WHERE id = :deal"), {"deal": deal})
                if at == 0:
                    await both.wait()

    done = await asyncio.gather(raise_two(1, 2), raise_two(2, 1), return_exceptions=True)
    assert [type(each) for each in done if each is not None] == [Overtaken]
    async with database.reading() as tx:
        amounts = (await tx.execute(text("SELECT amount FROM deal ORDER BY id"))).scalars().all()
    assert (amounts, database.losses) == ([101, 101], 0)
    await database.close()


async def test_a_restart_between_two_transactions_is_a_loss(postgres: EmbeddedPostgres) -> None:
    database = Database(postgres.fresh_database())
    await database_answers(database)
    await database.close()
    postgres.restart()
    await database_answers(database)
    assert database.losses == 1
    await database.close()


async def test_connections_that_went_away_in_the_pool_are_one_loss_and_no_error(postgres: EmbeddedPostgres) -> None:
    url = postgres.fresh_database()
    database = Database(url)
    async with database.reading() as one, database.reading() as another:
        drivers = [link_of(each).driver for each in (one, another)]
    postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{url.rsplit('/', 1)[1]}'")
    while not all(each.is_closed() for each in drivers):
        await asyncio.sleep(0.01)
    async with database.reading(), database.reading():
        assert database.losses == 1
    await database.close()


async def database_answers(database: Database) -> None:
    async with database.reading() as tx:
        assert (await tx.execute(text("SELECT 1"))).scalar_one() == 1


async def test_a_server_that_was_never_there_is_unavailable() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/deals")
    with pytest.raises(DatabaseUnavailable, match="no connection"):
        async with database.transaction():
            pass
    assert database.losses == 0


@pytest.mark.parametrize(
    "url", ["deals.db", "mysql://root@localhost/deals", "sqlite://", "sqlite:///:memory:", "postgresql://host", "://", ""]
)
def test_a_bad_address_is_one_line_that_says_what_is_good(url: str) -> None:
    with pytest.raises(BadDatabaseUrl, match="use sqlite:///") as raised:
        Database(url)
    assert "\n" not in str(raised.value)


def test_an_address_may_be_written_the_way_people_write_it() -> None:
    assert Database("sqlite:///deals.db").dialect == "sqlite"
    assert Database("postgres://anna:secret@host/deals?sslmode=require").dialect == "postgresql"


class Store:
    """Gives connections as the simulation does: sqlite3 in this thread, behind the methods of aiosqlite."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fails: dict[str, str] = {}

    async def connect(self) -> "StoreConnection":
        return StoreConnection(self)


class StoreConnection:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection = self._conn = sqlite3.connect(store.path, isolation_level=None)
        self.isolation_level = None

    def cursor(self) -> "StoreCursor":
        return StoreCursor(self._connection.cursor())

    async def execute_fetchall(self, statement: str, arguments: object = ()) -> list[object]:
        return self._connection.execute(statement, arguments).fetchall()  # type: ignore[arg-type]  # handed on as it came

    async def create_function(self, *arguments: object, **options: object) -> None:
        self._connection.create_function(*arguments, **options)  # type: ignore[arg-type]  # handed on as it came

    async def commit(self) -> None:
        self._fail("before")
        self._connection.commit()
        self._fail("after")

    def _fail(self, moment: str) -> None:
        if moment in self._store.fails:
            raise sqlite3.OperationalError(self._store.fails[moment])

    async def rollback(self) -> None:
        self._connection.rollback()

    async def close(self) -> None:
        self._connection.close()

    def stop(self) -> None:
        self._connection.close()


class StoreCursor:
    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> object:
        return getattr(self._cursor, name)

    async def __aenter__(self) -> "StoreCursor":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._cursor.close()

    async def execute(self, *arguments: object) -> "StoreCursor":
        self._cursor.execute(*arguments)  # type: ignore[arg-type]  # handed on as it came
        return self

    async def fetchall(self) -> list[object]:
        return self._cursor.fetchall()

    async def close(self) -> None:
        self._cursor.close()
