"""The node's deals: its own records, whose columns follow the shared ones where the projection says so.

The counts of registrations are derived: no function here sets them.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared_schema.contract.records import DEAL_FIELDS, PLAIN_DEAL_FIELDS, InvalidValue, canonical_value
from shared_schema.crm.customers import ERASED_NAME, find_stage, load_company, load_contact
from shared_schema.crm.deal_views import find_survivor, make_filter
from shared_schema.crm.problems import Invalid, NotFound
from shared_schema.crm.projected_tables import shared_deals
from shared_schema.crm.rows import Among
from shared_schema.crm.shared_deals import find_kept, lock_deals
from shared_schema.crm.statements import Statement
from shared_schema.crm.tables import companies, contacts, deal_contacts, deal_history, deals, pipelines, private_notes, stages, users

Row = dict[str, Any]
DERIVED = ("number_of_deal_registrations", "number_of_active_deal_registrations", "is_active_shared_deal")
SETTABLE = (*DEAL_FIELDS, "pipeline", "stage", "owner_id", "company_id", "contact_ids", "properties")
FILTERS = ("name", "owner_id", "company_id", "pipeline_id", "stage_id", "currency", "close_date", *DERIVED)
PAGE_MAX = 200
PROPERTIES_MAX = 65_536


def check_values(values: Mapping[str, Any]) -> Row:
    """Columns of a deal from what was asked; raises Invalid that names the field. Stage names are resolved by `place`."""
    for name in values:
        if name in DERIVED:
            raise Invalid(name, "is derived from the deal's registrations and can not be set")
        if name not in SETTABLE:
            raise Invalid(name, f"is no property of a deal; custom ones go into properties, the others are {', '.join(SETTABLE)}")
    row = {name: values[name] for name in ("owner_id", "company_id") if name in values}
    try:
        row |= {name: canonical_value("deal", name, values[name]) for name in PLAIN_DEAL_FIELDS if name in values}
        if "amount" in values:
            amount = canonical_value("deal", "amount", values["amount"]) or {}
            row |= {"amount": amount.get("amount"), "currency": amount.get("currency")}
    except InvalidValue as error:
        raise Invalid(error.field, error.remedy) from error
    if "properties" in values:
        row["properties"] = check_properties(values["properties"])
    return row


def check_properties(properties: Any) -> str:
    """Custom properties: a flat object of at most 64 KiB."""
    if not isinstance(properties, dict) or not all(isinstance(each, str | int | bool | None) for each in properties.values()):
        raise Invalid("properties", "takes an object of text, whole numbers, true and false")
    text = json.dumps(properties, sort_keys=True)
    if len(text) > PROPERTIES_MAX:
        raise Invalid("properties", f"takes at most {PROPERTIES_MAX:,} characters")
    return text


async def place(tx: AsyncConnection, values: Mapping[str, Any]) -> Row:
    """Pipeline and stage ids, if either is named."""
    if "pipeline" not in values and "stage" not in values:
        return {}
    pipeline_id, stage_id, _, _ = await find_stage(tx, values.get("pipeline"), values.get("stage"))
    return {"pipeline_id": pipeline_id, "stage_id": stage_id}


async def add_deal(tx: AsyncConnection, values: Mapping[str, Any], user_id: int | None, now_ms: int) -> int:
    """A new deal's id."""
    row = check_values(values)
    if not row.get("name"):
        raise Invalid("name", "may not be empty")
    links = await check_links(tx, values)
    row |= links.columns | await place(tx, {"pipeline": values.get("pipeline"), "stage": values.get("stage")})
    deal_id = int((await tx.execute(insert(deals).values(**row, created_ms=now_ms).returning(deals.c.id))).scalar_one())
    await link_contacts(tx, deal_id, links.contact_ids)
    await append_history(tx, deal_id, row, "local", user_id, now_ms)
    return deal_id


class Links(NamedTuple):
    """A deal's company (as columns) and contacts by the ids that they have now; what was merged leads to its survivor."""

    columns: Row
    contact_ids: list[int]


