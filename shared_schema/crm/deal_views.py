"""Saved views of the deals: a name and conditions over any property, for oneself or for everybody. *Shared deals* is built in."""

import json
import operator as operators
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Numeric, String, cast, delete, false, func, insert, literal, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import InternalTraversal

from shared_schema.crm.problems import Invalid, NotAllowed, NotFound
from shared_schema.crm.tables import companies, deal_views, deals, pipelines, stages, users

Row = dict[str, Any]
CUSTOM = "properties."
CONDITIONS_MAX, VALUES_MAX = 20, 100
NUMBERS: dict[str, ColumnElement[Any]] = {
    "amount": cast(deals.c.amount, Numeric(30, 6)),
    **{name: deals.c[name] for name in ("id", "created_ms", "number_of_deal_registrations", "number_of_active_deal_registrations")},
    **{name: deals.c[name] for name in ("owner_id", "company_id", "pipeline_id", "stage_id")},
}
TEXTS: dict[str, ColumnElement[Any]] = {
    **{name: deals.c[name] for name in ("name", "currency", "close_date", "next_step")},
    "pipeline": pipelines.c.name,
    "stage": stages.c.name,
    "owner": users.c.name,
    "company": companies.c.name,
}
FLAGS: dict[str, ColumnElement[Any]] = {"is_active_shared_deal": deals.c.is_active_shared_deal}
COMPARISONS = {"equals": operators.eq, "less": operators.lt, "at most": operators.le, "more": operators.gt, "at least": operators.ge}
ORDERED = tuple(name for name in COMPARISONS if name != "equals")
OPERATORS = ("equals", "differs", "in", "contains", "known", "unknown", *ORDERED)
SHARED_DEALS: Row = {
    "id": 0,
    "name": "Shared deals",
    "built_in": True,
    "owner_id": None,
    "conditions": [{"property": "number_of_deal_registrations", "operator": "at least", "value": 1}],
}


class CustomProperty(ColumnElement[Any]):
    """A custom property as text; NULL where the deal has none of that name."""

    inherit_cache = True
    type = String()
    _traverse_internals = [("column", InternalTraversal.dp_clauseelement), ("named", InternalTraversal.dp_clauseelement)]  # noqa: RUF012  # SQLAlchemy's own way

    def __init__(self, name: str) -> None:
        self.column = deals.c.properties
        self.named = cast(name, String)


@compiles(CustomProperty, "postgresql")
def write_jsonb(custom: CustomProperty, compiler: SQLCompiler, **options: Any) -> str:
    return f"(CAST({compiler.process(custom.column, **options)} AS JSONB) ->> {compiler.process(custom.named, **options)})"


@compiles(CustomProperty, "sqlite")
def write_json_each(custom: CustomProperty, compiler: SQLCompiler, **options: Any) -> str:
    column, key = compiler.process(custom.column, **options), compiler.process(custom.named, **options)
    value = "CASE type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(value AS TEXT) END"
    return f"(SELECT {value} FROM json_each({column}) WHERE json_each.key = {key} AND type != 'null')"


def check_conditions(conditions: Any) -> list[Row]:
    """Conditions as they are kept; raises Invalid that names what is wrong."""
    if not isinstance(conditions, list) or len(conditions) > CONDITIONS_MAX:
        raise Invalid("conditions", f"takes at most {CONDITIONS_MAX} conditions, each with property, operator and value")
    kept = []
    for each in conditions:
        if not isinstance(each, dict) or not {"property", "operator"} <= set(each) <= {"property", "operator", "value"}:
            raise Invalid("conditions", "takes objects of property, operator and, where one is needed, value")
        make_condition(each)
        kept.append(dict(each))
    return kept


def make_condition(condition: Row) -> ColumnElement[bool]:
    """The SQL of one condition; raises Invalid."""
    name, operator, value = condition["property"], condition["operator"], condition.get("value")
    if operator not in OPERATORS:
        raise Invalid("operator", f"takes one of {', '.join(OPERATORS)}")
    column, is_ordered = find_column(name)
    if operator in ("known", "unknown"):
        return column.is_not(None) if operator == "known" else column.is_(None)
    if operator == "in":
        if not isinstance(value, list) or not 0 < len(value) <= VALUES_MAX:
            raise Invalid("value", f"takes a list of 1 to {VALUES_MAX} values for the operator in")
        return or_(false(), *(column == check_value(name, each) for each in value))
    if operator == "contains":
        if name in NUMBERS or name in FLAGS or not isinstance(value, str):
            raise Invalid("value", "takes a text for the operator contains, which properties of text have")
        return column.icontains(value, autoescape=True)
    if operator in ORDERED and not is_ordered:
        raise Invalid("operator", f"{operator} goes with numbers and dates; {name} is neither")
    return compare(column, operator, check_value(name, value))


def compare(column: ColumnElement[Any], operator: str, value: Any) -> ColumnElement[bool]:
    """A deal without a value differs from every value, and is neither more nor less than it."""
    if operator == "differs":
        return or_(column != value, column.is_(None))
    answer: ColumnElement[bool] = COMPARISONS[operator](column, value)
    return answer


