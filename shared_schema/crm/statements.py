"""Statements that run often: built by SQLAlchemy once, compiled once for each store, and run on the store's own driver.

SQLAlchemy's own way costs three times what a short statement takes; what is rare goes that way all the same.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Boolean, Dialect, Executable
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

from shared_schema.crm.driver import gather, run, run_each

Parameters = Mapping[str, Any]
Convert = Callable[[Any], Any]
DIALECTS: Mapping[str, Dialect] = {
    "postgresql": asyncpg.dialect(),  # type: ignore[no-untyped-call]  # SQLAlchemy gives it no types
    "sqlite": sqlite.dialect(paramstyle="qmark"),
}


class Argument(NamedTuple):
    """A parameter's name and what the driver needs done to its value; or, without a name, a value that is always the same."""

    name: str | None
    convert: Convert | None
    constant: Any


class Compiled(NamedTuple):
    """One store's SQL, its arguments in order, and which columns of the rows (by position) are to be converted."""

    text: str
    arguments: tuple[Argument, ...]
    results: tuple[tuple[int, Convert], ...]
    names: tuple[str, ...]

    def bind(self, parameters: Parameters) -> list[Any]:
        return [bind_one(each, parameters) for each in self.arguments]

    def convert(self, rows: Sequence[Any]) -> list[list[Any]]:
        converted = [list(row) for row in rows]
        for place, convert in self.results:
            for row in converted:
                row[place] = convert(row[place])
        return converted


def bind_one(argument: Argument, parameters: Parameters) -> Any:
    name, convert, constant = argument
    if name is None:
        return constant
    return convert(parameters[name]) if convert else parameters[name]


class Statement:
    """One statement: an expression, or for what differs, a function from the store's name to one."""

    def __init__(self, expression: Executable | Callable[[str], Executable]) -> None:
        self.build = (lambda _: expression) if isinstance(expression, Executable) else expression
        self.compiled: dict[str, Compiled] = {}

    def on(self, connection: AsyncConnection) -> Compiled:
        store = connection.dialect.name
        if store not in self.compiled:
            self.compiled[store] = compile_for(DIALECTS[store], self.build(store))
        return self.compiled[store]

    async def fetch(self, connection: AsyncConnection, parameters: Parameters) -> Sequence[Any]:
        """Run it; the rows, each a sequence in the order of the expression's columns."""
        compiled = self.on(connection)
        rows = await run(connection, compiled.text, compiled.bind(parameters))
        return compiled.convert(rows) if compiled.results else rows

    async def fetch_named(self, connection: AsyncConnection, parameters: Parameters) -> list[dict[str, Any]]:
        """Run it; the rows by the names of the expression's columns."""
        names = self.on(connection).names
        return [dict(zip(names, row, strict=True)) for row in await self.fetch(connection, parameters)]

    async def write(self, connection: AsyncConnection, table: str, parameters: Parameters) -> None:
        """Run it as one write of rows to a table, whose result nobody asks for: see `driver.gather`."""
        compiled = self.on(connection)
        await gather(connection, table, compiled.text, compiled.bind(parameters))

    async def run_each(self, connection: AsyncConnection, rows: Sequence[Parameters]) -> None:
        """Run it for each of the rows."""
        compiled = self.on(connection)
        await run_each(connection, compiled.text, [compiled.bind(row) for row in rows])


def compile_for(dialect: Dialect, expression: Any) -> Compiled:
    compiled = expression.compile(dialect=dialect)
    types = {name: bind.type for name, bind in compiled.binds.items() if bind.required}
    expanded = compiled.construct_expanded_state(dict.fromkeys(types))  # an IN of constants gets a parameter for each
    arguments = [
        Argument(name, converter_to(types[name], dialect), None) if name in types else Argument(None, None, expanded.parameters[name])
        for name in expanded.positiontup or ()
    ]
    returned = list(getattr(expression, "exported_columns", ()))
    results = [(place, bool_of) for place, each in enumerate(returned) if isinstance(each.type, Boolean) and dialect.name == "sqlite"]
    return Compiled(expanded.statement, tuple(arguments), tuple(results), tuple(each.key for each in returned))


@cache
def bool_of(value: Any) -> bool | None:
    """SQLite has no truth values, only numbers."""
    return None if value is None else bool(value)


def converter_to(type: TypeEngine[Any], dialect: Dialect) -> Convert | None:
    """What turns a value into what the driver takes; an array needs nothing where its items don't."""
    if isinstance(type, postgresql.ARRAY) and not converter_to(type.item_type, dialect):
        return None
    return type.dialect_impl(dialect).bind_processor(dialect)