async def check_links(tx: AsyncConnection, values: Mapping[str, Any]) -> Links:
    """Raises NotFound or Invalid for what is not there."""
    found = Links({}, [(await load_contact(tx, each))["id"] for each in values.get("contact_ids") or []])
    if values.get("company_id") is not None:
        found.columns["company_id"] = (await load_company(tx, values["company_id"]))["id"]
    if values.get("owner_id") is not None:
        owner = await tx.execute(select(users.c.id).where(users.c.id == values["owner_id"]))
        if owner.scalar_one_or_none() is None:
            raise Invalid("owner_id", f"{values['owner_id']} is no user of this CRM")
    return found


async def link_contacts(tx: AsyncConnection, deal_id: int, contact_ids: list[int]) -> None:
    if contact_ids:
        await tx.execute(insert(deal_contacts), [{"deal_id": deal_id, "contact_id": each} for each in dict.fromkeys(contact_ids)])


async def change_deal(tx: AsyncConnection, deal_id: int, values: Mapping[str, Any], user_id: int | None, now_ms: int) -> None:
    """Set the deal's own columns, with their history."""
    row = check_values(values) | await place(tx, values)
    named = {"stand_in": False} if "name" in row else {}
    links = await check_links(tx, values)
    row |= links.columns
    if row:
        done = await tx.execute(update(deals).where(deals.c.id == deal_id).values(**row, **named))
        if not done.rowcount:
            raise NotFound("deal", deal_id)
        await append_history(tx, deal_id, row, "local", user_id, now_ms)
    if links.contact_ids:
        known = set((await tx.execute(select(deal_contacts.c.contact_id).where(deal_contacts.c.deal_id == deal_id))).scalars())
        await link_contacts(tx, deal_id, [each for each in links.contact_ids if each not in known])


async def clear_shared_columns(tx: AsyncConnection, partnership: str, registrations: Collection[str]) -> None:
    """The content of deals that went with these registrations, which were deleted for both sides too long ago to be restored."""
    if not registrations:
        return
    emptied = await find_emptied(tx, partnership, registrations)
    gone = select(deals.c.id).where(deals.c.id.in_(emptied), deals.c.deleted_ms.is_not(None))
    await blank_shared_columns(tx, (await tx.execute(gone)).scalars().all(), "(deleted)")


async def erase_shared_columns(tx: AsyncConnection, partnership: str, registrations: Collection[str], now_ms: int) -> None:
    """What the other side had of the deals of these registrations, which were erased: columns and their history. What is the node's own
    stays."""
    await blank_shared_columns(tx, await find_emptied(tx, partnership, registrations), ERASED_NAME, deleted_ms=now_ms)


async def erase_deals(tx: AsyncConnection, partnership: str, registrations: Collection[str], now_ms: int) -> None:
    """The deals of these registrations, which this side's own word erased, with what only this node had of them: custom properties,
    private notes, and the whole history."""
    gone = await find_emptied(tx, partnership, registrations, own_word=True)
    await blank_shared_columns(tx, gone, ERASED_NAME, deleted_ms=now_ms)
    await tx.execute(update(deals).where(deals.c.id.in_(gone)).values(properties="{}"))
    for table in (private_notes, deal_history):
        await tx.execute(delete(table).where(table.c.deal_id.in_(gone)))


async def find_emptied(tx: AsyncConnection, partnership: str, registrations: Collection[str], own_word: bool = False) -> list[int]:
    """The deals whose content goes with these registrations: those that are not kept for another, and all that they ever took over,
    which nobody sees any more."""
    kept = await find_kept(tx, partnership, registrations, own_word)
    return [deal_id for (deal_id,) in await FAMILY.fetch(tx, {"ids": sorted(kept)}) if not kept.get(deal_id)]


def select_family() -> Select[Any]:
    """Deals with all that they took over, and what those had taken over."""
    family = select(deals.c.id).where(Among(deals.c.id, "ids")).cte("family", recursive=True)
    family = family.union(select(deals.c.id).join(family, deals.c.merged_into == family.c.id))
    return select(family.c.id).order_by(family.c.id)


FAMILY = Statement(select_family())


async def blank_shared_columns(tx: AsyncConnection, deal_ids: Collection[int], name: str, **more: Any) -> None:
    """The name then stands in, so that a deal which is shared again gets one that is told."""
    if not deal_ids:
        return
    blank = {name: None for name in (*PLAIN_DEAL_FIELDS, "amount", "currency")} | {"name": name}
    await tx.execute(update(deals).where(deals.c.id.in_(deal_ids)).values({**blank, "stand_in": True, **more}))
    of_them = (deal_history.c.deal_id.in_(deal_ids), deal_history.c.property.in_(sorted(blank)))
    await tx.execute(delete(deal_history).where(*of_them))


