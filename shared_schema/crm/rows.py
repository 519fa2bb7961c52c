"""Set-based reads and writes that are the same on both stores. PostgreSQL takes the rows as arrays, one per column: one statement, not
one a row."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Boolean, ColumnElement, Dialect, Table, Text, bindparam, column, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import InternalTraversal
from sqlalchemy.types import TypeDecorator, TypeEngine

from shared_schema.crm.statements import Statement

Row = Mapping[str, Any]


class Listed(TypeDecorator[Sequence[Any]]):
    """A list of values of one type as one parameter: an array, or JSON where there are none."""

    impl = Text
    cache_ok = True

    def __init__(self, item: TypeEngine[Any]) -> None:
        super().__init__()
        self.item = item

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(postgresql.ARRAY(self.item) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Sequence[Any] | None, dialect: Dialect) -> Any:
        return value if dialect.name == "postgresql" else json.dumps(value)


class Among(ColumnElement[bool]):
    """Whether a column is one of the values in a parameter: the same prepared statement however many there are, which IN is not."""

    inherit_cache = True
    type = Boolean()
    _is_implicitly_boolean = True  # else SQLite is asked whether it equals 1, and then looks at every row
    _traverse_internals = [("column", InternalTraversal.dp_clauseelement), ("listed", InternalTraversal.dp_clauseelement)]  # noqa: RUF012  # SQLAlchemy's own way

    def __init__(self, column: ColumnElement[Any], name: str) -> None:
        self.column = column
        self.listed = bindparam(name, type_=Listed(column.type))


@compiles(Among, "postgresql")
def write_any(among: Among, compiler: SQLCompiler, **options: Any) -> str:
    return f"{compiler.process(among.column, **options)} = ANY({compiler.process(among.listed, **options)})"


@compiles(Among, "sqlite")
def write_json(among: Among, compiler: SQLCompiler, **options: Any) -> str:
    return f"{compiler.process(among.column, **options)} IN (SELECT value FROM json_each({compiler.process(among.listed, **options)}))"


def in_partnership(table: Table, partnership: str) -> ColumnElement[bool]:
    """For a WHERE that names a registration besides. SQLite, which keeps no statistics, takes any index for as good as another; of those
    that begin with the partnership it is to take none, because they lead to every row of it."""
    return table.c.partnership.concat("") == partnership


def insert_for(store: str, table: Table) -> Any:
    """An INSERT that knows ON CONFLICT, in the store's own dialect."""
    return postgresql.insert(table) if store == "postgresql" else sqlite.insert(table)


def is_spread(connection: AsyncConnection, rows: Sequence[Row]) -> bool:
    return connection.dialect.name == "postgresql" and len(rows) > 1


def spread(table: Table, names: Sequence[str]) -> Any:
    """The rows of one array per column, as a table to select from; `to_columns` makes its parameters."""
    arrays = [array_of(table, name) for name in names]
    return func.unnest(*arrays).table_valued(*(column(name, table.c[name].type) for name in names)).render_derived()


def array_of(table: Table, name: str) -> BindParameter[Any]:
    return bindparam(f"all_{name}", type_=postgresql.ARRAY(table.c[name].type))


def to_columns(rows: Sequence[Row], names: Sequence[str]) -> dict[str, list[Any]]:
    return {f"all_{name}": [row[name] for row in rows] for name in names}


async def insert_rows(connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows that all name the same columns."""
    await put(connection, table, rows, None, ())


async def insert_missing(connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> None:
    """Insert the rows that are not there yet; those that are stay as they are."""
    await put(connection, table, rows, (), ())


async def upsert(
    connection: AsyncConnection, table: Table, rows: Sequence[Row], changing: Sequence[str], key: Sequence[str] | None = None
) -> None:
    """Insert the rows, no key twice; where the key (by default the primary key) is there, change the columns in `changing`."""
    await put(connection, table, rows, tuple(changing), tuple(key or (each.name for each in table.primary_key)))


async def put(
    connection: AsyncConnection, table: Table, rows: Sequence[Row], changing: tuple[str, ...] | None, key: tuple[str, ...]
) -> None:
    if rows:
        statement = make_insert(table, tuple(rows[0]), is_spread(connection, rows), (changing, key))
        await write(connection, table, statement, rows)


async def write(connection: AsyncConnection, table: Table, statement: Statement, rows: Sequence[Row]) -> None:
    if is_spread(connection, rows):
        await statement.write(connection, table.name, to_columns(rows, tuple(rows[0])))
    elif len(rows) == 1:
        await statement.write(connection, table.name, rows[0])
    else:
        await statement.run_each(connection, rows)


@cache
def make_insert(table: Table, names: tuple[str, ...], arrays: bool, conflict: tuple[Any, ...]) -> Statement:
    """The statement, made once. `conflict`: the columns to change (None: a conflict is an error; none: leave the row), and the key."""
    changing, key = conflict

    def build(store: str) -> Any:
        statement = insert_for(store, table)
        placed = {name: bindparam(name, type_=table.c[name].type) for name in names}
        statement = statement.from_select(names, select(spread(table, names))) if arrays else statement.values(placed)
        if changing is None:
            return statement
        if not changing:
            return statement.on_conflict_do_nothing()
        changes = {name: statement.excluded[name] for name in changing}
        return statement.on_conflict_do_update(index_elements=list(key), set_=changes)

    return Statement(build)


async def change_rows(connection: AsyncConnection, table: Table, rows: Sequence[Row], key: str | Sequence[str]) -> None:
    """Change the other columns of the rows that have these keys; all rows name the same columns."""
    if rows:
        keys = (key,) if isinstance(key, str) else tuple(key)
        await write(connection, table, make_update(table, tuple(rows[0]), is_spread(connection, rows), keys), rows)


@cache
def make_update(table: Table, names: tuple[str, ...], arrays: bool, key: tuple[str, ...]) -> Statement:
    """The statement, made once."""
    new: Any = spread(table, names).c if arrays else {name: bindparam(name, type_=table.c[name].type) for name in names}
    found = [table.c[name] == new[name] for name in key]
    return Statement(update(table).where(*found).values({table.c[name]: new[name] for name in names if name not in key}))


async def hold(connection: AsyncConnection, locking: Statement, parameters: Row) -> None:
    """Keep the rows that a SELECT … FOR UPDATE names to this transaction. SQLite's has the whole store."""
    if connection.dialect.name == "postgresql":
        await locking.fetch(connection, parameters)


async def take_turn(connection: AsyncConnection, name: str) -> None:
    """One transaction at a time past this point, until it ends. SQLite has only one writer anyway."""
    if connection.dialect.name == "postgresql":
        await connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(name))))