def find_column(name: Any) -> tuple[ColumnElement[Any], bool]:
    """A property's column, and whether its values have an order that people mean."""
    if not isinstance(name, str):
        raise Invalid("property", "takes a property's name")
    if name.startswith(CUSTOM) and len(name) > len(CUSTOM):
        return CustomProperty(name.removeprefix(CUSTOM)), False
    column = NUMBERS.get(name, TEXTS.get(name, FLAGS.get(name)))
    if column is None:
        known = ", ".join(sorted({*NUMBERS, *TEXTS, *FLAGS}))
        raise Invalid("property", f"is none of {known}, nor {CUSTOM}NAME for a custom one")
    return column, name in NUMBERS or name == "close_date"


def check_value(name: str, value: Any) -> Any:
    """A value that the property's column can be compared with."""
    if name in FLAGS:
        if not isinstance(value, bool):
            raise Invalid("value", f"takes true or false for {name}")
        return true() if value else false()
    if name in NUMBERS:
        return check_number(name, value)
    if not isinstance(value, str | int | bool):
        raise Invalid("value", f"takes a text for {name}")
    return json.dumps(value) if not isinstance(value, str) else value


def check_number(name: str, value: Any) -> Any:
    try:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise InvalidOperation
        number = Decimal(value)
        if not number.is_finite() or abs(number) >= 10**15 or (name != "amount" and number != int(number)):
            raise InvalidOperation
    except InvalidOperation as error:
        raise Invalid("value", f'takes a number for {name}, a decimal as text: "1250.50"') from error
    if name == "company_id":
        return find_survivor(int(number))
    return cast(str(number), Numeric(30, 6)) if name == "amount" else int(number)


def find_survivor(company_id: int) -> ColumnElement[int]:
    """The id that a company has now: that of one which was merged leads to its survivor."""
    merged_into = select(companies.c.merged_into).where(companies.c.id == company_id).correlate(None).scalar_subquery()
    return func.coalesce(merged_into, literal(company_id, BigInteger))


def make_filter(conditions: Sequence[Row]) -> ColumnElement[bool]:
    """All of the conditions at once."""
    whole: ColumnElement[bool] = true()
    for each in conditions:
        whole = whole & make_condition(each)
    return whole


async def list_views(connection: AsyncConnection, user_id: int | None) -> list[Row]:
    """The built-in view, everybody's and one's own, by name."""
    mine = or_(deal_views.c.owner_id.is_(None), deal_views.c.owner_id == user_id)
    rows = await connection.execute(select(deal_views).where(mine).order_by(func.lower(deal_views.c.name), deal_views.c.id))
    return [SHARED_DEALS, *(present(dict(row)) for row in rows.mappings())]


def present(row: Row) -> Row:
    return {**row, "conditions": json.loads(row["conditions"]), "built_in": False}


async def load_view(connection: AsyncConnection, view_id: int, user_id: int | None) -> Row:
    """A view that this user may see; raises NotFound."""
    for each in await list_views(connection, user_id):
        if each["id"] == view_id:
            return each
    raise NotFound("view", view_id)


async def add_view(tx: AsyncConnection, name: str, conditions: Any, owner_id: int | None) -> int:
    """A new view's id; without an owner it is everybody's."""
    row = {"name": check_name(name), "conditions": json.dumps(check_conditions(conditions)), "owner_id": owner_id}
    return int((await tx.execute(insert(deal_views).values(row).returning(deal_views.c.id))).scalar_one())


async def change_view(tx: AsyncConnection, view_id: int, values: Row, user_id: int | None, *, is_admin: bool) -> None:
    """Another name or other conditions."""
    await check_changeable(tx, view_id, user_id, is_admin=is_admin)
    row = {}
    if values.get("name") is not None:
        row["name"] = check_name(values["name"])
    if values.get("conditions") is not None:
        row["conditions"] = json.dumps(check_conditions(values["conditions"]))
    if row:
        await tx.execute(update(deal_views).where(deal_views.c.id == view_id).values(row))


async def remove_view(tx: AsyncConnection, view_id: int, user_id: int | None, *, is_admin: bool) -> None:
    await check_changeable(tx, view_id, user_id, is_admin=is_admin)
    await tx.execute(delete(deal_views).where(deal_views.c.id == view_id))


async def check_changeable(tx: AsyncConnection, view_id: int, user_id: int | None, *, is_admin: bool) -> None:
    """Everybody's views are an admin's to change, one's own are one's own."""
    view = await load_view(tx, view_id, user_id)
    if view["built_in"]:
        raise NotAllowed(f"{view['name']} is built in", remedy="save a view of your own with the same conditions and change that")
    if view["owner_id"] is None and not is_admin:
        raise NotAllowed("everybody's views are changed by an admin", remedy="save a view of your own with the same conditions")


def check_name(name: str) -> str:
    if not name.strip():
        raise Invalid("name", "may not be empty")
    return name.strip()