async def append_history(  # one history row's columns
    tx: AsyncConnection, deal_id: int, row: Row, source: str, user_id: int | None, now_ms: int
) -> None:
    rows = [
        {
            "deal_id": deal_id,
            "property": name,
            "value": None if value is None else str(value),
            "source": source,
            "user_id": user_id,
            "at_ms": now_ms,
        }
        for name, value in row.items()
    ]
    await tx.execute(insert(deal_history), rows)


async def load_deal(tx: AsyncConnection, deal_id: int) -> Row:
    """A deal with the names of its pipeline, stage, owner and company, and its contacts. The id of a deal that was merged leads to the
    one that took it over. Raises NotFound."""
    row = (await tx.execute(describe().where(deals.c.id == deal_id))).mappings().one_or_none()
    if row is None:
        raise NotFound("deal", deal_id)
    if row["merged_into"] is not None:
        return await load_deal(tx, row["merged_into"])
    return {**present(dict(row)), "contacts": await load_contacts(tx, deal_id)}


async def hold_deal(tx: AsyncConnection, deal_id: int) -> Row:
    """The same, held until the transaction ends. It is read again once it is, because it may have been changed or merged until then."""
    deal, held = await load_deal(tx, deal_id), None
    while deal["id"] != held:
        held = deal["id"]
        await lock_deals(tx, [held])
        deal = await load_deal(tx, held)
    return deal


def describe() -> Select[Any]:
    names = (
        pipelines.c.name.label("pipeline"),
        stages.c.name.label("stage"),
        users.c.name.label("owner"),
        companies.c.name.label("company"),
    )
    joined = deals.outerjoin(pipelines, pipelines.c.id == deals.c.pipeline_id).outerjoin(stages, stages.c.id == deals.c.stage_id)
    joined = joined.outerjoin(users, users.c.id == deals.c.owner_id).outerjoin(companies, companies.c.id == deals.c.company_id)
    return select(*deals.c, *names).select_from(joined)


def present(row: Row) -> Row:
    """A row as people read it: the amount with its currency, custom properties as an object."""
    amount = {"amount": row["amount"], "currency": row["currency"]} if row["amount"] is not None else None
    return {**row, "amount": amount, "properties": json.loads(row["properties"])}


async def load_contacts(tx: AsyncConnection, deal_id: int) -> list[Row]:
    joined = contacts.join(deal_contacts, deal_contacts.c.contact_id == contacts.c.id)
    statement = select(contacts).select_from(joined).where(deal_contacts.c.deal_id == deal_id).order_by(contacts.c.id)
    return [dict(row) for row in (await tx.execute(statement)).mappings()]


async def list_deals(tx: AsyncConnection, filters: Mapping[str, Any], after: int = 0, limit: int = 50) -> list[Row]:
    """A page of living deals in id order. Filters are equalities over FILTERS; `view` takes a saved view's conditions; `shared` is the
    built-in view of shared deals; `partnership` and `status` name a registration's."""
    statement = describe().where(deals.c.id > after, deals.c.deleted_ms.is_(None)).order_by(deals.c.id).limit(min(limit, PAGE_MAX))
    for name, value in filters.items():
        statement = statement.where(filter_by(name, value))
    return [present(dict(row)) for row in (await tx.execute(statement)).mappings()]


def filter_by(name: str, value: Any) -> ColumnElement[bool]:
    if name == "view":
        return make_filter(value)
    if name == "shared":
        return deals.c.number_of_deal_registrations > 0 if value else deals.c.number_of_deal_registrations == 0
    if name in ("partnership", "status"):
        return deals.c.id.in_(select(shared_deals.c.deal_id).where(shared_deals.c[name] == value))
    if name == "search":
        return or_(deals.c.name.icontains(value, autoescape=True), companies.c.name.icontains(value, autoescape=True))
    if name == "company_id":
        return deals.c.company_id == find_survivor(value)
    if name not in FILTERS:
        raise Invalid(name, f"is no filter; use shared, partnership, status, search, {', '.join(FILTERS)}")
    equal: ColumnElement[bool] = deals.c[name] == value
    return equal
