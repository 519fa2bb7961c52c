"""Saved views: conditions over any property find the same deals on both stores, and what they can not mean is refused."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared_schema.crm import customers, deal_views, deals, users
from shared_schema.crm.database import Database
from shared_schema.crm.problems import Invalid, NotAllowed, NotFound
from tests.tables import make_tables

DEALS: list[dict[str, Any]] = [
    {"name": "Alpha", "amount": {"amount": "900.50", "currency": "EUR"}, "close_date": "2026-12-01"},
    {"name": "Beta", "amount": {"amount": "10000", "currency": "EUR"}, "close_date": "2027-03-01"},
    {"name": "Gamma 100%", "amount": None},
]
CUSTOM: list[dict[str, Any]] = [{"region": "North", "seats": 9}, {"region": "South", "hot": True}, {"region": None}]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A store with three deals and two people."""
    opened = Database(database_url)
    await make_tables(database_url)
    async with opened.transaction() as tx:
        for number, name in enumerate(("Ann", "Bob"), start=1):
            await users.add_user(tx, f"01998f3e-5a10-7c41-9a77-3f1b2c4d5e0{number}", name, f"{name}@x.example")
        await customers.add_pipeline(tx, "Sales", [("New", "open"), ("Won", "won")])
        for each, properties in zip(DEALS, CUSTOM, strict=True):
            await deals.add_deal(tx, {**each, "properties": properties, "owner_id": 1}, 1, 0)
    yield opened
    await opened.close()


async def find(database: Database, *conditions: dict[str, Any]) -> list[str]:
    async with database.reading() as connection:
        return [row["name"] for row in await deals.list_deals(connection, {"view": deal_views.check_conditions(list(conditions))})]


@pytest.mark.parametrize(
    ("name", "operator", "value", "found"),
    [
        ("amount", "at least", "900.5", ["Alpha", "Beta"]),
        ("amount", "more", "900.5", ["Beta"]),
        ("amount", "equals", "900.50", ["Alpha"]),
        ("amount", "unknown", None, ["Gamma 100%"]),
        ("close_date", "less", "2027-01-01", ["Alpha"]),
        ("name", "contains", "%", ["Gamma 100%"]),
        ("name", "in", ["Alpha", "Beta"], ["Alpha", "Beta"]),
        ("owner", "equals", "Ann", ["Alpha", "Beta", "Gamma 100%"]),
        ("stage", "differs", "Won", ["Alpha", "Beta", "Gamma 100%"]),
        ("is_active_shared_deal", "equals", True, []),
        ("properties.region", "equals", "North", ["Alpha"]),
        ("properties.region", "differs", "North", ["Beta", "Gamma 100%"]),
        ("properties.region", "unknown", None, ["Gamma 100%"]),
        ("properties.hot", "equals", True, ["Beta"]),
        ("properties.seats", "equals", 9, ["Alpha"]),
        ("properties.none", "known", None, []),
    ],
)
async def test_a_condition_finds_what_it_says(database: Database, name: str, operator: str, value: Any, found: list[str]) -> None:
    condition = {"property": name, "operator": operator} | ({} if value is None else {"value": value})
    assert await find(database, condition) == found


async def test_all_conditions_of_a_view_hold_at_once(database: Database) -> None:
    both = {"property": "currency", "operator": "equals", "value": "EUR"}, {"property": "amount", "operator": "less", "value": 1000}
    assert await find(database, *both) == ["Alpha"]
    assert await find(database, *deal_views.SHARED_DEALS["conditions"]) == []


@pytest.mark.parametrize(
    ("condition", "field"),
    [
        ({"property": "secret", "operator": "known"}, "property"),
        ({"property": ["name"], "operator": "known"}, "property"),
        ({"property": "name", "operator": "drop table"}, "operator"),
        ({"property": "name", "operator": "less", "value": "x"}, "operator"),
        ({"property": "amount", "operator": "equals", "value": "much"}, "value"),
        ({"property": "amount", "operator": "equals", "value": True}, "value"),
        ({"property": "owner_id", "operator": "equals", "value": "1.5"}, "value"),
        ({"property": "amount", "operator": "contains", "value": "1"}, "value"),
        ({"property": "name", "operator": "in", "value": []}, "value"),
        ({"property": "name", "operator": "equals", "value": {"a": 1}}, "value"),
        ({"property": "is_active_shared_deal", "operator": "equals", "value": "yes"}, "value"),
        ({"name": "x"}, "conditions"),
    ],
)
async def test_what_a_condition_can_not_mean_is_refused_with_the_part_that_is_wrong(condition: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        deal_views.check_conditions([condition])
    assert refusal.value.field == field


async def test_a_view_is_its_owners_or_everybodys_and_an_admins_to_change(database: Database) -> None:
    async with database.transaction() as tx:
        own = await deal_views.add_view(tx, "Mine", [], 1)
        common = await deal_views.add_view(tx, "Ours", [{"property": "amount", "operator": "known"}], None)
        assert [each["name"] for each in await deal_views.list_views(tx, 1)] == ["Shared deals", "Mine", "Ours"]
        assert [each["name"] for each in await deal_views.list_views(tx, 2)] == ["Shared deals", "Ours"]
        with pytest.raises(NotFound):
            await deal_views.remove_view(tx, own, 2, is_admin=False)
        with pytest.raises(NotAllowed):
            await deal_views.change_view(tx, common, {"name": "Theirs"}, 2, is_admin=False)
        with pytest.raises(NotAllowed):
            await deal_views.remove_view(tx, 0, 1, is_admin=True)
        await deal_views.change_view(tx, common, {"name": "Known amounts"}, 2, is_admin=True)
        await deal_views.remove_view(tx, own, 1, is_admin=False)
        assert [each["name"] for each in await deal_views.list_views(tx, 1)] == ["Shared deals", "Known amounts"]
